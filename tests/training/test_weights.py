"""Weights files: what comes back, and what is refused."""

import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from framelets.training import load_weights, save_weights


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))


def assert_same_state(state, network):
    wanted = network.state_dict()
    assert state.keys() == wanted.keys()
    for name, value in state.items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=0)


def test_weights_and_card_come_back(network, tmp_path):
    path = tmp_path / "w.safetensors"
    network.to(memory_format=torch.channels_last)

    save_weights(path, network, {"command": "framelets train x.toml", "figures": {"psnr": 31.5}})
    state, card = load_weights(path)

    assert_same_state(state, network)
    assert card["command"] == "framelets train x.toml"
    assert card["figures"] == {"psnr": 31.5}


def test_plain_state_dict_is_read(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "nested.pt")
    save_file(network.state_dict(), tmp_path / "bare.safetensors")

    for name in ("plain.pt", "nested.pt", "bare.safetensors"):
        state, card = load_weights(tmp_path / name)
        assert_same_state(state, network)
        assert card == {}


def test_failed_write_leaves_the_older_file(network, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, network, {"run": 1})

    with pytest.raises(TypeError):
        save_weights(path, network, {"run": object()})

    assert load_weights(path)[1]["run"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_load_refuses_a_pickled_module_and_gives_lines_that_work(network, tmp_path):
    path = tmp_path / "module.pt"
    torch.save(network, path)

    with pytest.raises(ValueError, match="pickled Python objects") as refusal:
        load_weights(path)

    lines = str(refusal.value).split("convert it once: ")[1]
    exec(lines.replace("; ", "\n"))
    assert_same_state(load_weights(tmp_path / "module.safetensors")[0], network)


def test_load_refuses_a_file_that_would_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps({"weight": Evil()}, protocol=2))

    with pytest.raises(ValueError, match=r"evil\.pt"):
        load_weights(path)

    assert not (tmp_path / "ran").exists()


def test_load_refuses_an_export_archive(tmp_path):
    program = torch.export.export(nn.Linear(2, 2).eval(), (torch.zeros(1, 2),))
    path = tmp_path / "program.pt2"
    torch.export.save(program, path)

    with pytest.raises(ValueError, match=r"torch\.export\.load"):
        load_weights(path)


def test_load_refuses_damaged_files(network, tmp_path):
    whole = tmp_path / "whole.safetensors"
    save_weights(whole, network, {})
    torch.save(network.state_dict(), tmp_path / "whole.pt")
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-10])
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-200])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello, this is not a weights file at all")
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")

    for name in ("cut.safetensors", "cut.pt", "empty.pt", "text.pt", "huge.safetensors"):
        with pytest.raises(ValueError, match=name) as refusal:
            load_weights(tmp_path / name)
        assert "\n" not in str(refusal.value)


def test_load_refuses_other_contents(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"weight": torch.zeros(2), "epoch": 3}, tmp_path / "mixed.pt")

    with pytest.raises(ValueError, match="it holds list"):
        load_weights(tmp_path / "list.pt")
    with pytest.raises(ValueError, match="'epoch' is int"):
        load_weights(tmp_path / "mixed.pt")
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_weights(tmp_path / "missing.pt")


def test_load_refuses_a_newer_card(network, tmp_path):
    save_weights(tmp_path / "new.safetensors", network, {"schema_version": 99})

    with pytest.raises(ValueError, match="version 99"):
        load_weights(tmp_path / "new.safetensors")
