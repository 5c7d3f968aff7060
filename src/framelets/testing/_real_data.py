"""Where measured data lie that are not part of the repository."""

import os
from pathlib import Path


def real_data_folder() -> Path:
    """Return the folder of measured data, for tests marked `real_data`.

    It is `$FRAMELETS_DATA`, or else `shared/data` beside the checkout. Without it the running test
    is skipped, but fails where `CI=true`: there, data that went missing must not go unnoticed.

    Raises:
        FileNotFoundError: If `FRAMELETS_DATA` names no folder, or there is none and `CI=true`.
    """
    import pytest  # a development tool: only tests come here

    named = os.environ.get("FRAMELETS_DATA")
    checkout = Path(__file__).parents[3]
    folder = Path(named) if named else checkout.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    message = f"no measured data at {folder}; set FRAMELETS_DATA to their folder"
    if named or os.environ.get("CI") == "true":
        raise FileNotFoundError(message)
    raise pytest.skip.Exception(message)
