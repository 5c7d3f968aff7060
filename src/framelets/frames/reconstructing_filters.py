"""Decoder filters that reconstruct: the filter condition, solved for Psi~.

Psi Psi~^T = I / (r gain), for r taps, needs as many filters as Psi has rows, taps times input
channels [1]; of all solutions this is the canonical dual over r times gain.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from math import isfinite, prod

import torch
from jaxtyping import Float
from torch import Tensor

from ._filter_algebra import stacked_encoder
from .local_basis import dual_filters


def reconstructing_filters(
    encoder_filters: Float[Tensor, "channels in_channels *taps"], gain: float
) -> Float[Tensor, "in_channels channels *taps"]:
    """Find decoder filters that satisfy the filter condition: the dual of Psi over r times gain.

    Args:
        encoder_filters: psi, with at least as many output channels as input channels times taps.
        gain: alpha, or with a skip of the same filters alpha + 1; not 0.

    Raises:
        ValueError: If the gain is 0 or not finite, or the filters do not span all taps of all input
            channels: there are none then.

    Example:
        >>> psi = torch.tensor([[[1.0, 0.0]], [[0.0, 4.0]]])
        >>> reconstructing_filters(psi, gain=1.0).tolist()
        [[[0.5, 0.0], [0.0, 0.125]]]
    """
    if not (isfinite(gain) and gain != 0):
        raise ValueError(
            f"gain must be finite and not 0, got {gain}: no filters bring back what is lost"
        )
    channels, in_channels, *taps = encoder_filters.shape
    dual = dual_filters(stacked_encoder(encoder_filters)) / (prod(taps) * gain)
    filters: Tensor = torch.unflatten(dual, 0, (in_channels, -1)).transpose(1, 2)
    return filters.reshape(in_channels, channels, *taps)
