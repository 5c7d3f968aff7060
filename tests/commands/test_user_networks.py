"""Networks by name: the user's code is run, weights must fit, mistakes are one clear line."""

import pytest
import torch
from safetensors.torch import save_file

from framelets.commands.user_networks import load_network, parse_settings

CODE = """
import torch

class Tiny(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first = torch.nn.Conv2d(1, width, 3, padding=1)
        self.last = torch.nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image):
        return self.last(self.first(image).relu())

ready = Tiny(2)
number = 3

def broken():
    raise KeyError("no such layer")

def not_a_network():
    return 5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # A new name each time: Python keeps what it has imported.
    (tmp_path / f"own_{tmp_path.name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return tmp_path


def test_class_with_arguments_and_weights(folder):
    torch.manual_seed(0)
    name = f"own_{folder.name}:Tiny"
    trained = load_network(name, arguments={"width": 6}).module
    save_file(trained.state_dict(), folder / "weights.safetensors")
    torch.save(trained.state_dict(), folder / "weights.pt")
    image = torch.randn(1, 1, 5, 6)

    for file in ("weights.safetensors", "weights.pt"):
        again = load_network(name, folder / file, {"width": 6})
        assert not again.module.training
        assert file in again.source
        torch.testing.assert_close(again.module(image), trained(image), rtol=0, atol=0)


def test_a_network_that_exists_already(folder):
    assert load_network(f"own_{folder.name}:ready").num_parameters == 2 * 9 + 2 + 2 * 9 + 1


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Tinny", "did you mean 'Tiny'"),
        ("broken", "calling it failed with KeyError: 'no such layer'"),
    ],
)
def test_refuses_code_that_does_not_work(folder, attribute, message):
    with pytest.raises(ValueError, match=message):
        load_network(f"own_{folder.name}:{attribute}")


@pytest.mark.parametrize("attribute", ["number", "not_a_network"])
def test_refuses_what_is_no_network(folder, attribute):
    with pytest.raises(TypeError, match=r"network|Module"):
        load_network(f"own_{folder.name}:{attribute}")


def test_refuses_a_module_that_is_not_there():
    with pytest.raises(ValueError, match="no module 'nowhere_at_all'"):
        load_network("nowhere_at_all:Net")


def test_refuses_a_file_name_and_says_the_module():
    with pytest.raises(ValueError, match=r"without \.py, as in nets\.mine:build$"):
        load_network("nets/mine.py:build")


def test_refuses_an_unknown_shipped_name():
    with pytest.raises(ValueError, match=r"got 'sparse-view-ct/unett'; did you mean"):
        load_network("sparse-view-ct/unett")
    with pytest.raises(ValueError, match=r"got 'unet'; did you mean 'sparse-view-ct/unet'\?"):
        load_network("unet")


def test_refuses_weights_that_do_not_fit(folder):
    name = f"own_{folder.name}:Tiny"
    save_file({"first.weight": torch.zeros(1)}, folder / "few.safetensors")
    with pytest.raises(ValueError, match=r"3 names are missing \(first first\.bias\)"):
        load_network(name, folder / "few.safetensors")

    save_file(load_network(name).module.state_dict(), folder / "narrow.safetensors")
    with pytest.raises(ValueError, match=r"first\.weight must have shape \(8, 1, 3, 3\), got \(4"):
        load_network(name, folder / "narrow.safetensors", {"width": 8})


def test_refuses_a_pickled_module_with_the_lines_that_convert_it(folder):
    torch.save(load_network(f"own_{folder.name}:Tiny").module, folder / "module.pt")
    with pytest.raises(ValueError, match=r"torch\.load.*save_file"):
        load_network(f"own_{folder.name}:Tiny", folder / "module.pt")


@pytest.mark.parametrize("setting", ["width", "=3", "a b=3"])
def test_parse_settings_refuses_what_is_no_setting(setting):
    with pytest.raises(ValueError, match="key=value"):
        parse_settings([setting])
