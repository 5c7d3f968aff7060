"""The figure of the identity-start experiment: PSNR by steps, and above the first start."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from framelets.core.run_folder import write_atomically
from framelets.report.style import LIGHT, chart_settings

_STYLES = (("#5b6670", "-"), ("#0b6a8a", "--"), ("#b4540a", "-."), ("#7a3e9d", ":"))
_TICKS = (20, 50, 100, 200, 400)


def draw_curves(
    path: Path,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    baselines: Mapping[str, float],
) -> Path:
    """Draw mean and range over the seeds of each start, and of the differences seed by seed.

    Args:
        path: The file to write.
        runs: Start to one run a seed, whose "curve" has pairs of step and PSNR, the same steps in
            all; the first start is what the right panel compares with.
        baselines: PSNR of other methods, drawn as lines.
    """
    first = next(iter(runs))
    # A logarithmic axis has no step 0; the table has it.
    curves = {
        start: np.array([run["curve"][1:] for run in of_start]) for start, of_start in runs.items()
    }
    with mpl.rc_context(chart_settings(LIGHT)):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        for (start, points), (color, line) in zip(curves.items(), _STYLES, strict=True):
            steps, values = points[0, :, 0], points[:, :, 1]
            reference = curves[first][:, :, 1]
            for axes, lines in ((left, values), (right, values - reference)):
                axes.fill_between(
                    steps, lines.min(0), lines.max(0), color=color, alpha=0.15, linewidth=0
                )
                axes.plot(steps, lines.mean(0), color=color, linestyle=line, label=start)
        for name in ("noisy", "total variation"):
            left.axhline(baselines[name], color=LIGHT.quiet, linewidth=0.8)
            left.text(
                0.01, baselines[name], name, transform=left.get_yaxis_transform(), va="bottom",
                fontsize=7.5, color=LIGHT.quiet,
            )  # fmt: skip
        left.set(ylabel="PSNR on held-out photographs (dB)", ylim=(baselines["noisy"] - 1, None))
        right.set(ylabel=f"PSNR above the start {first!r} (dB)")
        for axes in (left, right):
            axes.set(xlabel="step", xscale="log")
            axes.xaxis.set_major_formatter(mpl.ticker.ScalarFormatter())
            axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
            axes.set_xticks([step for step in _TICKS if step < steps[-1]] + [steps[-1]])
        title = f"mean, and range of {len(values)} seeds"
        right.legend(loc="upper right", title=title, title_fontsize=8)
        write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=110))
    return path
