"""The task of the Lipschitz experiment: denoising learned from few pairs, with a regularization."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core.choices import choose
from framelets.data import natural_images
from framelets.experiments.identity_start_task import HELD_OUT, NOISE
from framelets.networks import UNet

CROP = 32
WIDTH, DEPTH = 8, 2
NUM_TEST_PAIRS = 48
MOST_PAIRS = 256

REGULARIZATIONS = {"none": 0.0, "spectral": 1e-3, "jacobian": 1e-2}
"""Weight of the penalty that is added to the mean squared error, by its name."""

_TEST_SEED = 2**31 - 3

Pairs = tuple[Float[Tensor, "batch 1 height width"], Float[Tensor, "batch 1 height width"]]
"""Noisy and clean images."""


class FewPairsDenoising:
    """Take noise off crops of photographs, trained on a fixed number of pairs with fixed noise.

    A larger set of the same seed holds the smaller one. The penalties are

        spectral    sum over the convolutions of ||W||_2^2, W the filters as a matrix of output
                    channels by everything else [1]
        jacobian    |J^T u|^2 / n at each noisy image of n pixels, for standard normal u: its mean
                    is |J|_F^2 / n [2]

    References:
        [1] Y. Yoshida and T. Miyato, "Spectral norm regularization for improving the
            generalizability of deep learning", arXiv 1705.10941, 2017.
        [2] J. Hoffman, D. A. Roberts and S. Yaida, "Robust learning with Jacobian regularization",
            arXiv 1908.02729, 2019.

    Args:
        num_pairs: How many pairs to learn from.
        regularization: One of `REGULARIZATIONS`.
        report: Told the step that begins.
    """

    name = "few-pairs-denoising"

    def __init__(
        self,
        num_pairs: int,
        regularization: str,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Draw the test pairs."""
        self._num_pairs, self._regularization = num_pairs, regularization
        self._weight = choose("regularization", regularization, REGULARIZATIONS)
        self._report = report
        self.test_pairs = _draw(True, NUM_TEST_PAIRS, _TEST_SEED)

    @property
    def card(self) -> Mapping[str, Any]:
        """What the model card says of the task."""
        source = "photographs of the package scikit-image, public domain or CC0"
        return {"data": {"source": source, "never trained on": ", ".join(HELD_OUT)}}

    def network(self, name: str) -> nn.Module:  # noqa: ARG002
        """Build the untrained network; there is one."""
        return UNet(width=WIDTH, depth=DEPTH, normalization="none")

    def training_pairs(self, seed: int) -> Pairs:
        """Return what is learned from."""
        noisy, clean = _draw(False, MOST_PAIRS, seed)
        return noisy[: self._num_pairs], clean[: self._num_pairs]

    def training_batch(self, step: int, batch_size: int, seed: int) -> Pairs:
        """Choose pairs at random."""
        self._report(step)
        rng = torch.Generator().manual_seed(100_000 * seed + step)
        chosen = torch.randint(self._num_pairs, (batch_size,), generator=rng)
        noisy, clean = self.training_pairs(seed)
        return noisy[chosen], clean[chosen]

    def loss(self, network: nn.Module, batch: Pairs) -> Tensor:
        """Compute the mean squared error and the penalty."""
        noisy, clean = batch
        if self._regularization == "jacobian":
            noisy = noisy.detach().requires_grad_()
        made = network(noisy)
        error: Tensor = (made - clean).square().mean()
        if self._regularization == "spectral":
            error = error + self._weight * _spectral_penalty(network)
        elif self._regularization == "jacobian":
            error = error + self._weight * _jacobian_penalty(made, noisy)
        return error

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measure the PSNR with peak 1 of the mean error on the test pairs."""
        error = mean_error(network, self.test_pairs)
        return {"psnr": float(-10 * torch.log10(torch.tensor(error)))}


@torch.no_grad()
def mean_error(network: nn.Module, pairs: Pairs) -> float:
    """Return the mean squared error on all pairs."""
    noisy, clean = pairs
    return float((network.eval()(noisy) - clean).square().mean())


def _spectral_penalty(network: nn.Module) -> Tensor:
    norms = [
        torch.linalg.matrix_norm(module.weight.flatten(1), 2)
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    return torch.stack(norms).square().sum()


def _jacobian_penalty(made: Tensor, noisy: Tensor) -> Tensor:
    u = torch.randn_like(made)  # torch's own generator, which the loop seeds and restores
    (pulled,) = torch.autograd.grad(made, noisy, u, create_graph=True)
    return pulled.square().mean()


@cache
def _draw(held_out: bool, num: int, seed: int) -> Pairs:
    """Draw crops from the held-out photographs or from the others, one after the other, and noise.

    Each crop and its noise come from the one generator, in turn.
    """
    images = natural_images()
    chosen = [image for name, image in images.items() if (name in HELD_OUT) == held_out]
    rng = torch.Generator().manual_seed(seed)
    noisy, clean = [], []
    for number in range(num):
        image = chosen[number % len(chosen)]
        row, column = (
            int(torch.randint(size - CROP + 1, (), generator=rng)) for size in image.shape
        )
        crop = image[row : row + CROP, column : column + CROP]
        clean.append(crop)
        noisy.append(crop + NOISE * torch.randn(crop.shape, generator=rng))
    return torch.stack(noisy)[:, None], torch.stack(clean)[:, None]
