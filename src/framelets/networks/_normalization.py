"""Normalization layers of the U-Net, with and without additive terms.

A bias-free layer divides by the standard deviation alone: it subtracts no mean, learns no shift,
and adds its epsilon outside the root, so that a network of such layers has no offset [1].

References:
    [1] S. Mohan, Z. Kadkhodaie, E. P. Simoncelli and C. Fernandez-Granda, "Robust and interpretable
        blind image denoising via bias-free convolutional neural networks", ICLR 2020.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

_GROUP_SIZE = 8
_EPSILON = 1e-5


def group_size(normalization: str, channels: int) -> int:
    """Count the channels that share one mean and one standard deviation in a sample."""
    return math.gcd(channels, _GROUP_SIZE) if normalization == "group" else 1


class BiasFreeBatchNorm(nn.Module):
    """Divide each channel by its standard deviation: the batch's in training, else a running one.

    In evaluation the layer is linear and fixed.
    """

    running_std: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_std", torch.ones(channels))

    def forward(
        self, features: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Return weight * features / (std + epsilon)."""
        std = self.running_std
        if self.training:
            std = features.std((0, 2, 3), correction=0)
            with torch.no_grad():
                self.running_std.lerp_(std, self.momentum)
        return features * (self.weight / (std + _EPSILON))[:, None, None]


class BiasFreeGroupNorm(nn.Module):
    """Divide each group of channels, sample by sample, by its standard deviation."""

    def __init__(self, num_groups: int, channels: int) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(
        self, features: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Return weight * features / (std + epsilon)."""
        groups = torch.unflatten(features, 1, (self.num_groups, -1))
        std = groups.std((2, 3, 4), correction=0, keepdim=True)
        return (groups / (std + _EPSILON)).flatten(1, 2) * self.weight[:, None, None]


def _batch(channels: int, bias_free: bool) -> nn.Module:
    return BiasFreeBatchNorm(channels) if bias_free else nn.BatchNorm2d(channels)


def _group(channels: int, bias_free: bool) -> nn.Module:
    num_groups = channels // group_size("group", channels)
    if bias_free:
        return BiasFreeGroupNorm(num_groups, channels)
    return nn.GroupNorm(num_groups, channels)


def _instance(channels: int, bias_free: bool) -> nn.Module:
    # One channel a group: the same values as nn.InstanceNorm2d, which breaks channels-last.
    if bias_free:
        return BiasFreeGroupNorm(channels, channels)
    return nn.GroupNorm(channels, channels)


def _none(channels: int, bias_free: bool) -> nn.Module:  # noqa: ARG001 (one signature for all)
    return nn.Identity()


NORMALIZATIONS: dict[str, Callable[[int, bool], nn.Module]] = {
    "batch": _batch,
    "group": _group,
    "instance": _instance,
    "none": _none,
}
