"""Draw a partition of a plane: boundaries in the color of the layer that draws them."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from framelets.geometry.partition_map import PartitionMap
from framelets.geometry.partition_plane import PlanePartition
from framelets.geometry.partition_segment import BoundaryLayer
from framelets.report.style import LIGHT, Theme, chart_settings

_LAYERS = "viridis_r"
_GAINS = "magma_r"


def draw_partition(partition: PlanePartition | PartitionMap, theme: Theme = LIGHT) -> Figure:
    """Draw the regions of a plane, and K_p of each beside them if it is known.

    Boundaries are colored by their layer, the first of the network lightest. The three images are
    marked 1, 2, 3. Axes are in units of the image norm.

    Args:
        partition: Exact polygons, or a map; its title says which, and how fine.
        theme: Colors of the page.

    Returns:
        The figure; save it with `savefig`.
    """
    num_panels = 1 if partition.gains is None else 2
    with mpl.rc_context(chart_settings(theme)):
        figure = Figure(figsize=(4.6 * num_panels, 4.1), dpi=200, layout="constrained")
        panels = list(figure.subplots(1, num_panels, squeeze=False)[0])
        if isinstance(partition, PlanePartition):
            _draw_polygons(panels, partition, theme)
            title = f"{partition.num_regions} regions, exact"
        else:
            _draw_map(panels, partition)
            title = (
                f"at least {partition.num_patterns} regions; pixels of {partition.pixel_size:.3g}"
            )
        panels[0].set_title(title, fontsize=9)
        if num_panels == 2:
            panels[1].set_title("K_p, found from below", fontsize=9)
        for axes in panels:
            _mark(axes, partition, theme)
    return figure


def _draw_polygons(panels: Sequence[Axes], partition: PlanePartition, theme: Theme) -> None:
    colors = _layer_colors(partition.layers)
    lines, line_colors = [], []
    for corners, labels in zip(partition.corners, partition.edge_layers, strict=True):
        ends = np.roll(corners, -1, axis=0)
        drawn = labels >= 0
        lines += list(np.stack([corners[drawn], ends[drawn]], axis=1))
        line_colors += [colors(label) for label in labels[drawn]]
    panels[0].add_collection(LineCollection(lines, colors=line_colors, linewidths=0.8))
    _explain_layers(panels[0], partition.layers)
    if partition.gains is not None:
        faces = PolyCollection(
            partition.corners, array=partition.gains, cmap=_GAINS, edgecolors=theme.grid, lw=0.2
        )
        panels[1].add_collection(faces)
        panels[1].figure.colorbar(faces, ax=panels[1], shrink=0.85)


def _draw_map(panels: Sequence[Axes], partition: PartitionMap) -> None:
    width = partition.half_width
    extent = (-width, width, -width, width)
    shown = np.ma.masked_less(partition.first_layers, 0)
    colors = _layer_colors(partition.layers)
    levels = BoundaryNorm(np.arange(len(partition.layers) + 1) - 0.5, colors.N)
    options: dict[str, Any] = {"origin": "lower", "extent": extent, "interpolation": "nearest"}
    panels[0].imshow(shown, cmap=colors, norm=levels, **options)
    _explain_layers(panels[0], partition.layers)
    if partition.gains is not None:
        shades = panels[1].imshow(partition.gains, cmap=_GAINS, **options)
        panels[1].figure.colorbar(shades, ax=panels[1], shrink=0.85)


def _layer_colors(layers: Sequence[BoundaryLayer]) -> ListedColormap:
    shares = np.linspace(0.08, 1, max(2, len(layers)))
    return ListedColormap(mpl.colormaps[_LAYERS](shares)[: max(1, len(layers))])


def _explain_layers(axes: Axes, layers: Sequence[BoundaryLayer]) -> None:
    colors = _layer_colors(layers)
    levels = BoundaryNorm(np.arange(len(layers) + 1) - 0.5, colors.N)
    scale = mpl.cm.ScalarMappable(levels, colors)
    bar = axes.figure.colorbar(scale, ax=axes, shrink=0.85)
    step = -(-len(layers) // 10)
    bar.set_ticks(list(range(0, len(layers), step)), labels=[la.name for la in layers[::step]])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=6, length=0)


def _mark(axes: Axes, partition: PlanePartition | PartitionMap, theme: Theme) -> None:
    width = partition.half_width
    axes.set(xlim=(-width, width), ylim=(-width, width), aspect="equal")
    axes.set_xlabel("towards image 2 (image norm)")
    axes.set_ylabel("across, on the side of image 3 (image norm)")
    axes.grid(visible=False)
    for number, point in enumerate(partition.plane.points.tolist(), start=1):
        if max(abs(c) for c in point) <= width:
            axes.plot(*point, "o", ms=3, color=theme.series[1])
            axes.annotate(
                str(number), point, (3, 3), textcoords="offset points", color=theme.series[1]
            )
