"""Weights that make an untrained U-Net give its input back.

The widths of the U-Net cannot hold the r q channels that would make every level reconstruct
perfectly [1], and nothing but one path need do so. The skip of the finest level carries each input
channel as a pair, +x and -x, of which ReLU keeps one and stops the other [1]:

    x = relu(x) - relu(-x)

The pair passes both encoder convolutions, the skip and both decoder convolutions by unit impulses,
and the last layer subtracts it; its weights on all other features are zero. That the pair runs on
the skip of a network with random filters otherwise is our choice, not the published one.

References:
    [1] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
"""

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def start_as_identity(stages: Sequence[nn.Module], last: nn.Conv2d, channels: int) -> None:
    """Overwrite the filters of 2 `channels` features, so that the pair passes all stages.

    Args:
        stages: The stages on the way of the finest skip; in each, the features of the pair come
            first, as in its input.
        last: The layer that ends the network.
        channels: Channels of the image.
    """
    convolutions = [
        module for stage in stages for module in stage.modules() if isinstance(module, nn.Conv2d)
    ]
    unit = torch.eye(channels)
    pair = torch.cat([unit, -unit])
    for i, convolution in enumerate(convolutions):
        # The first convolution makes the pair, the others hand it on.
        _pass_on(convolution, pair if i == 0 else torch.eye(2 * channels))
    silence(last)
    _pass_on(last, pair.mT)


@torch.no_grad()
def silence(convolution: nn.Conv2d) -> None:
    """Set a layer to zero."""
    for parameter in convolution.parameters():
        parameter.zero_()


def _pass_on(convolution: nn.Conv2d, matrix: torch.Tensor) -> None:
    """Let a matrix act on the first input channels, pixel by pixel, to make the first outputs."""
    outputs, inputs = matrix.shape
    weight = convolution.weight
    weight[:outputs] = 0
    weight[:outputs, :inputs, weight.shape[2] // 2, weight.shape[3] // 2] = matrix.to(weight)
    if convolution.bias is not None:
        convolution.bias[:outputs] = 0
