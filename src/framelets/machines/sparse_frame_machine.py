"""Compressed sensing with a frame: the image whose frame coefficients are sparse.

For each input x the problem of l1-analysis, the form of basis pursuit denoising that suits
redundant frames [1],

    y = argmin_y |y - x|^2 / 2 + sum_i t_i |<psi_i, y>|,      T* T = I,

is solved (here for the identity as measurement operator). The thresholds t_i = k s |psi_i|, with s
the standard deviation of the noise, follow the noise in each subband; k is chosen on training
images. The coarse image is not penalized.

The dual problem, min |x - T* u|^2 / 2 over |u_i| <= t_i with y = x - T* u, is solved by the fast
projected gradient method [2], restarted when it turns back [3]. `solvers.framelet_shrinkage` solves
the same problem for any measurement, but leaves no u, which tells exactly which atoms are selected.

At the solution let A hold the atoms with |u_i| = t_i, and let I hold the others, for which
<psi_i, y> = 0. While A and the signs on it stay the same, with P the projection onto the images
that T_I maps to zero,

    y = P (x - T_A* (t sign)) = sum_(i in A) <P psi_i, x> psi_i + b.

So the frame is given, and each input selects its atoms: analysis atoms P psi_i, synthesis atoms
psi_i.

References:
    [1] E. J. Candes, Y. C. Eldar, D. Needell and P. Randall, "Compressed sensing with coherent and
        redundant dictionaries", Applied and Computational Harmonic Analysis 31(1), 2011.
    [2] A. Beck and M. Teboulle, "Fast gradient-based algorithms for constrained total variation
        image denoising and deblurring problems", IEEE Trans. Image Processing 18(11), 2009.
    [3] B. O'Donoghue and E. Candes, "Adaptive restart for accelerated gradient schemes",
        Foundations of Computational Mathematics 15, 2015.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from framelets.core import LinearOperator, RunFolder
from framelets.core.spectral import conjugate_gradient
from framelets.machines.frame_atoms import atom_norms, atoms_at, frame_of, frame_reach
from framelets.machines.machine import FittedMachine, Machine
from framelets.machines.pixel_basis import PixelBasis
from framelets.machines.training_side import TrainingSide
from framelets.solvers import WaveletFrame

_CHECK_EVERY = 10
_PROJECTION_TOLERANCE = 1e-7
_PROJECTION_ITERATIONS = 5000
_ATOMS_TOGETHER = 64


@dataclass(frozen=True)
class SparseFrameMachine(Machine):
    """l1-analysis with a wavelet frame.

    Attributes:
        wavelet: Name of an orthogonal wavelet, as for `solvers.WaveletFrame`.
        num_levels: Levels of the undecimated transform; sizes of images must divide by
            2^num_levels.
        factors: Candidates for k.
        num_crops: Crops of the lower parts of the training images to choose k by.
        crop_size: Their height and width.
        tolerance: Relative duality gap to stop at.
        max_iterations: Stop unconverged after so many steps.
    """

    wavelet: str = "haar"
    num_levels: int = 2
    factors: Sequence[float] = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
    num_crops: int = 12
    crop_size: tuple[int, int] = (64, 64)
    tolerance: float = 1e-4
    max_iterations: int = 500

    def fit(
        self,
        images: Sequence[Float[Tensor, "_ _"]],
        noise_std: float,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,  # noqa: ARG002
    ) -> "FittedSparseFrameMachine":
        """Choose k on the held-out parts."""
        side = TrainingSide([image.double() for image in images], noise_std)
        generator = torch.Generator().manual_seed(seed)
        noisy, clean = side.draw(self.num_crops, self.crop_size, generator, "choose")
        machines = [
            FittedSparseFrameMachine(
                self.wavelet, self.num_levels, k, noise_std, self.tolerance, self.max_iterations
            )
            for k in self.factors
        ]
        errors = [float((machine.apply(noisy) - clean).square().mean()) for machine in machines]
        return machines[errors.index(min(errors))]


@dataclass(frozen=True, eq=False)
class FittedSparseFrameMachine(FittedMachine):
    """l1-analysis with thresholds that are fixed.

    Attributes:
        wavelet: As for `SparseFrameMachine`.
        num_levels: As for `SparseFrameMachine`.
        factor: k.
        noise_std: s.
        tolerance: Relative duality gap to stop at.
        max_iterations: Stop unconverged after so many steps.
        resolution: Far above the error of the projections, which are solved for.
    """

    wavelet: str
    num_levels: int
    factor: float
    noise_std: float
    tolerance: float = 1e-4
    max_iterations: int = 500
    num_parameters: int = 1
    resolution: float = 1e-5
    settings: Mapping[str, float] = field(init=False)
    margin: int = field(init=False)

    def __post_init__(self) -> None:
        """Note the factor."""
        object.__setattr__(self, "settings", {"factor": self.factor})
        object.__setattr__(self, "margin", frame_reach(self.wavelet, self.num_levels))

    @property
    def thresholds(self) -> Float[Tensor, "subband 1 1"]:
        """t, one per subband, of the coarse image first."""
        norms = atom_norms(self.wavelet, self.num_levels)
        thresholds = self.factor * self.noise_std * norms
        thresholds[0] = 0
        return thresholds[:, None, None]

    def apply(
        self, noisy: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Solve the problem of each image, in double precision."""
        images = noisy.reshape(-1, *noisy.shape[-2:])
        return torch.stack([self.apply_counting(image)[0] for image in images]).reshape(noisy.shape)

    def apply_counting(
        self, noisy: Float[Tensor, "height width"]
    ) -> tuple[Float[Tensor, "height width"], int]:
        """Solve the problem of an image, and count the steps until the duality gap is small."""
        dual, num_iterations, _ = self.dual_solution(noisy.double())
        made = noisy.double() - self._frame(noisy).adjoint(dual)
        return made.to(noisy.dtype), num_iterations

    @torch.no_grad()
    def dual_solution(
        self, noisy: Float[Tensor, "height width"]
    ) -> tuple[Float[Tensor, "subband height width"], int, float]:
        """Solve the dual problem.

        Returns:
            u, the number of iterations, and the duality gap over the value of the problem; above
            `tolerance` if `max_iterations` did not suffice.
        """
        frame, limits = self._frame(noisy), self.thresholds.to(noisy)
        dual = torch.zeros_like(frame(noisy))
        ahead, pace, gap = dual, 1.0, float("inf")
        for step in range(1, self.max_iterations + 1):
            moved = ahead + frame(noisy - frame.adjoint(ahead))
            moved = moved.clamp(-limits, limits)
            if float(((ahead - moved) * (moved - dual)).sum()) > 0:
                pace, ahead = 1.0, moved
            else:
                next_pace = (1 + (1 + 4 * pace**2) ** 0.5) / 2
                ahead = moved + (pace - 1) / next_pace * (moved - dual)
                pace = next_pace
            dual = moved
            if step % _CHECK_EVERY == 0 or step == self.max_iterations:
                gap = self._gap(noisy, dual, limits)
                if gap <= self.tolerance:
                    return dual, step, gap
        return dual, self.max_iterations, gap

    def _gap(self, noisy: Tensor, dual: Tensor, limits: Tensor) -> float:
        frame = self._frame(noisy)
        pushed = frame.adjoint(dual)
        coefficients = frame(noisy - pushed)
        penalty = (limits * coefficients.abs()).sum()
        value = pushed.square().sum() / 2 + penalty
        return float((penalty - (dual * coefficients).sum()) / value.clamp(min=1e-300))

    def switches(self, noisy: Float[Tensor, "batch height width"]) -> Bool[Tensor, "batch switch"]:
        """Return which atoms are selected; those of the coarse image always are, and left out."""
        duals = [self.dual_solution(image)[0] for image in noisy.double()]
        chosen = [self._selected(dual)[1:].flatten() for dual in duals]
        return torch.stack(chosen)

    def linear_map(self, noisy: Float[Tensor, "height width"]) -> LinearOperator:
        """Return P, the same at all inputs that select the same atoms."""
        dual = self.dual_solution(noisy.double())[0]
        return _Projection(self._frame(noisy), ~self._selected(dual))

    def basis_at(self, noisy: Float[Tensor, "height width"], pixel: tuple[int, int]) -> PixelBasis:
        """Return P psi_i and psi_i for the selected atoms that touch the pixel."""
        noisy = noisy.double()
        dual = self.dual_solution(noisy)[0]
        selected = self._selected(dual)
        projection = _Projection(self._frame(noisy), ~selected)
        frame = self._frame(noisy)
        atoms, _ = atoms_at(frame, pixel, selected)
        analysis = torch.cat([projection(some) for some in atoms.split(_ATOMS_TOGETHER)])
        offset = -projection(frame.adjoint(dual * selected))
        coefficients = (analysis * noisy).sum((1, 2))
        return PixelBasis(pixel, analysis, atoms, coefficients, float(offset[pixel]))

    def _frame(self, image: Tensor) -> WaveletFrame:
        return frame_of((image.shape[-2], image.shape[-1]), self.wavelet, self.num_levels)

    def _selected(self, dual: Tensor) -> Tensor:
        return dual.abs() >= self.thresholds.to(dual)


class _Projection(LinearOperator):
    """P = I - G^+ G with G = T_I* T_I, onto the images that T_I maps to zero."""

    def __init__(self, frame: WaveletFrame, idle: Bool[Tensor, "subband height width"]) -> None:
        super().__init__()
        self.gram_of_idle = _IdleGram(frame, idle)
        self.input_shape = self.output_shape = tuple(idle.shape[-2:])

    def forward(self, x: Tensor) -> Tensor:
        shape = self.input_shape
        found, info = conjugate_gradient(
            self.gram_of_idle,
            self.gram_of_idle(x),
            shape=shape,
            tolerance=_PROJECTION_TOLERANCE,
            num_iterations=_PROJECTION_ITERATIONS,
        )
        if not info.converged:
            raise RuntimeError(
                f"the projection onto the selected atoms did not converge: residual "
                f"{float(info.residual.max()):.1e} after {info.num_iterations} iterations"
            )
        return x - found

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)


class _IdleGram(LinearOperator):
    idle: Tensor

    def __init__(self, frame: WaveletFrame, idle: Tensor) -> None:
        super().__init__()
        self.frame = frame
        self.register_buffer("idle", idle, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frame.adjoint(self.idle * self.frame(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.forward(y)
