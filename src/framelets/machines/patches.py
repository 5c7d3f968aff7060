"""Patches around every pixel, and linear maps that make each pixel from its patch."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from framelets.core import LinearOperator


def patch_indices(shape: tuple[int, int], window: tuple[int, int]) -> Int64[Tensor, "pixel tap"]:
    """Return where the taps of the patch around each pixel lie in the flattened image.

    Tap (i, j) of the patch at pixel p lies at p + (i, j) - window // 2; beyond the border the image
    is mirrored, without repeating its last row.

    Args:
        shape: Height and width of the image.
        window: Height and width of the patch.

    Raises:
        ValueError: If a size of the window is not positive, or too large to be mirrored.

    Example:
        >>> patch_indices((1, 3), (1, 3)).tolist()
        [[1, 0, 1], [0, 1, 2], [1, 2, 1]]
    """
    if any(not 1 <= taps <= 2 * size - 1 for taps, size in zip(window, shape, strict=True)):
        raise ValueError(
            f"window must have 1 to {tuple(2 * size - 1 for size in shape)} taps for images of "
            f"{shape}, got {window}"
        )
    axes = [_mirrored(size, taps) for size, taps in zip(shape, window, strict=True)]
    places = axes[0][:, None, :, None] * shape[1] + axes[1][None, :, None, :]
    return places.reshape(shape[0] * shape[1], window[0] * window[1])


def _mirrored(size: int, taps: int) -> Tensor:
    places = torch.arange(size)[:, None] + torch.arange(taps) - taps // 2
    places = places.abs()
    return torch.where(places < size, places, 2 * (size - 1) - places)


class PatchMap(LinearOperator):
    """The map y[p] = sum_t G[p, t] x[t of p] from images to images.

    Args:
        filters: G: what each tap of the patch around each pixel counts.
        shape: Height and width of the image.
        window: Height and width of the patch.
    """

    filters: Tensor
    indices: Tensor
    input_shape: tuple[int, int]
    output_shape: tuple[int, int]

    def __init__(
        self,
        filters: Float[Tensor, "pixel tap"],
        shape: tuple[int, int],
        window: tuple[int, int],
    ) -> None:
        """Find the taps."""
        super().__init__()
        self.input_shape = self.output_shape = shape
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("indices", patch_indices(shape, window), persistent=False)

    def forward(
        self, image: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Make every pixel from its patch."""
        taps = image.flatten(-2)[..., self.indices]
        return (taps * self.filters).sum(-1).reshape(image.shape)

    def adjoint(
        self, image: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Lay the filters of all pixels on the image."""
        shares = image.flatten(-2)[..., None] * self.filters
        flat = torch.zeros_like(image).flatten(-2)
        flat.index_add_(-1, self.indices.flatten(), shares.flatten(-2))
        return flat.reshape(image.shape)
