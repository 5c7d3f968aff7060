"""Crops of training images: the upper part to fit to, the lower part to choose settings by."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import refuse_unknown

PARTS = ("fit", "choose")
"""The parts of every training image: its upper three quarters, and its lower quarter."""


class TrainingSide:
    """Clean training images, and random crops of them with noise.

    Args:
        images: Clean images.
        noise_std: Standard deviation of the Gaussian noise.

    Raises:
        ValueError: If there is no image, or the noise is not positive.
    """

    def __init__(self, images: Sequence[Float[Tensor, "_ _"]], noise_std: float) -> None:
        """Keep the images."""
        if not images:
            raise ValueError("images must hold at least one training image, got none")
        if not noise_std > 0:
            raise ValueError(f"noise_std must be positive, got {noise_std}")
        self.images = tuple(images)
        self.noise_std = noise_std

    def draw(
        self, num: int, size: tuple[int, int], generator: torch.Generator, part: str = "fit"
    ) -> tuple[Float[Tensor, "num height width"], Float[Tensor, "num height width"]]:
        """Draw crops from random images at random places.

        Args:
            num: How many.
            size: Height and width of a crop.
            generator: Source of all randomness.
            part: One of `PARTS`.

        Returns:
            Noisy crops and clean ones.

        Raises:
            ValueError: If the part is unknown or an image is too small for it.
        """
        refuse_unknown("part", part, PARTS)
        crops = []
        for which in torch.randint(len(self.images), (num,), generator=generator).tolist():
            image = self.images[which]
            cut = 3 * image.shape[0] // 4
            piece = image[:cut] if part == "fit" else image[cut:]
            if piece.shape[0] < size[0] or piece.shape[1] < size[1]:
                raise ValueError(
                    f"images must have a {part} part of {size} pixels, got "
                    f"{tuple(piece.shape)} of {tuple(image.shape)}; crop smaller pieces"
                )
            top, left = (
                int(torch.randint(have - want + 1, (), generator=generator))
                for have, want in zip(piece.shape, size, strict=True)
            )
            crops.append(piece[top : top + size[0], left : left + size[1]])
        clean = torch.stack(crops)
        noise = torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
        return clean + self.noise_std * noise, clean
