"""The verb `lint`: numbers, thresholds and exit codes, rewriting, and what is refused."""

import json

import numpy as np
import pytest
import torch

from framelets import cli
from framelets.commands.user_networks import load_network
from framelets.tasks import load_shipped
from framelets.training import load_weights, save_weights

CODE = """
import torch
from torch import nn
from framelets.networks import UNet, UnrolledNetwork

class Net(nn.Module):
    def __init__(self, width=3, channels=1, kernel=2):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.bottom = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.ConvTranspose2d(width, width, kernel, stride=2, padding=kernel // 3,
                                     output_padding=kernel % 2)
        self.last = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, image):
        skip = self.first(image).relu()
        low = self.bottom(nn.functional.avg_pool2d(skip, 2)).relu()
        return self.last(torch.cat([skip, self.up(low)], dim=1))

class Forgetful(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, image):
        return nn.functional.interpolate(self.pool(image).relu(), scale_factor=2)

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image):
        return self.layer(image)

def unrolled():
    torch.manual_seed(0)
    return UnrolledNetwork([UNet(width=2, depth=1) for _ in range(2)], 2)

def strided():
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 1, 3))
"""


@pytest.fixture
def name(tmp_path, monkeypatch):
    """Name of a module with networks of the user's own."""
    module = f"code_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return module


def lint(*words):
    return cli.main(["lint", *map(str, words)])


def found(capsys, *words, code=0):
    assert lint(*words, "--json", "--device", "cpu") == code
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *words):
    assert lint(*words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("framelets: ")
    return line


def test_a_network_of_ones_own(name, capsys):
    data = found(capsys, f"{name}:Net", "--set", "kernel=3", "--size", 16)

    assert data["input_shape"] == [1, 16, 16]
    assert data["failures"] == []
    (level,) = data["levels"]
    assert level["name"] == "avg_pool2d after first"
    assert level["operation"] == "average pooling 2x2"
    assert (level["skip"], level["learned"], level["completion"]) == (True, False, "pseudo-inverse")
    assert (level["lower"], level["upper"], level["ratio"]) == pytest.approx((1, 1.25, 2))
    assert level["forgotten"] == 0
    assert "counts twice what the pooling keeps" in level["finding"]
    (rise,) = data["unpoolings"]
    assert (rise["name"], rise["uneven_overlap"]) == ("up", True)
    assert 0 < rise["checkerboard"] < 1


def test_tables_say_the_same(name, capsys):
    assert lint(f"{name}:Net", "--set", "kernel=3", "--size", 16) == 0

    captured = capsys.readouterr()
    text = " ".join(captured.out.split())
    assert "average pooling 2x2 yes 1..1.25 2 0.33 33 %" in text
    assert "uneven overlap" in text
    assert "up: transposed convolution 3x3, stride 2 overlaps unevenly" in text
    assert "--fix tight-frame" in text
    assert "running your own code" in captured.err


def test_what_is_forgotten(name, capsys):
    data = found(capsys, f"{name}:Forgetful", "--size", 16)

    (level,) = data["levels"]
    assert (level["lower"], level["ratio"], level["error"]) == (0, None, 1)
    assert level["forgotten"] == 3 / 4
    assert "forgets at least 75 % of its dimensions" in level["finding"]


def test_nothing_to_look_at(name, capsys):
    assert lint(f"{name}:Flat") == 0
    assert "there are no levels" in capsys.readouterr().out


def test_parts_of_an_unrolled_network(name, capsys):
    data = found(capsys, f"{name}:unrolled", "--size", 16)

    assert [level["name"] for level in data["levels"]] == [
        "regularizers.0.poolings.0.layer",
        "regularizers.1.poolings.0.layer",
    ]


def test_the_image_tells_which_pixels_are_selected(name, tmp_path, capsys):
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((18, 24)))
    words = ["--at", tmp_path / "image.npy", "--crop", 16, "--scale", 2, "--channels", 2]

    data = found(capsys, f"{name}:Net", "--set", "channels=2", *words)

    assert data["input_shape"] == [2, 16, 16]
    assert data["image"] == "image.npy, 16 x 16 pixels"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--max-ratio", 2], 0, ""),
        (["--max-ratio", 1.5], 1, "level avg_pool2d after first has ratio 2"),
        (["--min-lower-bound", 1], 0, ""),
        (["--min-lower-bound", 1.2], 1, "level avg_pool2d after first has lower bound 1"),
    ],
)
def test_thresholds(words, code, line, name, capsys):
    assert lint(f"{name}:Net", "--size", 16, *words) == code

    errors = capsys.readouterr().err.splitlines()
    assert [text for text in errors if text.startswith("framelets: ")] == (
        [f"framelets: {name}:Net fails: {line}"] if line else []
    )


def test_a_level_that_forgets_fails_any_ratio(name, capsys):
    data = found(capsys, f"{name}:Forgetful", "--max-ratio", 1e9, "--min-lower-bound", 0.1, code=1)

    assert data["failures"] == ["level pool has lower bound 0", "level pool has ratio inf"]


