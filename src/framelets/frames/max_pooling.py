"""Max pooling at an image: near that image it is linear, a selection of one pixel per block."""

import math

from jaxtyping import Float, Inexact
from torch import Tensor, nn

from framelets.core import LinearOperator

from ._maps import refuse_odd


class MaxPooling(LinearOperator):
    """Select from every 2x2 block the pixel that was the largest in a given image.

    At the image itself M x is max pooling, and near it too, as long as no other pixel of a block
    becomes the largest. Orthonormal rows: M M* = I, and M* M is the projection onto the pixels
    selected. Of equal pixels the first in row order is selected.

    Args:
        image: Real, with even height and width. Axes before them, such as channels, belong to the
            image: each map has its own selection.

    Raises:
        ValueError: If the image has fewer than two axes, an odd height or width, or a NaN.

    Example:
        >>> import torch
        >>> image = torch.tensor([[1.0, 4.0], [3.0, 2.0]])
        >>> MaxPooling(image).adjoint(torch.tensor([[5.0]])).tolist()
        [[0.0, 5.0], [0.0, 0.0]]
    """

    _places: Tensor
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __init__(self, image: Float[Tensor, "*batch height width"]) -> None:
        """Find the largest pixels."""
        super().__init__()
        refuse_odd(image)
        if image.isnan().any():
            raise ValueError("image must be free of NaN to have a largest pixel in every block")
        *batch, height, width = image.shape
        maps = image.detach().reshape(1, math.prod(batch), height, width)
        _, places = nn.functional.max_pool2d(maps, 2, return_indices=True)
        self.register_buffer("_places", places.reshape(*batch, -1), persistent=False)
        self.input_shape = (*batch, height, width)
        self.output_shape = (*batch, height // 2, width // 2)

    def forward(
        self, image: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch height//2 width//2"]:
        """Select the pixels.

        Raises:
            ValueError: If the image does not end in the shape that the operator was made with.
        """
        batch = self._batch("image", image, self.input_shape)
        pixels = image.flatten(-2)
        selected = pixels.gather(-1, self._places.expand(*batch, *self._places.shape))
        return selected.reshape(*batch, *self.output_shape)

    def adjoint(
        self, pooled: Inexact[Tensor, "*batch rows columns"]
    ) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
        """Put each value back where it was selected; the other pixels are 0.

        Raises:
            ValueError: If the maps do not end in the pooled shape.
        """
        batch = self._batch("pooled", pooled, self.output_shape)
        *maps, height, width = self.input_shape
        zeros = pooled.new_zeros(*batch, *maps, height * width)
        places = self._places.expand(*batch, *self._places.shape)
        return zeros.scatter(-1, places, pooled.flatten(-2)).reshape(*batch, *self.input_shape)

    def _batch(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
        num_axes = tensor.ndim - len(shape)
        if num_axes < 0 or tuple(tensor.shape[num_axes:]) != shape:
            raise ValueError(
                f"{name} must have shape (*batch, {', '.join(map(str, shape))}), as the image "
                f"that max pooling was taken at, got {tuple(tensor.shape)}"
            )
        return tuple(tensor.shape[:num_axes])
