"""Joseph's interpolation of an image along rays, for every engine.

A ray that runs mainly along y is sampled where it crosses the rows, by linear interpolation
between the two nearest pixels of the row; one that runs mainly along x where it crosses the
columns. A sample stands for the length of ray between two crossings. Outside its pixels' centers
the image falls to zero over one pixel.

References:
    P. M. Joseph, "An improved algorithm for reprojecting rays through pixel images", IEEE Trans.
    Medical Imaging 1(3), 1982.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from framelets.physics import _kernels
from framelets.physics._threads import for_ranges, partition
from framelets.physics.image_grid import ImageGrid
from framelets.physics.scans import Scan


class JosephRays:
    """The rays of a scan in units of the grid's pixels: a (start, slope, length, main) each."""

    def __init__(self, scan: Scan, grid: ImageGrid) -> None:
        """Find where every ray crosses row 0 or column 0, and how it moves on."""
        self.grid = grid
        self.rays = _rays_in_pixels(scan, grid)
        self.input_shape = grid.shape
        self.output_shape = scan.shape
        self.max_entries = 2 * max(grid.shape) * len(self.rays)

    def csr(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Build the system matrix: row pointers, columns and weights."""
        rays, counts = self.rays.numpy(), np.zeros(len(self.rays), np.int64)
        for_ranges(
            lambda a, b: _kernels.joseph_count(a, b, rays, *self.grid.shape, counts),
            len(rays),
        )
        crow, columns, values = empty_csr(counts, dtype)
        for_ranges(
            lambda a, b: _kernels.joseph_fill(
                a, b, rays, *self.grid.shape, crow.numpy(), columns.numpy(), values.numpy()
            ),
            len(rays),
        )
        return crow, columns, values

    def apply(self, x: Tensor, adjoint: bool) -> Tensor:
        """Run the compiled loops on `batch pixel`, or on `batch ray` if adjoint."""
        result: Tensor = _joseph(x, self.rays, *self.grid.shape, adjoint)
        return result

    def entries(self, num_rays: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Give pixels and weights of num_rays rays at a time, as `ray entry`, in plain torch."""
        height, width = self.grid.shape
        for first in range(0, len(self.rays), num_rays):
            part = slice(first, first + num_rays)
            start, slope, length, main = self.rays[part, :, None].unbind(1)
            by_columns = main.bool()
            num_lines = torch.where(by_columns, width, height)
            size = torch.where(by_columns, height, width)
            along = torch.where(by_columns, 1, width)
            across = torch.where(by_columns, width, 1)
            line = torch.arange(max(height, width))
            position = start + slope * line
            nearest = torch.stack([position.floor(), position.floor() + 1], dim=-1)
            inside = (line < num_lines)[..., None] & (nearest >= 0) & (nearest < size[..., None])
            weights = (1 - (position[..., None] - nearest).abs()) * length[..., None] * inside
            pixels = (line * along)[..., None] + nearest * across[..., None]
            yield part, (pixels * inside).long().flatten(1), weights.flatten(1)


def empty_csr(counts: np.ndarray, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Make row pointers from the number of entries in every row, and room for the entries."""
    crow = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=crow[1:])
    if crow[-1] >= 2**31:
        raise ValueError(
            f"the sparse matrix would have {crow[-1]} entries, more than int32 can count; "
            "use engine='numba'"
        )
    num_entries = int(crow[-1])
    return (
        torch.from_numpy(crow.astype(np.int32)),
        torch.empty(num_entries, dtype=torch.int32),
        torch.empty(num_entries, dtype=dtype),
    )


def _rays_in_pixels(scan: Scan, grid: ImageGrid) -> Tensor:
    points, directions = (part.reshape(-1, 2) for part in scan.rays())
    column = points[:, 0] / grid.pixel_spacing_mm + (grid.width - 1) / 2
    row = (grid.height - 1) / 2 - points[:, 1] / grid.pixel_spacing_mm
    to_right, to_bottom = directions[:, 0], -directions[:, 1]
    by_columns = to_right.abs() > to_bottom.abs()
    main, other = torch.where(by_columns, column, row), torch.where(by_columns, row, column)
    main_step = torch.where(by_columns, to_right, to_bottom)
    other_step = torch.where(by_columns, to_bottom, to_right)
    slope = other_step / main_step
    length = grid.pixel_spacing_mm / main_step.abs()
    return torch.stack([other - slope * main, slope, length, by_columns.double()], dim=1)


@torch.library.custom_op("framelets::joseph", mutates_args=())
def _joseph(x: Tensor, rays: Tensor, height: int, width: int, adjoint: bool) -> Tensor:
    # Linear in x, and the op with the other `adjoint` is its exact adjoint.
    source = x.detach().T.contiguous().numpy()
    table, num_rays, num_batch = rays.numpy(), len(rays), len(x)
    if not adjoint:
        line = torch.empty(num_rays, num_batch, dtype=x.dtype)
        for_ranges(
            lambda a, b: _kernels.joseph_forward(a, b, table, height, width, source, line.numpy()),
            num_rays,
        )
        return line.T.contiguous()
    parts = partition(num_rays)
    images = torch.zeros(len(parts), height * width, num_batch, dtype=x.dtype)

    def work(first: int, last: int) -> None:
        for part in range(first, last):
            target = images[part].numpy()
            _kernels.joseph_adjoint(*parts[part], table, height, width, source, target)

    for_ranges(work, len(parts))
    return images.sum(0).T.contiguous()


@_joseph.register_fake
def _(x: Tensor, rays: Tensor, height: int, width: int, adjoint: bool) -> Tensor:
    return x.new_empty(len(x), height * width if adjoint else len(rays))
