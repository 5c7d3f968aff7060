"""What a layer of an encoder-decoder is made of, as a reader of the theory would write it down.

A branch filters a signal and pools it on the way down, and un-pools and filters it on the way up:

    down    c = relu( Phi^T (sum_k z_k * flip(psi_jk) + bias_j) ),   one map for each channel j
    up      sum_k (Phi~ c_k) * psi~_jk

A layer has a main branch, whose coefficients go on to the next layer, and any number of skips,
whose coefficients wait for the decoder. On the way up the branches are added, then comes a bias,
then ReLU. In [1] every layer has at most one skip, without pooling; nothing has a bias, everything
a ReLU but the last decoder.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from framelets.core import LinearOperator

PoolingAt = Callable[[Tensor], LinearOperator]
"""A pooling that depends on the features, as the class `MaxPooling` does."""


@dataclass(frozen=True, eq=False)
class Branch:
    """One way through a layer, down and up.

    Poolings act on positions, each map by itself. A pooling may make several maps of one, as
    `HaarFilterBank` does; they then count as channels, in the order (channel, map).

    Attributes:
        encoder_filters: psi, indexed (output channel, input channel, taps); None: the signal as it
            is.
        decoder_filters: psi~, likewise; None: as it is. The weight of a convolution layer is turned
            around, see `decoder_filters_of`.
        pooling: Phi^T, from fine to coarse; an operator, for one axis also its matrix. Given as a
            class or function of the features, such as `MaxPooling`, it is taken at the features.
            None: no pooling.
        unpooling: Phi~, from coarse to fine; None: the adjoint of the pooling.
        encoder_bias: One number for each channel that the encoder filters make.
        relu: Whether ReLU follows the pooling.
    """

    encoder_filters: Float[Tensor, "out_channels in_channels *_"] | None = None
    decoder_filters: Float[Tensor, "decoded_channels unpooled_channels *_"] | None = None
    pooling: LinearOperator | Tensor | PoolingAt | None = None
    unpooling: LinearOperator | Tensor | None = None
    encoder_bias: Float[Tensor, " out_channels"] | None = None
    relu: bool = False


@dataclass(frozen=True, eq=False)
class EncoderDecoderLayer:
    """A layer: the branch that goes on to the next one, and the skips around it.

    Attributes:
        main: The branch through all layers below.
        skips: Branches straight to the decoder.
        decoder_bias: One number for each channel that the decoder makes.
        relu: Whether ReLU ends the decoder of this layer.
    """

    main: Branch
    skips: tuple[Branch, ...] = ()
    decoder_bias: Float[Tensor, " channels"] | None = None
    relu: bool = False


def decoder_filters_of(
    weight: Float[Tensor, "out_channels in_channels *taps"],
) -> Float[Tensor, "out_channels in_channels *taps"]:
    """Turn the weight of a convolution layer, which correlates, into filters psi~ of a decoder.

    With the center as origin this is the layer for odd numbers of taps alone: turning an even
    number around moves the tap that stands at the sample. Put a zero in front of it first.

    Example:
        >>> import torch
        >>> decoder_filters_of(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist()
        [[[3.0, 2.0, 1.0]]]
    """
    return weight.flip(*range(2, weight.ndim))
