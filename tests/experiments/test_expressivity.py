"""The expressivity experiment: the sweep, what is measured of a network, tables, what is kept."""

import csv
import io

import pytest
import torch

from framelets.core.run_folder import RunFolder
from framelets.experiments import ExperimentOptions, expressivity, expressivity_measure
from framelets.experiments.expressivity_measure import MARGIN, Budget, Design, measure
from framelets.experiments.expressivity_table import growth_table, main_table, verdicts
from framelets.geometry import count_representations
from framelets.networks import UNet


def fake(maps=50, crossings=1.0, psnr=20.0, seed=0):
    return {
        "num_parameters": 1234,
        "num_units": 10,
        "num_units_of_pixel": 5,
        "log2_bound": 10.0,
        "log2_bound_of_pixel": 5.0,
        "log2_bound_of_skips": 0.0,
        "num_patches": 100,
        "num_patterns": 90,
        "num_maps": maps,
        "growth": [[10, 9, 8]],
        "num_patches_everywhere": 4000,
        "num_maps_everywhere": 900,
        "num_coarse_maps_everywhere": 30,
        "growth_everywhere": [[10, 9, 4], [1000, 600, 20]],
        "crossings_per_norm": 2.0,
        "crossings_per_pixel": crossings,
        "map_share_of_pieces": 0.5,
        "psnr": [psnr - 1, psnr + 1],
        "psnr_noisy": [14.0, 14.0],
        "core_seconds_training": 3.0,
        "core_seconds_measuring": 2.0,
        "made_by": {"seed": seed},
    }


def test_the_sweep_changes_one_size_at_a_time():
    chosen = expressivity.designs()

    assert len(set(chosen)) == len(chosen) == 10
    assert {(d.width, d.depth) for d in chosen} == {(4, 2), (8, 2), (16, 2), (8, 1), (8, 3)}
    assert sum(d.skip for d in chosen) == 5
    assert str(Design(8, 3, False)) == "width 8, depth 3, no skips"


@pytest.mark.parametrize("skip", [True, False])
def test_every_network_sees_no_further_than_the_margin(skip):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(width=1, depth=3, normalization="none", skip=skip).eval()
    images = torch.randn(1, 1, 2 * MARGIN + 8, 2 * MARGIN + 8)

    count = count_representations(network, images, margin=MARGIN, period=8)

    assert count.num_patches == 1
    assert count.num_patches_everywhere == 64


@pytest.mark.slow
def test_measures_a_network_of_few_steps(tmp_path):
    budget = Budget(num_steps=5, num_images=2, num_counted=1, num_segments=1)
    shares = []

    found = measure(Design(2, 1, True), budget, 0, RunFolder(tmp_path), shares.append)

    assert found["log2_bound"] == found["num_units"] == 64 * 64 * 8 + 32 * 32 * (4 + 2)
    assert 0 < found["num_units_of_pixel"] < found["num_units"]
    assert found["num_patches"] == 18 * 18
    assert found["num_patches_everywhere"] == (256 - 2 * MARGIN) ** 2
    assert 1 <= found["num_maps"] <= found["num_patterns"] <= found["num_patches"]
    (row,) = found["segments"]
    assert row["num_maps"] <= row["num_patterns"] <= row["num_boundaries"] + 1
    # A length of one noise level a pixel is 64 noise standard deviations in norm.
    expected = found["crossings_per_norm"] * expressivity_measure.NOISE_STD / 64
    assert found["crossings_per_pixel"] == pytest.approx(expected)
    assert len(found["psnr"]) == 2
    assert shares == sorted(shares)


def test_writes_what_it_measured_and_measures_nothing_twice(tmp_path, monkeypatch):
    measured = []

    def measure(design, _budget, seed, _folder, _report):
        measured.append((design, seed))
        return fake(crossings=design.width + design.skip, seed=seed)

    monkeypatch.setattr(expressivity, "measure", measure)
    folder = RunFolder(tmp_path)
    options = ExperimentOptions(command="framelets reproduce expressivity")

    outcome = expressivity.measure_expressivity(folder, options)
    once = len(measured)
    again = expressivity.measure_expressivity(folder, options)

    assert once == len(measured) == len(set(measured)) == 20
    assert again.tables == outcome.tables
    assert again.notes[0].startswith("20 networks had been measured")
    records = list(csv.DictReader(io.StringIO(folder.read_text("results.csv"))))
    assert len(records) == 20
    assert float(records[0]["crossings_per_pixel"]) == 5
    text = folder.read_text("results.md")
    assert text.startswith("Made by `framelets reproduce expressivity`.")
    assert "had been measured" not in text
    assert folder.read_bytes("figure.png").startswith(b"\x89PNG")


def test_quick_takes_few_networks(tmp_path, monkeypatch):
    budgets = set()

    def measure(_design, budget, seed, *_):
        budgets.add(budget)
        return fake(seed=seed)

    monkeypatch.setattr(expressivity, "measure", measure)

    outcome = expressivity.measure_expressivity(RunFolder(tmp_path), ExperimentOptions(quick=True))

    assert [budget.num_steps for budget in budgets] == [20]
    assert len(outcome.tables[0][2]) == 4


def test_tables_by_hand():
    found = {Design(4, 2, True): [fake(), fake(maps=70, psnr=22.0)]}

    _, columns, ((name, *cells),) = main_table(found)

    row = dict(zip(columns[1:], cells, strict=True))
    assert name == Design(4, 2, True)
    assert row["bound, pixel"] == "2^5"
    assert row["maps met"] == "50 / 70"
    # Images at 20 and 22 dB in the mean over the seeds: a spread of sqrt(2).
    assert row["PSNR; spread over images"] == "20.00 / 22.00; ± 1.41"
    _, columns, ((_, *cells),) = growth_table(found)
    assert cells == ["9 / 8", "90 / 50", "600 / 20", "900 / 30"]
    assert columns[1:] == ["10 patches", "100 patches", "1,000 everywhere", "4,000 everywhere"]


def test_verdicts_count_what_grew():
    found = {
        Design(4, 2, True): [fake(crossings=1.0), fake(crossings=2.0)],
        Design(8, 2, True): [fake(crossings=3.0), fake(crossings=1.0)],
        Design(4, 2, False): [fake(crossings=0.5), fake(maps=1, crossings=9.0)],
        Design(8, 2, False): [fake(maps=95, crossings=0.5), fake(maps=95)],
    }

    channels, skips, full, dead = verdicts(found)

    # With skips one up, one down; without skips one equal, one dead.
    assert "crossings per pixel up in 1 and down in 1 of 3" in channels
    assert "crossings per pixel up in 2 and down in 0 of 3" in skips
    assert full.endswith("tells nothing more: width 8, depth 2, no skips.")
    assert dead.endswith("width 4, depth 2, no skips (seed 2 of 2).")
