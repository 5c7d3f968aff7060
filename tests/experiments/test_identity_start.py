"""The identity-start experiment: what is trained on, the search, the arithmetic, what is kept."""

import csv
import io
import math

import pytest
import torch

from framelets.core.run_folder import RunFolder
from framelets.data import natural_images
from framelets.experiments import ExperimentOptions, identity_start, identity_start_task
from framelets.experiments.identity_start_task import HELD_OUT, STARTS, PhotographDenoising
from framelets.training import RunConfig


@pytest.fixture(scope="module")
def task():
    return PhotographDenoising()


def test_batches_depend_on_seed_and_step_alone(task):
    noisy, clean = task.training_batch(3, 4, seed=1)
    for again in (task.training_batch(3, 4, seed=1), PhotographDenoising().training_batch(3, 4, 1)):
        assert torch.equal(again[0], noisy)
        assert torch.equal(again[1], clean)

    for step, seed in ((4, 1), (3, 2)):
        assert not torch.equal(task.training_batch(step, 4, seed)[1], clean)
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.05)


def test_no_held_out_photograph_is_trained_or_tuned_on(monkeypatch):
    marked = {name: torch.full((150, 160), 0.2) for name in natural_images()}
    marked |= {name: torch.full((150, 160), 0.9) for name in HELD_OUT}
    monkeypatch.setattr(identity_start_task, "natural_images", lambda: marked)

    task = PhotographDenoising()

    for step in range(20):
        assert (task.training_batch(step, 8, seed=0)[1] == 0.2).all()
    assert (task.tuning[1] == 0.2).all()
    assert (task.held_out[1] == 0.9).all()
    assert len(task.held_out[1]) == len(HELD_OUT)
    assert len(task.tuning[1]) == len(marked) - len(HELD_OUT)


def test_validation_measures_the_noise_of_an_untrained_identity(task):
    for start in ("identity", "residual, identity"):
        figures = task.validate(task.network(start))

        # The noise is 0.1: 20 dB.
        assert figures["psnr"] == pytest.approx(20.0, abs=0.1)
        assert figures["tuning"] == pytest.approx(20.0, abs=0.1)
        assert figures["psnr"] == pytest.approx(sum(figures[n] for n in HELD_OUT) / len(HELD_OUT))


def test_starts_are_one_network_of_equal_size(task):
    sizes = {sum(p.numel() for p in task.network(start).parameters()) for start in STARTS}

    assert len(sizes) == 1


def test_training_begins_at_the_untrained_network(task, tmp_path):
    config = RunConfig(
        network="identity", num_steps=20, batch_size=2, validate_every=10, accelerator="cpu"
    )

    run = identity_start._train(task, config, RunFolder(tmp_path), "framelets reproduce")

    assert [step for step, _ in run["curve"]] == [0, 10, 20]
    assert run["curve"][0][1] == pytest.approx(20.0, abs=0.1)
    assert run["curve"][-1][1] == pytest.approx(run["figures"]["psnr"], rel=1e-5)
    assert run["curve"][-1][1] > run["curve"][0][1] + 0.5


@pytest.mark.parametrize("best", [-7, -5, -4, -2])
def test_search_climbs_to_the_best_rate_and_past_diverged_runs(best, tmp_path, monkeypatch):
    tried = []

    def run(*arguments):
        power = arguments[3]
        tried.append(power)
        figures = {"tuning": 25.0 - abs(power - best)}
        return {"finished": power <= best + 1, "figures": figures}

    monkeypatch.setattr(identity_start, "_run", run)

    found = identity_start._best_rate(RunFolder(tmp_path), ExperimentOptions(), "random")

    assert found == best
    assert set(tried) >= {best, max(best - 1, -8), min(best + 1, -2)}
    assert len(tried) == 2 * len(set(tried))  # two seeds
    assert identity_start._rate(-4) == 0.01
    assert identity_start._rate(-5) == pytest.approx(math.sqrt(1e-5), rel=0.02)


