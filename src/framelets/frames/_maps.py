"""What the frames of this room share: images as stacks of maps, in blocks of 2x2 pixels."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Inexact
from torch import Tensor, nn


def refuse_odd(image: Tensor) -> None:
    """Raise unless the last two axes of an image are even."""
    if image.ndim < 2 or any(size % 2 for size in image.shape[-2:]):
        raise ValueError(
            "image must have shape (*batch, height, width) with even height and width, "
            f"got {tuple(image.shape)}; pad or crop it first"
        )


def on_maps(
    function: Callable[[Tensor], Tensor], image: Inexact[Tensor, "*batch height width"]
) -> Inexact[Tensor, "*batch rows columns"]:
    """Apply a real, linear function of `batch channel height width` to each map of an image.

    Four axes pass as they are, so that a channels-last tensor stays one.
    """
    if image.is_complex():
        return torch.complex(on_maps(function, image.real), on_maps(function, image.imag))
    if image.ndim == 4:
        return function(image)
    *batch, height, width = image.shape
    maps = function(image.reshape(math.prod(batch), 1, height, width))
    return maps.reshape(*batch, *maps.shape[-2:])


def to_phases(
    image: Inexact[Tensor, "*batch height width"],
) -> Inexact[Tensor, "*batch 4 height//2 width//2"]:
    """Sort the pixels of an image by their place in the 2x2 block, row by row."""
    return nn.functional.pixel_unshuffle(image.contiguous().unsqueeze(-3), downscale_factor=2)


def from_phases(
    phases: Inexact[Tensor, "*batch 4 rows columns"],
) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
    """Invert `to_phases`."""
    return nn.functional.pixel_shuffle(phases.contiguous(), upscale_factor=2).squeeze(-3)
