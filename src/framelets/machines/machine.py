"""What all learning machines offer: to be fitted, to be applied, and to show their expansion.

The talk and paper of J. C. Ye and W. K. Sung [1] set learning machines side by side by five
questions: is the model driven by data, does its expansion adapt to the input, how many
representations can it choose from, does it serve unseen inputs without solving again, what is
learned. This interface offers what is needed to answer them by measurement.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from framelets.core import LinearOperator, RunFolder
from framelets.geometry import count_distinct, filter_keys
from framelets.machines.pixel_basis import PixelBasis


class FittedMachine(ABC):
    """A denoiser that was fitted to training images.

    Attributes:
        num_parameters: Numbers that were set from the training images, settings included.
        settings: Those chosen among candidates on held-out parts of the training images.
        margin: Pixels nearer to the border than this may be made differently.
        expands_linearly: True if the map of `linear_map` makes the machine's output, but for an
            offset; False if it is a tangent only.
        resolution: Differences of a filter's frequency response below this are not told apart.
    """

    num_parameters: int
    settings: Mapping[str, float]
    margin: int
    expands_linearly: bool = True
    resolution: float = 1e-8

    @abstractmethod
    def apply(
        self, noisy: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Denoise images, each by itself."""

    @abstractmethod
    def linear_map(self, noisy: Float[Tensor, "height width"]) -> LinearOperator:
        """Return the L of y = L x + b at this input, on images of its size.

        What L is where the machine is not piecewise linear, its class says.
        """

    @abstractmethod
    def basis_at(self, noisy: Float[Tensor, "height width"], pixel: tuple[int, int]) -> PixelBasis:
        """Return the atoms that make one pixel of this input."""

    def apply_counting(
        self, noisy: Float[Tensor, "height width"]
    ) -> tuple[Float[Tensor, "height width"], int]:
        """Denoise an image, and count the iterations in which a problem is solved for it.

        Returns:
            The image, and the number of iterations, 0 if the machine solves nothing.
        """
        return self.apply(noisy), 0

    def switches(self, noisy: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch switch"]:
        """Return what is on and what is off at each input; none if the machine has no switches."""
        return torch.zeros(len(noisy), 0, dtype=torch.bool)

    def representations(
        self, noisy: Float[Tensor, "batch height width"], margin: int | None = None
    ) -> Int64[Tensor, "pixel key"]:
        """Tell the linear maps of pixels apart: equal keys, equal filters, up to rounding.

        Args:
            noisy: Images; each inner pixel is one input, the patch around it.
            margin: Pixels nearer to the border are left out; at least, and by default, the
                machine's own.

        Raises:
            ValueError: If the margin is smaller than the machine's or leaves no pixel.
        """
        margin = self.margin if margin is None else margin
        if margin < self.margin:
            raise ValueError(
                f"margin must be at least {self.margin}, got {margin}; nearer to the border "
                "pixels are made differently"
            )
        if 2 * margin >= min(noisy.shape[-2:]):
            raise ValueError(
                f"margin must leave a pixel of images {tuple(noisy.shape[-2:])}, got {margin}"
            )
        inner = (slice(margin, -margin or None),) * 2
        return torch.cat(
            [
                filter_keys(self.linear_map(image), image, self.resolution)[inner].flatten(0, 1)
                for image in noisy.double()
            ]
        )

    def num_representations(
        self, noisy: Float[Tensor, "batch height width"], margin: int | None = None
    ) -> int:
        """Count the distinct linear representations that the inner pixels of images meet.

        A map is known by the frequency response of its filter at a few random frequencies, in
        double precision: switches that change nothing are not counted. No count can exceed the
        number of pixels.

        Args:
            noisy: As for `representations`.
            margin: As for `representations`.
        """
        return count_distinct(self.representations(noisy, margin))


class Machine(ABC):
    """A kind of denoiser, with its settings, that can be fitted."""

    @abstractmethod
    def fit(
        self,
        images: Sequence[Float[Tensor, "_ _"]],
        noise_std: float,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,
    ) -> FittedMachine:
        """Fit the machine to clean training images and the noise that it is to remove.

        Args:
            images: Clean images, of any sizes.
            noise_std: Standard deviation of the Gaussian noise, in the unit of the images.
            seed: Of all randomness.
            folder: Where a long fit keeps its state, to be resumed; none by default.
        """
