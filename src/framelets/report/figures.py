"""Arrays to pictures: image panels and charts as PNG data URIs.

A panel holds pixels and no text, so that labels stay text: they wrap, scale and print with the
page. A chart is drawn twice, for light and for dark pages.
"""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from framelets.report.style import DARK, GRAY, LIGHT, SIGNED, Theme, chart_settings, palette

_SHORT_SIDE = 320
_LONG_SIDE = 900
_MOST_NAMED_BARS = 32


@dataclass(frozen=True)
class Chart:
    """One chart for both kinds of page: two data URIs and what they show, in words."""

    light: str
    dark: str
    alt: str


@dataclass(frozen=True)
class Panel:
    """One picture of a row, with the text above and below it."""

    label: str
    uri: str
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """The colors of a row and the values at their ends."""

    low: float
    high: float
    unit: str
    gradient: str


def plain_image(array: Num[np.ndarray, "*channel height width"]) -> Float[np.ndarray, "_ _"]:
    """Reduce an array to what a panel shows: its first channel, the magnitude if complex."""
    array = np.asarray(array)
    while array.ndim > 2:
        array = array[0]
    return (np.abs(array) if np.iscomplexobj(array) else array).astype(np.float64)


def panel(
    image: Float[np.ndarray, "height width"],
    low: float,
    high: float,
    color_map: str = GRAY,
    aspect: float | None = None,
) -> str:
    """Draw an image as an indexed PNG, enlarged by whole factors so that pixels stay squares.

    Args:
        image: The values.
        low: Value of the first color; anything below is clipped to it.
        high: Value of the last color.
        color_map: One of the house's color maps.
        aspect: Width over height of the picture; None keeps square pixels (a sinogram needs one).

    Returns:
        A data URI.
    """
    span = high - low if high > low else 1.0
    scaled = np.clip((np.nan_to_num(image) - low) / span, 0.0, 1.0)
    picture = PillowImage.fromarray(np.round(scaled * 255).astype(np.uint8), mode=None)
    height, width = image.shape
    if aspect is not None:
        wide = max(width, round(_SHORT_SIDE * max(aspect, 1.0)))
        picture = picture.resize((wide, round(wide / aspect)), PillowImage.Resampling.NEAREST)
    elif max(height, width) > _LONG_SIDE:
        shrink = _LONG_SIDE / max(height, width)
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        picture = picture.resize(size, PillowImage.Resampling.BOX)
    else:
        factor = max(1, math.ceil(_SHORT_SIDE / max(height, width)))
        size = (width * factor, height * factor)
        picture = picture.resize(size, PillowImage.Resampling.NEAREST)
    picture.putpalette(palette(color_map))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return _data_uri(buffer.getvalue())


def signed_panel(image: Float[np.ndarray, "height width"], scale: float) -> str:
    """Draw a signed image on plus and minus `scale`, zero white."""
    return panel(image, -scale, scale, SIGNED)


def crop_around(
    image: Float[np.ndarray, "height width"], row: int, column: int, radius: int
) -> Float[np.ndarray, "_ _"]:
    """Cut a square around a pixel; beyond the border of the image stand zeros."""
    padded = np.pad(image, radius)
    return padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]


def round_up(value: float) -> float:
    """Round a scale up to one or two digits that are easy to read: 1, 1.5, 2, 3, 4, 5, 6, 8.

    Example:
        >>> [round_up(value) for value in (0.013, 0.34, 7.0, 950.0)]
        [0.015, 0.4, 8.0, 1000.0]
    """
    if not (math.isfinite(value) and value > 0):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    step = next(s for s in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if s >= value / power * (1 - 1e-9))
    return float(f"{step * power:.3g}")


def spectrum_chart(
    values: Sequence[Sequence[float]], residuals: Sequence[Sequence[float]], names: Sequence[str]
) -> Chart:
    """Draw singular values with their error bars: a true one lies within residual times sigma_1."""

    def draw(axes: Axes, theme: Theme) -> None:
        for index, (sigma, residual, name) in enumerate(zip(values, residuals, names, strict=True)):
            shift = 0.12 * (index - (len(values) - 1) / 2)
            axes.errorbar(
                np.arange(1, len(sigma) + 1) + shift,
                sigma,
                yerr=np.asarray(residual) * sigma[0],
                fmt="os"[index % 2],
                markersize=4.2,
                capsize=2.5,
                color=theme.series[index % 2],
                label=name,
            )
        axes.set(xlabel="number i", ylabel="singular value")
        axes.margins(y=0.25)
        axes.ticklabel_format(useOffset=False)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        if len(names) > 1:
            axes.legend(loc="best")

    shown = "; ".join(
        f"{name}: from {sigma[0]:.4g} down to {sigma[-1]:.4g}"
        for name, sigma in zip(names, values, strict=True)
    )
    return _chart(draw, (4.3, 2.9), f"Chart of the leading singular values. {shown}.")


