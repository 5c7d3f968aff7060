"""Tables of the learning-machine experiment, and the rules that turn figures into yes and no."""

import math
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from framelets.core import Table
from framelets.experiments.learning_machines_kinds import Kind

Found = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Kind, size: what was measured."""

LEAST_CHANGE = 0.1
LEAST_LEARNED = 100
LEAST_GAIN_DB = 1.0

RULES = [
    f"Data-driven model: yes if the atoms at the same input change by at least {LEAST_CHANGE:g} "
    "when the machine is fitted to another, disjoint training set (0: the same atoms; 1: "
    "orthogonal).",
    f"Adaptive expansion: yes if the atoms change by at least {LEAST_CHANGE:g} from one input to "
    "another.",
    "Expressivity: yes if more distinct linear representations were met than the machine has "
    "parameters.",
    "Inductive model: yes if no problem is solved for an unseen image.",
    f"Learning: yes if at least {LEAST_LEARNED} numbers are set from training images and unseen "
    f"images gain at least {LEAST_GAIN_DB:g} dB over the noisy input.",
]
"""What each column of the summary means; the thresholds are ours."""

COLUMNS = (
    "data-driven model",
    "adaptive expansion to the input",
    "expressivity",
    "inductive model",
    "learning",
)


def answers(found: Mapping[str, Any]) -> dict[str, tuple[bool, str]]:
    """Answer the five questions about one machine, each with the figure that decides it."""
    gain = fmean(found["psnr"]) - fmean(found["psnr_noisy"])
    learned = found["num_parameters"]
    count = found["num_representations"]
    learns = learned >= LEAST_LEARNED and gain >= LEAST_GAIN_DB
    figures = (
        (found["atoms_between_sets"] >= LEAST_CHANGE, f"{found['atoms_between_sets']:.2f}"),
        (found["atoms_between_inputs"] >= LEAST_CHANGE, f"{found['atoms_between_inputs']:.2f}"),
        (count > learned, f"{count:,} of {found['num_patches']:,} patches"),
        (found["iterations"] == 0, f"{found['iterations']:.0f} iterations"),
        (learns, f"{learned:,} numbers, {gain:+.1f} dB"),
    )
    return dict(zip(COLUMNS, figures, strict=True))


def summary_table(found: Found, kinds: Mapping[str, Kind]) -> Table:
    """Lay out the talk's table: five questions, each answered by a figure."""
    rows = []
    for name, kind in kinds.items():
        answered = answers(found[name][kind.main_size])
        cells = [f"{'yes' if yes else 'no'} ({figure})" for yes, figure in answered.values()]
        rows.append([name, *cells])
    return ("What each machine does, measured", ["machine", *COLUMNS], rows)


def basis_table(found: Found, kinds: Mapping[str, Kind]) -> Table:
    """Lay out what is behind the first three answers."""
    rows = []
    for name, kind in kinds.items():
        own = found[name][kind.main_size]
        rows.append(
            [
                name,
                kind.expansion,
                " / ".join(str(n) for n in own["num_atoms"]),
                f"{own['atoms_between_sets']:.2f}",
                f"{own['filters_between_sets']:.2f}",
                f"{own['atoms_between_inputs']:.2f}",
                f"{own['filters_between_inputs']:.2f}",
                f"{own['num_maps']:,}",
            ]
        )
    columns = [
        "machine",
        "expansion",
        "atoms at flat / edge / texture",
        "atoms, other training set",
        "filter, other training set",
        "atoms, other input",
        "filter, other input",
        "distinct filters",
    ]
    return ("Atoms and filters: how far they change", columns, rows)


def quality_table(found: Found, kinds: Mapping[str, Kind]) -> Table:
    """Lay out the denoising of the test images, and what it costs."""
    first = next(iter(found.values()))
    noisy = next(iter(first.values()))
    rows: list[list[object]] = [
        [
            "noisy input",
            _spread(noisy["psnr_noisy"]),
            "",
            _spread(noisy["ssim_noisy"], 3),
            *[""] * 4,
        ]
    ]
    for name, kind in kinds.items():
        own = found[name][kind.main_size]
        rows.append(
            [
                f"{name}, {kind.main_size}",
                _spread(own["psnr"]),
                _spread(own["psnr_other_set"]),
                _spread(own["ssim"], 3),
                f"{own['num_parameters']:,}",
                f"{own['fit_seconds']:.1f}",
                f"{own['seconds_per_image']:.2g}",
                f"{own['iterations']:.0f}",
            ]
        )
    columns = [
        "machine",
        "PSNR",
        "PSNR, other training set",
        "SSIM",
        "parameters",
        "fit, core s",
        "core s / image",
        "iterations / image",
    ]
    title = f"Denoising {len(noisy['psnr'])} unseen images, mean ± spread over the images"
    return (title, columns, rows)


