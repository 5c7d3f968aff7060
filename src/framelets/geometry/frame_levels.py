"""Frame bounds of every level at which a network lowers the resolution.

Where a tensor u is pooled (Phi^T u) and also passed on by a skip, the network analyzes it with
T = [I, Phi]^T; its frame bounds are the extreme eigenvalues of T* T = I + Phi Phi^T. A lower bound
of zero means that the level forgets part of u; unequal bounds mean that it counts some of u twice,
as a plain U-Net does with low frequencies: bounds 1 and 2 for an orthonormal average, 1 and 1.25
for the 2x2 mean [1].

References:
    [1] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framelets.core import LinearOperator
from framelets.frames import frame_bounds
from framelets.geometry._replay import ReplayedMap
from framelets.geometry.linearize import LocalMap


@dataclass(frozen=True)
class Level:
    """One level at which the resolution falls.

    Attributes:
        name: Path of the module that pools.
        skip: True if the tensor is also passed on at full resolution.
        lower: Lower frame bound; zero exactly where the level has fewer coefficients than entries
            and no skip.
        upper: Upper frame bound. Beyond 1024 entries it is found to a residual of 0.1 %,
            `lower` to 0.2 % of it.
        num_entries: Entries of the tensor that is pooled.
        num_coefficients: What is left of it: pooled coefficients and skip together.
    """

    name: str
    skip: bool
    lower: float
    upper: float
    num_entries: int
    num_coefficients: int


def frame_levels(local: LocalMap, *, generator: torch.Generator | None = None) -> list[Level]:
    """Compute the frame bounds of every level of a network at an image.

    Args:
        local: A network at an image; slopes and selections (max pooling) are those of this image.
        generator: Source of the starting vectors.

    Returns:
        The levels from fine to coarse, in the order in which they run.

    Example:
        >>> from framelets.geometry import linearize
        >>> local = linearize(torch.nn.AvgPool2d(2), torch.ones(1, 1, 4, 4))
        >>> [(level.skip, level.lower, round(level.upper, 3)) for level in frame_levels(local)]
        [(False, 0.0, 0.25)]
    """
    generator = generator or torch.Generator(local.image.device).manual_seed(0)
    return [_level(*level, generator) for level in local.levels()]


def _level(
    name: str, skip: bool, poolings: Sequence[LinearOperator], generator: torch.Generator
) -> Level:
    analysis = _Stacked(poolings)
    (entries,) = analysis.input_shape
    coefficients = sum(int((p.output_shape or (0,))[0]) for p in poolings)
    lower, upper = frame_bounds(
        analysis, dtype=analysis.dtype, device=analysis.device, generator=generator, tolerance=1e-3
    )
    if coefficients < entries:
        lower = 0.0  # by rank; what was computed is rounding
    identity = 1.0 if skip else 0.0
    return Level(
        name,
        skip,
        identity + lower,
        identity + upper,
        entries,
        coefficients + (entries if skip else 0),
    )


class _Stacked(LinearOperator):
    """Several operators on one vector, their outputs side by side."""

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        super().__init__()
        self._operators = list(operators)
        first = self._operators[0]
        self.input_shape: tuple[int, ...] = first.input_shape or (0,)
        self.output_shape = (sum((o.output_shape or (0,))[0] for o in self._operators),)
        self.dtype = first.input_dtype if isinstance(first, ReplayedMap) else torch.float32
        self.device = first.device if isinstance(first, ReplayedMap) else torch.device("cpu")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([operator(x) for operator in self._operators], -1)

    def adjoint(self, y: Tensor) -> Tensor:
        sizes = [(o.output_shape or (0,))[0] for o in self._operators]
        parts = zip(self._operators, torch.split(y, sizes, -1), strict=True)
        total: Tensor = sum(operator.adjoint(part) for operator, part in parts)  # type: ignore[assignment]
        return total
