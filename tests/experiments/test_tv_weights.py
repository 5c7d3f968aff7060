"""The search for the weight of total variation finds the minimum of a known curve."""

import math

import pytest

from framelets.core.run_folder import RunFolder
from framelets.experiments import ExperimentOptions, tv_weights
from framelets.tasks.tuned_total_variation import tuned_weight


def test_search_finds_the_minimum_and_is_not_repeated(tmp_path, monkeypatch):
    calls = []

    def error(scan, weight):
        calls.append(weight)
        best = 3e-3 if scan == 1e5 else 4e-6
        return math.exp(math.log(weight / best) ** 2 / 10)

    monkeypatch.setattr(tv_weights, "fixed_scan", lambda *arguments: arguments[-1])
    monkeypatch.setattr(tv_weights, "_error", error)
    options = ExperimentOptions(quick=True, command="framelets reproduce tv-weights")

    outcome = tv_weights.tune_tv_weights(RunFolder(tmp_path), options)
    once = len(calls)
    again = tv_weights.tune_tv_weights(RunFolder(tmp_path), options)

    assert outcome.data["photons_1e5"] == pytest.approx([3e-3] * 4, rel=0.01)
    assert outcome.data["noise_free"] == pytest.approx([4e-6] * 4, rel=0.01)
    assert outcome.data["command"] == "framelets reproduce tv-weights"
    assert again.data == outcome.data
    assert len(calls) == once


def test_shipped_weights_fall_with_views_and_noise():
    assert tuned_weight(60, None) < tuned_weight(60, 1e5) < tuned_weight(60, 1e4)
    low, high = sorted([tuned_weight(30, 1e5), tuned_weight(60, 1e5)])
    assert low <= tuned_weight(42, 1e5) <= high
    assert tuned_weight(60, 1e4) == pytest.approx(math.sqrt(10) * tuned_weight(60, 1e5))
