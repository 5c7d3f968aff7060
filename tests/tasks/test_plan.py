"""Training configurations by name."""

import pytest

from framelets import cli
from framelets.tasks import load_plan


def test_refuses_an_unknown_name_with_the_nearest(capsys):
    with pytest.raises(ValueError, match="did you mean 'sparse-view-ct/unet'"):
        load_plan("sparse-view-ct/unot")

    assert cli.main(["train", "sparse-view-ct/unot"]) == 2
    assert "did you mean 'sparse-view-ct/unet'" in capsys.readouterr().err


def test_refuses_a_toml_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"own\.toml"):
        load_plan("own.toml")
