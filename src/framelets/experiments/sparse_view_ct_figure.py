"""The figure of the sparse-view experiment: reconstructions in one window, errors on one scale."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from framelets.core.run_folder import RunFolder, write_atomically

_WATER = 0.0192  # 1/mm
_ROWS = {
    # Title; name of the files; lowest and highest shown attenuation; largest shown error.
    "head, 1e5 photons per ray": ("head-1e5-photons", 0.7 * _WATER, 1.3 * _WATER, 0.2 * _WATER),
    "acrylic disk, measured": ("disks-measured", 0.0, 0.06, 0.02),
}


def draw_figure(folder: RunFolder, methods: Sequence[str], num_views: int) -> Path:
    """Draw `figure.png` from the images of one number of views in `images/`.

    Each data set has a row of images in one display window and a row of errors on one scale.

    Args:
        folder: Run folder.
        methods: Columns beside the reference.
        num_views: Number of views of the images.
    """
    figure = Figure(figsize=(2.1 * (len(methods) + 1), 2.3 * 2 * len(_ROWS)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(_ROWS), len(methods) + 1)
    for row, (title, (slug, low, high, error)) in enumerate(_ROWS.items()):
        arrays = {m: folder.read_npz(f"images/{slug}-{num_views}-{m}.npz") for m in methods}
        reference = arrays[methods[0]]["reference"]
        upper, lower = axes[2 * row], axes[2 * row + 1]
        _show(upper[0], reference, low, high, "reference")
        upper[0].set_ylabel(f"{title}\n{num_views} views, {low:.3g} to {high:.3g} /mm", fontsize=7)
        lower[0].set_visible(False)
        for column, method in enumerate(methods, start=1):
            image = arrays[method]["image"]
            mask = arrays[method]["mask"]
            difference = np.where(mask, image - reference, 0.0)
            root_mean_square = float(np.sqrt(np.mean(difference[mask] ** 2)))
            _show(upper[column], image, low, high, method)
            title_below = f"RMSE {root_mean_square:.2g} /mm"
            _show(lower[column], difference, -error, error, title_below)
        lower[1].set_ylabel(f"error, -{error:.2g} to {error:.2g} /mm", fontsize=7)
    path = folder.file("figure.png")
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=110))
    return path


def _show(axis: Axes, image: np.ndarray, low: float, high: float, title: str) -> None:
    colors = "gray" if low >= 0 else "RdBu_r"
    axis.imshow(image, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
