"""Images of the learning-machine experiment: who trains, who tests, and where pixels are explained.

All are photographs and micrographs inside installed packages, gray, in [0, 1]: scikit-image's, and
"china" and "flower" of scikit-learn (CC BY 2.0). No test image is trained on.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.data import natural_images

NOISE_STD = 25 / 255
"""Standard deviation of the Gaussian noise; images lie in [0, 1]."""

TRAINING_SETS = {"A": ("china", "coffee", "gravel"), "B": ("flower", "rocket", "grass")}
"""Two disjoint training sets, each a photograph of things, one of a scene, and a texture."""

TEST_IMAGES = (
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "coins",
    "hubble_deep_field",
    "ihc",
)
"""Never trained on."""

TEST_SIZE = 256
"""Height and width of the centers that are used of them."""

DENOISED_SIZE = 128
"""Height and width of the centers that are denoised to be compared."""

PIXELS = {"flat": (24, 231), "edge": (32, 39), "texture": (226, 176)}
"""Row and column in the center of `PIXEL_IMAGE`: in the sky, on the collar, in the grass."""

PIXEL_IMAGE = "camera"
NEIGHBORHOOD = 48
"""Height and width of the neighborhoods of the pixels, which stand in their middle."""


def training_images(which: str) -> list[Float[Tensor, "_ _"]]:
    """Return the images of a training set.

    Args:
        which: A key of `TRAINING_SETS`.
    """
    images = natural_images() | _of_scikit_learn()
    return [images[name] for name in TRAINING_SETS[which]]


def unseen_images(num: int | None = None) -> Float[Tensor, "image height width"]:
    """Return the centers of the test images, clean.

    Args:
        num: Only the first so many.
    """
    images = natural_images()
    return torch.stack([center(images[name], TEST_SIZE) for name in TEST_IMAGES[:num]])


def with_noise(clean: Float[Tensor, "image height width"], seed: int) -> Tensor:
    """Add the noise."""
    generator = torch.Generator().manual_seed(seed)
    return clean + NOISE_STD * torch.randn(clean.shape, generator=generator)


def neighborhoods(
    images: Float[Tensor, "image height width"],
) -> Float[Tensor, "pixel rows columns"]:
    """Cut the neighborhoods of `PIXELS` out of the test images."""
    image = images[TEST_IMAGES.index(PIXEL_IMAGE)]
    half = NEIGHBORHOOD // 2
    return torch.stack(
        [image[row - half : row + half, col - half : col + half] for row, col in PIXELS.values()]
    )


def center(image: Float[Tensor, "_ _"], size: int) -> Float[Tensor, "size size"]:
    """Cut the center out of an image."""
    top, left = ((length - size) // 2 for length in image.shape)
    return image[top : top + size, left : left + size]


def _of_scikit_learn() -> dict[str, Tensor]:
    from PIL import Image as PillowImage
    from sklearn.datasets import load_sample_images

    arrays: Sequence[np.ndarray] = load_sample_images().images
    gray = [np.asarray(PillowImage.fromarray(array).convert("L")) / 255 for array in arrays]
    return {
        name: torch.from_numpy(image.astype(np.float32))
        for name, image in zip(("china", "flower"), gray, strict=True)
    }
