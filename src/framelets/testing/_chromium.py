"""Where the browser is that the page is tried in."""

import os
import shutil
from pathlib import Path

CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Options with which it asks nothing of the network on its own."""

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium_path() -> Path:
    """Return the program of Chromium, for tests of the page.

    Without one the running test is skipped, but fails where `CI=true`.

    Raises:
        FileNotFoundError: If there is none and `CI=true`.
    """
    import pytest  # a development tool: only tests come here

    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return Path(found)
    message = "no chromium to try the page in; install it, with apt-get install chromium on Debian"
    if os.environ.get("CI") == "true":
        raise FileNotFoundError(message)
    raise pytest.skip.Exception(message)
