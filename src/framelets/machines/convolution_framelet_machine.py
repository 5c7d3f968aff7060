"""Convolution framelets: windows of the input that look alike are pulled together.

For each input x the image is found that is near it and varies little along the graph of its own
windows [1], the weighted l2 norm of its convolution framelets (see `solvers.ManifoldEnergy`):

    y = argmin |y - x|^2 / 2 + weight <y, R y> / 2,      so  y = L x,   L = (I + weight R)^-1.

The graph and the local basis, the principal components of the windows, come from the input: first
from x itself, then from the image that was found, `num_updates` times in all. L holds the last of
them fixed, so that it gives y exactly; it is not the Jacobian.

With the local basis v_j of d taps, every image is (1/d) sum_qj <v_j at q, y> (v_j at q), so that

    y = sum_qj <L (v_j at q), x> (v_j at q) / d.

References:
    [1] R. Yin, T. Gao, Y. M. Lu and I. Daubechies, "A tale of two bases: local-nonlocal
        regularization on image patches with convolution framelets", SIAM J. Imaging Sciences 10(2),
        2017.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import Identity, LinearOperator, RunFolder
from framelets.core.spectral import conjugate_gradient
from framelets.machines.machine import FittedMachine, Machine
from framelets.machines.pixel_basis import PixelBasis
from framelets.machines.training_side import TrainingSide
from framelets.solvers import ManifoldEnergy

_SOLVED_TOGETHER = 32


@dataclass(frozen=True)
class ConvolutionFrameletMachine(Machine):
    """Regularization by the graph of the input's own windows.

    Attributes:
        weights: Candidates for the weight.
        window: Height and width of the windows.
        num_neighbors: Of each window in the graph.
        num_coordinates: Principal components by which neighbors are found.
        num_updates: How often graph and basis are taken.
        num_crops: Crops of the lower parts of the training images to choose the weight by.
        crop_size: Their height and width.
    """

    weights: Sequence[float] = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    window: tuple[int, int] = (5, 5)
    num_neighbors: int = 10
    num_coordinates: int = 10
    num_updates: int = 2
    num_crops: int = 8
    crop_size: tuple[int, int] = (64, 64)

    def fit(
        self,
        images: Sequence[Float[Tensor, "_ _"]],
        noise_std: float,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,  # noqa: ARG002
    ) -> "FittedConvolutionFramelets":
        """Choose the weight on the held-out parts; nothing else is learned."""
        side = TrainingSide([image.double() for image in images], noise_std)
        generator = torch.Generator().manual_seed(seed)
        noisy, clean = side.draw(self.num_crops, self.crop_size, generator, "choose")
        machines = [FittedConvolutionFramelets(self, weight) for weight in self.weights]
        errors = [float((machine.apply(noisy) - clean).square().mean()) for machine in machines]
        return machines[errors.index(min(errors))]


@dataclass(frozen=True, eq=False)
class FittedConvolutionFramelets(FittedMachine):
    """The regularization with its weight chosen.

    Attributes:
        machine: Window, neighbors and updates.
        weight: Of the energy.
        tolerance: Of the conjugate gradients.
        max_iterations: Of the conjugate gradients, in one update.
        resolution: Far above the error of the solutions.
    """

    machine: ConvolutionFrameletMachine
    weight: float
    tolerance: float = 1e-6
    max_iterations: int = 2000
    num_parameters: int = 1
    resolution: float = 1e-5
    settings: Mapping[str, float] = field(init=False)
    margin: int = field(init=False)

    def __post_init__(self) -> None:
        """Note the weight."""
        object.__setattr__(self, "settings", {"weight": self.weight})
        object.__setattr__(self, "margin", max(self.machine.window))

    def apply(
        self, noisy: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Solve the problem of each image, in double precision."""
        images = noisy.reshape(-1, *noisy.shape[-2:])
        return torch.stack([self.apply_counting(image)[0] for image in images]).reshape(noisy.shape)

    def apply_counting(
        self, noisy: Float[Tensor, "height width"]
    ) -> tuple[Float[Tensor, "height width"], int]:
        """Solve the problem of an image; the count is that of conjugate gradients, all updates."""
        _, image, num_iterations = self._solve(noisy.double())
        return image.to(noisy.dtype), num_iterations

    def linear_map(self, noisy: Float[Tensor, "height width"]) -> LinearOperator:
        """Return (I + weight R)^-1 with the graph and the basis that this input ends with."""
        return self._resolvent(self._solve(noisy.double())[0])

    def basis_at(self, noisy: Float[Tensor, "height width"], pixel: tuple[int, int]) -> PixelBasis:
        """Return L (v_j at q) and (v_j at q) / d, for all windows q that hold the pixel."""
        noisy = noisy.double()
        energy = self._solve(noisy)[0]
        (rows, columns), (height, width) = self.machine.window, noisy.shape
        # L of every pixel of these windows, once each; the atoms are their sums.
        places = [
            ((pixel[0] + i) % height, (pixel[1] + j) % width)
            for i in range(1 - rows, rows)
            for j in range(1 - columns, columns)
        ]
        units = torch.zeros(len(places), height, width, dtype=torch.float64)
        units[torch.arange(len(places)), *torch.tensor(places).mT] = 1
        responses = self._resolvent(energy)(units)
        grids = [part.reshape(2 * rows - 1, 2 * columns - 1, -1) for part in (responses, units)]
        filters = energy.directions.mT  # filter, tap
        analysis, synthesis = (
            torch.stack(
                [
                    filters @ grid[i : i + rows, j : j + columns].flatten(0, 1)
                    for i in range(rows)
                    for j in range(columns)
                ]
            ).reshape(-1, height, width)
            for grid in grids
        )
        coefficients = (analysis * noisy).sum((1, 2))
        return PixelBasis(pixel, analysis, synthesis / len(filters), coefficients, 0.0)

    def _solve(self, noisy: Tensor) -> tuple[ManifoldEnergy, Tensor, int]:
        image, num_iterations = noisy, 0
        for _ in range(self.machine.num_updates):
            energy = ManifoldEnergy(
                image,
                self.machine.window,
                num_neighbors=self.machine.num_neighbors,
                num_coordinates=self.machine.num_coordinates,
            )
            resolvent = self._resolvent(energy)
            image, iterations = resolvent.solve(noisy)
            num_iterations += iterations
        return energy, image, num_iterations

    def _resolvent(self, energy: ManifoldEnergy) -> "_Resolvent":
        return _Resolvent(energy, self.weight, self.tolerance, self.max_iterations)


class _Resolvent(LinearOperator):
    """(I + weight R)^-1, which is symmetric."""

    def __init__(
        self, energy: ManifoldEnergy, weight: float, tolerance: float, max_iterations: int
    ) -> None:
        super().__init__()
        self.system = Identity() + weight * energy
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.input_shape = self.output_shape = energy.input_shape

    def forward(self, x: Tensor) -> Tensor:
        shape = self.input_shape or ()
        images = x.reshape(-1, *shape)
        solved = [self.solve(some)[0] for some in images.split(_SOLVED_TOGETHER)]
        return torch.cat(solved).reshape(x.shape)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)

    @torch.no_grad()
    def solve(self, images: Tensor) -> tuple[Tensor, int]:
        solution, info = conjugate_gradient(
            self.system,
            images,
            shape=self.input_shape,
            tolerance=self.tolerance,
            num_iterations=self.max_iterations,
        )
        if not info.converged:
            raise RuntimeError(
                f"the image was not found: residual {float(info.residual.max()):.1e} after "
                f"{info.num_iterations} iterations; raise max_iterations or lower the weight"
            )
        return solution, info.num_iterations
