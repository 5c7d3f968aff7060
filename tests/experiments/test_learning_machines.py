"""The learning-machine experiment: its data, its rules, its tables, and what it writes."""

import csv
import io
from statistics import fmean

import pytest
import torch

from framelets.core.run_folder import RunFolder
from framelets.experiments import EXPERIMENTS, ExperimentOptions
from framelets.experiments import learning_machines as experiment
from framelets.experiments.learning_machines_data import (
    NEIGHBORHOOD,
    NOISE_STD,
    PIXEL_IMAGE,
    PIXELS,
    TEST_IMAGES,
    TRAINING_SETS,
    neighborhoods,
    training_images,
    unseen_images,
    with_noise,
)
from framelets.experiments.learning_machines_kinds import Kind, make_kinds
from framelets.experiments.learning_machines_measure import MARGIN, _crossings
from framelets.experiments.learning_machines_table import (
    COLUMNS,
    answers,
    basis_table,
    growth_table,
    quality_table,
    summarize,
    summary_table,
    verdicts,
)
from framelets.experiments.written_tables import as_csv
from framelets.machines import FittedNetwork, FrameMachine, KernelMachine, SparseFrameMachine
from framelets.machines.perceptron import PerceptronNetwork


def figures(**changes):
    """Invent what is measured of a machine for which every answer is yes, but only just."""
    return {
        "psnr": [21.0, 22.0, 23.0],
        "ssim": [0.5, 0.6, 0.7],
        "psnr_noisy": [20.0, 21.0, 22.0],
        "ssim_noisy": [0.3, 0.4, 0.5],
        "psnr_other_set": [21.0, 22.0, 22.0],
        "num_parameters": 100,
        "num_representations": 101,
        "num_maps": 101,
        "num_patches": 200,
        "iterations": 0.0,
        "fit_seconds": 2.0,
        "seconds_per_image": 0.25,
        "switches_per_pixel": 8.0,
        "crossings": 2.0,
        "crossings_half_as_many_steps": 1.5,
        "num_atoms": [3, 4, 5],
        "replay_error": 1e-7,
        "atoms_between_sets": 0.1,
        "filters_between_sets": 0.3,
        "atoms_between_inputs": 0.1,
        "filters_between_inputs": 0.4,
    } | changes


@pytest.mark.parametrize(
    ("question", "changes"),
    [
        ("data-driven model", {"atoms_between_sets": 0.099}),
        ("adaptive expansion to the input", {"atoms_between_inputs": 0.099}),
        ("expressivity", {"num_representations": 100}),
        ("inductive model", {"iterations": 1.0}),
        ("learning", {"num_parameters": 99}),
        ("learning", {"psnr": [20.9, 21.9, 22.9]}),
    ],
)
def test_each_answer_turns_at_its_threshold(question, changes):
    yes = answers(figures())
    turned = answers(figures(**changes))

    assert all(answer for answer, _ in yes.values())
    assert tuple(yes) == COLUMNS
    assert [name for name, (answer, _) in turned.items() if not answer] == [question]


def two_kinds():
    first = Kind({"small": FrameMachine(), "middle": FrameMachine(), "large": FrameMachine()}, "a")
    second = Kind({"only": KernelMachine()}, "b")
    kinds = {"first": first, "second": second}
    small = figures(crossings=1.0, crossings_half_as_many_steps=0.9)
    weak = figures(psnr=[20.0, 21.2, 22.0], crossings=0.0, switches_per_pixel=0.0)
    found = {
        "first": {"small": small, "middle": figures(), "large": figures(crossings=4.0)},
        "second": {"only": weak},
    }
    return found, kinds


def test_tables_hold_what_was_measured():
    found, kinds = two_kinds()

    summary = summary_table(found, kinds)
    quality = quality_table(found, kinds)
    growth = growth_table(found, kinds)
    basis = basis_table(found, kinds)

    assert kinds["first"].main_size == "middle"
    assert summary[2][0] == [
        "first",
        "yes (0.10)",
        "yes (0.10)",
        "yes (101 of 200 patches)",
        "yes (0 iterations)",
        "yes (100 numbers, +1.0 dB)",
    ]
    assert quality[0].startswith("Denoising 3 unseen images")
    assert quality[2][0][:2] == ["noisy input", "21.00 ± 1.00"]
    assert quality[2][1][:4] == ["first, middle", "22.00 ± 1.00", "21.67 ± 0.58", "0.600 ± 0.100"]
    assert [row[5] for row in growth[2]] == ["1.00", "2.00", "4.00", "no switches"]
    assert basis[2][0][2:5] == ["3 / 4 / 5", "0.10", "0.30"]
    for _, columns, rows in (summary, quality, growth, basis):
        assert {len(row) for row in rows} == {len(columns)}


def test_verdicts_say_what_is_clear():
    found, kinds = two_kinds()

    lines = verdicts(found, kinds)

    gaps = [1.0, 0.8, 1.0]
    assert lines[0] == "Highest mean PSNR: first, 22.00 dB."
    assert f"first over second: {fmean(gaps):+.2f} ± 0.07 dB." in lines
    growing = next(line for line in lines if line.startswith("Crossings per pixel, first"))
    assert "small -> middle -> large: 1.00 -> 2.00 -> 4.00" in growing
    assert "miss 62 % or less" in growing  # 1 - 1.5 / 4 of the largest
    assert not any("Crossings per pixel, second" in line for line in lines)
    found["second"]["only"]["psnr"] = [21.5, 21.5, 23.2]
    assert "(no clear difference)" in verdicts(found, kinds)[1]


