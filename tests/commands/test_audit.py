"""The verb `audit`: its figures, the folder, going on, thresholds, and what is refused."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from framelets import cli
from framelets.commands import audit as audit_module
from framelets.commands.audit_findings import COLUMNS, judge, worst_images
from framelets.commands.task_scans import read_scan, scan_projector
from framelets.commands.user_networks import load_network
from framelets.core import RunFolder

CODE = """
import torch
from torch import nn

def make(width=4, channels=1, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(),
                         nn.Conv2d(width, 1, 3, padding=1))

class Smooth(nn.Module):
    def forward(self, image):
        return nn.functional.silu(image)

class Shift(nn.Module):
    def forward(self, image):
        ramp = torch.arange(image.shape[-1], dtype=image.dtype) / image.shape[-1]
        return 0.5 * image + ramp

class Pair(nn.Module):
    def forward(self, image):
        return image, image
"""


@pytest.fixture
def name(tmp_path, monkeypatch):
    """Name of a module with networks of the user's own, in the current folder."""
    module = f"code_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return module


@pytest.fixture(autouse=True)
def quick_page(request, monkeypatch):
    """Leave out the page, whose charts take seconds, except where a test asks for it."""
    if "page" not in request.fixturenames:
        monkeypatch.setattr(audit_module, "write_audit", lambda run: run / "audit.html")


@pytest.fixture
def page():
    """Ask for the page."""


