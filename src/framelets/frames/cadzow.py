"""One step of Cadzow's method: the nearest matrix of low rank, then the nearest Hankel matrix.

    f -> H^+ (U_r S_r V_r*) = H^+ (H(f) V_r V_r*)

with the r largest singular values of H(f). It is what a layer of an encoder-decoder network does
whose r filters are the leading right singular vectors [2]: the number of channels is the rank.

References:
    [1] J. A. Cadzow, "Signal enhancement: a composite property mapping algorithm", IEEE Trans.
        Acoustics, Speech and Signal Processing 36(1), 1988.
    [2] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
"""

from collections.abc import Sequence

from jaxtyping import Inexact
from torch import Tensor

from ._right_singular import right_singular
from .hankel_lifting import HankelLifting


def cadzow_step(
    signal: Inexact[Tensor, "*signal"],
    window: Sequence[int],
    rank: int,
    *,
    num_channels: int | None = None,
    boundary: str = "wrap",
) -> Inexact[Tensor, "*signal"]:
    """Keep the r largest singular values of the Hankel matrix, and read the signal out again.

    A signal whose matrix has rank r or less comes back as it is. Matrices of more than 16 MB (those
    of all signals together, right singular vectors included) are not formed: V_r then comes from
    H* H, which keeps nothing of singular values below about 1e-8 of the largest.

    Args:
        signal: One signal or a batch of them, `*batch [channel] *shape`.
        window: Taps along each axis of the shape.
        rank: r.
        num_channels: None for signals without a channel axis.
        boundary: "wrap" or "valid".

    Raises:
        ValueError: If the rank is out of range, or the window does not fit the signal.
    """
    shape = signal.shape[max(0, signal.ndim - len(window)) :]
    lifting = HankelLifting(shape, window, num_channels=num_channels, boundary=boundary)
    if not 1 <= rank <= lifting.num_columns:
        raise ValueError(f"rank must be 1 to {lifting.num_columns}, got {rank}")
    leading = right_singular(lifting, signal).vectors[..., :rank].to(signal.dtype)
    return lifting.pseudo_inverse_of_factors(lifting.times(signal, leading), leading)
