"""Frame: shrink every subband of a tight frame by one number that the training images set.

    y = T* diag(w) T x = sum_i w_i <psi_i, x> psi_i,      T* T = I,

with one weight per subband, those of least squares on training crops: Wiener's filter within the
frame. The same linear map serves every input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import LinearOperator, RunFolder
from framelets.machines.frame_atoms import atoms_at, frame_of, frame_reach
from framelets.machines.machine import FittedMachine, Machine
from framelets.machines.pixel_basis import PixelBasis
from framelets.machines.training_side import TrainingSide


@dataclass(frozen=True)
class FrameMachine(Machine):
    """A wavelet frame with linear shrinkage.

    Attributes:
        wavelet: Name of an orthogonal wavelet, as for `solvers.WaveletFrame`.
        num_levels: Levels of the undecimated transform; sizes of images must divide by
            2^num_levels.
        num_crops: Training crops.
        crop_size: Their height and width.
    """

    wavelet: str = "haar"
    num_levels: int = 2
    num_crops: int = 64
    crop_size: tuple[int, int] = (64, 64)

    def fit(
        self,
        images: Sequence[Float[Tensor, "_ _"]],
        noise_std: float,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,  # noqa: ARG002
    ) -> "FittedFrameMachine":
        """Solve for the weights."""
        side = TrainingSide([image.double() for image in images], noise_std)
        generator = torch.Generator().manual_seed(seed)
        noisy, clean = side.draw(self.num_crops, self.crop_size, generator)
        frame = frame_of(self.crop_size, self.wavelet, self.num_levels)
        subbands = frame(noisy)
        one_each = torch.eye(frame.output_shape[0], dtype=noisy.dtype)[..., None, None]
        parts = torch.stack([frame.adjoint(subbands * one).flatten() for one in one_each], dim=1)
        weights = torch.linalg.lstsq(parts, clean.flatten()[:, None]).solution[:, 0]
        return FittedFrameMachine(self.wavelet, self.num_levels, weights)


@dataclass(frozen=True, eq=False)
class FittedFrameMachine(FittedMachine):
    """Analysis, one weight per subband, synthesis.

    Attributes:
        wavelet: As for `FrameMachine`.
        num_levels: As for `FrameMachine`.
        weights: w, of the coarse image first.
    """

    wavelet: str
    num_levels: int
    weights: Float[Tensor, " subband"]
    settings: Mapping[str, float] = field(default_factory=dict)
    num_parameters: int = field(init=False)
    margin: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the weights."""
        object.__setattr__(self, "num_parameters", len(self.weights))
        object.__setattr__(self, "margin", frame_reach(self.wavelet, self.num_levels))

    def apply(
        self, noisy: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Shrink the subbands."""
        return self._map((noisy.shape[-2], noisy.shape[-1]))(noisy)

    def linear_map(self, noisy: Float[Tensor, "height width"]) -> LinearOperator:
        """Return T* diag(w) T, the same at every input."""
        return self._map((noisy.shape[0], noisy.shape[1]))

    def _map(self, shape: tuple[int, int]) -> LinearOperator:
        frame = frame_of(shape, self.wavelet, self.num_levels)
        return frame.H @ _Weighted(self.weights) @ frame

    def basis_at(self, noisy: Float[Tensor, "height width"], pixel: tuple[int, int]) -> PixelBasis:
        """Return w_i psi_i and psi_i, for all atoms that touch the pixel."""
        shape = (noisy.shape[0], noisy.shape[1])
        atoms, subbands = atoms_at(frame_of(shape, self.wavelet, self.num_levels), pixel)
        analysis = self.weights[subbands][:, None, None] * atoms
        coefficients = (analysis * noisy.double()).sum((1, 2))
        return PixelBasis(pixel, analysis, atoms, coefficients, 0.0)


class _Weighted(LinearOperator):
    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights.to(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)
