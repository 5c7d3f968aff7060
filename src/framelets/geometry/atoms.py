"""Atoms: the filters that a network uses at one image, pixel by pixel.

The row of L at an output pixel is the equivalent filter that makes this pixel out of the input; the
column at an input pixel is what this pixel contributes to the output, the network's point
response. Of a map that is only real-linear the row is that of the real part:
Re(output) = Re(sum row * input).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator


@dataclass(frozen=True)
class Atoms:
    """Rows and columns of an operator at chosen pixels.

    Attributes:
        pixels: Index of each pixel in one sample: (channel, row, column).
        rows: For each pixel, the weights of all input entries in this output entry.
        columns: For each pixel, the output that this input entry makes.
    """

    pixels: tuple[tuple[int, ...], ...]
    rows: Inexact[Tensor, " pixel *input_shape"]
    columns: Inexact[Tensor, " pixel *output_shape"]


def atoms(operator: LinearOperator, pixels: Sequence[Sequence[int]]) -> Atoms:
    """Return the row and the column of an operator at each pixel.

    Args:
        operator: `frozen` or `tangent` of a `LocalMap`, or any operator that knows its shapes.
        pixels: Indices into one sample, such as (channel, row, column); an index that only the
            input or only the output has gives zeros for the other.

    Returns:
        Rows (not conjugated: the output is the plain sum of row times input) and columns.

    Raises:
        ValueError: If the operator does not know its shapes, or a pixel lies outside.
    """
    if operator.input_shape is None or operator.output_shape is None:
        raise ValueError("operator must know its input and output shapes, as a LocalMap's do")
    if not pixels:
        raise ValueError("pixels must name at least one pixel, got none")
    dtypes = [getattr(operator, name, torch.float32) for name in ("input_dtype", "output_dtype")]
    device = getattr(operator, "device", torch.device("cpu"))
    units_in = _units(pixels, operator.input_shape, dtypes[0], device)
    units_out = _units(pixels, operator.output_shape, dtypes[1], device)
    with torch.no_grad():
        rows, columns = operator.adjoint(units_out), operator(units_in)
    chosen = tuple(tuple(int(i) for i in pixel) for pixel in pixels)
    return Atoms(chosen, rows.conj().resolve_conj(), columns)


def _units(
    pixels: Sequence[Sequence[int]],
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    units = torch.zeros(len(pixels), *shape, dtype=dtype, device=device)
    for unit, pixel in zip(units, pixels, strict=True):
        if len(pixel) != len(shape):
            raise ValueError(f"a pixel must have {len(shape)} indices, got {tuple(pixel)}")
        spatial = zip(pixel[1:], shape[1:], strict=True)
        if any(not 0 <= i < n for i, n in spatial) or pixel[0] < 0:
            raise ValueError(f"a pixel must lie inside {shape}, got {tuple(pixel)}")
        if pixel[0] < shape[0]:
            unit[tuple(pixel)] = 1
    return units
