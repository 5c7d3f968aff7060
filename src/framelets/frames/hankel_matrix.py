"""The Hankel matrix of one signal: an operator on taps that is never formed, and its spectrum.

The rank of the matrix says how few linear relations rule a signal. In one dimension, a sum of r
different exponentials has rank r where window and rows are at least r; where indices wrap, only if
the frequencies are those of the discrete Fourier transform, as other exponentials jump at the end.
So has the weighted spectrum of a signal that r jumps describe [1]. A vector h with H h = 0,
reshaped to the window, is an annihilating filter: the correlation with it is zero.

The Gram matrix is cheap (see `HankelLifting.gram_matrix`), but squares the singular values: those
below about 1e-7 of the largest are rounding errors. Small matrices are therefore formed and
decomposed themselves.

References:
    [1] J. C. Ye, J. M. Kim, K. H. Jin and K. Lee, "Compressive sampling using annihilating
        filter-based low-rank interpolation", IEEE Trans. Information Theory 63(2), 2017.
"""

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from framelets.core import LinearOperator

from ._right_singular import SMALL_BYTES, right_singular, singular_values
from .hankel_lifting import HankelLifting


class HankelMatrix(LinearOperator):
    """H(f) of one signal: taps `*batch column` to positions `*batch row`.

    Args:
        lifting: Sizes and boundary.
        signal: f, of the lifting's input shape, without batch axes.

    Raises:
        ValueError: If the signal has another shape, or NaN or infinite values.

    Example:
        >>> matrix = HankelLifting((4,), (2,)).matrix(torch.tensor([1.0, 2.0, 4.0, 8.0]))
        >>> matrix(torch.tensor([2.0, -1.0])).tolist()
        [0.0, 0.0, 0.0, 15.0]
    """

    signal: Inexact[Tensor, "*input_shape"]

    def __init__(self, lifting: HankelLifting, signal: Inexact[Tensor, "*input_shape"]) -> None:
        """Keep the signal."""
        super().__init__()
        if tuple(signal.shape) != lifting.input_shape:
            raise ValueError(
                f"signal must be one of shape {lifting.input_shape}, got {tuple(signal.shape)}; "
                "the products of HankelLifting take batches"
            )
        if not torch.isfinite(signal).all():
            raise ValueError("signal must be finite, got NaN or infinite values")
        self.lifting = lifting
        self.input_shape = (lifting.num_columns,)
        self.output_shape = (lifting.num_rows,)
        self.register_buffer("signal", signal, persistent=False)

    def forward(self, taps: Inexact[Tensor, "*batch column"]) -> Inexact[Tensor, "*batch row"]:
        """Correlate the signal with taps."""
        return self.lifting.times(self.signal, taps.unsqueeze(-1)).squeeze(-1)

    def adjoint(self, rows: Inexact[Tensor, "*batch row"]) -> Inexact[Tensor, "*batch column"]:
        """Correlate the signal with values at the positions, and keep the taps."""
        return self.lifting.adjoint_times(self.signal, rows.unsqueeze(-1)).squeeze(-1)

    def gram_matrix(self) -> Inexact[Tensor, "column column"]:
        """Return H* H, in double precision; see `HankelLifting.gram_matrix`."""
        return self.lifting.gram_matrix(self.signal)

    def singular_values(self, *, max_bytes: int = SMALL_BYTES) -> Float[Tensor, " values"]:
        """Return all singular values, descending, in double precision.

        Args:
            max_bytes: Largest matrix to form; a larger one goes by its Gram matrix.
        """
        values, _ = singular_values(self.lifting, self.signal, max_bytes)
        return values

    def numerical_rank(
        self, *, tolerance: float | None = None, max_bytes: int = SMALL_BYTES
    ) -> int:
        """Count the singular values above a share of the largest.

        Args:
            tolerance: The share; default: the least that rounding allows.
            max_bytes: Largest matrix to form; a larger one goes by its Gram matrix.

        Raises:
            ValueError: If the tolerance is below what the Gram matrix can tell from rounding.
        """
        values, formed = singular_values(self.lifting, self.signal, max_bytes)
        return self._rank(values, formed, tolerance)

    def right_singular_vectors(
        self, rank: int, *, max_bytes: int = SMALL_BYTES
    ) -> Inexact[Tensor, "column rank"]:
        """Return the leading right singular vectors, in the precision of the signal.

        Args:
            rank: How many.
            max_bytes: Largest matrix to form, counted with its right singular vectors; a larger one
                goes by its Gram matrix, and keeps no vectors of singular values below about 1e-8
                of the largest.

        Raises:
            ValueError: If the rank is out of range.
        """
        if not 1 <= rank <= self.lifting.num_columns:
            raise ValueError(f"rank must be 1 to {self.lifting.num_columns}, got {rank}")
        found = right_singular(self.lifting, self.signal, max_bytes)
        return found.vectors[:, :rank].to(self.signal.dtype)

    def annihilating_filters(
        self,
        *,
        rank: int | None = None,
        tolerance: float | None = None,
        max_bytes: int = SMALL_BYTES,
    ) -> Inexact[Tensor, " filter *window"]:
        """Return an orthonormal basis of the null space: filters with which f correlates to zero.

        Args:
            rank: Of the matrix, if it is known; the right singular vectors behind are returned.
            tolerance: Else, as in `numerical_rank`.
            max_bytes: Largest matrix to form, counted with its right singular vectors; a larger one
                goes by its Gram matrix.

        Returns:
            The filters, of shape `filter [channel] *window`, the best annihilating last.

        Raises:
            ValueError: If both rank and tolerance are given, or one is out of range.
        """
        if rank is not None and tolerance is not None:
            raise ValueError(f"give rank or tolerance, got both: {rank} and {tolerance}")
        if rank is not None and not 0 <= rank <= self.lifting.num_columns:
            raise ValueError(f"rank must be 0 to {self.lifting.num_columns}, got {rank}")
        found = right_singular(self.lifting, self.signal, max_bytes)
        if rank is None:
            rank = self._rank(found.values, found.formed, tolerance)
        filters = found.vectors[:, rank:].mT.to(self.signal.dtype)
        channels = () if self.lifting.num_channels is None else (self.lifting.num_channels,)
        return filters.reshape(-1, *channels, *self.lifting.window)

    def _rank(self, values: Float[Tensor, " values"], formed: bool, tolerance: float | None) -> int:
        size = max(self.lifting.output_shape)
        rounding = size * torch.finfo(self.signal.dtype).eps
        if not formed:
            rounding = max(rounding, (size * torch.finfo(torch.float64).eps) ** 0.5)
        if tolerance is None:
            tolerance = rounding
        elif tolerance < rounding:
            raise ValueError(
                f"tolerance must be at least {rounding:.2g}, what rounding leaves of singular "
                f"values of this matrix, got {tolerance}; give max_bytes to form it, or a signal "
                "in double precision"
            )
        return int((values > tolerance * values[0]).sum())
