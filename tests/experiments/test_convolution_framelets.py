"""The convolution-framelet experiment: operators, measurements, tuning, arithmetic, verdicts."""

import csv
import io
import math
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch

from framelets.core.run_folder import RunFolder
from framelets.data import natural_images
from framelets.experiments import EXPERIMENTS, ExperimentOptions
from framelets.experiments import convolution_framelets as experiment
from framelets.experiments import convolution_framelets_tuning as tuning
from framelets.experiments.convolution_framelets_figure import FIGURES
from framelets.experiments.convolution_framelets_methods import (
    METHODS,
    TABLE,
    Ladder,
    Method,
    image_of,
    methods_for,
    tuned_parameters,
)
from framelets.experiments.convolution_framelets_problems import (
    PROBLEMS,
    TUNING_IMAGES,
    GaussianBlur,
    PixelMask,
    images,
    measure_all,
)
from framelets.experiments.convolution_framelets_table import (
    difference,
    endings,
    judge,
    make_tables,
    summarize,
)
from framelets.solvers import Reconstruction
from framelets.testing import assert_adjoint

PSNR = {
    "start": 20.0,
    "tv": 25.0,
    "framelets, l1": 26.0,
    "ldmm": 25.5,
    "reweighted, published": 25.6,
    "reweighted, inverse": 26.5,
}


def make_scores(**changes):
    """Invent metrics of three images: a spread shared by all methods, and a little of their own."""
    scores = {}
    for problem in PROBLEMS:
        methods = PSNR | changes.get(problem.replace("-", "_"), {})
        scores[problem] = {
            method: {
                "psnr": [value - 1 + 0.01 * i, value, value + 1 - 0.01 * i],
                "ssim": [0.8] * 3,
                "seconds": [0.5] * 3,
                "residual": [0.01, 0.02, 0.03],
                "converged": [method != "tv" or problem != "blur"] * 3,
            }
            for i, (method, value) in enumerate(methods.items())
        }
    return scores


# Problems.


@pytest.mark.parametrize("shape", [(6, 8), (5, 7)])
def test_operators_have_adjoints(shape):
    measured = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5

    assert_adjoint(PixelMask(measured))
    assert_adjoint(GaussianBlur(shape, 1.5), tolerance=1e-13)


def test_blur_of_a_point_by_hand():
    point = torch.zeros(9, 12, dtype=torch.float64)
    point[0, 3] = 1.0

    blurred = GaussianBlur((9, 12), 1.5)(point)

    assert blurred.sum().item() == pytest.approx(1.0)
    for place, distance in (((1, 3), 1), ((8, 3), 1), ((0, 5), 4), ((2, 4), 5)):
        expected = math.exp(-distance / (2 * 1.5**2))
        assert (blurred[place] / blurred[0, 3]).item() == pytest.approx(expected)


def test_images_are_block_means_and_tuning_ones_are_apart():
    tested, tuned_on = images(), images(tuning=True)

    assert len(tested) == 10
    assert tuple(tuned_on) == TUNING_IMAGES
    assert not set(tested) & set(tuned_on)
    assert all(image.shape == (128, 128) for image in [*tested.values(), *tuned_on.values()])
    camera = natural_images()["camera"]  # 512 x 512: the center of 256 x 256, blocks of 2 x 2
    assert tested["camera"][0, 1].item() == pytest.approx(camera[128:130, 130:132].mean().item())
    retina = natural_images()["retina"]  # 1411 x 1411: blocks of 5 x 5
    expected = retina[385:390, 385:390].mean().item()
    assert tested["retina"][0, 0].item() == pytest.approx(expected)


def test_measurements():
    for name, problem in PROBLEMS.items():
        cases = measure_all(problem, seed=0, num_images=2)
        again = measure_all(problem, seed=0, num_images=1)["astronaut"][1]
        other_seed = measure_all(problem, seed=1, num_images=1)["astronaut"][1]
        (image, measured), (_, second) = cases.values()
        assert torch.equal(measured.measurement, again.measurement)
        assert not torch.equal(measured.measurement, other_seed.measurement)
        error = measured.measurement - measured.operator(image)
        if problem.group == "inpainting":
            known = measured.operator.measured
            assert 1 - known.float().mean().item() == pytest.approx(problem.missing, abs=0.01)
            assert not torch.equal(known, second.operator.measured)
            assert torch.equal(measured.measurement[known], image[known])
            torch.testing.assert_close(measured.start[known], image[known])
            assert measured.start.min() > image.min() - 1e-6
            assert measured.start.max() < image.max() + 1e-6
        else:
            assert error.std().item() == pytest.approx(problem.noise, rel=0.02), name
            assert torch.equal(measured.start, measured.measurement)


def test_tuning_and_testing_see_different_noise():
    problem = PROBLEMS["noise-25"]
    (tested, one), *_ = measure_all(problem, seed=0, num_images=1).values()
    (tuned_on, other), *_ = measure_all(problem, seed=0, tuning=True, num_images=1).values()

    assert (one.measurement - tested - other.measurement + tuned_on).abs().max() > 0.1


