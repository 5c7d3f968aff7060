"""The inverse problems of the convolution-framelet experiment: operators, images, measurements."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from framelets.core import Identity, LinearOperator
from framelets.data import natural_images

SIZE = 128
TUNING_IMAGES = ("chelsea", "gravel", "ihc")
"""A photograph, a texture and a micrograph, on which parameters are tuned; all others are tests."""

BLUR_WIDTH = 1.5  # standard deviation in pixels
_LEVELS = 255.0


class PixelMask(LinearOperator):
    """Set the pixels that were not measured to zero: A = A*, A A = A.

    Args:
        measured: True where a pixel was measured.
    """

    measured: Bool[Tensor, "height width"]

    def __init__(self, measured: Bool[Tensor, "height width"]) -> None:
        """Keep the mask."""
        super().__init__()
        self.input_shape = self.output_shape = tuple(measured.shape)
        self.register_buffer("measured", measured, persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Mask an image."""
        return x * self.measured

    def adjoint(
        self, y: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Mask it again."""
        return y * self.measured


class GaussianBlur(LinearOperator):
    """Convolve with a Gaussian of unit sum, around the borders; the kernel is even, so A* = A.

    Args:
        shape: Height and width.
        width: Standard deviation in pixels.
    """

    response: Float[Tensor, "height frequency"]

    def __init__(self, shape: tuple[int, int], width: float) -> None:
        """Sample the Gaussian around pixel (0, 0)."""
        super().__init__()
        self.input_shape = self.output_shape = shape
        down, right = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in shape)
        kernel = torch.exp(-(down[:, None] ** 2 + right**2) / (2 * width**2))
        response = torch.fft.rfft2(kernel / kernel.sum()).real
        self.register_buffer("response", response, persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Blur an image."""
        blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * self.response.to(x), s=x.shape[-2:])
        return blurred

    def adjoint(
        self, y: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Blur it again."""
        return self(y)


@dataclass(frozen=True)
class Problem:
    """What is measured.

    Attributes:
        group: "denoising", "inpainting" or "deconvolution".
        title: What differs within the group, for a column.
        noise: Standard deviation of the white Gaussian noise; white is 1.
        missing: Share of the pixels that are missing, at random.
    """

    group: str
    title: str
    noise: float = 0.0
    missing: float = 0.0

    def measure(
        self, image: Float[Tensor, "height width"], generator: torch.Generator
    ) -> "Measured":
        """Measure an image, and make the first image that every method may start from."""
        shape = (image.shape[0], image.shape[1])
        if self.group == "inpainting":
            measured = torch.rand(shape, generator=generator) >= self.missing
            operator: LinearOperator = PixelMask(measured)
            measurement = operator(image)
            return Measured(self, operator, measurement, _interpolate(image, measured))
        operator = Identity() if self.group == "denoising" else GaussianBlur(shape, BLUR_WIDTH)
        noise = torch.randn(shape, generator=generator, dtype=image.dtype)
        measurement = operator(image) + self.noise * noise
        return Measured(self, operator, measurement, measurement)


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        problem: What was measured.
        operator: A.
        measurement: y = A x + noise.
        start: The noisy image, the blurred one, or the linear interpolation of the known pixels.
    """

    problem: Problem
    operator: LinearOperator
    measurement: Float[Tensor, "height width"]
    start: Float[Tensor, "height width"]


PROBLEMS = {
    "noise-15": Problem("denoising", "noise 15/255", noise=15 / _LEVELS),
    "noise-25": Problem("denoising", "noise 25/255", noise=25 / _LEVELS),
    "missing-50": Problem("inpainting", "50 % missing", missing=0.5),
    "missing-80": Problem("inpainting", "80 % missing", missing=0.8),
    "missing-90": Problem("inpainting", "90 % missing", missing=0.9),
    "missing-95": Problem("inpainting", "95 % missing", missing=0.95),
    "blur": Problem("deconvolution", "blur 1.5 px, noise 2/255", noise=2 / _LEVELS),
}
"""Every problem by name."""


@cache
def images(*, tuning: bool = False) -> dict[str, Float[Tensor, "128 128"]]:
    """Return the test or the tuning images: centers of scikit-image's photographs and micrographs.

    Blocks of f x f pixels are averaged, with the largest f that leaves half of the shorter side or
    less outside, and at least 2: that hides the noise and the compression of the files.
    """
    found = {}
    for name, image in natural_images().items():
        if (name in TUNING_IMAGES) is tuning:
            factor = max(2, min(image.shape) // (2 * SIZE))
            top, left = ((length - factor * SIZE) // 2 for length in image.shape)
            square = image[top : top + factor * SIZE, left : left + factor * SIZE]
            found[name] = torch.nn.functional.avg_pool2d(square[None], factor)[0]
    return found


def measure_all(
    problem: Problem, seed: int, *, tuning: bool = False, num_images: int | None = None
) -> dict[str, tuple[Float[Tensor, "128 128"], Measured]]:
    """Measure the first images, each with noise or a mask of its own that depends on the seed."""
    found = {}
    for index, (name, image) in enumerate(list(images(tuning=tuning).items())[:num_images]):
        generator = torch.Generator().manual_seed(1000 * (2 * seed + tuning) + index)
        found[name] = (image, problem.measure(image, generator))
    return found


def _interpolate(
    image: Float[Tensor, "height width"], measured: Bool[Tensor, "height width"]
) -> Float[Tensor, "height width"]:
    # Linear on the triangles of the known pixels; the nearest one outside of their hull.
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    known = measured.numpy()
    places, values = np.argwhere(known), image.numpy()[known]
    everywhere = np.argwhere(np.ones_like(known))
    found = LinearNDInterpolator(places, values)(everywhere)
    outside = np.isnan(found)
    found[outside] = NearestNDInterpolator(places, values)(everywhere[outside])
    if not math.isfinite(found.sum()):
        raise ValueError("the known pixels do not span a triangle")
    return torch.from_numpy(found.reshape(known.shape)).to(image)
