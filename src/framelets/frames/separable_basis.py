"""Orthonormal bases that are products of functions along each axis: cosines and Haar functions."""

from collections.abc import Sequence

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator, choose

from ._separable import AXES, coarse_to_fine


class SeparableBasis(LinearOperator):
    """The synthesis Phi: coefficients `*batch coefficient` to values `*batch place`.

    Places are those of a grid in row-major order; coefficients are sorted from coarse to fine, by
    the sum of the squared frequencies along the axes. Phi* Phi = Phi Phi* = I.

    Args:
        name: "dct" for the cosines of the DCT-II, "haar" for Haar functions.
        shape: Of the grid; powers of two for "haar".

    Raises:
        ValueError: If the name is unknown, or a size is no power of two where it must be.

    Example:
        >>> 2 * SeparableBasis("haar", (4,)).leading(2, torch.float32).mT
        tensor([[ 1.,  1.,  1.,  1.],
                [ 1.,  1., -1., -1.]])
    """

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        """Make the matrices."""
        super().__init__()
        axes = [choose("basis", name, AXES)(size) for size in shape]
        self.name, self.shape = name, tuple(shape)
        self._num_axes = len(axes)
        order = coarse_to_fine([frequencies for _, frequencies in axes])
        for axis, (matrix, _) in enumerate(axes):
            self.register_buffer(f"_matrix_{axis}", matrix, persistent=False)
        self.register_buffer("_order", order, persistent=False)
        self.register_buffer("_place", torch.argsort(order), persistent=False)
        self.input_shape = self.output_shape = (len(order),)

    _order: Tensor
    _place: Tensor

    def forward(
        self, coefficients: Inexact[Tensor, "*batch coefficient"]
    ) -> Inexact[Tensor, "*batch place"]:
        """Sum the functions."""
        grid: Tensor = coefficients[..., self._place].unflatten(-1, self.shape)
        for axis in range(self._num_axes):
            matrix = self._matrix(axis, grid)
            grid = torch.tensordot(grid, matrix, dims=([grid.ndim - self._num_axes], [1]))
        return grid.flatten(-self._num_axes)

    def adjoint(
        self, values: Inexact[Tensor, "*batch place"]
    ) -> Inexact[Tensor, "*batch coefficient"]:
        """Analyze; also the inverse."""
        grid: Tensor = values.unflatten(-1, self.shape)
        for axis in range(self._num_axes):
            matrix = self._matrix(axis, grid)
            grid = torch.tensordot(grid, matrix, dims=([grid.ndim - self._num_axes], [0]))
        return grid.flatten(-self._num_axes)[..., self._order]

    def leading(self, num: int, dtype: torch.dtype = torch.float64) -> Inexact[Tensor, "place num"]:
        """Return the coarsest functions, as columns."""
        size = len(self._order)
        if not 1 <= num <= size:
            raise ValueError(f"num must be 1 to {size}, got {num}")
        return self(torch.eye(num, size, dtype=dtype, device=self._order.device)).mT

    def extra_repr(self) -> str:
        """Say which basis, and on which grid."""
        return f"name={self.name!r}, shape={self.shape}"

    def _matrix(self, axis: int, like: Tensor) -> Tensor:
        matrix: Tensor = getattr(self, f"_matrix_{axis}")
        return matrix.to(like)
