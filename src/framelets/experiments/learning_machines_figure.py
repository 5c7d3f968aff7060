"""The figure of the learning-machine experiment: the atoms of each machine at three pixels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from framelets.core.run_folder import RunFolder, write_atomically
from framelets.experiments.learning_machines_data import PIXELS
from framelets.experiments.learning_machines_measure import SHOWN_ATOMS
from framelets.report.figures import crop_around
from framelets.report.style import GRAY, SIGNED

_RADIUS = 10
_KERNEL = "kernel machine"


def draw_figure(folder: RunFolder, slugs: Mapping[str, str]) -> Path:
    """Draw `figure.png` from the arrays in `atoms/`.

    Above stand the neighborhoods, clean and noisy, from black, 0, to white, 1. Below, for each
    machine and pixel, stand the filter that made the pixel and the strongest analysis atoms, each
    from minus to plus its own largest value, which is written below the filter.

    Args:
        folder: Run folder.
        slugs: Names of the machines' files, by the names of the machines.
    """
    columns = 1 + SHOWN_ATOMS
    figure = Figure(
        figsize=(0.82 * columns * len(PIXELS) + 1.3, 0.98 * (len(slugs) + 1)), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(slugs) + 1, columns * len(PIXELS))
    inputs = folder.read_npz("atoms/inputs.npz")
    for i, pixel in enumerate(PIXELS):
        above = axes[0, i * columns : (i + 1) * columns]
        for axis in above[2:]:
            axis.set_visible(False)
        _show(above[0], _crop(inputs["clean"][i]), f"{pixel}: clean", image_window=True)
        _show(above[1], _crop(inputs["noisy"][i]), "noisy", image_window=True)
    for row, (name, slug) in enumerate(slugs.items(), start=1):
        arrays = folder.read_npz(f"atoms/{slug}.npz")
        for i, pixel in enumerate(PIXELS):
            start = i * columns
            made = _crop(arrays[f"{pixel}_filter"])
            titles = ["filter", "atoms", "", ""] if row == 1 else [""] * columns
            if name == _KERNEL:
                titles = ["tangent", "patches x_i", "", ""]
            elif row == 2:
                titles = ["filter", "atoms b_i", "", ""]
            _show(axes[row, start], made, titles[0])
            axes[row, start].set_xlabel(f"±{np.abs(made).max():.2g}", fontsize=6, labelpad=1)
            atoms = arrays[f"{pixel}_atoms"]
            for j in range(SHOWN_ATOMS):
                axis = axes[row, start + 1 + j]
                if j < len(atoms):
                    _show(axis, _crop(atoms[j]), titles[1 + j])
                else:
                    axis.set_visible(False)
        axes[row, 0].set_ylabel(_wrapped(name), fontsize=7, rotation=0, ha="right", va="center")
    path = folder.file("figure.png")
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=120))
    return path


def _crop(image: np.ndarray) -> np.ndarray:
    return crop_around(image.astype(np.float64), len(image) // 2, len(image) // 2, _RADIUS)


def _show(axis: Axes, image: np.ndarray, title: str, *, image_window: bool = False) -> None:
    low, high = (0.0, 1.0) if image_window else (-np.abs(image).max(), np.abs(image).max())
    colors = GRAY if image_window else SIGNED
    axis.imshow(image, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(title, fontsize=7, pad=2)
    axis.set_xticks([])
    axis.set_yticks([])


def _wrapped(name: str) -> str:
    words, lines = name.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 14 and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
