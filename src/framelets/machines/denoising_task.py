"""Denoising of crops as a task of the training loop."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.machines.training_side import TrainingSide

_NUM_VALIDATION = 16


class DenoisingTask:
    """Learn clean crops of the training images from noisy ones, by the mean squared error.

    Args:
        side: Training images and noise.
        build: Makes the untrained network.
        crop_size: Height and width of a crop.
        peak: Largest value of the images, for the PSNR.
    """

    name = "denoising"

    def __init__(
        self,
        side: TrainingSide,
        build: Callable[[], nn.Module],
        crop_size: tuple[int, int],
        peak: float = 1.0,
    ) -> None:
        """Draw the crops to validate on, from the lower parts of the images."""
        self._side, self._build, self._crop_size, self._peak = side, build, crop_size, peak
        generator = torch.Generator().manual_seed(0)
        drawn = side.draw(_NUM_VALIDATION, crop_size, generator, "choose")
        self._held_out = tuple(part[:, None].float() for part in drawn)

    @property
    def card(self) -> Mapping[str, Any]:
        """Say what is learned from."""
        return {"data": {"source": "training images handed over by the caller"}}

    def network(self, name: str) -> nn.Module:  # noqa: ARG002
        """Build the untrained network; there is one."""
        return self._build()

    def training_batch(
        self, step: int, batch_size: int, seed: int
    ) -> tuple[
        Float[Tensor, "batch 1 height width"],
        Float[Tensor, "batch 1 height width"],
    ]:
        """Draw noisy and clean crops."""
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        noisy, clean = self._side.draw(batch_size, self._crop_size, generator)
        return noisy[:, None].float(), clean[:, None].float()

    def loss(self, network: nn.Module, batch: Any) -> Tensor:  # noqa: ANN401
        """Compute the mean squared error."""
        noisy, clean = batch
        error: Tensor = (network(noisy) - clean).square().mean()
        return error

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measure the PSNR on the held-out crops."""
        error = self.loss(network.eval(), self._held_out)
        return {"psnr": float(10 * torch.log10(self._peak**2 / error))}
