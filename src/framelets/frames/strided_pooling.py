"""Strided pooling: one pixel of every 2x2 block, as a strided convolution keeps it."""

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator

from ._maps import refuse_odd


class StridedPooling(LinearOperator):
    """Keep the first pixel of every 2x2 block; the adjoint puts it back among zeros.

    Orthonormal rows: A A* = I, and A* A is the projection onto the pixels kept.

    Example:
        >>> import torch
        >>> StridedPooling()(torch.tensor([[1.0, 2.0], [3.0, 6.0]])).tolist()
        [[1.0]]
    """

    def forward(
        self, image: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch height//2 width//2"]:
        """Pool an image.

        Args:
            image: Real or complex image whose height and width are even.

        Raises:
            ValueError: If the image has fewer than two axes, or an odd height or width.
        """
        refuse_odd(image)
        return image[..., ::2, ::2]

    def adjoint(
        self, pooled: Inexact[Tensor, "*batch rows columns"]
    ) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
        """Put each value at the first pixel of its block; the other pixels are 0."""
        zero = torch.zeros_like(pooled)
        row = torch.stack([pooled, zero], dim=-1).flatten(-2)
        return torch.stack([row, torch.zeros_like(row)], dim=-2).flatten(-3, -2)
