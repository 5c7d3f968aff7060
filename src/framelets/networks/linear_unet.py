"""The U-Net made linear: what its poolings do to an image when nothing is learned."""

import torch
from torch import nn

from framelets.frames import AveragePooling, DualFrameSynthesis

from .unet import UNet


def linear_unet(
    pooling: str = "average",
    depth: int = 1,
    pooling_normalization: str = "orthonormal",
    *,
    dtype: torch.dtype = torch.float32,
) -> UNet:
    """Build a U-Net without ReLU and normalization, whose filters pass the image on.

    Every filter is the unit impulse on the first channel, and those behind a concatenation weigh
    skip and branches as the frame wants it. At depth 1, with P = Phi Phi^T, it gives for an image f

        average        f + P f (orthonormal) or f + P f / 4 (mean): low frequencies twice
        max            f + N M(f), N un-pooling by copies
        dual-frame     f, weights 1 and 1 / (1 + c) for Phi^T Phi = c I
        tight-frame    f, weights 1/2 for the skip and for each of the four subbands

    and at any depth the dual-frame and the tight-frame network are the identity.

    Args:
        pooling: As for `UNet`.
        depth: Number of poolings.
        pooling_normalization: As for `UNet`.
        dtype: Of the weights, which float32 rounds (4/5 for the mean dual frame), and of images.

    Raises:
        ValueError: If a choice is unknown or the depth not positive.

    Example:
        >>> linear_unet("average")(torch.ones(1, 1, 2, 2)).flatten().tolist()
        [2.0, 2.0, 2.0, 2.0]
    """
    network = UNet(
        width=1,
        depth=depth,
        pooling=pooling,
        bias_free=True,
        normalization="none",
        pooling_normalization=pooling_normalization,
    ).to(dtype)
    skip_weight, branch_weight = 1.0, 1.0
    if pooling == "tight-frame":
        skip_weight, branch_weight = 0.5, 0.5
    if pooling == "dual-frame":
        gain = DualFrameSynthesis(AveragePooling(pooling_normalization)).gain
        branch_weight = 1 / (1 + gain)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                module.weight[0, 0, *(size // 2 for size in module.kernel_size)] = 1
        for i in range(depth):
            first = network.decoders[i].get_submodule("convolution_0").get_parameter("weight")
            first[0, 0, 1, 1] = skip_weight
            channels = 2**i  # of the skip, and of each branch
            first[0, channels::channels, 1, 1] = branch_weight
    for stage in (*network.encoders, network.bottom, *network.decoders):
        for name, layer in stage.named_children():
            if isinstance(layer, nn.ReLU):
                setattr(stage, name, nn.Identity())
    return network
