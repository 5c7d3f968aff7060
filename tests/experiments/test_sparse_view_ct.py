"""The sparse-view experiment: its data, its arithmetic, its verdicts, and what it writes."""

import csv
import io

import pytest
import torch

from framelets.core.run_folder import RunFolder
from framelets.data import EVALUATION_FILES
from framelets.experiments import EXPERIMENTS, ExperimentOptions
from framelets.experiments import sparse_view_ct as experiment
from framelets.experiments.sparse_view_ct_figure import draw_figure
from framelets.experiments.sparse_view_ct_table import judge, make_tables, summarize, training_table
from framelets.experiments.written_tables import as_csv, as_markdown
from framelets.solvers import FilteredBackProjection
from framelets.tasks import SparseViewCT
from framelets.tasks.ct_simulation import scan_of
from framelets.tasks.sparse_view_ct import NetworkConfig, SparseViewCTConfig
from framelets.testing import real_data_folder
from framelets.training import save_weights

PSNR = {
    "fbp": 25.0,
    "tv": 34.0,
    "unet": 30.0,
    "dual-frame-unet": 30.02,
    "tight-frame-unet": 31.0,
    "tight-frame-unet-narrow": 30.5,
    "unrolled": 36.0,
}


def make_scores(**changes):
    """Invent metrics of three images: a spread shared by all methods, and a little of their own."""
    psnr = PSNR | {name.replace("_", "-"): value for name, value in changes.items()}

    def metrics(value, own):
        values = [value - 1 + own, value, value + 1 - own]
        return {
            "psnr": values,
            "ssim": [0.9] * 3,
            "nmse": [1e-2] * 3,
            "residual": [3e-3] * 3,
            "seconds": [0.5],
        }

    cases = ("head, 1e5 photons", "disks, measured")
    return {
        case: {
            views: {m: metrics(v, 0.03 * i) for i, (m, v) in enumerate(psnr.items())}
            for views in (30, 60)
        }
        for case in cases
    }


def test_summary_gives_mean_and_spread():
    records = summarize(make_scores())
    record = next(r for r in records if r["method"] == "fbp" and r["views"] == 60)

    assert len(records) == 2 * 2 * 7
    assert record["psnr"] == pytest.approx(25.0)
    assert record["psnr_spread"] == pytest.approx(1.0)
    assert record["num_images"] == 3


def test_verdicts_when_aims_are_met_and_missed():
    met = judge(make_scores())
    missed = judge(make_scores(unet=27.5, unrolled=33.9))

    assert met[0].startswith("Aim met (head, 1e5 photons): every U-Net at least 3 dB")
    assert "+5.00 dB (unet)" in met[0]
    assert any(v.startswith("Aim met") and "unrolled" in v and "+2.00 dB at 60" in v for v in met)
    assert missed[0].startswith("Aim missed")
    assert any(v.startswith("Aim missed at 30 and 60 views") and "-0.10" in v for v in missed)


def test_a_quick_run_judges_no_aim():
    quick = judge(make_scores(), quick=True)

    assert quick[0] == "Quick: 3 images; shows that it runs, proves nothing."
    assert not any("Aim met" in verdict or "missed" in verdict for verdict in quick)
    assert "+5.00 dB (unet)" in quick[1]  # the numbers themselves are given


def test_order_of_poolings_names_unclear_differences():
    verdict = next(v for v in judge(make_scores()) if v.startswith("Against unet"))

    assert "tight-frame-unet +1.00 ±" in verdict
    assert "dual-frame-unet +0.02 ± 0.02 dB (no clear difference)" in verdict


def test_tables_hold_what_was_measured():
    summary = summarize(make_scores())
    budget = {
        "unet": {
            "num_parameters": 1234,
            "num_steps": 10,
            "batch_size": 8,
            "core_minutes": 5.0,
        }
    }
    tables = make_tables(summary, budget)
    text = as_markdown(tables, ["Aim met."], "framelets reproduce sparse-view-ct")
    rows = list(csv.DictReader(io.StringIO(as_csv(summary))))

    assert "head, 1e5 photons" in tables[0][0]
    assert list(tables[0][2][0]) == [
        "fbp", "25.00 ± 1.00", "25.00 ± 1.00", "0.9000", "1.00e-02", "3.0e-03", "0.5",
    ]  # fmt: skip
    assert "| unet | 1,234 | 10 | 8 | 5.0 |" in text
    assert text.startswith("Made by `framelets reproduce sparse-view-ct`.")
    assert float(rows[0]["psnr"]) == 25.0


def test_other_trainings_stand_beside_the_shipped_ones():
    shipped = make_scores()
    better = make_scores(unet=30.3)
    other = {
        case: {views: {"unet": of_views["unet"]} for views, of_views in of_case.items()}
        for case, of_case in better.items()
    }
    title, columns, rows = training_table(shipped, {"seed1": other})

    assert "above the shipped one" in title
    assert columns == ["training", "data", "30 views", "60 views"]
    assert rows[0] == ["unet of seed1", "head, 1e5 photons", "+0.30 ± 0.00", "+0.30 ± 0.00"]
    assert len(rows) == 2


