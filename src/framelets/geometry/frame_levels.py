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
from typing import Any

import torch
from torch import Tensor

from framelets.core import LinearOperator
from framelets.core.spectral import singular_triplets
from framelets.frames import frame_bounds
from framelets.geometry._level_maps import LevelMaps
from framelets.geometry._replay import ReplayedMap
from framelets.geometry.linearize import LocalMap

_TOLERANCE = 1e-3
"""Largest residual of an upper bound, relative to it."""


@dataclass(frozen=True)
class Level:
    """One level at which the resolution falls.

    Attributes:
        name: Path of the module that pools.
        skip: True if the tensor is also passed on at full resolution.
        lower: Lower frame bound; zero exactly where the level has fewer coefficients than entries
            and no skip.
        upper: Upper frame bound, found to a residual of 0.1 %; `lower` of a level that has as many
            coefficients as entries to 0.2 % of it.
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
    return [level_of(maps, generator) for maps in local.levels()]


def level_of(maps: LevelMaps, generator: torch.Generator) -> Level:
    """Compute the frame bounds of one level."""
    analysis = Stacked([pooling.operator for pooling in maps.poolings])
    (entries,), (coefficients,) = analysis.input_shape, analysis.output_shape
    forgets = coefficients < entries  # then the lower bound is zero, by rank
    factor = scalar_of(analysis.H if forgets else analysis, analysis.dtype, generator)
    if factor is not None:
        lower, upper = (0.0 if forgets else factor), factor
    else:
        lower, upper = _searched(analysis, maps.name, forgets, generator)
    identity = 1.0 if maps.skip else 0.0
    return Level(
        maps.name,
        maps.skip,
        identity + lower,
        identity + upper,
        entries,
        coefficients + (entries if maps.skip else 0),
    )


def scalar_of(
    operator: LinearOperator, dtype: torch.dtype, generator: torch.Generator
) -> float | None:
    """Return c of A* A = c I for an operator A, or None.

    One random x decides, up to chance zero: it is an eigenvector only if all x are.
    """
    shape = operator.input_shape or (0,)
    x = torch.randn(shape, dtype=dtype, device=generator.device, generator=generator)
    again = operator.adjoint(operator(x))
    factor = float(torch.vdot(x, again).real / torch.linalg.vector_norm(x) ** 2)
    deviation = torch.linalg.vector_norm(again - factor * x)
    limit = torch.finfo(dtype).eps ** 0.75 * torch.linalg.vector_norm(again)
    return factor if factor > 0 and bool(deviation <= limit) else None


def _searched(
    analysis: "Stacked", name: str, forgets: bool, generator: torch.Generator
) -> tuple[float, float]:
    options: dict[str, Any] = {"dtype": analysis.dtype, "device": analysis.device}
    options |= {"generator": generator, "tolerance": _TOLERANCE}
    if not forgets:
        return frame_bounds(analysis, **options)
    triplets = singular_triplets(analysis, 1, **options)
    if not triplets.converged:
        raise ArithmeticError(
            f"the frame bounds of {name} did not reach the tolerance {_TOLERANCE} in "
            f"{triplets.num_products} products; record the network at a smaller image"
        )
    return 0.0, float(triplets.values[0]) ** 2


class Stacked(LinearOperator):
    """Several operators on one vector, their outputs side by side."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        """Take operators from one flattened image to vectors."""
        super().__init__()
        self._operators = list(operators)
        first = self._operators[0]
        self.input_shape = first.input_shape or (0,)
        self.output_shape = (sum((o.output_shape or (0,))[0] for o in self._operators),)
        self.dtype = first.input_dtype if isinstance(first, ReplayedMap) else torch.float32
        self.device = first.device if isinstance(first, ReplayedMap) else torch.device("cpu")

    def forward(self, x: Tensor) -> Tensor:
        """Apply all of them."""
        return torch.cat([operator(x) for operator in self._operators], -1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Add up their adjoints."""
        sizes = [(o.output_shape or (0,))[0] for o in self._operators]
        parts = zip(self._operators, torch.split(y, sizes, -1), strict=True)
        total: Tensor = sum(operator.adjoint(part) for operator, part in parts)  # type: ignore[assignment]
        return total