@pytest.mark.parametrize("form", ["tight-frame", "dual-frame"])
def test_a_network_is_rewritten_saved_loaded_and_looked_at_again(form, name, tmp_path, capsys):
    network = f"{name}:Net"
    file = tmp_path / "fixed" / "fixed.safetensors"
    words = [network, "--set", "width=2", "--size", 16]

    data = found(capsys, *words, "--fix", form, "--output", file, "--max-ratio", 1.01)

    assert data["levels"][0]["ratio"] == pytest.approx(2)
    (level,) = data["fix"]["levels"]
    assert level["ratio"] == pytest.approx(1)
    bounds = (1.25, 1.25) if form == "tight-frame" else (1, 1.25)
    assert (level["lower"], level["upper"]) == pytest.approx(bounds)
    difference = data["fix"]["relative_difference"]
    assert difference < 1e-12 if form == "tight-frame" else difference > 1e-3

    again = found(capsys, *words, "--weights", file, "--max-ratio", 1.01)
    assert again["levels"][0]["ratio"] == pytest.approx(1)

    # What was loaded computes what was measured.
    plain = load_network(network, None, {"width": 2}).module
    loaded = load_network(network, file, {"width": 2}).module
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        change = torch.linalg.vector_norm(loaded(image) - plain(image)) / plain(image).norm()
    assert float(change) == pytest.approx(difference, rel=1e-4, abs=1e-6)
    assert load_weights(file)[1]["reframed"] == form


def test_the_printed_lines_load_it(name, tmp_path, capsys):
    words = [f"{name}:Net", "--set", "width=2", "--size", 16, "--fix", "tight-frame"]
    assert lint(*words, "--output", tmp_path / "fixed") == 0

    lines = [line[4:] for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]
    shell, *python = lines
    assert cli.main([*shell.split()[1:], "--size", "16", "--max-ratio", "1.01"]) == 0
    made: dict = {}
    exec("\n".join(python[:2]), made)
    own = {"network": load_network(f"{name}:Net", None, {"width": 2}).module}
    exec("\n".join(python[2:]), own)
    image = torch.rand(1, 1, 16, 16)
    assert torch.equal(made["network"](image), own["network"](image))


def test_a_shipped_network_is_rewritten(tmp_path, capsys):
    words = ["sparse-view-ct/unet", "--size", 32]
    file = tmp_path / "tight.safetensors"

    data = found(capsys, *words, "--fix", "tight-frame", "--output", file)

    assert [level["ratio"] for level in data["levels"]] == pytest.approx([2] * 4)
    assert [level["upper"] for level in data["fix"]["levels"]] == pytest.approx([2] * 4)
    assert data["fix"]["relative_difference"] < 1e-12
    fixed = load_network("sparse-view-ct/unet", file).module
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(fixed(image), load_shipped("sparse-view-ct/unet")(image))


def test_the_settings_of_a_run_folder_are_kept(tmp_path, capsys):
    network = load_shipped("sparse-view-ct/unet")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text('task = "sparse-view-ct"\n')
    save_weights(run / "weights.safetensors", network, {})
    words = ["sparse-view-ct/unet", "--weights", run, "--size", 32, "--fix", "dual-frame"]

    line = refusal(capsys, *words, "--output", tmp_path / "fixed.safetensors")
    assert "--output must be a folder" in line

    found(capsys, *words, "--output", tmp_path / "fixed")
    assert (tmp_path / "fixed" / "config.toml").is_file()
    assert load_network("sparse-view-ct/unet", tmp_path / "fixed").module.pooling == "dual-frame"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fix", "tite-frame", "--output", "x"], "did you mean 'tight-frame'"),
        (["--fix", "tight-frame"], "--fix and --output belong together"),
        (["--output", "x"], "--fix and --output belong together"),
        (["--input", "1,8,8", "--size", "8"], "leave out --size"),
        (["--at", "image.npy", "--size", "8"], "--at brings its own size"),
        (["--at", "image.npy"], "image.npy"),
        (["--crop", "16"], "need an image, --at"),
        (["--input", "1,x"], "CHANNELS,HEIGHT,WIDTH"),
        (["--input", "3,16,16"], "cannot take an image of shape (1, 3, 16, 16)"),
        (["--max-ratio", "0.5"], "--max-ratio must be at least 1"),
        (["--min-lower-bound", "0"], "--min-lower-bound must be positive"),
        (["--weights", "nothing.safetensors"], "no weights file nothing.safetensors"),
    ],
)
def test_refuses_a_wrong_option(words, message, name, capsys):
    assert message in refusal(capsys, f"{name}:Net", *words)


def test_refuses_what_cannot_be_rewritten(name, tmp_path, capsys):
    fix = ["--size", 16, "--fix", "tight-frame", "--output", tmp_path / "out"]
    assert "0: it is learned" in refusal(capsys, f"{name}:strided", *fix)
    assert "not concatenated" in refusal(capsys, f"{name}:Forgetful", *fix)
    assert "between its data steps" in refusal(capsys, f"{name}:unrolled", *fix)
    assert "tight-frame U-Net already" in refusal(capsys, "sparse-view-ct/tight-frame-unet", *fix)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [None, [1, -8], [1, 10**6, 10**6], "1,8,8"])
def test_refuses_a_damaged_model_card(shape, name, tmp_path, capsys):
    file = tmp_path / "damaged.safetensors"
    network = load_network(f"{name}:Net").module
    save_weights(file, network, {"reframed": "tight-frame", "example_shape": shape})

    assert "example_shape" in refusal(capsys, f"{name}:Net", "--weights", file)


def test_refuses_a_scan_and_settings_of_a_shipped_network(scan, capsys):
    assert "is a scan" in refusal(capsys, "sparse-view-ct/unet", "--at", scan)
    assert "--set is for module:callable" in refusal(
        capsys, "sparse-view-ct/unet", "--set", "width=3"
    )
    assert "did you mean 'sparse-view-ct/unet'" in refusal(capsys, "sparse-view-ct/unot")
