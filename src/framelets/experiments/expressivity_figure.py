"""The figure of the expressivity experiment: bound, counts, crossings and PSNR."""

import math
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from framelets.core.run_folder import write_atomically
from framelets.experiments.expressivity_measure import Design
from framelets.experiments.expressivity_table import QUANTITIES, Found, is_dead
from framelets.report.style import LIGHT, chart_settings

_LABELS = {
    "bound of a pixel (exponent of 2)": "counted bound of a pixel,\nexponent of 2",
    "maps met": "linear maps met\non patches",
    "coarse maps met": "maps met that differ\nby 0.1 in response",
    "crossings per pixel": "boundaries crossed\nper pixel and noise std",
    "PSNR in dB": "PSNR on unseen images\n(dB)",
}


def draw_figure(path: Path, found: Found, middle: tuple[int, int]) -> Path:
    """Draw the quantities against channels and depth, with skips and without.

    Lines join the means over the seeds; every seed is a mark, hollow where the network is dead,
    which no mean counts.

    Args:
        path: The file to write.
        found: What was measured.
        middle: Width and depth that are held while the other changes.
    """
    width, depth = middle
    columns = {
        f"channels of the finest level (depth {depth})": [d for d in found if d.depth == depth],
        f"depth: number of poolings (width {width})": [d for d in found if d.width == width],
    }
    num_patches = next(iter(found.values()))[0]["num_patches"]
    with mpl.rc_context(chart_settings(LIGHT)):
        figure = Figure(figsize=(7.6, 10.0), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(_LABELS), len(columns), sharex="col", sharey="row")
        for column, (title, chosen) in enumerate(columns.items()):
            for row, (name, label) in enumerate(_LABELS.items()):
                axes = panels[row, column]
                _draw(axes, found, chosen, name, by_width=column == 0)
                if name == "maps met":
                    axes.axhline(num_patches, color=LIGHT.quiet, linewidth=0.8, linestyle=":")
                    axes.text(
                        0.98, 0.45, f"dotted: {num_patches:,} patches,\nno count is higher",
                        transform=axes.transAxes, ha="right", fontsize=7.5, color=LIGHT.quiet,
                    )  # fmt: skip
                    axes.set_ylim(0, 1.15 * num_patches)
                elif name == "bound of a pixel (exponent of 2)":
                    axes.set_yscale("log")
                if column == 0:
                    axes.set_ylabel(label)
            panels[-1, column].set_xlabel(title)
        if any(is_dead(run) for runs in found.values() for run in runs):
            hollow = {"marker": "s", "markerfacecolor": "none", "linestyle": "none"}
            panels[-1, 0].plot([], [], color=LIGHT.quiet, label="dead network", **hollow)
        panels[-1, 0].legend(loc="lower right")
        write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=110))
    return path


def _draw(axes: Axes, found: Found, chosen: list[Design], name: str, *, by_width: bool) -> None:
    for skip, color, marker in ((True, LIGHT.series[0], "o"), (False, LIGHT.series[1], "s")):
        line = sorted(
            (d for d in chosen if d.skip == skip), key=lambda d: d.width if by_width else d.depth
        )
        sizes = [d.width if by_width else d.depth for d in line]
        means = []
        for size, design in zip(sizes, line, strict=True):
            living = []
            for run in found[design]:
                value = QUANTITIES[name](run)
                dead = is_dead(run)
                fill = "none" if dead else color
                axes.plot(size, value, marker, color=color, markerfacecolor=fill, markersize=4.5)
                living += [] if dead else [value]
            means.append(fmean(living) if living else math.nan)
        label = "with skips" if skip else "without skips"
        axes.plot(sizes, means, color=color, linestyle="-" if skip else "--", label=label)
        axes.set_xticks(sizes)
    if by_width:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
        axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
