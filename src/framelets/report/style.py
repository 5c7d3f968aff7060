"""The house style of every figure: colors, color maps and type, for light and dark pages."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np

GRAY = "gray"
"""Color map of images: one window per row, printed below it."""

SIGNED = "RdBu_r"
"""Color map of signed arrays (errors, atoms, singular vectors): white is zero, red positive."""


@dataclass(frozen=True)
class Theme:
    """Colors of charts on one background; the page takes the same ones in its style sheet."""

    ink: str
    quiet: str
    grid: str
    paper: str
    series: tuple[str, ...]


LIGHT = Theme("#1d2329", "#5b6670", "#dfe4e8", "#ffffff", ("#0b6a8a", "#b4540a"))
DARK = Theme("#e6eaee", "#9aa6b1", "#343c44", "#171b20", ("#5cc0e0", "#f0a35e"))


def chart_settings(theme: Theme) -> dict[Any, Any]:
    """Return matplotlib's settings for a chart in this theme."""
    return {
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": theme.ink,
        "axes.labelcolor": theme.quiet,
        "axes.edgecolor": theme.grid,
        "axes.facecolor": theme.paper,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.6,
        "figure.facecolor": theme.paper,
        "xtick.color": theme.quiet,
        "ytick.color": theme.quiet,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "lines.linewidth": 1.4,
    }


@cache
def palette(color_map: str) -> bytes:
    """Return the 256 colors of a color map as red, green, blue bytes, for an indexed PNG."""
    colors = mpl.colormaps[color_map](np.arange(256) / 255.0)[:, :3]
    return bytes(np.round(colors * 255).astype(np.uint8).tobytes())


def gradient(color_map: str, stops: int = 9) -> str:
    """Return a CSS gradient of a color map, for the scale below a row of images."""
    colors = mpl.colormaps[color_map](np.linspace(0, 1, stops))
    return f"linear-gradient(90deg, {', '.join(mpl.colors.to_hex(color) for color in colors)})"
