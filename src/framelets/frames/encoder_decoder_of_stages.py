"""Write a trained network of convolution stages as an encoder-decoder of the theory.

A U-Net applies a stage of convolutions, each with a bias and ReLU, then pools, and hands the result
of the stage to the decoder, which concatenates it with what comes up. In the theory's layers that
is, from the top of the network down, for every level:

    one layer for each later convolution of the decoder's stage    E = I
    one layer for each convolution of the encoder's stage          D = I, no pooling
    one layer with the pooling, filters psi = impulses, a skip     D, S~: the decoder's first
                                                                   convolution, cut by its inputs

and below them one layer with D = I for each convolution of the bottom stage. Evaluated batch
normalization goes into the convolution before it.

What goes down may be one map of each, or the low-pass subband of a filter bank, whose other
subbands become skips of their own (the tight-frame U-Net). A dual frame, which subtracts what went
down before un-pooling, A* (b - A s), is a second skip, of A s un-pooled by -A*, with the decoder
filters of the main branch.

The reading of U-Nets as layers of [1] is ours; [1] has one convolution a layer, before the pooling.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Iterable, Sequence

from torch import nn

from framelets.core import LinearOperator

from ._convolution_stages import StageConvolution, convolutions_of, padding_of
from .encoder_decoder import EncoderDecoder
from .encoder_decoder_layer import Branch, EncoderDecoderLayer, PoolingAt, decoder_filters_of
from .haar_filter_bank import HaarFilterBank


def encoder_decoder_of_stages(
    encoders: Iterable[nn.Module],
    bottom: nn.Module,
    decoders: Iterable[nn.Module],
    last: nn.Module | None = None,
    *,
    shape: Sequence[int],
    pooling: LinearOperator | PoolingAt,
    unpooling: LinearOperator | None = None,
    subtract: bool = False,
    residual: bool = False,
) -> EncoderDecoder:
    """Read the stages of a U-Net; the result computes the same, as a network of the theory.

    Stages hold convolutions of stride 1 and odd sizes that keep the size, ReLU, batch normalization
    in evaluation and what does nothing, as torch has them, in plain Sequentials. Decoders take the
    skip first, then what comes up. Weights are copied.

    Args:
        encoders: One stage a level, the finest first, such as a ModuleList of Sequentials.
        bottom: The stage at the lowest resolution.
        decoders: One stage a level, the finest first.
        last: A convolution, or stage, after the finest decoder.
        shape: Positions of the input: 64 x 64, say. Every level must be poolable.
        pooling: From each encoder to the next; a `HaarFilterBank` hands its high subbands to the
            decoder, after what comes up. `MaxPooling` is taken at the features.
        unpooling: Default: the adjoint of the pooling. Not for a `HaarFilterBank`.
        subtract: Whether what went down is subtracted before un-pooling, as in the dual frame. Not
            for a `HaarFilterBank`.
        residual: Whether the network gives its input minus what the last convolution makes.

    Raises:
        ValueError: If a stage holds anything else, or the channels do not fit.

    Example:
        >>> from framelets.frames import AveragePooling
        >>> def stage(*channels):
        ...     return nn.Conv2d(*channels, 3, padding=1)
        >>> network = encoder_decoder_of_stages(
        ...     [stage(1, 2)], stage(2, 2), [stage(4, 1)], shape=(4, 4), pooling=AveragePooling()
        ... )
        >>> network.at().coefficient_shapes
        [(2, 2, 2), (2, 4, 4)]
    """
    encoder_stages = [convolutions_of(stage) for stage in encoders]
    decoder_stages = [convolutions_of(stage) for stage in decoders]
    bottom_stage = convolutions_of(bottom)
    last_stage = [] if last is None else convolutions_of(last)
    if len(encoder_stages) != len(decoder_stages) or not encoder_stages:
        raise ValueError(
            "encoders and decoders must have one stage a level each, got "
            f"{len(encoder_stages)} and {len(decoder_stages)}"
        )
    if not all([*encoder_stages, *decoder_stages, bottom_stage]):
        raise ValueError("every stage of encoders, bottom and decoders must have a convolution")
    if subtract and not isinstance(pooling, LinearOperator):
        raise ValueError("subtract=True needs a pooling that does not depend on the features")
    if isinstance(pooling, HaarFilterBank) and (subtract or unpooling is not None):
        raise ValueError(
            "a HaarFilterBank must have no unpooling and no subtract=True, got "
            f"{'subtract=True' if subtract else 'an unpooling'}: its subbands are put together by "
            "their adjoints; take its low-pass subband alone, pooling=bank.subbands[0]"
        )
    everything = [last_stage, *encoder_stages, *decoder_stages, bottom_stage]
    padding = padding_of([convolution for stage in everything for convolution in stage])

    layers = [_decoder_layer(convolution) for convolution in reversed(last_stage)]
    for encoder, decoder in zip(encoder_stages, decoder_stages, strict=True):
        layers += [_decoder_layer(convolution) for convolution in reversed(decoder[1:])]
        layers += [_encoder_layer(convolution) for convolution in encoder]
        channels = encoder[-1].weight.shape[0]
        layers.append(_level(decoder[0], channels, pooling, unpooling, subtract))
    layers += [_encoder_layer(convolution) for convolution in bottom_stage]
    if residual:
        layers[0] = _subtracted(layers[0])
    in_channels = encoder_stages[0][0].weight.shape[1]
    return EncoderDecoder(layers, shape, in_channels=in_channels, padding=padding, origin="center")


def _encoder_layer(convolution: StageConvolution) -> EncoderDecoderLayer:
    return EncoderDecoderLayer(
        Branch(convolution.weight, encoder_bias=convolution.bias, relu=convolution.relu)
    )


def _decoder_layer(convolution: StageConvolution) -> EncoderDecoderLayer:
    filters = decoder_filters_of(convolution.weight)
    return EncoderDecoderLayer(
        Branch(decoder_filters=filters), (), convolution.bias, convolution.relu
    )


def _level(
    convolution: StageConvolution,
    channels: int,
    pooling: LinearOperator | PoolingAt,
    unpooling: LinearOperator | None,
    subtract: bool,
) -> EncoderDecoderLayer:
    filters = decoder_filters_of(convolution.weight)
    skip, below = filters[:, :channels], filters[:, channels:]
    skips = [Branch(decoder_filters=skip)]
    if isinstance(pooling, HaarFilterBank):
        low, *high = pooling.subbands
        num_below = below.shape[1] - len(high) * channels
        if num_below < 1:
            raise ValueError(
                f"decoders must take the skip of {channels} channels, what comes up, and as many "
                f"for each of the {len(high)} high subbands, got {filters.shape[1]} channels"
            )
        main = Branch(decoder_filters=below[:, :num_below], pooling=low)
        parts = below[:, num_below:].split(channels, dim=1)
        skips += [Branch(None, part, band) for part, band in zip(parts, high, strict=True)]
    else:
        main = Branch(None, below, pooling, unpooling)
        if subtract and isinstance(pooling, LinearOperator):
            back = pooling.H if unpooling is None else unpooling
            skips.append(Branch(None, below, pooling, -back))
    return EncoderDecoderLayer(main, tuple(skips), convolution.bias, convolution.relu)


def _subtracted(layer: EncoderDecoderLayer) -> EncoderDecoderLayer:
    """Turn the output of the top layer around and add the input."""
    filters, bias = layer.main.decoder_filters, layer.decoder_bias
    if filters is None or layer.relu or layer.skips:
        raise ValueError("residual=True needs `last` to be a convolution without ReLU")
    main = Branch(decoder_filters=-filters)
    return EncoderDecoderLayer(main, (Branch(),), None if bias is None else -bias)
