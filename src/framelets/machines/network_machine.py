"""Machines that are networks of convolutions and switches, trained by the one training loop.

`linear_map` is the frozen map of `geometry.linearize`: for piecewise-linear networks the map of the
linear region that the input lies in, with analysis and synthesis cut where the encoder ends.
"""

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from framelets.core import LinearOperator, RunFolder
from framelets.geometry import LocalMap, linearize
from framelets.machines.denoising_task import DenoisingTask
from framelets.machines.machine import FittedMachine, Machine
from framelets.machines.pixel_basis import PixelBasis
from framelets.machines.training_side import TrainingSide
from framelets.training import RunConfig, train

_ATOMS_TOGETHER = 256


@dataclass(frozen=True)
class NetworkMachine(Machine):
    """A network that is trained to denoise crops.

    Attributes:
        build: Makes the untrained network, `batch 1 height width` to the same; its random weights
            come from torch's global generator, which the loop seeds.
        margin: How far an output pixel sees.
        num_steps: Training steps.
        learning_rate: Peak learning rate.
        batch_size: Crops a step.
        crop_size: Height and width of a crop.
        cut: Where the encoder ends, as for `linearize`.
    """

    build: Callable[[], nn.Module]
    margin: int
    num_steps: int
    learning_rate: float
    batch_size: int = 8
    crop_size: tuple[int, int] = (64, 64)
    cut: str | None = None

    def fit(
        self,
        images: Sequence[Float[Tensor, "_ _"]],
        noise_std: float,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,
    ) -> "FittedNetwork":
        """Train the network; a folder that holds a checkpoint is resumed."""
        task = DenoisingTask(TrainingSide(images, noise_std), self.build, self.crop_size)
        config = RunConfig(
            network=task.name,
            seed=seed,
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            warmup_steps=max(1, self.num_steps // 20),
            batch_size=self.batch_size,
            average_decay=0.98,
            validate_every=self.num_steps,
            accelerator="cpu",
        )
        if folder is not None:
            result = train(task, config, folder, progress=False)
        else:
            with tempfile.TemporaryDirectory() as path:
                result = train(task, config, RunFolder(Path(path)), progress=False)
        return FittedNetwork(result.network, self.margin, self.cut)


@dataclass(frozen=True, eq=False)
class FittedNetwork(FittedMachine):
    """A trained network.

    Attributes:
        network: In evaluation mode.
        margin: How far an output pixel sees.
        cut: Where the encoder ends, as for `linearize`.
        settings: What was chosen among candidates.
        num_parameters: How many were trained; default: all.
    """

    network: nn.Module
    margin: int
    cut: str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    num_parameters: int = 0
    _double: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        """Count the parameters, and keep a copy in double precision."""
        if not self.num_parameters:
            count = sum(parameter.numel() for parameter in self.network.parameters())
            object.__setattr__(self, "num_parameters", count)
        object.__setattr__(self, "_double", copy.deepcopy(self.network).double().eval())

    @torch.no_grad()
    def apply(
        self, noisy: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Run the network, in the precision of the images."""
        made: Tensor = self._like(noisy)(noisy.reshape(-1, 1, *noisy.shape[-2:]))
        return made.reshape(noisy.shape)

    def linear_map(self, noisy: Float[Tensor, "height width"]) -> LinearOperator:
        """Return the frozen map of the network at this input, in the input's precision."""
        return _OneChannel(self.local_map(noisy).frozen)

    def local_map(self, noisy: Float[Tensor, "height width"]) -> LocalMap:
        """Record the network at this input, in the input's precision."""
        return linearize(self._like(noisy), noisy[None, None], cut=self.cut)

    def basis_at(self, noisy: Float[Tensor, "height width"], pixel: tuple[int, int]) -> PixelBasis:
        """Return the atoms of all coefficients that reach the pixel.

        Coefficients are the values where the encoder ends, and those of the skips that cross.
        """
        local = self.local_map(noisy)
        unit = torch.zeros(1, *noisy.shape, dtype=noisy.dtype)
        unit[(0, *pixel)] = 1
        reaches = local.synthesis.adjoint(unit).nonzero()[:, 0]
        (num_coefficients,) = local.synthesis.input_shape or (0,)
        analysis, synthesis = [], []
        for chunk in reaches.split(_ATOMS_TOGETHER):
            units = torch.zeros(len(chunk), num_coefficients, dtype=noisy.dtype)
            units[torch.arange(len(chunk)), chunk] = 1
            analysis.append(local.analysis.adjoint(units)[:, 0])
            synthesis.append(local.synthesis(units)[:, 0])
        atoms = torch.cat(analysis)
        coefficients = (atoms * noisy).sum((1, 2))
        # What the analysis adds to its coefficients (biases) is counted to the offset.
        offset = float(local.offset[(0, *pixel)])
        return PixelBasis(pixel, atoms, torch.cat(synthesis), coefficients, offset)

    def switches(self, noisy: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch switch"]:
        """Return which units are on, layer by layer."""
        return torch.stack([_bits(self.local_map(image)) for image in noisy])

    def _like(self, noisy: Tensor) -> nn.Module:
        return self._double if noisy.dtype == torch.float64 else self.network


def _bits(local: LocalMap) -> Tensor:
    powers = 2 ** torch.arange(8, dtype=torch.uint8)
    layers = [
        (layer.packed[:, None] & powers).ne(0).flatten()[: layer.num_units]
        for layer in local.activation_pattern.layers
    ]
    return torch.cat(layers)


class _OneChannel(LinearOperator):
    """The map of samples `1 height width` as a map of images."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x.unsqueeze(-3)).squeeze(-3)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y.unsqueeze(-3)).squeeze(-3)