def growth_table(found: Found, kinds: Mapping[str, Kind]) -> Table:
    """Lay out how the number of representations grows with the size of a machine."""
    rows = []
    for name, kind in kinds.items():
        for size in kind.sizes:
            own = found[name][size]
            rows.append(
                [
                    name,
                    size,
                    f"{own['num_parameters']:,}",
                    f"{own['num_representations']:,}",
                    f"{own['num_patches']:,}",
                    f"{own['crossings']:.2f}" if own["switches_per_pixel"] else "no switches",
                    f"{own['switches_per_pixel']:.1f}",
                    f"{fmean(own['psnr']):.2f}",
                ]
            )
    columns = [
        "machine",
        "size",
        "parameters",
        "representations met",
        "patches",
        "crossings / pixel",
        "switches / pixel",
        "PSNR",
    ]
    return ("Expressivity against size", columns, rows)


def verdicts(found: Found, kinds: Mapping[str, Kind]) -> list[str]:
    """Say what the tables show, with the figures that decide it."""
    main = {name: found[name][kind.main_size] for name, kind in kinds.items()}
    means = {name: fmean(own["psnr"]) for name, own in main.items()}
    best = max(means, key=lambda name: means[name])
    lines = [f"Highest mean PSNR: {best}, {means[best]:.2f} dB."]
    for name in main:
        if name != best:
            pairs = zip(main[best]["psnr"], main[name]["psnr"], strict=True)
            gaps = [one - other for one, other in pairs]
            error = stdev(gaps) / math.sqrt(len(gaps))
            clear = "" if abs(fmean(gaps)) > 2 * error else " (no clear difference)"
            lines.append(f"{best} over {name}: {fmean(gaps):+.2f} ± {error:.2f} dB{clear}.")
    full = [
        name for name, own in main.items() if own["num_representations"] > 0.9 * own["num_patches"]
    ]
    if full:
        lines.append(
            "Nearly every patch had a representation of its own, so that the count is limited by "
            f"the number of patches: {', '.join(full)}."
        )
    for name, kind in kinds.items():
        crossings = [found[name][size]["crossings"] for size in kind.sizes]
        if any(crossings):
            missed = [
                1 - found[name][size]["crossings_half_as_many_steps"] / value
                for size, value in zip(kind.sizes, crossings, strict=True)
                if value
            ]
            grown = " -> ".join(f"{value:.2f}" for value in crossings)
            lines.append(
                f"Crossings per pixel, {name}, {' -> '.join(kind.sizes)}: {grown}; half as many "
                f"steps along the way would miss {100 * max(missed):.0f} % or less."
            )
    return lines


def _spread(values: list[float], digits: int = 2) -> str:
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def summarize(found: Found, kinds: Mapping[str, Kind]) -> list[dict[str, Any]]:
    """Give one record for each machine and size."""
    records = []
    for name, kind in kinds.items():
        for size in kind.sizes:
            own = found[name][size]
            record: dict[str, Any] = {"machine": name, "size": size}
            for key in ("psnr", "ssim", "psnr_noisy", "ssim_noisy"):
                record[key] = fmean(own[key])
                record[f"{key}_spread"] = stdev(own[key])
            for key in (
                "num_parameters",
                "fit_seconds",
                "seconds_per_image",
                "iterations",
                "num_patches",
                "num_representations",
                "num_maps",
                "switches_per_pixel",
                "crossings",
                "crossings_half_as_many_steps",
            ):
                record[key] = own[key]
            for key in (
                "atoms_between_sets",
                "filters_between_sets",
                "atoms_between_inputs",
                "filters_between_inputs",
                "replay_error",
            ):
                record[key] = own.get(key, "")
            records.append(record)
    return records
