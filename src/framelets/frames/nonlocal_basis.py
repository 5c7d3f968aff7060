"""Non-local bases: functions on the positions of a Hankel matrix, as the columns of Phi.

They act on the rows, Phi* H(f). The identity (`framelets.core.Identity`) leaves every window as it
is; cosines and Haar functions know the place of a window and not what it looks like; singular
vectors and the modes of a graph of windows [1] are made from the signal itself.

References:
    [1] R. Yin, T. Gao, Y. M. Lu and I. Daubechies, "A tale of two bases: local-nonlocal
        regularization on image patches with convolution framelets", SIAM J. Imaging Sciences 10(2),
        2017.
"""

import torch
from jaxtyping import Inexact
from torch import Tensor

from .hankel_lifting import HankelLifting
from .separable_basis import SeparableBasis


def dct_nonlocal_basis(lifting: HankelLifting) -> SeparableBasis:
    """Return the cosines of the DCT-II on the grid of positions, from coarse to fine."""
    return SeparableBasis("dct", lifting.positions)


def haar_nonlocal_basis(lifting: HankelLifting) -> SeparableBasis:
    """Return the Haar functions on the grid of positions, from coarse to fine.

    Raises:
        ValueError: If a size of the grid is not a power of two.
    """
    return SeparableBasis("haar", lifting.positions)


def svd_nonlocal_basis(
    lifting: HankelLifting, signal: Inexact[Tensor, "*signal"], num: int | None = None
) -> Inexact[Tensor, "row num"]:
    """Return the left singular vectors of H(f), largest singular value first.

    Args:
        lifting: Window and boundary.
        signal: f, without batch axes.
        num: How many; default: as many as there are rows, those of no singular value included,
            which forms the matrix.

    Raises:
        ValueError: If there are not so many singular values.
    """
    if num is None:
        left: Tensor = torch.linalg.svd(lifting(signal), full_matrices=True).U
        return left
    most = min(lifting.output_shape)
    if not 1 <= num <= most:
        raise ValueError(f"num must be 1 to {most}, the number of singular values, got {num}")
    right = lifting.matrix(signal).right_singular_vectors(num)
    # H v_j = s_j u_j, up to rounding: small s_j leave directions that are not orthogonal any more.
    vectors: Tensor
    vectors, triangle = torch.linalg.qr(lifting.times(signal, right))
    phases = triangle.diagonal().sgn()
    return vectors * torch.where(phases == 0, torch.ones_like(phases), phases)
