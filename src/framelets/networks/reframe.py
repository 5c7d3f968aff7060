"""Carry the weights of a network over to one whose poolings are a dual frame or a tight frame."""

import copy
from typing import Any

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from framelets.core import refuse_unknown

from .reframed import FORMS, Reframed
from .unet import UNet


def reframe(
    network: nn.Module, form: str, example: Inexact[Tensor, "batch channel *space"]
) -> nn.Module:
    """Return a network whose poolings are completed, with the weights carried over.

    A `UNet` of this package with average pooling becomes one with the other pooling, also inside
    another network; every other network is wrapped in `Reframed`. A tight frame computes what the
    network computed, a dual frame does not: see there.

    Args:
        network: The network, which stays as it is.
        form: "dual-frame" or "tight-frame".
        example: An input of the network.

    Raises:
        ValueError: If the form is unknown, or the network cannot be rewritten.
    """
    refuse_unknown("form", form, FORMS)
    if isinstance(network, UNet) and network.pooling in FORMS:
        raise ValueError(f"network is a {network.pooling} U-Net already; there is nothing to fix")
    if isinstance(network, UNet) and network.pooling == "average":
        return with_pooling(network, form)
    copied = copy.deepcopy(network)
    parts = [
        (name, module)
        for name, module in copied.named_modules()
        if isinstance(module, UNet) and module.pooling == "average"
    ]
    for name, module in parts:
        copied.set_submodule(name, with_pooling(module, form))
    return copied if parts else Reframed(copied, form, example)


@torch.no_grad()
def with_pooling(network: UNet, pooling: str) -> UNet:
    """Return a U-Net of other pooling with the weights of one with average pooling.

    With "tight-frame" it computes the same: the filters of the new branches are zero. The Haar
    subband LL is the average times a number r (2 for the mean, 1 for the orthonormal average), and
    its adjoint r times that of the average: filters that read either are divided by r.

    Args:
        network: A U-Net with average pooling.
        pooling: "dual-frame" or "tight-frame".

    Raises:
        ValueError: If the network has another pooling.
    """
    refuse_unknown("pooling of the network", network.pooling, ["average"])
    refuse_unknown("pooling", pooling, FORMS)
    arguments = arguments_of(network)
    made = UNet(**(arguments | {"pooling": pooling}))
    state = network.state_dict()
    if pooling == "tight-frame":
        factor = 2.0 if arguments["pooling_normalization"] == "mean" else 1.0
        first = "convolution_0.weight"
        for name in [
            f"bottom.{first}",
            *(f"encoders.{i}.{first}" for i in range(1, network.depth)),
        ]:
            state[name] = state[name] / factor
        for i in range(network.depth):
            name = f"decoders.{i}.{first}"
            skip, low = state[name].chunk(2, dim=1)
            state[name] = torch.cat([skip, low / factor, *[torch.zeros_like(low)] * 3], dim=1)
    some = next(network.parameters())
    made.to(device=some.device, dtype=some.dtype).load_state_dict(state)
    for new, old in zip(made.parameters(), network.parameters(), strict=True):
        new.requires_grad_(old.requires_grad)
    return made.train(network.training)


def arguments_of(network: UNet) -> dict[str, Any]:
    """Return the arguments that make a U-Net like this one, before its weights are loaded."""
    layer = getattr(network.poolings[0], "layer", None)
    return {
        "in_channels": network.in_channels,
        "out_channels": network.last.out_channels,
        "width": network.last.in_channels,
        "depth": network.depth,
        "pooling": network.pooling,
        "residual": network.residual,
        "bias_free": network.bias_free,
        "normalization": network.normalization,
        "pooling_normalization": getattr(layer, "normalization", "mean"),
    }
