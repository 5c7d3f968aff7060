"""Hankel lifting: a signal as the matrix of all its windows, and the way back.

The matrix H(f) of a signal f with channels f_c has one row for each position i and one column for
each channel c and tap j of a window of d taps,

    H(f)[i, (c, j)] = f_c[i + j],

with multi-indices i, j in two and three dimensions: the side-by-side matrix [H(f_1) ... H(f_P)] of
[1]. Rows run over all positions and indices wrap around ("wrap"), or over the positions at which
the window lies inside the signal ("valid"). Then

    H(f) psi            is the correlation of f with psi, what networks call a convolution
    H* (u v^H)          = u (*) conj(v), the convolution with the taps v padded by zeros
    H^+ (M)             = H* (M) / counts: every sample is the mean of the entries where it stands

H^+ is the pseudo-inverse: `counts` says how often a sample stands in the matrix, and H* H f =
counts f; it is the number d of taps where indices wrap. Products with H(f), its Gram matrix and
H* (U V^H) are made by FFT, and only `forward` forms the matrix.

References:
    [1] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
    [2] J. C. Ye, J. M. Kim, K. H. Jin and K. Lee, "Compressive sampling using annihilating
        filter-based low-rank interpolation", IEEE Trans. Information Theory 63(2), 2017.
"""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from framelets.core import LinearOperator, refuse_unknown

from ._hankel import extend, extend_adjoint, lift, lift_adjoint, transforms
from ._hankel_gram import gram

if TYPE_CHECKING:
    from .hankel_matrix import HankelMatrix

BOUNDARIES = ("valid", "wrap")


