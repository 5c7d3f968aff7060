"""The Lipschitz experiment: what is trained on, the penalties, the arithmetic, what is kept."""

import csv
import io

import pytest
import torch
from torch import nn

from framelets.core.run_folder import RunFolder
from framelets.data import natural_images
from framelets.experiments import ExperimentOptions, lipschitz, lipschitz_task
from framelets.experiments.identity_start_task import HELD_OUT
from framelets.experiments.lipschitz_table import judge, table
from framelets.experiments.lipschitz_task import REGULARIZATIONS, FewPairsDenoising, mean_error
from framelets.training import RunConfig


def test_sets_grow_and_batches_come_from_them():
    few, many = FewPairsDenoising(4, "none"), FewPairsDenoising(16, "none")

    noisy, clean = few.training_pairs(seed=1)

    assert len(clean) == 4
    assert torch.equal(many.training_pairs(1)[0][:4], noisy)
    assert not torch.equal(few.training_pairs(2)[1], clean)
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.05)
    for step in range(5):
        batch = few.training_batch(step, 8, seed=1)
        again = FewPairsDenoising(4, "none").training_batch(step, 8, seed=1)
        assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
        for one in batch[0]:
            assert any(torch.equal(one, pair) for pair in noisy)


def test_no_held_out_photograph_is_trained_on(monkeypatch):
    marked = {name: torch.full((40, 50), 0.2) for name in natural_images()}
    marked |= {name: torch.full((40, 50), 0.9) for name in HELD_OUT}
    monkeypatch.setattr(lipschitz_task, "natural_images", lambda: marked)
    lipschitz_task._draw.cache_clear()
    try:
        task = FewPairsDenoising(256, "none")

        assert (task.training_pairs(0)[1] == 0.2).all()
        assert (task.test_pairs[1] == 0.9).all()
    finally:
        lipschitz_task._draw.cache_clear()


class Linear(nn.Module):
    """A 1 x 1 convolution: its Jacobian is its weight times the identity."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1, bias=False)
        self.layer.weight.data.fill_(weight)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("regularization", REGULARIZATIONS)
def test_penalties_by_hand(regularization):
    task = FewPairsDenoising(16, regularization)
    network = Linear(0.5)
    batch = task.training_pairs(0)

    torch.manual_seed(0)
    loss = task.loss(network, batch)
    loss.backward()

    error = (0.5 * batch[0] - batch[1]).square().mean()
    # The norm of the filter is 0.5, and so is that of the Jacobian: |J|_F^2 / n = 0.25.
    expected = 0.25 * REGULARIZATIONS[regularization]
    assert loss.item() - error.item() == pytest.approx(expected, rel=0.05, abs=1e-7)
    slope = (2 * (0.5 * batch[0] - batch[1]) * batch[0]).mean() + REGULARIZATIONS[regularization]
    assert network.layer.weight.grad.item() == pytest.approx(slope.item(), rel=1e-3)


def test_measured_numbers_are_those_of_a_known_network():
    task = FewPairsDenoising(4, "none")

    found = lipschitz.measure(task, Linear(0.5), seed=0)

    for key in ("mean_local_training", "mean_local_test", "estimate", "bound"):
        assert found[key] == pytest.approx(0.5, rel=1e-4)
    assert len(found["local_training"]) == 4
    noisy, clean = task.test_pairs
    assert found["test_error"] == pytest.approx(float((0.5 * noisy - clean).square().mean()))
    assert found["gap"] == pytest.approx(found["test_error"] - found["training_error"])
    psnr = task.validate(Linear(1.0))["psnr"]
    assert psnr == pytest.approx(20, abs=0.2)  # the noise is 0.1
    assert mean_error(Linear(1.0), task.test_pairs) == pytest.approx(0.01, rel=0.05)


def record(regularization, num_pairs, seed, gap, constant):
    numbers = {"training_error": 1e-3, "test_error": 1e-3 + gap, "gap": gap}
    constants = dict.fromkeys(
        ("mean_local_training", "mean_local_test", "estimate", "bound"), constant
    )
    return {
        "regularization": regularization,
        "num_pairs": num_pairs,
        "seed": seed,
        **numbers,
        "local_training": [constant],
        "local_test": [constant],
        **constants,
        "core_seconds_of_training": 1.0,
    }


def test_correlations_are_by_rank_and_by_group():
    # More pairs: smaller gap, larger constant; the regularization lowers the constant alone.
    gaps = {1: 4e-3, 4: 2e-3, 16: 1e-3}
    records = [
        record(name, n, seed, gap * (1 + 0.01 * seed), (n + seed / 2) * factor)
        for name, factor in (("none", 1.0), ("spectral", 0.1))
        for n, gap in gaps.items()
        for seed in range(2)
    ]

    title, columns, rows = table(records)
    verdicts = judge(records)

    assert "2 seeds" in title
    assert rows[0][:2] == ["none", 1]
    assert rows[0][columns.index("gap")] == "4.02 (4 to 4.04)"
    assert rows[0][columns.index("K from above")] == "1.25 (1 to 1.5)"
    assert "by regularization none: -0.83, spectral: -0.83" in verdicts[0]
    assert "from 1 to 16 pairs: K_p, test images 1.25 -> 16.2" in verdicts[4]


def test_experiment_writes_what_it_measured_and_trains_nothing_twice(tmp_path, monkeypatch):
    measured = []

    def measure(task, _network, seed):
        measured.append((task._regularization, task._num_pairs, seed))
        found = record(task._regularization, task._num_pairs, seed, 1e-3 / task._num_pairs, 2.0)
        return {k: v for k, v in found.items() if k not in ("regularization", "num_pairs", "seed")}

    monkeypatch.setattr(lipschitz, "measure", measure)
    options = ExperimentOptions(quick=True, command="framelets reproduce lipschitz")
    monkeypatch.setattr(lipschitz, "train", lambda *_, **__: Trained())
    folder = RunFolder(tmp_path)

    outcome = lipschitz.relate_lipschitz_to_gap(folder, options)
    again = lipschitz.relate_lipschitz_to_gap(folder, options)

    assert measured == [(name, n, 0) for name in REGULARIZATIONS for n in (1, 4)]
    assert again.tables == outcome.tables
    lines = list(csv.DictReader(io.StringIO(folder.read_text("results.csv"))))
    assert [float(line["gap"]) for line in lines[:2]] == [1e-3, 2.5e-4]
    assert folder.read_text("results.md").startswith("Made by `framelets reproduce lipschitz`")
    assert folder.read_bytes("figure.png").startswith(b"\x89PNG")


class Trained:
    """What a training leaves, as far as the experiment reads it."""

    network = Linear(1.0)
    core_seconds = 1.0


@pytest.mark.slow
def test_training_lowers_the_error_and_a_penalty_the_constant(tmp_path):
    found = {}
    for regularization in ("none", "spectral"):
        task = FewPairsDenoising(4, regularization)
        untrained = mean_error(task.network(""), task.training_pairs(0))
        config = RunConfig(
            seed=0, num_steps=60, batch_size=4, learning_rate=3e-3, accelerator="cpu"
        )
        trained = lipschitz.train(
            task, config, RunFolder(tmp_path / regularization), progress=False
        )
        found[regularization] = lipschitz.measure(task, trained.network, 0)
        assert found[regularization]["training_error"] < 0.5 * untrained

    assert found["spectral"]["bound"] < found["none"]["bound"]