def test_summary_has_one_line_for_each_size():
    found, kinds = two_kinds()

    rows = list(csv.DictReader(io.StringIO(as_csv(summarize(found, kinds)))))

    assert [row["size"] for row in rows] == ["small", "middle", "large", "only"]
    assert float(rows[1]["psnr"]) == 22
    assert float(rows[1]["psnr_spread"]) == 1


def test_no_image_is_in_two_sets():
    names = [*TEST_IMAGES, *TRAINING_SETS["A"], *TRAINING_SETS["B"]]

    assert len(set(names)) == len(names) == 8 + 3 + 3
    images = {name: training_images(name) for name in TRAINING_SETS}
    assert all(float(i.min()) >= 0 and float(i.max()) <= 1 for i in images["A"] + images["B"])
    clean = unseen_images()
    assert clean.shape == (8, 256, 256)
    noise = with_noise(clean, 0) - clean
    assert float(noise.std()) == pytest.approx(NOISE_STD, rel=0.01)


def test_pixels_are_what_they_are_called():
    clean = unseen_images()
    flat, edge, texture = neighborhoods(clean)
    image = clean[TEST_IMAGES.index(PIXEL_IMAGE)]
    middle = slice(NEIGHBORHOOD // 2 - 4, NEIGHBORHOOD // 2 + 5)

    assert float(edge[NEIGHBORHOOD // 2, NEIGHBORHOOD // 2]) == float(image[PIXELS["edge"]])
    spreads = [float(part[middle, middle].std()) for part in (flat, edge, texture)]
    assert spreads[0] < 0.02 < 0.03 < spreads[2] < spreads[1]
    # An edge has one direction, a texture many: gradients of the edge are nearly parallel.
    shares = []
    for part in (edge, texture):
        rows, columns = torch.gradient(part[middle, middle])
        tensor = torch.stack([rows.flatten(), columns.flatten()])
        values = torch.linalg.eigvalsh(tensor @ tensor.mT)
        shares.append(float(values[0] / values[1]))
    assert shares[0] < 0.25 < shares[1]


def test_crossings_by_hand():
    # A unit a pixel, on above one half: it switches where clean and noisy are on either side.
    network = PerceptronNetwork(1, (1, 1))
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (1.0, -0.5, 1.0, 0.0), strict=True):
            parameter.fill_(value)

    found = _crossings(FittedNetwork(network, 0), seed=0)

    clean = neighborhoods(unseen_images())
    noisy = with_noise(clean, 100)
    shares = ((clean > 0.5) != (noisy > 0.5)).double().mean((1, 2))
    rms = (noisy - clean).square().mean((1, 2)).sqrt() / NOISE_STD
    assert found["switches_per_pixel"] == 1
    assert found["crossings"] == pytest.approx(float((shares / rms).mean()), rel=1e-6)
    assert found["crossings_half_as_many_steps"] == pytest.approx(found["crossings"])


@pytest.mark.parametrize("quick", [False, True])
def test_every_machine_fits_the_counts(quick):
    kinds = make_kinds(quick)

    assert next(iter(kinds)) == "kernel machine"
    assert len(kinds) == 8
    for kind in kinds.values():
        assert len(kind.sizes) == 3
        for machine in kind.sizes.values():
            assert getattr(machine, "margin", 0) <= MARGIN
            described = experiment._describe(machine)
            assert " at 0x" not in described
            assert described == experiment._describe(machine)


def test_experiment_measures_writes_and_resumes(tmp_path, monkeypatch):
    kernel = KernelMachine(num_patches=40, gammas=(0.1,), ridges=(1.0,), num_held_out=20)
    sparse = SparseFrameMachine(
        num_levels=1, factors=(1.0,), num_crops=1, crop_size=(16, 16), tolerance=1e-2
    )
    kinds = {
        "kernel machine": Kind({"40 patches": kernel}, "functions"),
        "frame": Kind({"1 level": FrameMachine(num_levels=1, num_crops=4)}, "one map"),
        "compressed sensing with frame": Kind({"1 level": sparse}, "selected"),
    }
    monkeypatch.setattr(experiment, "make_kinds", lambda quick: kinds)  # noqa: ARG005
    monkeypatch.setattr(experiment, "_QUICK_IMAGES", 2)
    monkeypatch.setattr(experiment, "_QUICK_SIZE", 58)
    folder = RunFolder(tmp_path)
    options = ExperimentOptions(quick=True, command="framelets reproduce learning-machines")

    outcome = EXPERIMENTS["learning-machines"](folder, options)
    (tmp_path / "measured" / "frame-1-level-quick.json").unlink()
    again = EXPERIMENTS["learning-machines"](folder, options)

    assert folder.file("figure.png").read_bytes().startswith(b"\x89PNG")
    assert folder.read_text("results.md").startswith("Made by `framelets reproduce learning-")
    answered = outcome.data["answers"]
    yes = {
        name: [column for column in COLUMNS if own[column]["yes"]] for name, own in answered.items()
    }
    assert yes["frame"] == ["inductive model"]
    assert "adaptive expansion to the input" not in yes["kernel machine"]
    assert {"data-driven model", "inductive model"} <= set(yes["kernel machine"])
    assert "inductive model" not in yes["compressed sensing with frame"]
    assert "expressivity" in yes["compressed sensing with frame"]
    measured = outcome.data["measured"]
    assert measured["frame"]["1 level"]["num_representations"] == 1
    assert measured["kernel machine"]["40 patches"]["num_maps"] == 2 * 2 * 6 * 6
    assert measured["frame"]["1 level"]["replay_error"] < 1e-6
    assert again.notes[0].startswith("2 machines had been measured in")
    assert outcome.notes[0].startswith("Quick: few images")
    assert again.data["answers"] == answered
