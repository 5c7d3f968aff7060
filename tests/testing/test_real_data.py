"""Where measured data are looked for, and what happens without them."""

import pytest

from framelets.testing import _real_data, real_data_folder


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An installed file of a checkout that has no data beside it, and an empty environment."""
    monkeypatch.delenv("FRAMELETS_DATA", raising=False)
    monkeypatch.delenv("CI", raising=False)
    file = tmp_path / "main" / "src" / "framelets" / "testing" / "_real_data.py"
    monkeypatch.setattr(_real_data, "__file__", str(file))
    return tmp_path


def test_named_folder_comes_first(checkout, monkeypatch):
    named = checkout / "named"
    named.mkdir()
    (checkout / "shared" / "data").mkdir(parents=True)

    assert real_data_folder() == checkout / "shared" / "data"
    monkeypatch.setenv("FRAMELETS_DATA", str(named))
    assert real_data_folder() == named


def test_missing_folder_skips_but_fails_in_ci(checkout, monkeypatch):
    with pytest.raises(pytest.skip.Exception, match=r"no measured data at .*shared/data"):
        real_data_folder()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(FileNotFoundError, match="set FRAMELETS_DATA"):
        real_data_folder()
    monkeypatch.delenv("CI")
    monkeypatch.setenv("FRAMELETS_DATA", str(checkout / "mistyped"))
    with pytest.raises(FileNotFoundError, match="mistyped"):
        real_data_folder()
