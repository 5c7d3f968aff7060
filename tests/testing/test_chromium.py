"""What happens without a browser."""

import shutil

import pytest

from framelets.testing import chromium_path


def test_missing_browser_skips_but_fails_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    assert str(chromium_path()) == "/somewhere/chromium"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(pytest.skip.Exception, match="no chromium"):
        chromium_path()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        chromium_path()