@pytest.fixture
def images(tmp_path):
    """Folder with two images of different sizes, a broken file and a hidden one."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(folder / "b.npy", rng.random((12, 14)))
    picture = (255 * rng.random((11, 9))).astype(np.uint8)
    PillowImage.fromarray(picture).save(folder / "a.png")
    (folder / "broken.npy").write_bytes(b"\x93NUMPY and no more")
    (folder / ".hidden").write_text("no image")
    return folder


def own_network(name):
    return load_network(f"{name}:make").module.requires_grad_(requires_grad=False)


def audit(*words):
    return cli.main(["audit", *map(str, words), "--device", "cpu"])


def found(capsys, *words, code=0):
    assert audit(*words, "--json") == code
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *words):
    assert audit(*words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("framelets: ")
    return line


def test_every_image_of_a_folder(name, images, tmp_path, capsys):
    data = found(capsys, f"{name}:make", "--images", images, "--run", tmp_path / "run")

    assert [image["image"] for image in data["images"]] == ["a.png", "b.npy"]
    (failed,) = data["failed"]
    assert failed["image"] == "broken.npy"
    assert "cannot be read as npy" in failed["error"]
    network = own_network(name)
    sample = torch.from_numpy(np.load(images / "b.npy")).float()[None, None]
    jacobian = torch.func.jacrev(network)(sample).reshape(168, 168)
    offset = network(sample).flatten() - jacobian @ sample.flatten()
    figures = data["images"][1]["figures"]
    largest = float(torch.linalg.matrix_norm(jacobian, 2))
    assert figures["lipschitz_lower"] <= largest * (1 + 1e-5)
    assert largest <= figures["lipschitz_upper"] * (1 + 1e-5)
    share = float(offset.norm() / network(sample).norm())
    assert figures["offset_share"] == pytest.approx(share, rel=1e-4)
    on = network[:2](sample) > 0
    assert figures["num_active"] == int(on.sum())
    assert data["num_patterns"] == 2
    summary = data["summary"]["offset_share"]
    shares = [image["figures"]["offset_share"] for image in data["images"]]
    assert summary["mean"] == pytest.approx(np.mean(shares))
    assert summary["spread"] == pytest.approx(np.std(shares, ddof=1))
    assert summary["worst_image"] == ["a.png", "b.npy"][int(np.argmax(shares))]
    assert any("--boundaries" in line for line in data["not_done"])


@pytest.mark.usefixtures("page")
def test_files_and_tables(name, images, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    assert audit(f"{name}:make", "--images", images, "--run", run) == 0

    out = capsys.readouterr().out
    for words in ("K_p at least", "certified lower bound", "broken.npy failed", "worst image"):
        assert words in out
    rows = list(csv.DictReader((run / "audit.csv").read_text().splitlines()))
    stored = json.loads((run / "audit.json").read_text())
    assert [row["image"] for row in rows] == ["a.png", "b.npy"]
    for row, image in zip(rows, stored["images"], strict=True):
        value = float(row["lipschitz_lower [certified lower bound]"])
        assert value == image["figures"]["lipschitz_lower"]
    assert set(stored["columns"]) <= set(COLUMNS)
    assert {column["worth"] for column in stored["columns"].values()} >= {
        "exact",
        "certified lower bound",
        "probabilistic bound",
        "estimate",
    }
    assert "not a medical device" in (run / "audit.html").read_text()
    monkeypatch.setattr("framelets.report.write_audit", lambda run: run / "audit.html")
    assert cli.main(["report", str(run)]) == 0
    assert "audit.html" in capsys.readouterr().out


def test_the_worst_perturbation_was_tried(name, images, tmp_path, capsys):
    run = tmp_path / "run"
    data = found(capsys, f"{name}:make", "--images", images, "--run", run, "--worst", 1)

    worst = data["worst"][0]
    arrays = RunFolder(run).read_npz(f"images/{worst['image']}.npz")
    network = own_network(name)
    x, v = (torch.from_numpy(arrays[key])[None] for key in ("image", "right"))
    assert float(v.norm()) == pytest.approx(1, rel=1e-5)
    assert worst["norm"] == pytest.approx(0.01 * float(x.norm()), rel=1e-5)
    with torch.no_grad():
        gains = [
            float((network(x + sign * worst["norm"] * v) - network(x)).norm()) / worst["norm"]
            for sign in (1, -1)
        ]
    assert worst["measured_gain"] == pytest.approx(max(gains), rel=1e-4)
    bounds = {image["image"]: image["figures"] for image in data["images"]}[worst["image"]]
    assert worst["singular_value"] <= bounds["lipschitz_upper"]


@pytest.fixture
def computed(monkeypatch):
    """Names of the images that are computed, not taken from the run folder."""
    names = []
    original = audit_module.audit_image

    def watched(network, image, *others):
        names.append(image.words.split(",")[0])
        return original(network, image, *others)

    monkeypatch.setattr(audit_module, "audit_image", watched)
    return names


def test_only_what_changed_is_computed_again(name, images, tmp_path, capsys, computed):
    words = [f"{name}:make", "--images", images, "--run", tmp_path / "run", "--worst", 0]
    first = found(capsys, *words)
    assert computed == ["a.png", "b.npy"]

    computed.clear()
    again = found(capsys, *words)
    assert computed == []
    assert again["num_reused"] == 2
    assert again["images"] == first["images"]

    np.save(images / "b.npy", np.load(images / "b.npy")[::-1])
    found(capsys, *words)
    assert computed == ["b.npy"]

    for change in (["--set", "seed=1"], ["--seed", "1"], ["--scale", "2"], ["--boundaries"]):
        computed.clear()
        found(capsys, *words, *change)
        assert computed == ["a.png", "b.npy"], change


def test_code_that_changed_is_seen_by_its_output(name, images, tmp_path, capsys, computed):
    module = tmp_path / f"{name}x.py"
    words = [f"{name}x:Net", "--images", images, "--run", tmp_path / "run", "--worst", 0]
    body = "from torch import nn\nclass Net(nn.Module):\n def forward(self, x):\n  return {} * x\n"
    for factor in (2, 3):
        module.write_text(body.format(factor))
        __import__("sys").modules.pop(module.stem, None)
        for cache in tmp_path.glob("__pycache__/*"):
            cache.unlink()
        found(capsys, *words)
    assert computed == ["a.png", "b.npy"] * 2


def test_an_interrupted_audit_goes_on(name, images, tmp_path, capsys, monkeypatch, computed):
    words = [f"{name}:make", "--images", images, "--run", tmp_path / "run"]
    watched = audit_module.audit_image

    def interrupted(network, image, *others):
        if image.words.startswith("b.npy"):
            raise KeyboardInterrupt
        return watched(network, image, *others)

    with monkeypatch.context() as patch:
        patch.setattr(audit_module, "audit_image", interrupted)
        assert audit(*words) == 130
    assert "what was finished is kept" in capsys.readouterr().err.splitlines()[-1]

    data = found(capsys, *words)
    assert computed == ["a.png", "b.npy"]
    assert data["num_reused"] == 1


def test_thresholds_name_image_and_figure(name, images, tmp_path, capsys):
    words = [f"{name}:make", "--images", images, "--run", tmp_path / "run", "--worst", 0]
    limits = ["--max-lipschitz", 1e-3, "--max-offset-share", 1e-3, "--max-replay-error", 0]

    assert audit(*words, *limits) == 1

    lines = [line for line in capsys.readouterr().err.splitlines() if "fails at" in line]
    assert len(lines) == 6
    assert all(line.startswith(f"framelets: {name}:make fails at ") for line in lines)
    assert "a.png: K_p is at least" in lines[0]
    assert "for certain more than --max-lipschitz 0.001" in lines[0]
    limits = ["--max-lipschitz", 50, "--max-offset-share", 50, "--max-replay-error", 1e-4]
    assert audit(*words, *limits) == 0


def test_a_threshold_between_the_bounds_is_undecided():
    figures = {
        "lipschitz_lower": 2.0,
        "lipschitz_upper": 2.02,
        "probability": 0.99,
        "offset_share": None,
        "replay_error": 1e-7,
    }
    image = {"image": "a.png", "figures": figures}

    assert judge([image], 2.02, None, None) == ([], [])
    failures, undecided = judge([image], 2.01, None, None)
    assert failures == []
    assert undecided[0].startswith("a.png: K_p may exceed --max-lipschitz 2.01")
    assert judge([image], 1.99, None, None)[1] == []
    assert "at least 2, for certain" in judge([image], 1.99, None, None)[0][0]
    assert judge([image], 2.0, None, None)[0] == []  # met exactly
    assert "not defined" in judge([image], None, 0.5, None)[0][0]


def test_the_worst_images_are_the_largest_figures():
    table = [
        {"image": name, "figures": {"lipschitz_lower": k, "offset_share": b}}
        for name, k, b in (("a", 1.0, 0.2), ("b", 3.0, None), ("c", 2.0, 0.1), ("d", 0.5, 0.9))
    ]

    assert list(worst_images(table, 2)) == ["b", "c", "d"]
    assert worst_images(table, 2)["d"] == "largest offset share"
    assert worst_images(table, 0) == {}


def test_boundaries_are_those_of_the_patterns(name, images, tmp_path, capsys):
    words = [f"{name}:make", "--images", images, "--run", tmp_path / "run", "--worst", 0]
    words += ["--precision", "float64", "--boundaries", "--segment", 0.02]
    data = found(capsys, *words)

    network = own_network(name).double()
    x = torch.from_numpy(np.load(images / "b.npy")).float().double()[None, None]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    noise *= 0.02 * x.norm() / noise.norm()
    # One hidden layer: each unit is affine along the segment, and switches if its ends disagree.
    changed = (network[0](x) > 0) != (network[0](x + noise) > 0)
    figures = data["images"][1]["figures"]
    assert int(changed.sum()) > 0
    assert figures["num_boundaries"] == int(changed.sum())
    assert figures["boundaries_reached"] == 1
    gradients = torch.func.jacrev(network[0])(x).reshape(-1, x.numel()).norm(dim=1)
    nearest = float((network[0](x).flatten().abs() / gradients).min())
    assert figures["boundary_lower"] <= nearest * (1 + 1e-9)
    assert figures["boundary_upper"] == pytest.approx(nearest, rel=1e-6)


def test_a_network_without_regions_is_said_to_be_one(name, images, tmp_path, capsys):
    words = [f"{name}:Smooth", "--images", images, "--run", tmp_path / "run", "--boundaries"]
    data = found(capsys, *words)

    assert "num_boundaries" not in data["images"][0]["figures"]
    assert any("not piecewise linear" in line for line in data["not_done"])
    assert data["levels"]["levels"] == []


def test_the_scan_splits_the_output(name, scan, tmp_path, capsys):
    folder = tmp_path / "slices"
    folder.mkdir()
    with np.load(scan) as arrays:
        spacing = float(arrays["reference_spacing_mm"])
    picture = np.random.default_rng(1).random((32, 32)).astype(np.float32)
    np.save(folder / "a.npy", picture)
    words = [f"{name}:Shift", "--images", folder, "--run", tmp_path / "run", "--scan", scan]
    data = found(capsys, *words, "--worst", 0)

    # The same by dense matrices: Tikhonov's filter of every singular vector.
    operator = scan_projector(read_scan(scan), (32, 32), spacing)
    matrix = operator.to_matrix((32, 32), dtype=torch.float64)
    _, values, vectors = torch.linalg.svd(matrix.reshape(-1, 1024), full_matrices=True)
    squares = torch.zeros(1024, dtype=torch.float64)
    squares[: len(values)] = values**2
    ridge = (0.01 * values[0]) ** 2
    null = vectors.T @ torch.diag(ridge / (squares + ridge)) @ vectors
    x = torch.from_numpy(picture).double().flatten()
    linear, offset = 0.5 * x, (torch.arange(32.0).double() / 32).repeat(32)
    energy = (linear + offset).square().sum()
    expected = {
        "null_linear_share": (null @ linear).square().sum() / energy,
        "null_offset_share": (null @ offset).square().sum() / energy,
        "null_share": (null @ (linear + offset)).square().sum() / energy,
        "changed_share": (linear + offset - null @ (linear + offset) - x + null @ x).square().sum()
        / energy,
    }
    figures = data["images"][0]["figures"]
    assert figures["support_converged"]
    for key, value in expected.items():
        assert figures[key] == pytest.approx(float(value), rel=0.03, abs=1e-4), key
    assert figures["null_share"] > 0.01
    assert data["columns"]["null_share"]["worth"] == "exact up to support_error"


@pytest.mark.usefixtures("tiny_weights")
def test_a_network_of_the_package(images, tmp_path, capsys):
    words = ["sparse-view-ct/unet", "--images", images, "--run", tmp_path / "run", "--crop", 8]
    data = found(capsys, *words)

    assert "divided by its 99th percentile" in data["images"][0]["words"]
    assert data["images"][0]["shape"] == [1, 8, 8]
    assert data["levels"]["levels"][0]["upper"] == pytest.approx(1.25)  # a 2x2 mean and a skip


def test_refuses_a_folder_in_which_nothing_can_be_read(name, images, tmp_path, capsys):
    for path in images.iterdir():
        path.write_text("no image")
    line = refusal(capsys, f"{name}:make", "--images", images, "--run", tmp_path / "run")

    assert "none of 3 files could be audited" in line
    assert not (tmp_path / "run" / "audit.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["make", "--max-lipschitz", -1], "--max-lipschitz must not be negative"),
        (["make", "--segment", 0], "--segment must be positive"),
        (["make", "--precision", "half"], "precision must be"),
        (["Pair"], "must return one tensor"),
        (["make", "--channels", 3], r"cannot take an image of shape \(3, 11, 9\)"),
    ],
)
def test_refuses(name, images, tmp_path, capsys, words, message):
    words = [f"{name}:{words[0]}", *words[1:], "--images", images, "--run", tmp_path / "run"]

    assert __import__("re").search(message, refusal(capsys, *words))


def test_refuses_networks_that_take_scans_and_empty_folders(images, tmp_path, capsys):
    run = ["--run", tmp_path / "run"]
    line = refusal(capsys, "sparse-view-ct/unrolled", "--images", images, *run)
    assert "takes a scan, not an image" in line
    (tmp_path / "empty").mkdir()
    line = refusal(capsys, "sparse-view-ct/unet", "--images", tmp_path / "empty", *run)
    assert "holds no files" in line
    words = ["sparse-view-ct/unet", "--images", images, *run, "--set", "a=1"]
    assert "--set is for module:callable" in refusal(capsys, *words)


def test_refuses_a_scan_that_does_not_go_with_the_network(name, images, scan, tmp_path, capsys):
    words = [f"{name}:make", "--set", "channels=2", "--channels", 2, "--images", images]
    line = refusal(capsys, *words, "--scan", scan, "--run", tmp_path / "run")

    assert "from a real image to one of the same shape" in line
