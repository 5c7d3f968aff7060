"""Deep convolutional framelets with sparse coefficients, trained.

The untrained network reconstructs perfectly but for its soft thresholds, which stand for the l1
penalty of compressed sensing (see `networks.DeepConvolutionFramelets`); filters, dual filters and
thresholds are trained together. With thresholds for units it is piecewise linear.
"""

from functools import partial

from torch import nn

from framelets.machines.network_machine import NetworkMachine
from framelets.networks import DeepConvolutionFramelets, FrameletLayer


def deep_framelet_machine(
    num_layers: int = 2,
    threshold: float = 0.05,
    num_steps: int = 600,
    learning_rate: float = 5e-3,
) -> NetworkMachine:
    """Return deep convolutional framelets: 3x3 windows, then 2x2, with Haar subbands around.

    Args:
        num_layers: Layers, each with four times as many channels as the one before.
        threshold: First value of all thresholds, in the unit of the images.
        num_steps: Training steps.
        learning_rate: Peak learning rate.

    Raises:
        ValueError: If there is no layer.
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    build = partial(_build, num_layers, threshold)
    # Windows reach one way in the analysis and back in the synthesis, poolings over their block.
    reach = 2 + sum(2**layer for layer in range(1, num_layers)) + 2**num_layers - 1
    return NetworkMachine(build, reach, num_steps, learning_rate)


def _build(num_layers: int, threshold: float) -> nn.Module:
    windows = [(3, 3)] + [(2, 2)] * (num_layers - 1)
    layers = [FrameletLayer(window, "dct", "haar") for window in windows]
    return DeepConvolutionFramelets(layers, threshold=threshold)
