"""The verbs from end to end, small: what they write, what they refuse, how they go on."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from framelets import cli
from framelets.commands.demo import demo
from framelets.commands.reconstruct import reconstruct
from framelets.commands.reconstruction import METHODS_IN_WORDS
from framelets.core import Result, RunFolder
from framelets.data import read_ct_scan, write_ct_scan
from framelets.experiments import EXPERIMENTS
from framelets.tasks import TASKS


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """Name of a module with a network of the user's own."""
    name = f"code_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "def make(width=4, channels=1):\n"
        "    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(),\n"
        "                         nn.Conv2d(width, 1, 3, padding=1))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return name


@pytest.fixture
def image(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "image.npy", rng.random((17, 23)))  # odd sizes
    return tmp_path / "image.npy"


def run_cli(*words):
    return cli.main([str(word) for word in words])


def refusal(capsys, *words):
    """Run a command that must fail; return its one line."""
    assert run_cli(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("framelets: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_simulated_scan_is_a_scan_with_its_reference(scan):
    measurement = read_ct_scan(scan)
    with np.load(scan) as arrays:
        reference, spacing = arrays["reference"], float(arrays["reference_spacing_mm"])

    assert measurement.kind == "fan"
    assert len(measurement.view_angles) == 12
    assert reference.shape == (32, 32)
    # A ray sum over all elements and the integral of the image agree: units are 1/mm and mm.
    pitch = measurement.detector_spacing_mm * 600 / 1100
    mass = measurement.sinogram.sum(-1).mean() * pitch
    assert float(mass) == pytest.approx(reference.sum() * spacing**2, rel=0.05)


@pytest.mark.usefixtures("tiny_weights")
def test_demo_writes_the_page_and_its_numbers(tmp_path):
    result = demo("sparse-view-ct", tmp_path / "run", num_views=12, size=32, num_singular_values=2)

    page = result.files["report"].read_text(encoding="utf-8")
    assert "trained on random images, some of them made from this CT volume" in page
    for words in ("The scan", "The reconstructions", "point response", "rays used", "unrolled"):
        assert words in page
    json.dumps(result.data, allow_nan=False)
    (network,) = result.data["explanation"]["networks"]
    assert network["replay_error"] < 1e-5
    bounds = network["lipschitz"]
    assert network["spectrum"]["values"][0] <= bounds["lower"] <= bounds["upper"]
    assert set(result.data["metrics"]) == {"fbp", "tv", "unet", "unrolled"}


@pytest.mark.usefixtures("tiny_weights")
def test_point_responses_are_those_of_the_operators(tmp_path):
    demo("sparse-view-ct", tmp_path, num_views=12, size=32, num_singular_values=2)
    folder = RunFolder(tmp_path)
    arrays, geometry = folder.read_npz("geometry.npz"), folder.read_json("geometry.json")

    for i, pixel in enumerate(geometry["pixels"]):
        # <row of the chain, rays> is what the network's row makes of the rays' reconstruction:
        # with the rays of the same pixel's column both are one number, written two ways.
        sinogram = arrays["baseline.rows"][i]
        assert arrays["0.chain_rows"][i].shape == sinogram.shape
        at = (pixel["row"], pixel["column"])
        through_row = (arrays["0.rows"][i, 0] * arrays["baseline.columns"][i]).sum()
        assert arrays["0.chain_columns"][i][at] == pytest.approx(through_row, rel=1e-4)


@pytest.mark.usefixtures("tiny_weights")
def test_reconstruct_measures_against_the_reference(scan, tmp_path, capsys):
    words = ["reconstruct", scan, "-m", "fbp", "-m", "unet", "--run", tmp_path / "run", "--json"]
    assert run_cli(*words) == 0

    rows = json.loads(capsys.readouterr().out)["metrics"]
    arrays = RunFolder(tmp_path / "run").read_npz("reconstruction.npz")
    error = np.mean((arrays["fbp"] - arrays["reference"]) ** 2)
    peak = arrays["reference"].max()
    assert rows["fbp"]["psnr_db"] == pytest.approx(10 * np.log10(peak**2 / error), rel=1e-3)
    assert rows["unet"]["num_parameters"] > 0


def test_reconstruct_a_folder_goes_on_where_it_stopped(scan, tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a.npz", "b.npz"):
        shutil.copy(scan, folder / name)
    (folder / "notes.txt").write_text("no scan")
    first = reconstruct(folder, ["fbp"], tmp_path / "runs", num_views=6)
    written = (tmp_path / "runs" / "a" / "reconstruction.npz").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "runs" / "b")

    again = reconstruct(folder, ["fbp"], tmp_path / "runs", num_views=6)

    assert len(first.data["scans"]) == 2
    assert (tmp_path / "runs" / "a" / "reconstruction.npz").stat().st_mtime_ns == written
    assert (tmp_path / "runs" / "b" / "report.html").is_file()
    (note,) = again.notes
    assert note.startswith(f"{tmp_path / 'runs' / 'a'} was finished already: its results are shown")
    reused = [scan["reused"] for scan in again.data["scans"].values()]
    assert reused == [True, False]


def test_a_changed_scan_is_reconstructed_again(scan, tmp_path):
    shutil.copy(scan, tmp_path / "scan.npz")
    first = reconstruct(tmp_path / "scan.npz", ["fbp"], tmp_path / "run")
    assert reconstruct(tmp_path / "scan.npz", ["fbp"], tmp_path / "run").data["reused"]

    measurement = read_ct_scan(scan)
    with np.load(scan) as arrays:
        kept = {k: arrays[k] for k in ("reference", "reference_spacing_mm")}
    changed = dataclasses.replace(measurement, sinogram=2 * measurement.sinogram)
    write_ct_scan(tmp_path / "scan.npz", changed, **kept)
    again = reconstruct(tmp_path / "scan.npz", ["fbp"], tmp_path / "run")

    assert not again.data["reused"]
    assert again.data["metrics"]["fbp"]["nmse"] > 5 * first.data["metrics"]["fbp"]["nmse"]


def test_total_variation_takes_the_photons_of_the_scan(scan, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(
        "framelets.tasks.sparse_view_ct.tuned_total_variation",
        lambda _, grid, photons, **__: taken.append(photons) or torch.ones(grid.shape),
    )
    measurement = read_ct_scan(scan)
    assert measurement.photons_per_ray == 1e5  # simulate says it
    notes = []
    for photons in (2e4, 0.0, None):
        path = tmp_path / f"{photons}.npz"
        write_ct_scan(path, dataclasses.replace(measurement, photons_per_ray=photons))
        result = reconstruct(path, ["tv"], tmp_path / "runs" / path.stem)
        notes.append(" ".join(result.notes))

    assert taken == [2e4, None, 1e5]
    assert notes[:2] == ["", ""]
    assert "does not say its photons_per_ray: the weight of tv is that of 100,000" in notes[2]
    page = (tmp_path / "runs" / "None" / "report.html").read_text(encoding="utf-8")
    assert "the weight of tv is that of 100,000" in page


def test_another_size_drops_the_metrics_and_says_why(scan, tmp_path):
    result = reconstruct(scan, ["fbp"], tmp_path, size=16)

    assert "psnr_db" not in result.data["metrics"]["fbp"]
    (note,) = result.notes
    assert "No metrics: the reference has 32 x 32 pixels, --size asked for 16 x 16." in note
    assert "No metrics" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_method_is_described():
    for task in TASKS.values():
        assert set(METHODS_IN_WORDS) >= set(task.methods)


def test_explain_own_code_at_an_odd_sized_image(own_code, image, tmp_path, capsys):
    words = ["explain", f"{own_code}:make", "--at", image, "--set", "width=3", "--num", "3"]
    assert run_cli(*words, "--run", tmp_path / "run", "--precision", "float64", "--json") == 0

    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert "running your own code" in captured.err
    (network,) = content["networks"]
    assert network["replay_error"] < 1e-12
    assert network["input_shape"] == [1, 17, 23]
    assert len(network["spectrum"]["values"]) == 3
    assert (tmp_path / "run" / "report.html").is_file()


def test_explain_two_networks_of_an_rgb_code_side_by_side(own_code, tmp_path, capsys):
    PillowImage.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(tmp_path / "i.png")
    name = f"{own_code}:make"
    words = ["explain", name, "--versus", name, "--at", tmp_path / "i.png", "--channels", "3"]
    words += ["--set", "channels=3", "--num", "2", "--crop", "16", "--run", tmp_path / "run"]
    assert run_cli(*words, "--json") == 0

    content = json.loads(capsys.readouterr().out)
    assert [n["input_shape"] for n in content["networks"]] == [[3, 16, 16]] * 2


@pytest.mark.usefixtures("tiny_weights")
def test_explain_a_shipped_network_at_a_scan(scan, tmp_path, capsys):
    words = ["explain", "sparse-view-ct/unet", "--at", scan, "--num", "2", "--views", "6"]
    assert run_cli(*words, "--run", tmp_path / "run", "--pixel", "10,12", "--json") == 0

    content = json.loads(capsys.readouterr().out)
    assert content["baseline"] == {"name": "fbp"}
    assert content["pixels"] == [{"label": "chosen", "row": 10, "column": 12}]
    (network,) = content["networks"]
    assert len(network["grid"]["points"]) == 8 * 8 + 1
    parts = ("determined", "contradiction", "null_linear", "null_offset")
    for point in network["grid"]["points"]:
        assert sum(point[part] for part in parts) == pytest.approx(point["output"], abs=1e-4)
    assert network["segment"]["boundaries"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_weights")
def test_explain_a_network_that_takes_the_scan_itself(scan, tmp_path, capsys):
    words = ["explain", "sparse-view-ct/unrolled", "--at", scan, "--num", "1", "--views", "4"]
    words += ["--grid", "1", "--segment", "scaling", "--boundaries", "1", "--pixel", "10,12"]
    assert run_cli(*words, "--run", tmp_path / "run", "--json") == 0

    (network,) = json.loads(capsys.readouterr().out)["networks"]
    assert network["grid"]["through_scan"]
    assert network["segment"]["through_scan"]
    assert network["segment"]["slope_error"] < 1e-3
    for point in network["grid"]["points"]:
        assert sum(point["parts"]) == pytest.approx(point["linear"], abs=1e-3)
    assert network["support"]["shares"]["determined"] > 0
    assert "is given the scan itself" in (tmp_path / "run" / "report.html").read_text()


def test_explain_leaves_out_what_was_not_asked_for(own_code, image, tmp_path):
    words = ["explain", f"{own_code}:make", "--at", image, "--num", "1", "--grid", "0"]
    assert run_cli(*words, "--segment", "none", "--run", tmp_path / "run") == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "it was not asked for (--grid 0)" in page
    assert "it was not asked for (--segment none)" in page
    assert "<script" not in page


def test_refuses_an_unknown_segment(own_code, image, capsys):
    words = ("explain", f"{own_code}:make", "--at", image, "--segment", "up")
    assert "segment must be one of" in refusal(capsys, *words)


TINY_TRAINING = [
    "training.num_steps=2",
    "training.batch_size=2",
    "sparse_view_ct.simulation.image_size=32",
    "sparse_view_ct.simulation.images_per_scan=2",
    "sparse_view_ct.crop_size=16",
    "sparse_view_ct.pool_size=1",
    "sparse_view_ct.validation_images=1",
    "sparse_view_ct.networks.width=4",
    "sparse_view_ct.networks.depth=1",
]


def test_train_then_explain_what_was_trained(scan, tmp_path, capsys):
    settings = [word for setting in TINY_TRAINING for word in ("--set", setting)]
    words = ["train", "sparse-view-ct/unet", "--run", tmp_path / "unet", "--seed", "3", *settings]
    assert run_cli(*words, "--json") == 0
    trained = json.loads(capsys.readouterr().out)
    assert (trained["finished"], trained["num_steps"]) == (True, 2)
    assert (tmp_path / "unet" / "report.html").is_file()

    # The folder says how the network was made: not as wide as the package's own.
    words = ["explain", "sparse-view-ct/unet", "--weights", tmp_path / "unet", "--at", scan]
    assert run_cli(*words, "--num", "2", "--run", tmp_path / "explained", "--json") == 0
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    assert network["num_parameters"] == trained["num_parameters"]

    line = refusal(
        capsys, "train", "sparse-view-ct/unet", "--run", tmp_path / "unet", "--seed", "4"
    )
    assert "resume with the same settings" in line


def test_list_names_what_the_other_commands_take(monkeypatch, capsys):
    card = {"num_parameters": 12345, "command": "framelets train sparse-view-ct/unet"}
    monkeypatch.setattr("framelets.commands.catalogue.model_card", lambda _: card)
    assert run_cli("list") == 0
    text = capsys.readouterr().out
    for name in ("fbp", "unrolled", "sparse-view-ct/unet", "12,345", "nifti", "sinogram"):
        assert name in text


def test_evaluate_puts_runs_side_by_side(scan, tmp_path, capsys):
    for views in (6, 12):
        reconstruct(scan, ["fbp"], tmp_path / f"views{views}", num_views=views)
    capsys.readouterr()

    assert run_cli("evaluate", tmp_path / "views6", tmp_path / "views12", "--json") == 0

    data = json.loads(capsys.readouterr().out)
    few, many = (run["rows"]["fbp"]["psnr_db"] for run in data.values())
    assert few < many


def test_refuses_an_unknown_method_with_the_nearest(scan, tmp_path, capsys):
    line = refusal(capsys, "reconstruct", scan, "-m", "unett", "--run", tmp_path / "run")
    assert "did you mean 'unet'" in line
    assert not (tmp_path / "run").exists()


def test_refuses_an_unknown_network_task_experiment_and_device(scan, capsys):
    assert "sparse-view-ct/unet" in refusal(capsys, "explain", "sparse-view-ct/une", "--at", scan)
    assert "sparse-view-ct" in refusal(capsys, "demo", "sparse-view")
    assert "sparse-view-ct" in refusal(capsys, "reproduce", "sparse-view-cd")
    assert "gpu9" in refusal(capsys, "reconstruct", scan, "--device", "gpu9")


def test_refuses_more_views_than_there_are(scan, tmp_path, capsys):
    line = refusal(capsys, "reconstruct", scan, "--views", "99", "--run", tmp_path / "run")
    assert "at most the 12 that the scan has, got 99" in line


@pytest.mark.parametrize("content", ["nan", "empty", "cut short", "pickled", "text"])
def test_refuses_a_bad_image(content, own_code, tmp_path, capsys):
    path = tmp_path / "bad.npy"
    if content == "nan":
        np.save(path, np.full((9, 9), np.nan))
    elif content == "pickled":
        np.save(path, np.array([{"a": 1}], dtype=object))
    else:
        np.save(path, np.ones((9, 9)))
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "cut short": whole[:-100], "text": b"an image"}[content])

    line = refusal(capsys, "explain", f"{own_code}:make", "--at", path, "--run", tmp_path / "run")

    assert "bad.npy" in line
    assert not (tmp_path / "run").exists()


def test_refuses_an_image_that_is_not_there_or_a_folder(own_code, tmp_path, capsys):
    line = refusal(capsys, "explain", f"{own_code}:make", "--at", tmp_path / "none.png")
    assert "none.png" in line
    assert "does not exist" in line
    assert "folder" in refusal(capsys, "explain", f"{own_code}:make", "--at", tmp_path)


def test_refuses_channels_that_do_not_fit(own_code, image, tmp_path, capsys):
    words = ["explain", f"{own_code}:make", "--at", image, "--channels", "2"]
    line = refusal(capsys, *words, "--run", tmp_path / "run")
    assert "cannot take an image of shape (1, 2, 17, 23)" in line
    assert not (tmp_path / "run" / "geometry.json").exists()


def test_refuses_a_pickled_module(own_code, image, tmp_path, capsys):
    torch.save(torch.nn.Conv2d(1, 1, 3), tmp_path / "module.pt")
    words = ["explain", f"{own_code}:make", "--at", image, "--weights", tmp_path / "module.pt"]
    assert "save_file" in refusal(capsys, *words)


def test_refuses_a_scan_for_own_code(own_code, scan, capsys):
    line = refusal(capsys, "explain", f"{own_code}:make", "--at", scan)
    assert "reconstruct it first" in line


def test_refuses_a_folder_without_scans(tmp_path, capsys):
    assert "holds no scans" in refusal(capsys, "reconstruct", tmp_path)


def test_refuses_a_cut_scan(scan, tmp_path, capsys):
    (tmp_path / "cut.npz").write_bytes(scan.read_bytes()[:2000])
    assert "cut.npz" in refusal(capsys, "reconstruct", tmp_path / "cut.npz", "-o", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_refuses_a_folder_that_another_run_holds(scan, tmp_path, capsys):
    with RunFolder(tmp_path / "run").lock("train"):
        line = refusal(capsys, "reconstruct", scan, "--run", tmp_path / "run")
    assert "stage train" in line


def test_refuses_an_unknown_key_of_a_scan_config(tmp_path, capsys):
    (tmp_path / "scan.toml").write_text("num_veiws = 3")
    line = refusal(capsys, "simulate", tmp_path / "scan.toml", "-o", tmp_path / "scan.npz")
    assert "num_views" in line
    assert not (tmp_path / "scan.npz").exists()


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "photograph.png"
    PillowImage.fromarray(np.full((20, 20), 255, np.uint8)).save(path)
    return path


def test_simulate_takes_a_photograph_whose_white_is_told(photograph, tmp_path, capsys):
    (tmp_path / "scan.toml").write_text("image_size = 20\nnum_views = 4\nphotons_per_ray = 0\n")
    words = ["simulate", tmp_path / "scan.toml", "--at", photograph, "--spacing-mm", "1.5"]
    assert run_cli(*words, "--scale", "0.02", "-o", tmp_path / "scan.npz", "--json") == 0

    assert "a value of 1 taken as 0.02 1/mm" in json.loads(capsys.readouterr().out)["source"]
    measurement = read_ct_scan(tmp_path / "scan.npz")
    # The longest ray crosses a disk of 30 mm, less a pixel on each side.
    assert float(measurement.sinogram.max()) == pytest.approx(0.02 * 27, rel=0.03)
    assert measurement.photons_per_ray == 0


def test_refuses_to_take_white_for_attenuation(photograph, tmp_path, capsys):
    (tmp_path / "scan.toml").write_text("")
    words = ["simulate", tmp_path / "scan.toml", "--spacing-mm", "1", "-o", tmp_path / "scan.npz"]
    line = refusal(capsys, *words, "--at", photograph)
    assert "fraction of white, which is no attenuation; say with --scale" in line
    assert not (tmp_path / "scan.npz").exists()
    assert "--scale must be positive" in refusal(capsys, *words, "--at", photograph, "--scale", "0")
    np.savez(tmp_path / "hu.npz", hu=np.zeros((8, 8)))
    line = refusal(capsys, *words, "--at", tmp_path / "hu.npz", "--scale", "2")
    assert "hu.npz is in HU" in line
    assert "name one with --at" in refusal(capsys, *words)


def test_refuses_a_picture_to_reconstruct(photograph, tmp_path, capsys):
    line = refusal(capsys, "reconstruct", photograph, "--run", tmp_path / "run")
    assert "an image (png), not a scan; make a scan of it with framelets simulate" in line


def test_reproduce_refuses_results_of_other_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        EXPERIMENTS,
        "sparse-view-ct",
        lambda folder, _: folder.write_json("results.json", {}) or Result("", {}),
    )
    words = ["reproduce", "sparse-view-ct", "--run", tmp_path]
    assert run_cli(*words, "--quick") == 0
    assert run_cli(*words, "--quick") == 0
    capsys.readouterr()

    line = refusal(capsys, *words)

    assert "results made with quick = True, not False; choose a new --run" in line


def test_refuses_an_image_without_units_to_simulate(image, tmp_path, capsys):
    (tmp_path / "scan.toml").write_text("")
    words = ["simulate", tmp_path / "scan.toml", "--at", image, "-o", tmp_path / "scan.npz"]
    assert "--spacing-mm" in refusal(capsys, *words)