class HankelLifting(LinearOperator):
    """The map from signals `*batch [channel] *shape` to matrices `*batch row column`.

    Rows are positions and columns (channel, tap), both in row-major order.

    Args:
        shape: Of one channel of a signal, one to three axes.
        window: Taps along each axis.
        num_channels: P; None for signals without a channel axis.
        boundary: "wrap", or "valid" for the windows inside the signal alone.
        max_bytes: Largest matrix that `forward` makes.

    Attributes:
        positions: Shape of the grid of rows.
        counts: How often each sample stands in the matrix.

    Raises:
        ValueError: If the window does not fit the shape, or the boundary is unknown.

    Example:
        >>> lifting = HankelLifting((4,), (2,))
        >>> lifting(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist()
        [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 1.0]]
    """

    counts: Float[Tensor, "*shape"]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, int]

    def __init__(
        self,
        shape: Sequence[int],
        window: Sequence[int],
        *,
        num_channels: int | None = None,
        boundary: str = "wrap",
        max_bytes: int = 2**30,
    ) -> None:
        """Fix the sizes."""
        super().__init__()
        refuse_unknown("boundary", boundary, BOUNDARIES)
        self.shape, self.window = tuple(shape), tuple(window)
        if not 1 <= len(self.shape) <= 3:
            raise ValueError(f"shape must have one to three axes, got {self.shape}")
        if len(self.window) != len(self.shape) or not all(
            1 <= taps <= size for taps, size in zip(self.window, self.shape, strict=True)
        ):
            raise ValueError(
                f"window must have 1 to {self.shape} taps, axis by axis, got {self.window}"
            )
        if num_channels is not None and num_channels < 1:
            raise ValueError(f"num_channels must be at least 1, or None, got {num_channels}")
        self.num_channels, self.boundary, self.max_bytes = num_channels, boundary, max_bytes
        self.positions = self.shape if boundary == "wrap" else self._valid_positions()
        self.num_rows = prod(self.positions)
        self.num_columns = prod(self.window) * (num_channels or 1)
        self.input_shape = self.shape if num_channels is None else (num_channels, *self.shape)
        self.output_shape = (self.num_rows, self.num_columns)
        self.register_buffer("counts", self._count(), persistent=False)

    def forward(self, signal: Inexact[Tensor, "*signal"]) -> Inexact[Tensor, "*batch row column"]:
        """Form the matrix.

        Raises:
            ValueError: If the signal has another shape, or its matrix exceeds `max_bytes`.
        """
        signal = self._with_channels(signal)
        num_signals = prod(signal.shape[: -len(self.shape) - 1])
        num_bytes = num_signals * self.num_rows * self.num_columns * signal.dtype.itemsize
        if num_bytes > self.max_bytes:
            raise ValueError(
                f"signal must give matrices of at most max_bytes={self.max_bytes}, got "
                f"{num_signals} x {self.num_rows} x {self.num_columns} entries of {num_bytes} "
                "bytes; use `matrix`, `times` and `gram_matrix`, which form none, or raise it"
            )
        if self.boundary == "wrap":
            signal = extend(signal, self.window)
        return lift(signal, self.window)

    def adjoint(self, matrix: Inexact[Tensor, "*batch row column"]) -> Inexact[Tensor, "*signal"]:
        """Add up the entries at which each sample stands, those of one antidiagonal."""
        if tuple(matrix.shape[-2:]) != self.output_shape:
            raise ValueError(
                f"matrix must end in shape {self.output_shape}, got {tuple(matrix.shape)}"
            )
        sums = lift_adjoint(matrix, self.window, self.positions)
        if self.boundary == "wrap":
            sums = extend_adjoint(sums, self.window)
        return self._without_channels(sums)

    def pseudo_inverse(
        self, matrix: Inexact[Tensor, "*batch row column"]
    ) -> Inexact[Tensor, "*signal"]:
        """Return the signal whose matrix is the nearest one to a matrix."""
        return self._mean(self.adjoint(matrix))

    def times(
        self,
        signal: Inexact[Tensor, "*signal"],
        taps: Inexact[Tensor, "*taps column filter"],
    ) -> Inexact[Tensor, "*batch row filter"]:
        """Return H(f) Psi by FFT: the correlations of the signal with the columns of Psi."""
        signal, filters = self._with_channels(signal), self._to_filters("taps", taps)
        forward, inverse = transforms(self.shape, signal, filters)
        channel = -1 - len(self.shape)
        spectrum = sum(  # one channel at a time: its spectra are as large as the result
            (
                forward(one).unsqueeze(channel) * forward(its_filters.conj()).conj()
                for one, its_filters in zip(
                    signal.unbind(channel), filters.unbind(channel), strict=True
                )
            ),
            start=signal.new_zeros(()),
        )
        return self._crop(inverse(spectrum), self.positions).flatten(channel + 1).mT

    def adjoint_times(
        self,
        signal: Inexact[Tensor, "*signal"],
        rows: Inexact[Tensor, "*rows row vector"],
    ) -> Inexact[Tensor, "*batch column vector"]:
        """Return H(f)* U by FFT."""
        signal, maps = self._with_channels(signal), self._to_maps("rows", rows)
        forward, inverse = transforms(self.shape, signal, maps)
        channel = -1 - len(self.shape)
        spectra = forward(maps).conj()
        parts = [
            self._crop(inverse(forward(one).unsqueeze(channel) * spectra), self.window)
            for one in signal.unbind(channel)
        ]
        return torch.stack(parts, dim=channel).flatten(channel).mT.conj_physical()

    def adjoint_of_factors(
        self,
        left: Inexact[Tensor, "*left row rank"],
        right: Inexact[Tensor, "*right column rank"],
    ) -> Inexact[Tensor, "*signal"]:
        """Return H* (U V*) of two factors by FFT: the sum of their convolutions."""
        maps, filters = self._to_maps("left", left), self._to_filters("right", right).conj()
        if left.shape[-1] != right.shape[-1]:
            raise ValueError(
                "left and right must have the same number of columns, got "
                f"{left.shape[-1]} and {right.shape[-1]}"
            )
        forward, inverse = transforms(self.shape, maps, filters)
        channel = -1 - len(self.shape)
        spectra = forward(maps)
        parts = [
            inverse((spectra * forward(its_filters)).sum(channel))
            for its_filters in filters.unbind(channel)
        ]
        return self._without_channels(torch.stack(parts, dim=channel))

    def pseudo_inverse_of_factors(
        self,
        left: Inexact[Tensor, "*left row rank"],
        right: Inexact[Tensor, "*right column rank"],
    ) -> Inexact[Tensor, "*signal"]:
        """Return H^+ (U V*) of two factors by FFT, without their product."""
        return self._mean(self.adjoint_of_factors(left, right))

    def gram_matrix(
        self, signal: Inexact[Tensor, "*signal"]
    ) -> Inexact[Tensor, "*batch column column"]:
        """Return H(f)* H(f), in double precision whatever that of the signal is.

        Its eigenvalues are the squares of the singular values: in single precision the smaller
        half of their digits would be lost, and with it the null space.
        """
        return gram(self._with_channels(signal), self.window, wraps=self.boundary == "wrap")

    def matrix(self, signal: Inexact[Tensor, "*input_shape"]) -> "HankelMatrix":
        """Return the matrix of one signal as an operator on taps, not formed."""
        from .hankel_matrix import HankelMatrix

        return HankelMatrix(self, signal)

    def extra_repr(self) -> str:
        """Say the sizes and the boundary."""
        return (
            f"shape={self.shape}, window={self.window}, num_channels={self.num_channels}, "
            f"boundary={self.boundary!r}"
        )

    def _valid_positions(self) -> tuple[int, ...]:
        return tuple(size - taps + 1 for size, taps in zip(self.shape, self.window, strict=True))

    def _count(self) -> Float[Tensor, "*shape"]:
        counts = torch.ones((), dtype=torch.float64)
        for size, taps in zip(self.shape, self.window, strict=True):
            if self.boundary == "wrap":
                along = torch.full((size,), float(taps), dtype=torch.float64)
            else:
                place = torch.arange(size, dtype=torch.float64)
                most = min(taps, size - taps + 1)
                along = torch.minimum(place + 1, size - place).clamp(max=most)
            counts = counts.unsqueeze(-1) * along
        return counts

    def _mean(self, sums: Inexact[Tensor, "*signal"]) -> Inexact[Tensor, "*signal"]:
        return sums / self.counts.to(dtype=sums.dtype.to_real(), device=sums.device)

    def _crop(self, maps: Tensor, lengths: tuple[int, ...]) -> Tensor:
        for axis, length in enumerate(lengths, start=-len(lengths)):
            maps = maps.narrow(axis, 0, length)
        return maps

    def _with_channels(self, signal: Tensor) -> Inexact[Tensor, "*batch_channel_shape"]:
        shape = self.input_shape
        if tuple(signal.shape[signal.ndim - len(shape) :]) != shape:
            raise ValueError(f"signal must end in shape {shape}, got {tuple(signal.shape)}")
        if not (signal.is_floating_point() or signal.is_complex()):
            raise TypeError(f"signal must be floating-point or complex, got {signal.dtype}")
        return signal.unsqueeze(-len(shape) - 1) if self.num_channels is None else signal

    def _without_channels(self, signal: Tensor) -> Inexact[Tensor, "*signal"]:
        return signal.squeeze(-1 - len(self.shape)) if self.num_channels is None else signal

    def _to_filters(self, name: str, taps: Tensor) -> Inexact[Tensor, "*filter_channel_window"]:
        _refuse_rows(name, taps, self.num_columns)
        filters: Tensor = taps.mT.unflatten(-1, (self.num_channels or 1, *self.window))
        return filters

    def _to_maps(self, name: str, rows: Tensor) -> Inexact[Tensor, "*vector_positions"]:
        _refuse_rows(name, rows, self.num_rows)
        maps: Tensor = rows.mT.unflatten(-1, self.positions)
        return maps


def _refuse_rows(name: str, matrix: Tensor, num_rows: int) -> None:
    if matrix.ndim < 2 or matrix.shape[-2] != num_rows:
        raise ValueError(
            f"{name} must have shape (*batch, {num_rows}, number of vectors), "
            f"got {tuple(matrix.shape)}"
        )
