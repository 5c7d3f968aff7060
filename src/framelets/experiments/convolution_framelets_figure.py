"""The figure of the convolution-framelet experiment: images in one window, errors on one scale."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from framelets.core.run_folder import RunFolder, write_atomically
from framelets.experiments.convolution_framelets_methods import methods_for
from framelets.experiments.convolution_framelets_problems import PROBLEMS
from framelets.report.style import GRAY, SIGNED

FIGURES = {"noise-25": "camera", "missing-80": "brick", "blur": "astronaut"}
"""Problems that are shown, each with one image, which is in every run."""

_ERROR = 0.25
_LEFT_OUT = ("start", "wavelets")


def draw_figure(folder: RunFolder) -> Path:
    """Draw `figure.png` from the images in `images/`: for each problem a row of images, of errors.

    All images are shown from black, 0, to white, 1, and all errors from -0.25 to 0.25.

    Args:
        folder: Run folder.
    """
    shown = {
        problem: [m for m in methods_for(PROBLEMS[problem].group) if m not in _LEFT_OUT]
        for problem in FIGURES
    }
    num_columns = 2 + max(len(methods) for methods in shown.values())
    figure = Figure(figsize=(1.55 * num_columns, 1.85 * 2 * len(FIGURES)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(FIGURES), num_columns)
    for axis in axes.flat:
        axis.set_visible(False)
    for row, (problem, methods) in enumerate(shown.items()):
        upper, lower = axes[2 * row], axes[2 * row + 1]
        for column, method in enumerate(methods, start=2):
            slug = f"{problem}-{method}".replace(", ", "-").replace(" ", "-")
            arrays = folder.read_npz(f"images/{slug}.npz")
            reference, image = arrays["reference"], arrays["image"]
            if column == 2:
                _show(upper[0], reference, f"{FIGURES[problem]}, reference")
                _show(upper[1], arrays["measurement"], PROBLEMS[problem].title)
            error = image - reference
            psnr = -10 * np.log10(np.mean(error**2))
            _show(upper[column], image, method)
            _show(lower[column], error, f"{psnr:.2f} dB", signed=True)
        lower[2].set_ylabel(f"error, ±{_ERROR:g}", fontsize=7)
    path = folder.file("figure.png")
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=110))
    return path


def _show(axis: Axes, image: np.ndarray, title: str, *, signed: bool = False) -> None:
    low, high = (-_ERROR, _ERROR) if signed else (0.0, 1.0)
    colors = SIGNED if signed else GRAY
    axis.set_visible(True)
    axis.imshow(image, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(title, fontsize=7)
    axis.set_xticks([])
    axis.set_yticks([])
