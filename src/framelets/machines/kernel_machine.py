"""Kernel machine: a pixel from the patch around it, by kernel ridge regression.

With u the patch around a pixel, its mean m taken off, and training patches x_i [1],

    y = m + sum_i alpha_i k(x_i, u),      alpha = (K + ridge I)^-1 t,

for the targets t_i, the clean pixels less the means of their patches. Passing the mean by is our
choice: without it the patches of every brightness would have to be learned.

The expansion is in functions k(x_i, .) that the training set fixed, with weights that it fixed:
there is one representation, whatever the input, and it is linear in the features of the kernel. In
the input itself it is not linear, unless the kernel is. What `linear_map` returns is the Jacobian
at the input, which changes from one input to the next without bounds to count.

References:
    [1] B. Scholkopf and A. J. Smola, "Learning with kernels", MIT Press, 2002.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import LinearOperator, RunFolder, refuse_unknown
from framelets.machines.machine import FittedMachine, Machine
from framelets.machines.patches import PatchMap, patch_indices
from framelets.machines.pixel_basis import PixelBasis
from framelets.machines.training_side import TrainingSide

KERNELS = ("laplacian", "linear", "polynomial", "rbf")
"""Kernels exp(-g |x - u|_1), <x, u>, (g <x, u> + 1)^3 and exp(-g |x - u|^2)."""

_CHUNK = 8192  # pixels at a time, to bound the memory of the kernel's matrix


@dataclass(frozen=True)
class KernelMachine(Machine):
    """Kernel ridge regression from patches to pixels.

    Attributes:
        kernel: One of `KERNELS`.
        num_patches: Training patches, and functions of the expansion.
        window: Height and width of a patch.
        gammas: Candidates for the g of the kernel, in 1 / unit of the images (squared, for "rbf"
            and "polynomial").
        ridges: Candidates for the ridge.
        num_held_out: Patches of the lower parts of the training images to choose by.
    """

    kernel: str = "rbf"
    num_patches: int = 2000
    window: tuple[int, int] = (7, 7)
    gammas: Sequence[float] = (0.03, 0.1, 0.3)
    ridges: Sequence[float] = (0.03, 0.3, 3.0)
    num_held_out: int = 2000

    def __post_init__(self) -> None:
        """Refuse what no machine can have."""
        refuse_unknown("kernel", self.kernel, KERNELS)
        if self.num_patches < 1 or not self.gammas or not self.ridges:
            raise ValueError("num_patches must be positive, and gammas and ridges not empty")

    def fit(
        self,
        images: Sequence[Float[Tensor, "_ _"]],
        noise_std: float,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,  # noqa: ARG002
    ) -> "FittedKernelMachine":
        """Solve for the weights, for every candidate, and keep the best on the held-out patches."""
        side = TrainingSide([image.double() for image in images], noise_std)
        generator = torch.Generator().manual_seed(seed)
        noisy, clean = side.draw(self.num_patches, self.window, generator)
        held_out = side.draw(self.num_held_out, self.window, generator, "choose")
        patches, means = _centered(noisy.flatten(1))
        targets = _center_tap(clean, self.window) - means
        gammas = (1.0,) if self.kernel == "linear" else self.gammas
        best, least = None, float("inf")
        for gamma, ridge in product(gammas, self.ridges):
            machine = self._solved(patches, targets, gamma, ridge)
            made = machine.of_patches(held_out[0].flatten(1))
            error = float((made - _center_tap(held_out[1], self.window)).square().mean())
            if error < least:
                best, least = machine, error
        if best is None:
            raise ValueError("no candidate gave a finite error on the held-out patches")
        return best

    def _solved(
        self, patches: Tensor, targets: Tensor, gamma: float, ridge: float
    ) -> "FittedKernelMachine":
        from sklearn.kernel_ridge import KernelRidge

        solver = KernelRidge(alpha=ridge, kernel=self.kernel, **_parameters(self.kernel, gamma))
        solver.fit(patches.numpy(), targets.numpy())
        weights = torch.from_numpy(np.asarray(solver.dual_coef_))
        return FittedKernelMachine(self.kernel, gamma, ridge, self.window, patches, weights)


@dataclass(frozen=True)
class FittedKernelMachine(FittedMachine):
    """The expansion y = m + sum_i alpha_i k(x_i, u).

    Attributes:
        kernel: One of `KERNELS`.
        gamma: Its g.
        ridge: The ridge that the weights were found with.
        window: Height and width of a patch.
        patches: x_i.
        alphas: alpha_i.
    """

    kernel: str
    gamma: float
    ridge: float
    window: tuple[int, int]
    patches: Float[Tensor, "function tap"]
    alphas: Float[Tensor, " function"]
    expands_linearly: bool = field(default=False, init=False)
    num_parameters: int = field(init=False)
    settings: Mapping[str, float] = field(init=False)
    margin: int = field(init=False)

    def __post_init__(self) -> None:
        """Count what was set: patches, weights and settings."""
        settings = {"ridge": self.ridge}
        if self.kernel != "linear":
            settings["gamma"] = self.gamma
        object.__setattr__(self, "settings", settings)
        count = self.patches.numel() + self.alphas.numel() + len(settings)
        object.__setattr__(self, "num_parameters", count)
        object.__setattr__(self, "margin", max(self.window) // 2)

    def apply(
        self, noisy: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Make every pixel from its patch."""
        indices = patch_indices((noisy.shape[-2], noisy.shape[-1]), self.window)
        taps = noisy.flatten(-2)[..., indices]
        return self.of_patches(taps.flatten(0, -2)).reshape(noisy.shape)

    def of_patches(self, patches: Float[Tensor, "pixel tap"]) -> Float[Tensor, " pixel"]:
        """Make one pixel from each patch."""
        made = [
            means + self._features(inputs) @ self.alphas
            for inputs, means in (_centered(chunk.double()) for chunk in patches.split(_CHUNK))
        ]
        return torch.cat(made).to(patches.dtype)

    def linear_map(self, noisy: Float[Tensor, "height width"]) -> LinearOperator:
        """Return the Jacobian at this input."""
        shape = (noisy.shape[0], noisy.shape[1])
        taps = noisy.double().flatten()[patch_indices(shape, self.window)]
        slopes = torch.cat([self._slopes(_centered(chunk)[0]) for chunk in taps.split(_CHUNK)])
        num_taps = slopes.shape[1]
        # The mean is taken off the patch first, and passes by.
        filters = slopes - slopes.mean(1, keepdim=True) + 1 / num_taps
        return PatchMap(filters, shape, self.window)

    def basis_at(self, noisy: Float[Tensor, "height width"], pixel: tuple[int, int]) -> PixelBasis:
        """Return the training patches, their kernel values here, and their weights.

        The mean of the patch is the offset.
        """
        shape = (noisy.shape[0], noisy.shape[1])
        place = pixel[0] * shape[1] + pixel[1]
        indices = patch_indices(shape, self.window)[place]
        inputs, means = _centered(noisy.double().flatten()[indices][None])
        atoms = torch.zeros(len(self.patches), noisy.numel(), dtype=torch.float64)
        atoms.index_add_(1, indices, self.patches)
        synthesis = torch.zeros_like(atoms)
        synthesis[:, place] = self.alphas
        return PixelBasis(
            pixel,
            atoms.unflatten(1, shape),
            synthesis.unflatten(1, shape),
            self._features(inputs)[0],
            float(means[0]),
            linear=False,
        )

    def num_representations(
        self,
        noisy: Float[Tensor, "batch height width"],  # noqa: ARG002
        margin: int | None = None,  # noqa: ARG002
    ) -> int:
        """Return 1: functions and weights of the expansion are the same for every input.

        Use `representations` to tell the Jacobians apart.
        """
        return 1

    def _features(self, inputs: Tensor) -> Tensor:
        from sklearn.metrics.pairwise import pairwise_kernels

        values = pairwise_kernels(
            inputs.numpy(),
            self.patches.numpy(),
            metric=self.kernel,
            **_parameters(self.kernel, self.gamma),
        )
        return torch.from_numpy(np.asarray(values))

    def _slopes(self, inputs: Tensor) -> Tensor:
        """Return the gradient of sum_i alpha_i k(x_i, u) at each u."""
        if self.kernel == "linear":
            return (self.alphas @ self.patches).expand(len(inputs), -1)
        if self.kernel == "polynomial":
            powers = (self.gamma * inputs @ self.patches.mT + 1) ** 2
            return 3 * self.gamma * (powers * self.alphas) @ self.patches
        shares = self._features(inputs) * self.alphas
        if self.kernel == "rbf":
            pulled = shares @ self.patches - shares.sum(1, keepdim=True) * inputs
            return 2 * self.gamma * pulled
        slopes = torch.empty_like(inputs)
        for tap in range(inputs.shape[1]):  # signs of all differences at once would not fit
            signs = torch.sign(self.patches[:, tap] - inputs[:, tap, None])
            slopes[:, tap] = self.gamma * (shares * signs).sum(1)
        return slopes


def _parameters(kernel: str, gamma: float) -> dict[str, float]:
    return {
        "linear": {},
        "polynomial": {"gamma": gamma, "degree": 3, "coef0": 1},
    }.get(kernel, {"gamma": gamma})


def _centered(patches: Tensor) -> tuple[Tensor, Tensor]:
    means = patches.mean(1)
    return patches - means[:, None], means


def _center_tap(patches: Tensor, window: tuple[int, int]) -> Tensor:
    return patches[:, window[0] // 2, window[1] // 2]
