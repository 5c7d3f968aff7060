"""What an audit says of a network: columns, summary, thresholds, tables and a CSV file."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framelets.commands.result import Table

_ROUNDING = 1e-5
"""How far over a threshold a figure must lie to miss it, relative: rounding in single precision."""


@dataclass(frozen=True)
class Column:
    """One figure of every image.

    Attributes:
        label: Its name for people.
        worth: "exact", "certified lower bound", "certified upper bound", "probabilistic bound" or
            "estimate".
        meaning: What it is, in one sentence.
        worst: 1 if large is bad, -1 if small is bad, 0 if neither.
        shown: Whether it is a column of the printed table.
    """

    label: str
    worth: str
    meaning: str
    worst: int = 0
    shown: bool = True


COLUMNS = {
    "replay_error": Column(
        "replay error", "exact", "|f(x) - (L x + b)| / |f(x)|: how exactly L and b are f", 1
    ),
    "input_norm": Column("|x|", "exact", "norm of the image", shown=False),
    "output_norm": Column("|f(x)|", "exact", "norm of the output", shown=False),
    "linear_norm": Column("|L x|", "exact", "norm of the linear part", shown=False),
    "offset_norm": Column("|b|", "exact", "norm of the offset", shown=False),
    "offset_share": Column(
        "offset", "exact", "|b| / |f(x)|: above 1 where L x and b cancel in part", 1
    ),
    "lipschitz_lower": Column(
        "K_p at least",
        "certified lower bound",
        "norm of the Jacobian here: a change of the image with this gain was found",
        1,
    ),
    "lipschitz_upper": Column(
        "K_p at most",
        "probabilistic bound",
        "the same from above, with probability 0.99 over a random start; at this image only",
        1,
    ),
    "noise_gain": Column(
        "noise gain", "estimate", "root mean square of |J z| / |z| over 8 white images z", 1
    ),
    "active_share": Column("units on", "exact", "share of the units that are on"),
    "num_boundaries": Column(
        "boundaries",
        "exact",
        "boundaries of linear regions that a segment of white noise crosses, as far as it was "
        "followed (boundaries_reached); their positions are solved for, not sampled",
    ),
    "boundaries_reached": Column(
        "segment followed", "exact", "share of the segment that was followed in time", -1, False
    ),
    "segment_norm": Column("segment", "exact", "norm of the segment of noise", shown=False),
    "boundary_lower": Column(
        "boundary beyond",
        "certified lower bound",
        "no boundary of a linear region is nearer, in units of the image's norm",
        -1,
        False,
    ),
    "boundary_probable_lower": Column(
        "boundary beyond*", "probabilistic bound", "the same with probability 0.99", -1
    ),
    "boundary_upper": Column(
        "boundary within", "certified upper bound", "a boundary was met at this distance", -1
    ),
    "null_share": Column(
        "null space",
        "exact",
        "share of |f|^2 that the scan cannot see, P_N f, up to support_error",
        1,
    ),
    "null_linear_share": Column(
        "P_N L x", "exact", "the part of it that is linear in the image, up to support_error", 1
    ),
    "null_offset_share": Column(
        "P_N b", "exact", "the part of it that the offset carries, up to support_error", 1
    ),
    "null_cross_share": Column(
        "cross term", "exact", "twice the inner product of these two, up to support_error", 0, False
    ),
    "changed_share": Column(
        "changed in view",
        "exact",
        "|P_R f - A^+ A x|^2 / |f|^2: what the network changed of what the scan sees, up to "
        "support_error",
        1,
    ),
    "undecided_share": Column(
        "undecided",
        "exact",
        "share of |f|^2 that neither range nor null space owns, up to support_error",
        0,
        False,
    ),
    "support_error": Column(
        "error of these",
        "certified upper bound",
        "largest error of the four parts of f, over |f|, at the printed threshold",
        1,
        False,
    ),
}
"""Every figure of an image by its name in audit.json and audit.csv, in the order of the columns."""

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
        image["image"]: "largest K_p" if rank == 0 else f"K_p: number {rank + 1}"
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
    head = ["image", *[COLUMNS[name].label for name in names]]
    rows = [
        [image["image"], *[_cell(name, image["figures"].get(name)) for name in names]]
        for image in images
    ]
    tables: list[Table] = [("Images", head, rows)]
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


def _cell(name: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    if name == "num_boundaries":
        return f"{value:,.0f}"
    return f"{100 * value:.1f} %" if name.endswith("_share") else f"{value:.4g}"
