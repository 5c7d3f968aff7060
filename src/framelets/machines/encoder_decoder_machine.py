"""Deep encoder-decoder: the U-Net without biases and normalization, started as the identity.

Without biases and normalizations the network is f(x) = B~(x) B(x)^T x exactly, with no offset [1].

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from functools import partial

from framelets.machines.network_machine import NetworkMachine
from framelets.networks import UNet


def encoder_decoder_machine(
    width: int = 8,
    depth: int = 2,
    num_steps: int = 1500,
    learning_rate: float = 5e-3,
) -> NetworkMachine:
    """Return a U-Net that is trained to denoise.

    Args:
        width: Channels of the finest level.
        depth: Number of poolings.
        num_steps: Training steps.
        learning_rate: Peak learning rate.
    """
    build = partial(
        UNet, width=width, depth=depth, normalization="none", bias_free=True, init="identity"
    )
    # Four 3x3 convolutions a level but for two at the bottom, and blocks that may lie to one side.
    reach = sum(4 * 2**level for level in range(depth)) + 3 * 2**depth - 1
    return NetworkMachine(build, reach, num_steps, learning_rate)
