"""Pixel-driven interpolation of a sinogram where every pixel projects, for every engine."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from framelets.physics import _kernels
from framelets.physics._joseph import empty_csr
from framelets.physics._threads import for_ranges
from framelets.physics.image_grid import ImageGrid
from framelets.physics.scans import Scan


class PixelProjections:
    """Where every pixel of a grid falls on the detector in every view, and its weight U^-power."""

    def __init__(self, scan: Scan, grid: ImageGrid, distance_power: int) -> None:
        """Turn the scan's projection matrices into matrices that take (column, row, 1)."""
        self.grid = grid
        self.power = distance_power
        self.num_detectors = scan.num_detectors
        self.matrices = _matrices_in_pixels(scan, grid)
        self.input_shape = scan.shape
        self.output_shape = grid.shape
        self.max_entries = 2 * scan.num_views * grid.height * grid.width

    @property
    def _constants(self) -> tuple[np.ndarray, int, int, int]:
        return self.matrices.numpy(), self.power, self.grid.width, self.num_detectors

    def csr(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Build the matrix of the back-projection: row pointers, columns and weights."""
        counts = np.zeros(self.grid.height * self.grid.width, np.int64)
        for_ranges(
            lambda a, b: _kernels.pixel_count(a, b, *self._constants, counts), self.grid.height
        )
        crow, columns, values = empty_csr(counts, dtype)
        for_ranges(
            lambda a, b: _kernels.pixel_fill(
                a, b, *self._constants, crow.numpy(), columns.numpy(), values.numpy()
            ),
            self.grid.height,
        )
        return crow, columns, values

    def apply(self, x: Tensor, adjoint: bool) -> Tensor:
        """Run the compiled loops on `batch view*detector`, or on `batch pixel` if adjoint."""
        result: Tensor = _pixel_driven(
            x, self.matrices, self.power, *self.grid.shape, self.num_detectors, adjoint
        )
        return result

    def entries(self, num_pixels: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Give elements and weights of num_pixels pixels at a time, as `pixel entry`, in torch."""
        height, width = self.grid.shape
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([columns, rows, torch.ones_like(rows)]).double().flatten(1)
        first_element = torch.arange(len(self.matrices))[:, None, None] * self.num_detectors
        for first in range(0, height * width, num_pixels):
            part = slice(first, first + num_pixels)
            numerator, depth = (self.matrices @ pixels[:, part]).unbind(1)
            position = numerator / depth
            nearest = torch.stack([position.floor(), position.floor() + 1], dim=-1)
            inside = (nearest >= 0) & (nearest < self.num_detectors)
            weights = (1 - (position[..., None] - nearest).abs()) * inside
            weights = weights * (depth**-self.power)[..., None]
            elements = (first_element + nearest) * inside
            yield part, elements.long().movedim(0, 1).flatten(1), weights.movedim(0, 1).flatten(1)


def _matrices_in_pixels(scan: Scan, grid: ImageGrid) -> Tensor:
    spacing = grid.pixel_spacing_mm
    to_mm = torch.tensor(
        [
            [spacing, 0.0, -(grid.width - 1) / 2 * spacing],
            [0.0, -spacing, (grid.height - 1) / 2 * spacing],
            [0.0, 0.0, 1.0],
        ],
        dtype=torch.float64,
    )
    return scan.projection_matrices() @ to_mm


@torch.library.custom_op("framelets::pixel_driven", mutates_args=())
def _pixel_driven(
    x: Tensor,
    matrices: Tensor,
    power: int,
    height: int,
    width: int,
    num_detectors: int,
    adjoint: bool,
) -> Tensor:
    # Linear in x, and the op with the other `adjoint` is its exact adjoint.
    source = x.detach().T.contiguous().numpy()
    kernel = _kernels.pixel_adjoint if adjoint else _kernels.pixel_forward
    size = len(matrices) * num_detectors if adjoint else height * width
    result = torch.empty(size, len(x), dtype=x.dtype)
    constants = matrices.numpy(), power, width, num_detectors
    for_ranges(
        lambda a, b: kernel(a, b, *constants, source, result.numpy()),
        len(matrices) if adjoint else height,
    )
    return result.T.contiguous()


@_pixel_driven.register_fake
def _(
    x: Tensor,
    matrices: Tensor,
    power: int,  # noqa: ARG001
    height: int,
    width: int,
    num_detectors: int,
    adjoint: bool,
) -> Tensor:
    return x.new_empty(len(x), len(matrices) * num_detectors if adjoint else height * width)