def test_trainings_are_read_from_run_folders(tmp_path):
    task = SparseViewCT(SparseViewCTConfig(networks=NetworkConfig(width=2, depth=1)))
    network = task.network("unet")
    run = tmp_path / "seed1" / "unet"
    run.mkdir(parents=True)
    (run / "config.toml").write_text("[sparse_view_ct.networks]\nwidth = 2\ndepth = 1\n")
    save_weights(run / "weights.safetensors", network, {})

    found = experiment.other_trainings(tmp_path / "seed1")
    image = torch.ones(1, 1, 8, 8)

    assert list(found) == ["unet"]
    assert torch.equal(found["unet"](image), network(image))


def test_experiment_refuses_weights_without_a_training(tmp_path):
    with pytest.raises(ValueError, match=r"finished run folders.*framelets train"):
        experiment.other_trainings(tmp_path)


def test_figure_is_drawn_from_the_folder_alone(tmp_path):
    folder = RunFolder(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for slug in ("head-1e5-photons", "disks-measured"):
        for method in ("fbp", "unet"):
            image = 0.02 * torch.rand(16, 16, generator=generator)
            arrays = {"image": image, "reference": image / 2, "mask": image > 0.001}
            folder.write_npz(f"images/{slug}-60-{method}.npz", **arrays)

    path = draw_figure(folder, ("fbp", "unet"), 60)

    assert path.read_bytes().startswith(b"\x89PNG")


def test_every_experiment_has_a_name():
    assert all(name == name.lower() and callable(run) for name, run in EXPERIMENTS.items())
    assert {"sparse-view-ct", "tv-weights"} <= set(EXPERIMENTS)


@pytest.mark.real_data
@pytest.mark.parametrize("data", ["head", "disks"])
def test_measured_data_reconstruct(data):
    # The conventions of scan, grid and reference agree: half a pixel or a mirror would show here.
    options = ExperimentOptions(quick=True)
    case = experiment._load(data, 1e5, 120, options, real_data_folder())

    fbp = FilteredBackProjection(scan_of(case.measurement), case.grid)(case.measurement.sinogram)
    mirrored = fbp.flip(-1)
    scores = SparseViewCT().metrics(fbp, case.reference, case.mask)
    wrong = SparseViewCT().metrics(mirrored, case.reference, case.mask)

    assert case.measurement.sinogram.shape[:2] == (2, 120)
    assert float(scores["psnr"].min()) > 24
    assert float((scores["psnr"] - wrong["psnr"]).min()) > 3


def test_experiment_refuses_a_folder_without_the_data_even_with_results(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_json("metrics/head-1e5-photons-30-fbp.json", {"psnr": [1.0]})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ct_head_108x256x256.npz").write_bytes(b"")

    with pytest.raises(FileNotFoundError, match=r"1 of the 10 files .* missing: ct_fanbeam\w+ta"):
        EXPERIMENTS["sparse-view-ct"](folder, ExperimentOptions(data_folder=tmp_path / "data"))


def test_results_that_are_there_are_counted(tmp_path, monkeypatch):
    metrics = {name: [1.0, 2.0] for name in ("psnr", "ssim", "nmse", "residual")}
    measured = []
    monkeypatch.setattr(experiment, "_load", lambda *_: None)
    monkeypatch.setattr(
        experiment, "_measure", lambda *_: measured.append(1) or metrics | {"seconds": [0.5]}
    )
    monkeypatch.setattr(experiment, "draw_figure", lambda folder, *_: folder.file("figure.png"))
    for name in EVALUATION_FILES:
        (tmp_path / name).write_text(name)
    options = ExperimentOptions(data_folder=tmp_path, quick=True)
    folder = RunFolder(tmp_path / "run")
    first = EXPERIMENTS["sparse-view-ct"](folder, options)
    total = 3 * 2 * len(SparseViewCT.methods)
    assert (len(measured), "results were in" in first.notes[0]) == (total, False)
    (tmp_path / "run" / "metrics" / "head-noise-free-60-tv.json").unlink()

    again = EXPERIMENTS["sparse-view-ct"](folder, options)

    assert len(measured) == total + 1
    assert again.notes[0].startswith(f"{total - 1} of {total} results were in {folder.path}")
    assert "Quick: 2 images; shows that it runs, proves nothing." in again.notes

    weights = folder.read_json("weights.json")
    folder.write_json("weights.json", weights | {"unrolled": "those before a new training"})
    EXPERIMENTS["sparse-view-ct"](folder, options)

    assert len(measured) == total + 1 + 3 * 2
    assert folder.read_json("weights.json") == weights


def test_results_of_other_data_refuses_and_the_same_data_do_not(tmp_path):
    folder = RunFolder(tmp_path / "run")
    data = tmp_path / "data"
    data.mkdir()
    for name in EVALUATION_FILES:
        (data / name).write_text(name)
    experiment._refuse_other_data(folder, data)
    experiment._refuse_other_data(folder, data)

    (data / EVALUATION_FILES[0]).write_text("another head")

    with pytest.raises(ValueError, match=rf"results of another {EVALUATION_FILES[0]}"):
        experiment._refuse_other_data(folder, data)


def test_experiment_refuses_missing_data(tmp_path, monkeypatch):
    monkeypatch.delenv("FRAMELETS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    with pytest.raises(FileNotFoundError, match="FRAMELETS_DATA"):
        EXPERIMENTS["sparse-view-ct"](RunFolder(tmp_path / "run"), ExperimentOptions())