# Methods.


def test_bm3d_has_a_row_only_where_it_is_installed(monkeypatch):
    calls = {}

    def bm3d(noisy, sigma):
        calls["denoising"] = sigma
        return noisy / 2

    def bm3d_deblurring(noisy, sigma, kernel):
        assert noisy.shape == (128, 128, 1)
        assert kernel.shape == (127, 127)
        calls["deconvolution"] = sigma, np.unravel_index(kernel.argmax(), kernel.shape)
        return noisy / 2

    fake = types.ModuleType("bm3d")
    fake.bm3d, fake.bm3d_deblurring = bm3d, bm3d_deblurring
    fake.__spec__ = ModuleSpec("bm3d", None)
    monkeypatch.setitem(sys.modules, "bm3d", fake)

    assert "bm3d" in methods_for("denoising")
    assert "bm3d" in methods_for("deconvolution")
    assert "bm3d" not in methods_for("inpainting")
    for name in ("noise-15", "blur"):
        (_, measured), *_ = measure_all(PROBLEMS[name], seed=0, num_images=1).values()
        image = METHODS["bm3d"].run(measured, {})
        torch.testing.assert_close(image, measured.measurement / 2)
    assert calls == {"denoising": 15 / 255, "deconvolution": (2 / 255, (63, 63))}
    monkeypatch.setitem(sys.modules, "bm3d", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "bm3d" not in methods_for("denoising")


needs_table = pytest.mark.skipif(
    not (Path(experiment.__file__).parent / TABLE).is_file(),
    reason="the tuned parameters are not shipped yet",
)


def test_a_bm3d_that_does_not_run_refuses_in_one_line(monkeypatch):
    broken = types.ModuleType("bm3d")  # what is called is missing, as in a NumPy too new for it
    monkeypatch.setitem(sys.modules, "bm3d", broken)
    (_, measured), *_ = measure_all(PROBLEMS["noise-15"], seed=0, num_images=1).values()

    with pytest.raises(ValueError, match=r"installed bm3d does not run .* its rows are left out"):
        METHODS["bm3d"].run(measured, {})


@needs_table
def test_tuned_parameters_are_on_their_ladders():
    for name, problem in PROBLEMS.items():
        for method in set(methods_for(problem.group)) - {"bm3d"}:
            parameters = tuned_parameters(name, method)
            ladders = METHODS[method].ladders_for(problem.group)
            assert set(parameters) == set(ladders), (name, method)
            assert all(parameters[key] in ladders[key].values for key in ladders)


@needs_table
@pytest.mark.slow
@pytest.mark.parametrize("name", ["noise-25", "missing-80", "blur"])
def test_every_method_improves_on_where_it_starts(name):
    problem = PROBLEMS[name]
    ((image, measured),) = measure_all(problem, seed=5, tuning=True, num_images=1).values()
    errors = {
        method: float(
            (image_of(METHODS[method].run(measured, tuned_parameters(name, method))) - image).norm()
        )
        for method in methods_for(problem.group)
    }

    # Linear interpolation of scattered pixels is hard to beat for wavelets and total variation.
    better = [m for m in errors if problem.group != "inpainting" or m.startswith(("r", "f", "l"))]
    assert all(errors[m] < 0.98 * errors["start"] for m in better if m != "start"), errors


# Tuning.


def test_climbing_finds_a_maximum_and_never_asks_twice():
    ladders = {
        "a": Ladder((1, 2, 4, 8, 16), 0),
        "b": Ladder((-1, 0, 1, 2), 3),
        "c": Ladder((7,), 0),
    }
    asked = []

    def score(parameters):
        asked.append(tuple(parameters.values()))
        a, b = math.log2(parameters["a"]), parameters["b"]
        return -((a - 3) ** 2) - (b - 0) ** 2 - 0.5 * (a - 3) * b

    best, value = tuning.climb(ladders, score)

    assert best == {"a": 8, "b": 0, "c": 7}
    assert value == 0
    assert len(asked) == len(set(asked))


def test_tuning_keeps_its_searches(tmp_path, monkeypatch):
    calls = []

    def run(measured, parameters):
        calls.append(parameters)
        return measured.start + abs(parameters["weight"] - 0.5)

    ladders = {"weight": Ladder((0.1, 0.5, 0.9), 0)}
    methods = {"ours": Method(run, ladders), "start": METHODS["start"]}
    monkeypatch.setattr(tuning, "METHODS", methods)
    monkeypatch.setattr(tuning, "methods_for", lambda _: list(methods))
    monkeypatch.setattr(tuning, "PROBLEMS", {"noise-25": PROBLEMS["noise-25"]})
    options = ExperimentOptions(quick=True, command="framelets reproduce x")

    outcome = tuning.tune_convolution_framelets(RunFolder(tmp_path), options)
    once = len(calls)
    again = tuning.tune_convolution_framelets(RunFolder(tmp_path), options)

    assert outcome.data["parameters"] == {"noise-25": {"ours": {"weight": 0.5}}}
    assert outcome.data["command"] == "framelets reproduce x"
    assert again.data == outcome.data
    assert len(calls) == once
    assert (tmp_path / TABLE).is_file()


# Tables and verdicts.


def test_differences_are_paired():
    scores = {"blur": {"a": {"psnr": [21.0, 31.0, 42.0]}, "b": {"psnr": [20.0, 30.0, 40.0]}}}

    versus = difference(scores, "blur", "a", "b")

    assert versus.mean == pytest.approx(4 / 3)
    assert versus.error == pytest.approx(1 / 3)
    assert str(versus) == "+1.33 ± 0.33"
    assert versus.word == "above"


def test_verdicts_of_the_published_claim():
    seen = judge(make_scores())
    lower = PSNR | {"reweighted, published": 25.0}
    mixed = judge(make_scores(missing_90=lower))
    reversed_ = judge(make_scores(missing_90=lower, missing_95=lower))

    assert seen[0].startswith("Published claim, reweighted above plain ldmm at high missing rates")
    assert "seen with the published rule; +0.10 ± 0.01 dB at 90 % missing" in seen[0]
    assert "seen with inverse weights" in seen[1]
    assert "not seen at every rate with the published rule" in mixed[0]
    assert "reversed with the published rule" in reversed_[0]
    assert (
        "blur 1.5 px, noise 2/255: best framelets (reweighted, inverse) against the best other "
        "method (tv): +1.50 ± 0.02 dB (above)."
    ) in seen
    assert judge(make_scores(), quick=True)[0].startswith("Quick: 3 images; shows that it runs")


def test_endings_name_what_did_not_converge():
    first, second = endings(make_scores(), num_updates=3)

    assert "after 3 graphs" in first
    assert "by 2.0 % (median), at most 3.0 %" in first
    assert second.endswith("tv, blur 1.5 px, noise 2/255: 3 images.")


def test_summary_and_tables():
    scores = make_scores()
    record = next(
        r for r in summarize(scores) if r["problem"] == "missing-95" and r["method"] == "tv"
    )
    tables = make_tables(scores)

    assert record["num_images"] == 3
    assert record["psnr"] == pytest.approx(25.0)
    assert record["psnr_spread"] == pytest.approx(0.99)
    assert record["above_ldmm"] == pytest.approx(-0.5)
    assert [len(rows) for _, _, rows in tables] == [6, 6, 6, 5]
    title, columns, rows = tables[1]
    assert title.startswith("Inpainting: PSNR in dB, mean ± spread over 3 images")
    assert columns[1:5] == ["50 % missing", "80 % missing", "90 % missing", "95 % missing"]
    assert rows[0] == ["start", *["20.00 ± 1.00"] * 4, *["0.800"] * 4, "0.5"]
    assert tables[3][2][1] == ["tv", *["-0.50 ± 0.01"] * 7]


# The run.


def cheap(measured, _):
    """Stand in for a solver: the start, in one number nearer to gray."""
    image = 0.9 * measured.start + 0.05
    return Reconstruction(image, image.sum(), torch.tensor(0.01), 3, False)


@pytest.fixture
def cheap_methods(monkeypatch):
    methods = {name: METHODS["start"] if name == "start" else Method(cheap) for name in PSNR}
    for module in ("convolution_framelets", "convolution_framelets_figure"):
        monkeypatch.setattr(f"framelets.experiments.{module}.methods_for", lambda _: list(methods))
    monkeypatch.setattr(experiment, "METHODS", methods)
    monkeypatch.setattr(experiment, "tuned_parameters", lambda *_: {})


@pytest.mark.usefixtures("cheap_methods")
def test_a_run_writes_its_files_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    options = ExperimentOptions(quick=True, command="framelets reproduce convolution-framelets")
    folder = RunFolder(tmp_path)

    def times():
        return {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "metrics").iterdir()}

    outcome = EXPERIMENTS["convolution-framelets"](folder, options)
    before = times()
    changed = {"weight": 2}
    monkeypatch.setattr(
        experiment, "tuned_parameters", lambda _, method: changed if method == "tv" else {}
    )
    again = EXPERIMENTS["convolution-framelets"](folder, options)

    rows = list(csv.DictReader(io.StringIO(folder.read_text("results.csv"))))
    assert len(rows) == 7 * 6
    assert len(outcome.data["data"]["tested"]) == 3
    assert folder.read_text("results.md").startswith("Made by `framelets reproduce")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert {name for name in before if times()[name] > before[name]} == {
        f"{p}-tv" for p in PROBLEMS
    }
    assert again.data["parameters"]["blur"]["tv"] == changed
    assert again.data["verdicts"] == outcome.data["verdicts"]


def test_shown_images_are_in_every_run():
    first = list(measure_all(PROBLEMS["noise-25"], seed=0, num_images=3))

    assert set(FIGURES) <= set(PROBLEMS)
    assert set(FIGURES.values()) <= set(first)
