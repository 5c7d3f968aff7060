"""The figure of the Lipschitz experiment: constants and gap by pairs, and against each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from framelets.core.run_folder import write_atomically
from framelets.experiments.lipschitz_table import grouped
from framelets.report.style import LIGHT, chart_settings

_MARKERS = "os^"
_STYLES = (("#5b6670", "-", "o"), ("#0b6a8a", "--", "s"), ("#b4540a", "-.", "^"))


def draw_figure(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Draw mean and range over the seeds (of K_p over its images too), and every run at the end.

    Args:
        path: The file to write.
        records: One a run, as `lipschitz.measure` and `_run` give them.
    """
    groups = grouped(records)
    names = list(dict.fromkeys(name for name, _ in groups))
    sizes = sorted({size for _, size in groups})
    with mpl.rc_context(chart_settings(LIGHT)):
        figure = Figure(figsize=(9.0, 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        (local, whole), (gap, scatter) = figure.subplots(2, 2)
        for name, style in zip(names, _STYLES, strict=False):
            runs = [groups[name, size] for size in sizes]
            _line(local, sizes, runs, "local_test", style, name)
            _line(local, sizes, runs, "local_training", style, None, hollow=True)
            _line(whole, sizes, runs, "bound", style, None)
            _line(whole, sizes, runs, "estimate", style, None, hollow=True)
            _line(gap, sizes, runs, "gap", style, name, scale=1e3)
            flat = [run for of_size in runs for run in of_size]
            scatter.scatter(
                [run["mean_local_test"] for run in flat],
                [1e3 * run["gap"] for run in flat],
                s=[18 * (1 + np.log2(run["num_pairs"])) ** 0.8 for run in flat],
                color=style[0], marker=style[2], alpha=0.75, linewidth=0, label=name,
            )  # fmt: skip
        for axes in (local, whole, gap):
            axes.set(xlabel="training pairs", xscale="log")
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        local.set(
            ylabel="$K_p$; bars: all images and seeds",
            title="filled: test images; hollow: training images",
        )
        whole.set(yscale="log", ylabel="$K$", title="filled: proved bound; hollow: found by search")
        gap.set(ylabel="test minus training error (1e-3)")
        scatter.set(
            xlabel="$K_p$, mean over test images", ylabel="test minus training error (1e-3)",
            title="every run; larger: more pairs",
        )  # fmt: skip
        if all(record["gap"] > 0 for record in records):
            for axes in (gap, scatter):
                axes.set(yscale="log")
                axes.yaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
                axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        local.legend(title="regularization", title_fontsize=8)
        write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=110))
    return path


def _line(
    axes: Axes,
    sizes: Sequence[int],
    runs: Sequence[Sequence[Mapping[str, Any]]],
    key: str,
    style: tuple[str, str, str],
    label: str | None,
    *,
    hollow: bool = False,
    scale: float = 1.0,
) -> None:
    """Draw means as a line and ranges as bars; of lists, over all that they hold."""
    color, line, marker = style
    values = [scale * np.array([run[key] for run in of_size]) for of_size in runs]
    means, lows, highs = (np.array([f(v) for v in values]) for f in (np.mean, np.min, np.max))
    # Side by side, so that bars do not hide each other.
    shift = 1 + 0.06 * _MARKERS.index(marker) + (0.03 if hollow else 0.0)
    axes.errorbar(
        shift * np.array(sizes), means, yerr=[means - lows, highs - means], color=color,
        linestyle=line, marker=marker, markersize=5, capsize=2, label=label,
        markerfacecolor="none" if hollow else color, alpha=0.7 if hollow else 1.0,
    )  # fmt: skip