def activity_chart(names: Sequence[str], active: Sequence[int], units: Sequence[int]) -> Chart:
    """Draw the share of active units of every layer, in the order of the network."""
    shares = [100.0 * a / max(1, u) for a, u in zip(active, units, strict=True)]

    def draw(axes: Axes, theme: Theme) -> None:
        positions = np.arange(len(names))
        axes.barh(positions, 100, height=0.72, color=theme.grid)
        axes.barh(positions, shares, height=0.72, color=theme.series[0])
        if len(names) <= _MOST_NAMED_BARS:
            axes.set_yticks(positions, [_shorten(name) for name in names], fontsize=7.5)
        else:
            axes.set_ylabel("layer, first on top")
            axes.set_yticks([])
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6), xlabel="units switched on (%)")
        axes.grid(visible=False)

    shown = f"from {min(shares):.0f} % to {max(shares):.0f} % over {len(names)} layers"
    height = 0.9 + 0.2 * min(len(names), _MOST_NAMED_BARS)
    return _chart(draw, (4.3, height), f"Bar chart of active units per layer, {shown}.")


def training_chart(
    steps: Sequence[int], loss: Sequence[float], scores: Sequence[tuple[int, float]]
) -> Chart:
    """Draw the training loss and, where it was taken, the validation PSNR."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(steps, loss, color=theme.series[0], label="training loss (left)")
        # A loss that is a logarithm itself, as log-mean-squared-error, has no positive values.
        scale = "log" if min(loss) > 0 else "linear"
        axes.set(xlabel="step", ylabel="training loss", yscale=scale)
        if scores:
            right = axes.twinx()
            right.plot(*zip(*scores, strict=True), "o-", ms=3, color=theme.series[1])
            right.set_ylabel("validation PSNR (dB)", color=theme.series[1])
            right.grid(visible=False)

    last = f", validation PSNR at the end {scores[-1][1]:.2f} dB" if scores else ""
    return _chart(draw, (4.3, 2.9), f"Chart of the training loss over {steps[-1]} steps{last}.")


def _chart(draw: Callable[[Axes, Theme], None], size: tuple[float, float], alt: str) -> Chart:
    light, dark = (_draw_chart(draw, size, theme) for theme in (LIGHT, DARK))
    return Chart(light, dark, alt)


def _draw_chart(
    draw: Callable[[Axes, Theme], None], size: tuple[float, float], theme: Theme
) -> str:
    # No pyplot: it keeps global state and picks a window system.
    with mpl.rc_context(chart_settings(theme)):
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        draw(figure.add_subplot(), theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return _data_uri(buffer.getvalue())


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _shorten(name: str, length: int = 24) -> str:
    return name if len(name) <= length else "…" + name[1 - length :]


def distribution_chart(
    values: Sequence[float],
    label: str,
    *,
    upper: Sequence[float] | None = None,
    limit: float | None = None,
    logarithmic: bool = False,
) -> Chart:
    """Draw how a figure is distributed over images: a dot each, and the share that lies below.

    Args:
        values: One value an image.
        label: What it is, with its unit.
        upper: Where it is known between two bounds, the upper ones; `values` are the lower ones.
        limit: A threshold, drawn as a line.
        logarithmic: Whether the axis is; all values must be positive then.
    """
    order = np.argsort(values, kind="stable")
    lower = np.asarray(values, dtype=float)[order]
    share = 100.0 * (np.arange(len(lower)) + 0.5) / len(lower)

    def draw(axes: Axes, theme: Theme) -> None:
        if upper is not None:
            ends = np.asarray(upper, dtype=float)[order]
            axes.hlines(share, lower, ends, color=theme.series[0], linewidth=2.5, alpha=0.45)
        axes.plot(lower, share, "o", color=theme.series[0], markersize=4)
        if limit is not None:
            axes.axvline(limit, color=theme.series[1], linestyle="--", label=f"limit {limit:g}")
            axes.legend(loc="best")
        axes.set(xlabel=label, ylabel="images at or below (%)", ylim=(0, 100))
        axes.margins(x=0.08)
        if logarithmic:
            axes.set_xscale("log")
        else:
            axes.ticklabel_format(axis="x", useOffset=False)

    words = f"from {lower[0]:.3g} to {lower[-1]:.3g}, median {float(np.median(lower)):.3g}"
    return _chart(draw, (4.3, 2.4), f"Distribution of {label} over {len(lower)} images, {words}.")
