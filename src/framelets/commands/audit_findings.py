"""What an audit says of a network: summary, thresholds, tables and a CSV file."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from framelets.commands.audit_columns import BOUNDARIES, COLUMNS, FIGURES, SUPPORT
from framelets.core import Table

_ROUNDING = 1e-5
"""How far over a threshold a figure must lie to miss it, relative: rounding in single precision."""


_TABLES = {
    "Images": FIGURES,
    "Boundaries of linear regions": BOUNDARIES,
    "What the scan supports": SUPPORT,
}

_THRESHOLDS = {"offset_share": "--max-offset-share", "replay_error": "--max-replay-error"}


def present_columns(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the columns that at least one image has a value for."""
    return [
        name for name in COLUMNS if any(image["figures"].get(name) is not None for image in images)
    ]


def summary(images: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean, standard deviation over images, extremes and worst image of every column.

    Images without a value do not count; `num_images` says how many do.
    """
    found = {}
    for name in present_columns(images):
        values = {
            image["image"]: image["figures"][name]
            for image in images
            if image["figures"].get(name) is not None
        }
        numbers = list(values.values())
        column = COLUMNS[name]
        worst = (
            max(values, key=lambda image: column.worst * values[image]) if column.worst else None
        )
        found[name] = {
            "mean": statistics.fmean(numbers),
            "spread": statistics.stdev(numbers) if len(numbers) > 1 else None,
            "smallest": min(numbers),
            "largest": max(numbers),
            "worst_image": worst,
            "num_images": len(numbers),
            "worth": column.worth,
        }
    return found


def worst_images(images: Sequence[Mapping[str, Any]], num: int) -> dict[str, str]:
    """Choose the images to draw, and why: the `num` largest K_p, and the largest offset share."""
    if num == 0:
        return {}
    ordered = sorted(images, key=lambda image: -image["figures"]["lipschitz_lower"])
    chosen = {
        image["image"]: "largest K_p" if rank == 0 else f"K_p: rank {rank + 1}"
        for rank, image in enumerate(ordered[:num])
    }
    largest = max(images, key=lambda image: image["figures"]["offset_share"] or 0.0)["image"]
    reason = "largest offset share"
    chosen[largest] = f"{chosen[largest]}, {reason}" if largest in chosen else reason
    return chosen


def judge(
    images: Sequence[Mapping[str, Any]],
    max_lipschitz: float | None,
    max_offset_share: float | None,
    max_replay_error: float | None,
) -> tuple[list[str], list[str]]:
    """List what misses a threshold for certain, and what may.

    K_p misses its threshold if its certified lower bound does. If only its upper bound does, the
    threshold lies within the gap between the two, about 1 %: that is told, but is no failure.

    Returns:
        Failures, each with image and figure; and what is left undecided.
    """
    failures, undecided = [], []
    limits = {"offset_share": max_offset_share, "replay_error": max_replay_error}
    for image in images:
        name, figures = image["image"], image["figures"]
        if max_lipschitz is not None:
            lower, upper = figures["lipschitz_lower"], figures["lipschitz_upper"]
            if _exceeds(lower, max_lipschitz):
                failures.append(
                    f"{name}: K_p is at least {lower:.4g}, for certain more than "
                    f"--max-lipschitz {max_lipschitz:g}"
                )
            elif upper is None or _exceeds(upper, max_lipschitz):
                most = "not bounded from above" if upper is None else f"at most {upper:.4g}"
                undecided.append(
                    f"{name}: K_p may exceed --max-lipschitz {max_lipschitz:g}: at least "
                    f"{lower:.4g}, {most} with probability {figures['probability']}"
                )
        for key, limit in limits.items():
            value = figures[key]
            if limit is not None and (value is None or _exceeds(value, limit)):
                words = "not defined, f(x) = 0" if value is None else f"{value:.3g}"
                failures.append(
                    f"{name}: {COLUMNS[key].label} is {words}, more than "
                    f"{_THRESHOLDS[key]} {limit:g}"
                )
    return failures, undecided


def audit_tables(
    images: Sequence[Mapping[str, Any]], levels: Mapping[str, Any] | None
) -> list[Table]:
    """Show one image a row, the summary, and the levels."""
    names = [name for name in present_columns(images) if COLUMNS[name].shown]
    tables: list[Table] = []
    for title, columns in _TABLES.items():
        chosen = [name for name in names if name in columns]
        if chosen:
            rows = [
                [image["image"], *[_cell(name, image["figures"].get(name)) for name in chosen]]
                for image in images
            ]
            tables.append((title, ["image", *[COLUMNS[name].label for name in chosen]], rows))
    overall = summary(images)
    body = [
        [
            COLUMNS[name].label,
            _cell(name, overall[name]["mean"]),
            _cell(name, overall[name]["spread"]),
            _cell(name, overall[name]["smallest"]),
            _cell(name, overall[name]["largest"]),
            overall[name]["worst_image"] or "-",
        ]
        for name in names
    ]
    tables.append(("Summary", ["", "mean", "spread", "smallest", "largest", "worst image"], body))
    worth = [[COLUMNS[name].label, COLUMNS[name].worth, COLUMNS[name].meaning] for name in names]
    tables.append(("What each column is worth", ["", "worth", "meaning"], worth))
    if levels and levels.get("levels"):
        rows = [
            [level["name"], level["operation"], f"{level['lower']:.3g}..{level['upper']:.3g}"]
            for level in levels["levels"]
        ]
        tables.append(("Poolings", ["level", "pooling", "frame bounds"], rows))
    return tables


def audit_csv(images: Sequence[Mapping[str, Any]]) -> str:
    """Write one image a line; the head says in brackets what each column is worth."""
    worth = {name: COLUMNS[name].worth for name in present_columns(images)}
    worth |= dict.fromkeys(("num_units", "num_active", "pattern_digest"), "exact")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", *[f"{name} [{words}]" for name, words in worth.items()]])
    for image in images:
        cells = [image["figures"].get(name) for name in worth]
        writer.writerow([image["image"], *["" if cell is None else cell for cell in cells]])
    return stream.getvalue()


def _exceeds(value: float, limit: float) -> bool:
    return not value <= limit * (1 + _ROUNDING)


def _cell(name: str, value: float | int | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    if name == "num_boundaries":
        return f"{value:,.0f}"
    return f"{100 * value:.1f} %" if name.endswith("_share") else f"{value:.4g}"
