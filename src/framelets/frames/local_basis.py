"""Local bases: filters on the taps of a window, as the columns of a matrix.

The matrices act on the columns of a Hankel matrix from the right, H(f) Psi, and are `tap tap` or
`tap filter`. A set of filters Psi reconstructs with the filters Psi~ where Psi Psi~* = I, the
filter condition of [1]; orthonormal bases are their own dual.

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

from ._right_singular import right_singular
from .hankel_lifting import HankelLifting
from .separable_basis import SeparableBasis


def dct_local_basis(window: Sequence[int]) -> Float[Tensor, "tap tap"]:
    """Return the cosines of the DCT-II on a window, sorted from coarse to fine."""
    return _matrix("dct", window)


def haar_local_basis(window: Sequence[int]) -> Float[Tensor, "tap tap"]:
    """Return the Haar functions on a window, sorted from coarse to fine.

    Raises:
        ValueError: If a size of the window is not a power of two.
    """
    return _matrix("haar", window)


def pca_local_basis(
    lifting: HankelLifting, signals: Inexact[Tensor, "*signals"]
) -> Inexact[Tensor, "column column"]:
    """Return the principal components of all windows, sorted by their energy.

    They are the right singular vectors of H(f), or those of the matrices of several signals one
    below the other. The mean is not subtracted. Matrices of more than 16 MB (together, components
    included) are not formed: the components then come from H* H, and those with singular values
    below about 1e-8 of the largest are any orthonormal basis of the rest.

    Args:
        lifting: Window and boundary.
        signals: One or more signals, `*batch [channel] *shape`; all batch axes are pooled.
    """
    return right_singular(lifting, signals, together=True).vectors.to(signals.dtype)


def concentrating_local_basis(
    lifting: HankelLifting,
    signal: Inexact[Tensor, "*signal"],
    nonlocal_vectors: Inexact[Tensor, "row num"],
) -> Inexact[Tensor, "*batch column column"]:
    """Return the local basis that suits given non-local vectors best, after [2].

    They are the right singular vectors of Phi_E* H(f): of all orthonormal bases this one packs the
    most energy of the coefficients Phi_E* H(f) Psi into the leading r filters, for every r.

    Args:
        lifting: Window and boundary.
        signal: f.
        nonlocal_vectors: Phi_E, a few orthonormal columns.
    """
    transposed = lifting.adjoint_times(signal, nonlocal_vectors)
    basis: Tensor = torch.linalg.svd(transposed, full_matrices=True).U
    return basis


def dual_filters(filters: Inexact[Tensor, "tap filter"]) -> Inexact[Tensor, "tap filter"]:
    """Return the canonical dual Psi~ = (Psi Psi*)^-1 Psi of given filters: Psi Psi~* = I.

    Raises:
        ValueError: If the filters do not span all taps.

    Example:
        >>> dual_filters(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])).round(decimals=3)
        tensor([[0.5000, 0.0000, 0.0000],
                [0.0000, 0.5000, 0.5000]])
    """
    num_taps = filters.shape[0]
    rank = int(torch.linalg.matrix_rank(filters))
    if rank < num_taps:
        raise ValueError(
            f"filters must span all {num_taps} taps, got rank {rank} from {filters.shape[1]} "
            "filters; add filters, or accept the projection onto their span"
        )
    dual: Tensor = torch.linalg.pinv(filters).mH.resolve_conj()
    return dual


def _matrix(name: str, window: Sequence[int]) -> Float[Tensor, "tap tap"]:
    return SeparableBasis(name, window).to_matrix()
