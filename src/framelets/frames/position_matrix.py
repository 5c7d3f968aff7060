"""A matrix that acts on the positions of a signal: pooling and un-pooling written out."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator


class PositionMatrix(LinearOperator):
    """Multiply the positions of every map of a signal, in row-major order, by one matrix.

    Axes before the positions, such as channels, pass through.

    Args:
        matrix: One row for each position of the output, one column for each of the input. Copied.
        input_shape: Positions of the input; default: one axis.
        output_shape: Positions of the output; default: one axis.

    Raises:
        ValueError: If a shape does not have as many positions as the matrix has columns or rows.

    Example:
        >>> means = PositionMatrix(torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]))
        >>> means(torch.tensor([1.0, 3.0, 5.0, 9.0])).tolist()
        [2.0, 7.0]
    """

    _matrix: Tensor
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __init__(
        self,
        matrix: Inexact[Tensor, "rows columns"],
        input_shape: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
    ) -> None:
        """Copy the matrix."""
        super().__init__()
        if matrix.ndim != 2:
            raise ValueError(
                f"matrix must have two axes, rows and columns, got {tuple(matrix.shape)}"
            )
        rows, columns = matrix.shape
        self.input_shape = (columns,) if input_shape is None else tuple(input_shape)
        self.output_shape = (rows,) if output_shape is None else tuple(output_shape)
        for name, shape, count in (
            ("input_shape", self.input_shape, columns),
            ("output_shape", self.output_shape, rows),
        ):
            if prod(shape) != count:
                raise ValueError(
                    f"{name} must have {count} positions for a {rows} x {columns} matrix, "
                    f"got {shape}"
                )
        self.register_buffer("_matrix", matrix.detach().clone(), persistent=False)

    def forward(self, x: Inexact[Tensor, "*signal"]) -> Inexact[Tensor, "*result"]:
        """Multiply the positions by the matrix."""
        return self._multiply("x", x, self._matrix.mT, self.input_shape, self.output_shape)

    def adjoint(self, y: Inexact[Tensor, "*result"]) -> Inexact[Tensor, "*signal"]:
        """Multiply the positions by the conjugate transpose."""
        return self._multiply("y", y, self._matrix.conj(), self.output_shape, self.input_shape)

    def _multiply(
        self,
        name: str,
        signal: Tensor,
        matrix: Tensor,
        before: tuple[int, ...],
        after: tuple[int, ...],
    ) -> Tensor:
        num_batch = signal.ndim - len(before)
        if num_batch < 0 or tuple(signal.shape[num_batch:]) != before:
            raise ValueError(f"{name} must end in the shape {before}, got {tuple(signal.shape)}")
        is_complex = signal.is_complex() or matrix.is_complex()
        dtype = signal.dtype.to_complex() if is_complex else signal.dtype
        batch = signal.shape[:num_batch]
        vectors = signal.reshape(*batch, prod(before)).to(dtype)
        return torch.matmul(vectors, matrix.to(dtype)).reshape(*batch, *after)
