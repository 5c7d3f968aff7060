"""Denoising of photographs, as a task of the training loop: for one small U-Net, started four ways.

Photographs are split, not crops: no pixel of a held-out photograph is trained or tuned on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core.choices import choose
from framelets.data import natural_images
from framelets.metrics import psnr
from framelets.networks import UNet

STARTS: dict[str, dict[str, Any]] = {
    "random": {},
    "identity": {"init": "identity"},
    "residual": {"residual": True},
    "residual, identity": {"residual": True, "init": "identity"},
}
"""Arguments of `UNet` by the name of the start."""

HELD_OUT = ("camera", "chelsea", "coffee", "coins", "grass", "ihc")
NOISE = 0.1  # standard deviation; photographs lie in [0, 1]
WIDTH, DEPTH = 16, 3
CROP = 48
FIXED_CROP = 144

_TUNING_SEED, _HELD_OUT_SEED = 2**31 - 1, 2**31 - 2  # no training batch has them

Pairs = tuple[Float[Tensor, "batch 1 height width"], Float[Tensor, "batch 1 height width"]]
"""Noisy and clean images."""


class PhotographDenoising:
    """Take white Gaussian noise off crops of photographs.

    Args:
        report: Told the step that begins.
    """

    name = "photograph-denoising"

    def __init__(self, report: Callable[[int], None] = lambda _: None) -> None:
        """Read the photographs and fix the images of tuning and validation."""
        images = natural_images()
        self._photographs = [image for name, image in images.items() if name not in HELD_OUT]
        self.held_out = _fixed([images[name] for name in HELD_OUT], _HELD_OUT_SEED)
        self.tuning = _fixed(self._photographs, _TUNING_SEED)
        self._report = report

    @property
    def card(self) -> Mapping[str, Any]:
        """What the model card says of the task."""
        source = "photographs of the package scikit-image, public domain or CC0"
        return {"data": {"source": source, "never trained on": ", ".join(HELD_OUT)}}

    def network(self, name: str) -> nn.Module:
        """Build the U-Net in one of `STARTS`."""
        options = choose("network", name, STARTS)
        return UNet(width=WIDTH, depth=DEPTH, normalization="none", **options)

    def training_batch(self, step: int, batch_size: int, seed: int) -> Pairs:
        """Draw crops of the training photographs, turned and mirrored, and noise."""
        self._report(step)
        rng = torch.Generator().manual_seed(100_000 * seed + step)
        crops = []
        for _ in range(batch_size):
            image = self._photographs[_integer(len(self._photographs), rng)]
            row, column = (_integer(size - CROP + 1, rng) for size in image.shape)
            crop = image[row : row + CROP, column : column + CROP]
            crop = crop.rot90(_integer(4, rng))
            crops.append(crop.mT if _integer(2, rng) else crop)
        clean = torch.stack(crops)[:, None]
        return _noisy(clean, rng), clean

    def loss(self, network: nn.Module, batch: Pairs) -> Tensor:
        """Compute the mean squared error."""
        noisy, clean = batch
        error: Tensor = network(noisy) - clean
        return error.square().mean()

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measure PSNR with peak 1 on the held-out photographs, and on the tuning images."""
        network.eval()
        figures = {}
        for name, (noisy, clean) in {"psnr": self.held_out, "tuning": self.tuning}.items():
            made = network(noisy)[:, 0]
            values = psnr(made, clean[:, 0], 1.0)
            figures[name] = float(values.mean())
            if name == "psnr":
                figures |= dict(zip(HELD_OUT, values.tolist(), strict=True))
        return figures


def _fixed(images: list[Tensor], seed: int) -> Pairs:
    """Cut the middle out of each image and add noise."""
    crops = []
    for image in images:
        row, column = ((size - FIXED_CROP) // 2 for size in image.shape)
        crops.append(image[row : row + FIXED_CROP, column : column + FIXED_CROP])
    clean = torch.stack(crops)[:, None]
    return _noisy(clean, torch.Generator().manual_seed(seed)), clean


def _noisy(clean: Tensor, rng: torch.Generator) -> Tensor:
    return clean + NOISE * torch.randn(clean.shape, generator=rng)


def _integer(high: int, rng: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=rng))
