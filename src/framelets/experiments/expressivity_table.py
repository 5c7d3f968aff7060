"""Tables of the expressivity experiment, and what they say of channels, depth and skips."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from framelets.core import Table
from framelets.experiments.expressivity_measure import Design

Found = Mapping[Design, Sequence[Mapping[str, Any]]]
"""Network: what was measured, for each seed."""

QUANTITIES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "bound of a pixel (exponent of 2)": lambda own: float(own["log2_bound_of_pixel"]),
    "patterns met": lambda own: float(own["num_patterns"]),
    "maps met": lambda own: float(own["num_maps"]),
    "coarse maps met": lambda own: float(own["num_coarse_maps_everywhere"]),
    "crossings per pixel": lambda own: float(own["crossings_per_pixel"]),
    "PSNR in dB": lambda own: fmean(own["psnr"]),
}
"""What is followed against channels, depth and skips."""


def is_dead(own: Mapping[str, Any]) -> bool:
    """Tell whether a network makes every pixel by one map: its units died in training."""
    return bool(own["num_maps"] == 1)


def main_table(found: Found) -> Table:
    """Lay out bound, counts, crossings and PSNR of every network."""
    first = next(iter(found.values()))
    rows: list[list[object]] = []
    for design, runs in found.items():
        one = runs[0]
        images = [fmean(values) for values in zip(*(run["psnr"] for run in runs), strict=True)]
        rows.append(
            [
                design,
                f"{one['num_parameters']:,}",
                f"2^{one['log2_bound']:,.0f}",
                f"2^{one['log2_bound_of_pixel']:,.0f}",
                _over_seeds([run["num_patterns"] for run in runs]),
                _over_seeds([run["num_maps"] for run in runs]),
                _over_seeds([run["num_maps_everywhere"] for run in runs]),
                _over_seeds([run["num_coarse_maps_everywhere"] for run in runs]),
                _over_seeds([run["crossings_per_pixel"] for run in runs], 2),
                _over_seeds([run["map_share_of_pieces"] for run in runs], 3),
                f"{_over_seeds([fmean(run['psnr']) for run in runs], 2)}; ± {stdev(images):.2f}",
                f"{fmean(run['core_seconds_training'] for run in runs):.0f}",
            ]
        )
    columns = [
        "network",
        "parameters",
        "bound, patch",
        "bound, pixel",
        "patterns met",
        "maps met",
        "maps met everywhere",
        "coarse maps",
        "crossings / pixel",
        "maps / pieces of a segment",
        "PSNR; spread over images",
        "training, core s",
    ]
    title = (
        f"What the networks could choose from and what they met on {first[0]['num_patches']:,} "
        f"patches ({first[0]['num_patches_everywhere']:,} everywhere), seed by seed; noisy input "
        f"{fmean(first[0]['psnr_noisy']):.2f} dB"
    )
    return title, columns, rows


def growth_table(found: Found) -> Table:
    """Lay out how the counts grow with the number of patches, for the first seed."""
    some = next(iter(found.values()))[0]
    numbers = [row[0] for row in some["growth"]]
    numbers_everywhere = [row[0] for row in some["growth_everywhere"] if row[0] >= 1000]
    rows: list[list[object]] = []
    for design, runs in found.items():
        own = runs[0]
        growth = {row[0]: row[1:] for row in own["growth"]}
        everywhere = {row[0]: row[1:] for row in own["growth_everywhere"]}
        rows.append(
            [
                design,
                *(f"{growth[n][0]:,} / {growth[n][1]:,}" for n in numbers),
                f"{own['num_patterns']:,} / {own['num_maps']:,}",
                *(f"{everywhere[n][0]:,} / {everywhere[n][1]:,}" for n in numbers_everywhere),
                f"{own['num_maps_everywhere']:,} / {own['num_coarse_maps_everywhere']:,}",
            ]
        )
    columns = [
        "network",
        *(f"{n:,} patches" for n in (*numbers, some["num_patches"])),
        *(f"{n:,} everywhere" for n in (*numbers_everywhere, some["num_patches_everywhere"])),
    ]
    title = (
        "Saturation: patterns / maps among so many patches of one place, maps / coarse maps at "
        "all places; first seed"
    )
    return title, columns, rows


def verdicts(found: Found) -> list[str]:
    """Say, for channels, depth and skips, in how many comparisons each quantity grew.

    Networks that differ in one size by one step are compared seed by seed, dead ones left out.
    """
    lines = []
    steps = {
        "more channels": _steps(found, lambda d: (d.depth, d.skip), lambda d: d.width),
        "more depth": _steps(found, lambda d: (d.width, d.skip), lambda d: d.depth),
        "skips": _steps(found, lambda d: (d.width, d.depth), lambda d: int(d.skip)),
    }
    for what, pairs in steps.items():
        if not pairs:
            continue
        told = []
        for name, quantity in QUANTITIES.items():
            changes = [
                quantity(after) - quantity(before)
                for less, more in pairs
                for before, after in zip(found[less], found[more], strict=True)
                if not (is_dead(before) or is_dead(after))
            ]
            up, down = sum(c > 0 for c in changes), sum(c < 0 for c in changes)
            told.append(f"{name} up in {up} and down in {down} of {len(changes)}")
        lines.append(f"With {what}, step by step and seed by seed: {'; '.join(told)}.")
    full = [
        f"{design}"
        for design, runs in found.items()
        if all(run["num_maps"] > 0.9 * run["num_patches"] for run in runs)
    ]
    if full:
        lines.append(
            "Nearly every patch had a map of its own, so that the count is limited by the number "
            f"of patches and tells nothing more: {'; '.join(full)}."
        )
    dead = [
        f"{design} (seed {number + 1} of {len(runs)})"
        for design, runs in found.items()
        for number, run in enumerate(runs)
        if is_dead(run)
    ]
    if dead:
        lines.append(
            "One map for all patches, the units on the way being dead after training; left out of "
            f"the comparisons: {'; '.join(dead)}."
        )
    return lines


def summarize(found: Found) -> list[dict[str, Any]]:
    """Give one record for each network and seed."""
    keys = (
        "num_parameters",
        "num_units",
        "num_units_of_pixel",
        "log2_bound",
        "log2_bound_of_pixel",
        "log2_bound_of_skips",
        "num_patches",
        "num_patterns",
        "num_maps",
        "num_patches_everywhere",
        "num_maps_everywhere",
        "num_coarse_maps_everywhere",
        "crossings_per_norm",
        "crossings_per_pixel",
        "map_share_of_pieces",
        "core_seconds_training",
        "core_seconds_measuring",
    )
    return [
        {
            "width": design.width,
            "depth": design.depth,
            "skip": design.skip,
            "seed": run["made_by"]["seed"],
            "psnr": fmean(run["psnr"]),
            "psnr_spread": stdev(run["psnr"]),
            **{key: run[key] for key in keys},
        }
        for design, runs in found.items()
        for run in runs
    ]


def _steps(
    found: Found, held: Callable[[Design], object], size: Callable[[Design], int]
) -> list[tuple[Design, Design]]:
    """Pair networks that differ in one size, the next larger with the smaller."""
    pairs = []
    for design in found:
        larger = [d for d in found if held(d) == held(design) and size(d) > size(design)]
        if larger:
            pairs.append((design, min(larger, key=size)))
    return pairs


def _over_seeds(values: Sequence[float | int], digits: int = 0) -> str:
    return " / ".join(f"{value:,.{digits}f}" for value in values)