def fake_run(offset, seed):
    curve = [(0, 10.0 + offset), (20, 20.0 + offset + seed), (40, 24.0 + offset + seed)]
    figures = {"psnr": curve[-1][1], "tuning": 25.0}
    figures |= {name: 24.0 + offset + i + seed for i, name in enumerate(HELD_OUT)}
    return {
        "finished": True,
        "curve": curve,
        "figures": figures,
        "num_parameters": 1234,
        "core_seconds": 5.0,
    }


def test_experiment_writes_what_it_measured_and_trains_nothing_twice(tmp_path, monkeypatch):
    trained = []
    offsets = dict(zip(STARTS, (0.0, 2.0, 1.0, -1.0), strict=True))

    def train(_task, config, *_):
        trained.append((config.network, config.learning_rate, config.seed))
        return fake_run(offsets[config.network], config.seed)

    baselines = {"noisy": 20.0, "total variation": 27.0}
    monkeypatch.setattr(identity_start, "_train", train)
    monkeypatch.setattr(identity_start, "_baselines", lambda _: baselines)
    options = ExperimentOptions(command="framelets reproduce identity-start")
    folder = RunFolder(tmp_path)

    outcome = identity_start.compare_starts(folder, options)
    once = len(trained)
    again = identity_start.compare_starts(folder, options)

    assert len(trained) == len(set(trained)) == once
    assert {seed for _, _, seed in trained} == {0, 1, 2}
    assert again.tables == outcome.tables
    _, columns, rows = outcome.tables[0]
    assert list(columns[2:5]) == ["step 0", "step 20", "step 40"]
    assert rows[1][:1] + rows[1][2:5] == [
        "identity",
        "12.00 ± 0.00",
        "23.00 ± 1.00",
        "27.00 ± 1.00",
    ]
    assert rows[-1][:1] + rows[-1][4:5] == ["total variation", "27.00"]
    found = {" ".join(note.split()[:5]): note for note in outcome.notes}
    better = found["identity against random at the"]
    assert "+2.00 dB (standard error 0.00 over photographs and 0.00 over seeds);" in better
    assert better.endswith("the last PSNR of random: after 40 steps.")
    assert "-1.00 dB" in found["residual, identity against random at"]
    assert found["residual, identity against random at"].endswith("not reached.")
    assert "+1.00 dB" in found["identity against residual at the"]
    assert len(found) == 5
    records = list(csv.DictReader(io.StringIO(folder.read_text("results.csv"))))
    assert [float(r["psnr"]) for r in records[:3]] == [10.0, 21.0, 25.0]
    assert folder.read_text("results.md").startswith("Made by `framelets reproduce identity-start`")
    assert folder.read_bytes("figure.png").startswith(b"\x89PNG")


def test_difference_within_its_error_is_not_called_clear():
    # The seeds say +3, +1, -2: mean 0.67, standard error 1.45.
    runs = {"random": [fake_run(0.0, seed) for seed in range(3)]}
    runs["identity"] = [fake_run(o, seed) for seed, o in enumerate((3.0, 1.0, -2.0))]

    verdict = identity_start._compare(runs, "identity", "random")

    assert (
        "+0.67 dB (standard error 0.00 over photographs and 1.45 over seeds), no clear" in verdict
    )
    assert "ahead in 2 of 3 seeds" in verdict


def test_quick_trains_every_start_once(tmp_path, monkeypatch):
    trained = []

    def train(_task, config, *_):
        trained.append((config.network, config.num_steps))
        return fake_run(0.0, 0)

    monkeypatch.setattr(identity_start, "_train", train)
    baselines = {"noisy": 20.0, "total variation": 27.0}
    monkeypatch.setattr(identity_start, "_baselines", lambda _: baselines)

    identity_start.compare_starts(RunFolder(tmp_path), ExperimentOptions(quick=True))

    assert trained == [(start, 40) for start in STARTS]


def test_refuses_an_unknown_start(task):
    with pytest.raises(ValueError, match=r"network must be one of .* did you mean 'identity'"):
        task.network("identify")
