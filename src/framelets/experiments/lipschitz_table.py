"""The table of the Lipschitz experiment, and what follows from it."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from scipy.stats import spearmanr

from framelets.core import Table

COLUMNS = {
    "training_error": "training error",
    "test_error": "test error",
    "gap": "gap",
    "mean_local_training": "K_p, training images",
    "mean_local_test": "K_p, test images",
    "estimate": "K from below",
    "bound": "K from above",
}
"""Measured numbers, and what the table calls them."""

CONSTANTS = ("mean_local_training", "mean_local_test", "estimate", "bound")
"""Those that may go with the gap."""

_SCALE = {"training_error": 1e3, "test_error": 1e3, "gap": 1e3}

Records = Sequence[Mapping[str, Any]]


def grouped(records: Records) -> dict[tuple[str, int], list[Mapping[str, Any]]]:
    """Return the runs of each regularization and number of pairs, one for each seed."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["regularization"], record["num_pairs"]), []).append(record)
    return groups


def table(records: Records) -> Table:
    """Give mean and range over the seeds of each regularization and number of pairs."""
    groups = grouped(records)
    rows = []
    for (regularization, num_pairs), runs in groups.items():
        cells = [_cell([_SCALE.get(key, 1) * run[key] for run in runs]) for key in COLUMNS]
        rows.append([regularization, num_pairs, *cells])
    num_seeds = len(next(iter(groups.values())))
    title = (
        f"Mean squared errors in 1e-3; K_p: mean over the images, each a certified lower bound; K "
        f"from below: the largest gain found; K from above: certified; mean (range) over "
        f"{num_seeds} {'seed' if num_seeds == 1 else 'seeds'}"
    )
    return title, ["regularization", "pairs", *COLUMNS.values()], rows


def judge(records: Records) -> list[str]:
    """Say how each number goes with the gap, and what more pairs do to it."""
    verdicts = [_correlation(records, key) for key in CONSTANTS]
    groups = grouped(records)
    for regularization in dict.fromkeys(record["regularization"] for record in records):
        sizes = sorted(n for name, n in groups if name == regularization)
        ends = [groups[regularization, sizes[0]], groups[regularization, sizes[-1]]]
        changes = ", ".join(
            f"{COLUMNS[key]} {' -> '.join(f'{fmean(run[key] for run in end):.3g}' for end in ends)}"
            for key in ("mean_local_test", "estimate", "bound")
        )
        verdicts.append(
            f"regularization {regularization}, from {sizes[0]} to {sizes[-1]} pairs: {changes}."
        )
    return verdicts


def _correlation(records: Records, key: str) -> str:
    """Rank correlation with the gap: over all runs, within a regularization, and within a size."""
    parts = [f"{_rank(records, key)} over all {len(records)} runs"]
    for name in ("regularization", "num_pairs"):
        groups: dict[Any, list[Mapping[str, Any]]] = {}
        for record in records:
            groups.setdefault(record[name], []).append(record)
        listed = ", ".join(f"{value}: {_rank(of, key)}" for value, of in groups.items())
        what = "by regularization" if name == "regularization" else "by number of pairs"
        parts.append(f"{what} {listed}")
    return f"rank correlation of the gap with {COLUMNS[key]}: {'; '.join(parts)}."


def _rank(records: Records, key: str) -> str:
    values, gaps = [run[key] for run in records], [run["gap"] for run in records]
    if len(set(values)) < 2 or len(set(gaps)) < 2:
        return "none"
    return f"{spearmanr(values, gaps).statistic:+.2f}"


def _cell(values: Sequence[float]) -> str:
    spread = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
    return f"{fmean(values):.3g}{spread}"
