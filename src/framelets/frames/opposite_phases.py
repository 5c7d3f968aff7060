"""A network with ReLU that is exactly linear: every channel beside its negative.

With every value a the network also carries -a; ReLU keeps one of them in each place, and

    relu(a) - relu(-a) = a

gives the value back to the next layer, whose filters on the pair are (w, -w). So a linear network,
and with it its perfect reconstruction, can be had with ReLUs and twice the channels, for signals of
either sign [1]; in one layer these are the filters [Psi, -Psi] and [Psi~, -Psi~].

References:
    [1] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
"""

from dataclasses import replace

import torch
from torch import Tensor

from .encoder_decoder import EncoderDecoder
from .encoder_decoder_layer import Branch, EncoderDecoderLayer


def opposite_phases(network: EncoderDecoder) -> EncoderDecoder:
    """Give a linear network ReLUs everywhere but at the output, without changing what it computes.

    Args:
        network: Without ReLU, and without poolings that depend on the features.

    Returns:
        The network with opposite phases; its parameters are its own.

    Raises:
        ValueError: If the network has a ReLU or such a pooling.

    Example:
        >>> network = EncoderDecoder([EncoderDecoderLayer(Branch())], (3,))
        >>> signal = torch.tensor([[1.0, -2.0, 0.0]])
        >>> opposite_phases(network)(signal).tolist()
        [[1.0, -2.0, 0.0]]
    """
    held = network.at().layers  # refuses what depends on a signal
    layers = []
    for number, (layer, operators) in enumerate(zip(network.layers, held, strict=True)):
        top = number == 0

        def branch(plain: Branch, channels: int, coming_up: int, top: bool = top) -> Branch:
            bias = plain.encoder_bias
            return replace(
                plain,
                encoder_filters=_doubled(plain.encoder_filters, channels, network, not top, True),
                decoder_filters=_doubled(plain.decoder_filters, coming_up, network, True, not top),
                encoder_bias=None if bias is None else torch.cat([bias, -bias]).detach(),
                relu=True,
            )

        parts = zip((layer.main, *layer.skips), (operators.main, *operators.skips), strict=True)
        main, *skips = (
            branch(plain, placed.input_shape[0], placed.unpooled_channels)
            for plain, placed in parts
        )
        bias = layer.decoder_bias
        if bias is not None:
            bias = (bias if top else torch.cat([bias, -bias])).detach()
        layers.append(EncoderDecoderLayer(main, tuple(skips), bias, relu=not top))
    channels, *shape = network.input_shape
    return EncoderDecoder(
        layers, shape, in_channels=channels, padding=network.padding, origin=network.origin
    )


def _doubled(
    filters: Tensor | None, channels: int, network: EncoderDecoder, pairs_in: bool, pairs_out: bool
) -> Tensor:
    """Let filters take pairs of channels, or make them; None is an impulse on every channel."""
    if filters is None:
        num_axes = len(network.input_shape) - 1
        filters = torch.eye(channels, dtype=torch.float64).reshape(
            channels, channels, *[1] * num_axes
        )
    filters = filters.detach()
    if pairs_in:
        filters = torch.cat([filters, -filters], dim=1)
    return torch.cat([filters, -filters], dim=0) if pairs_out else filters
