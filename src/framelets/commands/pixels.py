"""Where to look at atoms: a flat place, an edge and a small detail, found in the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

_MARGIN = 0.08


@dataclass(frozen=True)
class Pixel:
    """One pixel to explain, with what stands there."""

    label: str
    row: int
    column: int


def choose_pixels(image: Float[Tensor, "height width"]) -> list[Pixel]:
    """Find the flattest place inside the object, the sharpest edge and the clearest detail.

    The object is the largest connected part that is brighter than a tenth of the range, with its
    holes. The flat place has the least local deviation among its pixels brighter than a quarter of
    the range, the edge the largest gradient of the smoothed image, the detail (a vessel in a lung,
    say) the largest white top-hat, what an opening by 5 x 5 pixels takes away, against what it
    leaves. Pixels near the border do not count.

    Args:
        image: The image that guides the choice; a reference shows no streaks.

    Returns:
        Three pixels, or one in the middle if the image is too small or constant.
    """
    values = image.detach().cpu().numpy().astype(np.float64)
    height, width = values.shape
    low, high = np.percentile(values, [1, 99])
    if min(height, width) < 16 or high <= low:
        return [Pixel("middle", height // 2, width // 2)]
    values = (values - low) / (high - low)
    smooth = ndimage.gaussian_filter(values, 0.7)
    mean, square = ndimage.uniform_filter(smooth, 9), ndimage.uniform_filter(smooth**2, 9)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    edge = ndimage.gaussian_gradient_magnitude(values, 1.2)
    background = ndimage.grey_opening(smooth, size=5)
    within = ndimage.minimum_filter(_object_of(smooth).astype(np.uint8), 7) > 0
    detail = np.where(within, (smooth - background) / (np.maximum(background, 0) + 0.1), -np.inf)
    inside = ndimage.minimum_filter((mean > 0.25).astype(np.uint8), 5) > 0
    # Of places equally flat, up to a thousandth of the range, the one nearest to the middle.
    rows, columns = np.indices(values.shape)
    distance = np.hypot(rows - height / 2, columns - width / 2) / (height + width)
    flatness = -np.round(deviation, 3) - 1e-4 * distance
    flatness = np.where(inside if inside.any() else True, flatness, -np.inf)
    taken: list[Pixel] = []
    for label, score in (("flat", flatness), ("edge", edge), ("detail", detail)):
        row, column = _peak(score, taken)
        taken.append(Pixel(label, row, column))
    return taken


def _object_of(values: Float[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    labels, count = ndimage.label(values > 0.1)
    sizes = np.bincount(labels.ravel())[1:]
    if count == 0 or sizes.max() < 0.05 * values.size:
        return np.ones(values.shape, dtype=bool)
    filled: np.ndarray = ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))
    return filled


def parse_pixels(texts: Sequence[str], shape: tuple[int, int]) -> list[Pixel]:
    """Read pixels written as ROW,COLUMN, counted from 0 at the top left.

    Raises:
        ValueError: If one is not two whole numbers or lies outside the image.
    """
    pixels = []
    for text in texts:
        parts = text.split(",")
        if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
            raise ValueError(f"a pixel must be ROW,COLUMN, as in 64,80, got {text!r}")
        row, column = (int(part) for part in parts)
        if row >= shape[0] or column >= shape[1]:
            raise ValueError(
                f"pixel {text} lies outside the image of {shape[0]} x {shape[1]} pixels"
            )
        pixels.append(Pixel("chosen", row, column))
    return pixels


def _peak(score: Float[np.ndarray, "height width"], taken: list[Pixel]) -> tuple[int, int]:
    height, width = score.shape
    rows, columns = np.indices(score.shape)
    allowed = np.minimum(rows, height - 1 - rows) >= max(2, round(_MARGIN * height))
    allowed &= np.minimum(columns, width - 1 - columns) >= max(2, round(_MARGIN * width))
    for pixel in taken:
        allowed &= np.hypot(rows - pixel.row, columns - pixel.column) > 0.05 * (height + width)
    index = int(np.argmax(np.where(allowed, score, -np.inf)))
    return index // width, index % width
