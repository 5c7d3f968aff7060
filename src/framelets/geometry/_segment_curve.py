"""A piecewise-linear curve, kept by its values at knots; between neighboring knots it is affine."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Curve:
    """What one tensor of a network does along a segment.

    Attributes:
        positions: The knots, ascending, without repetitions.
        values: The tensor at each knot; never written to, so that curves may share them.
    """

    positions: Tensor
    values: Sequence[Tensor]

    def at(self, positions: Tensor) -> list[Tensor]:
        """Interpolate between knots: exact, since the curve is affine there.

        Args:
            positions: Where; between the first and the last knot.
        """
        below = torch.searchsorted(self.positions, positions, right=True) - 1
        after = (below + 1).clamp(max=len(self.positions) - 1)
        width = self.positions[after] - self.positions[below]
        shares = torch.where(width > 0, (positions - self.positions[below]) / width, 0.0)
        return [
            torch.lerp(self.values[i], self.values[j], share) if share else self.values[i]
            for i, j, share in zip(below.tolist(), after.tolist(), shares.tolist(), strict=True)
        ]

    def until(self, end: float) -> "Curve":
        """Cut the curve off at a position, which becomes its last knot."""
        kept = self.positions[self.positions < end]
        positions = torch.cat([kept, kept.new_tensor([end])])
        return Curve(positions, self.at(positions))


def together(curves: Sequence[Curve]) -> tuple[Tensor, list[Sequence[Tensor]]]:
    """Bring curves to the knots of them all.

    Returns:
        The knots, and the values of each curve there.
    """
    first = curves[0].positions
    if all(torch.equal(curve.positions, first) for curve in curves[1:]):
        return first, [curve.values for curve in curves]
    positions = torch.unique(torch.cat([curve.positions for curve in curves]))
    return positions, [curve.at(positions) for curve in curves]
