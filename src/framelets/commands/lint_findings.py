"""What `lint` says of a network: numbers for machines, tables and sentences for people."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from framelets.core import Table
from framelets.geometry import PoolingDiagnosis, UnpoolingDiagnosis

_EQUAL = 1.001
"""Up to this ratio a level counts everything alike."""

_LEGEND = (
    "bounds: of the frame of skip and pooling; 0 forgets. ratio: how often some of what enters is "
    "counted against the rest, 1 is best. error: what pooling, un-pooling and skip miss of perfect "
    "reconstruction with the best weight. aliasing: share of what goes down that was folded down "
    "from above the new Nyquist frequency. checkerboard: share of pattern in what a constant "
    "becomes."
)

_PATTERN = 0.001
"""From this strength on a checkerboard is mentioned."""


def findings(
    levels: Sequence[PoolingDiagnosis], rises: Sequence[UnpoolingDiagnosis]
) -> dict[str, Any]:
    """Return everything as plain values; an infinite ratio is None."""
    return {
        "levels": [
            asdict(level.level)
            | {
                "operation": level.operation,
                "learned": level.learned,
                "forgotten": _forgotten(level),
                "aliasing": level.aliasing,
                "ratio": level.ratio if math.isfinite(level.ratio) else None,
                "error": level.error,
                "completion": level.completion,
                "finding": _finding(level),
            }
            for level in levels
        ],
        "unpoolings": [asdict(rise) for rise in rises],
    }


def finding_tables(
    levels: Sequence[PoolingDiagnosis], rises: Sequence[UnpoolingDiagnosis], title: str = ""
) -> list[Table]:
    """Show one level a row, and one un-pooling a row."""
    columns = ["level", "pooling", "skip", "bounds", "ratio", "error", "aliasing"]
    rows = [
        [
            level.level.name,
            level.operation,
            "yes" if level.level.skip else "no",
            f"{level.level.lower:.3g}..{level.level.upper:.3g}",
            f"{level.ratio:.3g}",
            f"{level.error:.2f}",
            f"{100 * level.aliasing:.0f} %",
        ]
        for level in levels
    ]
    tables: list[Table] = [(title or "Poolings", columns, rows)] if rows else []
    if rises:
        body = [[rise.name, rise.operation, _pattern(rise)] for rise in rises]
        tables.append(("Un-poolings", ["place", "un-pooling", "checkerboard"], body))
    return tables


def finding_notes(
    levels: Sequence[PoolingDiagnosis], rises: Sequence[UnpoolingDiagnosis]
) -> list[str]:
    """Say what the tables mean; levels of which the same is to be said share a sentence."""
    if not levels and not rises:
        return ["Nothing lowers or raises the resolution: there are no levels to look at."]
    found: dict[str, list[str]] = {}
    for level in levels:
        found.setdefault(_finding(level), []).append(level.level.name)
    for rise in rises:
        if rise.checkerboard is not None and rise.checkerboard >= _PATTERN:
            found.setdefault(_checkerboard(rise), []).append(rise.name)
    notes = [_LEGEND, "", *[f"{', '.join(names)}: {text}" for text, names in found.items()]]
    if any(_can_be_fixed(level) for level in levels):
        notes.append(
            "--fix tight-frame (same output, more filters) or --fix dual-frame (other output until "
            "trained again, as many filters) with --output FILE rewrites average and max pooling."
        )
    return notes


def failures(
    levels: Sequence[PoolingDiagnosis], min_lower_bound: float | None, max_ratio: float | None
) -> list[str]:
    """List the levels that miss a threshold, and how."""
    found = []
    for level in levels:
        name = level.level.name
        # What is found to a residual of 0.2 % must not fail a threshold that it meets exactly.
        if min_lower_bound is not None and level.level.lower < min_lower_bound * (1 - 2e-3):
            found.append(f"level {name} has lower bound {level.level.lower:.4g}")
        if max_ratio is not None and level.ratio > max_ratio * (1 + 1e-3):
            found.append(f"level {name} has ratio {level.ratio:.4g}")
    return found


def _forgotten(level: PoolingDiagnosis) -> float:
    """Return the share of the dimensions that are lost at least."""
    return max(0.0, 1 - level.level.num_coefficients / level.level.num_entries)


def _finding(level: PoolingDiagnosis) -> str:
    pooled = level.level.num_coefficients - level.level.num_entries * level.level.skip
    complete = pooled >= level.level.num_entries and not level.learned
    cancelled = ", which the other subbands cancel" if complete else ""
    aliased = f"{100 * level.aliasing:.0f} % of what goes down is aliased"
    return f"{_balance(level)}; {aliased}{cancelled}."


def _balance(level: PoolingDiagnosis) -> str:
    if level.level.lower == 0:
        return f"no skip, forgets at least {100 * _forgotten(level):.0f} % of its dimensions"
    if level.ratio <= _EQUAL:
        return "forgets nothing and counts everything alike"
    if not level.level.skip:
        return f"no skip, weighs what passes by factors up to {level.ratio:.3g} apart"
    if level.completion == "adjoint":
        return f"counts with its skip what its filters pass best {level.ratio:.3g} times"
    times = "twice" if abs(level.ratio - 2) < _EQUAL - 1 else f"{level.ratio:.3g} times"
    if level.completion == "pseudo-inverse":
        return f"counts {times} what the pooling keeps: in the skip and in what comes up"
    return (
        f"counts some of it {times} against the rest; un-pooling and skip miss perfect "
        f"reconstruction by {100 * level.error:.0f} %"
    )


def _can_be_fixed(level: PoolingDiagnosis) -> bool:
    plain = "average" in level.operation or "max" in level.operation
    return plain and level.level.skip and level.ratio > _EQUAL


def _pattern(rise: UnpoolingDiagnosis) -> str:
    if rise.checkerboard is None:
        return "-"
    strength = "none" if rise.checkerboard < _PATTERN else f"{100 * rise.checkerboard:.0f} %"
    return f"{strength}, uneven overlap" if rise.uneven_overlap else strength


def _checkerboard(rise: UnpoolingDiagnosis) -> str:
    cause = "overlaps unevenly" if rise.uneven_overlap else "has unequal weights in a block"
    return f"{rise.operation} {cause}: of a constant it makes a pattern, see the table."
