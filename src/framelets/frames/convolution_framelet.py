"""Convolution framelets: a signal in a non-local basis of positions and a local basis of taps.

With the Hankel matrix H(f) (see `HankelLifting`), Phi on its rows and Psi on its columns, and duals
with Phi~ Phi* = I and Psi Psi~* = I, a signal of n samples with windows of d taps is [1, 2]

    C = Phi* H(f) Psi,     C_ij = <phi_i (*) conj(psi_j), f>
    f = H^+ (Phi~ C Psi~*) = (1/d) sum_ij C_ij phi~_i (*) conj(psi~_j)

where indices wrap around; with the valid boundary, H^+ divides by how often a sample stands in H(f)
instead of d. For orthonormal bases |C|^2 = |H(f)|^2; where indices wrap that is d |f|^2, and the
framelets are a tight frame. With the valid boundary samples near the ends weigh less.

In a network, Psi is the convolution of the encoder, Phi* its pooling, Phi~ the unpooling and Psi~
the convolution of the decoder. Fewer filters than taps make Psi Psi~* a projection: if Psi holds
the leading right singular vectors of H(f), one step of Cadzow's method (see `cadzow_step`) [1].

References:
    [1] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
    [2] R. Yin, T. Gao, Y. M. Lu and I. Daubechies, "A tale of two bases: local-nonlocal
        regularization on image patches with convolution framelets", SIAM J. Imaging Sciences 10(2),
        2017.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from framelets.core import LinearOperator

from .hankel_lifting import HankelLifting
from .position_matrix import PositionMatrix

Basis = LinearOperator | Inexact[Tensor, "row nonlocal"]


class ConvolutionFramelet(LinearOperator):
    """The analysis f -> C: signals `*batch [channel] *shape` to `*batch nonlocal local`.

    Args:
        shape: Of one channel of a signal.
        window: Taps along each axis.
        nonlocal_basis: Phi: a matrix, or an operator from coefficients to positions.
        local_basis: Psi.
        nonlocal_dual: Phi~; default: the pseudo-inverse of a matrix, and an operator itself, which
            is right for orthonormal ones.
        local_dual: Psi~; default: the pseudo-inverse.
        num_channels: None for signals without a channel axis.
        boundary: "wrap" or "valid".

    Attributes:
        lifting: H.
        reconstructs: True if Phi~ Phi* = I and Psi Psi~* = I hold, the former at a random vector.

    Raises:
        ValueError: If a basis does not fit the positions or the taps.
        TypeError: If the matrices are not all of one precision.
    """

    local_basis: Inexact[Tensor, "column local"]
    local_dual: Inexact[Tensor, "column local"]
    input_shape: tuple[int, ...]

    def __init__(
        self,
        shape: Sequence[int],
        window: Sequence[int],
        nonlocal_basis: Basis,
        local_basis: Inexact[Tensor, "column local"],
        *,
        nonlocal_dual: Basis | None = None,
        local_dual: Inexact[Tensor, "column local"] | None = None,
        num_channels: int | None = None,
        boundary: str = "wrap",
    ) -> None:
        """Find the duals, and whether they are."""
        super().__init__()
        self.lifting = HankelLifting(shape, window, num_channels=num_channels, boundary=boundary)
        num_rows, num_columns = self.lifting.output_shape
        _refuse_mixed_precision(
            local_basis=local_basis,
            local_dual=local_dual,
            nonlocal_basis=nonlocal_basis,
            nonlocal_dual=nonlocal_dual,
        )
        if local_dual is None:
            local_dual = torch.linalg.pinv(local_basis).mH.resolve_conj()
        for name, matrix in (("local_basis", local_basis), ("local_dual", local_dual)):
            if tuple(matrix.shape) != (num_columns, local_basis.shape[-1]):
                raise ValueError(
                    f"{name} must have one row for each of {num_columns} taps and one column a "
                    f"filter, got {tuple(matrix.shape)}"
                )
            self.register_buffer(name, matrix, persistent=False)
        if nonlocal_dual is None:
            nonlocal_dual = (
                torch.linalg.pinv(nonlocal_basis).mH.resolve_conj()
                if isinstance(nonlocal_basis, Tensor)
                else nonlocal_basis
            )
        self.nonlocal_basis = _operator("nonlocal_basis", nonlocal_basis, num_rows)
        self.nonlocal_dual = _operator("nonlocal_dual", nonlocal_dual, num_rows)
        self.input_shape = self.lifting.input_shape
        self.reconstructs = self._check()

    def forward(
        self, signal: Inexact[Tensor, "*signal"]
    ) -> Inexact[Tensor, "*batch nonlocal local"]:
        """Analyze: correlate with the filters, then pool."""
        rows = self.lifting.times(signal, _like(self.local_basis, signal))
        return self.nonlocal_basis.adjoint(rows.mT).mT

    def adjoint(
        self, coefficients: Inexact[Tensor, "*batch nonlocal local"]
    ) -> Inexact[Tensor, "*signal"]:
        """Sum the framelets phi_i (*) conj(psi_j)."""
        rows = self.nonlocal_basis(coefficients.mT).mT
        return self.lifting.adjoint_of_factors(rows, _like(self.local_basis, coefficients))

    def inverse(
        self, coefficients: Inexact[Tensor, "*batch nonlocal local"]
    ) -> Inexact[Tensor, "*signal"]:
        """Synthesize with the duals, H^+ (Phi~ C Psi~*): inverts `forward` if `reconstructs`.

        Bases that span less give the signal of the projection Phi~ Phi* H(f) Psi Psi~* instead.
        """
        rows = self.nonlocal_dual(coefficients.mT).mT
        return self.lifting.pseudo_inverse_of_factors(rows, _like(self.local_dual, coefficients))

    def energy_concentration(
        self, signal: Inexact[Tensor, "*signal"], num_nonlocal: int, num_local: int
    ) -> Float[Tensor, "*batch"]:
        """Return the energy of the leading block of the coefficients over |H(f)|^2.

        It is a share, 1 at most and 1 for all of C, where both bases are orthonormal.

        Args:
            signal: f.
            num_nonlocal: Leading rows of C.
            num_local: Leading columns of C.

        Raises:
            ValueError: If a signal is zero: it has no shares.
        """
        block = self(signal)[..., :num_nonlocal, :num_local]
        counts = self.lifting.counts.to(signal.dtype.to_real())
        total = (counts * signal.abs().square()).flatten(-len(self.input_shape)).sum(-1)
        if (total == 0).any():
            raise ValueError("signal must not be zero: it has no energy to take shares of")
        return block.abs().square().sum((-2, -1)) / total

    def _check(self) -> bool:
        columns = torch.eye(len(self.local_basis), dtype=self.local_basis.dtype)
        columns = columns.to(self.local_basis.device)
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(self.lifting.num_rows, dtype=torch.float64, generator=generator)
        rows = rows.to(self.local_basis.device)
        tolerance = 1e3 * torch.finfo(self.local_basis.dtype).eps * len(columns)
        dtype = torch.promote_types(self.local_basis.dtype, self.local_dual.dtype)
        local_error = self.local_basis.to(dtype) @ self.local_dual.to(dtype).mH - columns
        nonlocal_error = self.nonlocal_dual(self.nonlocal_basis.adjoint(rows)) - rows
        return bool(
            torch.linalg.vector_norm(local_error) <= tolerance * len(columns) ** 0.5
            and torch.linalg.vector_norm(nonlocal_error)
            <= tolerance * torch.linalg.vector_norm(rows)
        )


def _operator(name: str, basis: Basis, num_rows: int) -> LinearOperator:
    operator = PositionMatrix(basis) if isinstance(basis, Tensor) else basis
    shape = operator.output_shape
    if shape is not None and shape != (num_rows,):
        raise ValueError(f"{name} must have values at {num_rows} positions, got {shape}")
    return operator


def _refuse_mixed_precision(**bases: LinearOperator | Tensor | None) -> None:
    dtypes = {name: basis.dtype for name, basis in bases.items() if isinstance(basis, Tensor)}
    if len({dtype.to_real() for dtype in dtypes.values()}) > 1:
        got = ", ".join(f"{name} in {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"bases must be of one precision, got {got}; convert them with .to(dtype)")


def _like(basis: Tensor, signal: Tensor) -> Tensor:
    dtype = signal.dtype.to_real()
    return basis.to(signal.device, dtype.to_complex() if basis.is_complex() else dtype)
