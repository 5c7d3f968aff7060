"""Convex polygons in the plane that remember what drew each of their edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

TOLERANCE = 1e-12
"""Of a distance, relative to the size of the plane: nearer to a line is on it."""


@dataclass(frozen=True)
class Polygon:
    """A convex polygon.

    Attributes:
        corners: In order.
        labels: Of the edge from each corner to the next, what drew it: -1 for the border.
    """

    corners: Float[np.ndarray, "corner 2"]
    labels: Int[np.ndarray, " corner"]

    @property
    def area(self) -> float:
        """The area."""
        (x, y), (u, v) = self.corners.T, np.roll(self.corners, -1, axis=0).T
        return float(abs(np.sum(x * v - y * u)) / 2)

    @property
    def center(self) -> Float[np.ndarray, " 2"]:
        """The mean of the corners, which lies inside."""
        center: np.ndarray = self.corners.mean(axis=0)
        return center

    def cut(
        self, heights: Float[np.ndarray, " corner"], label: int
    ) -> tuple["Polygon | None", "Polygon | None"]:
        """Cut along the zero line of an affine function.

        Args:
            heights: The function at the corners; exactly zero where a corner is on the line.
            label: Of the new edge.

        Returns:
            The parts where the function is positive and negative; None for one without inside.
        """
        if not (heights > 0).any():
            return None, self
        if not (heights < 0).any():
            return self, None
        return self._part(heights, label), self._part(-heights, label)

    def _part(self, heights: Float[np.ndarray, " corner"], label: int) -> "Polygon":
        corners, labels = [], []
        for k, height in enumerate(heights):
            after = (k + 1) % len(heights)
            if height >= 0:
                corners.append(self.corners[k])
                # Where the polygon goes on below, this edge is the cut.
                labels.append(label if height == 0 and heights[after] < 0 else self.labels[k])
            if height * heights[after] < 0:
                share = height / (height - heights[after])
                corners.append(self.corners[k] + share * (self.corners[after] - self.corners[k]))
                labels.append(label if height > 0 else self.labels[k])
        return Polygon(np.array(corners), np.array(labels))


def cut_by_lines(
    polygon: Polygon,
    lines: Float[np.ndarray, "3 line"],
    scales: Float[np.ndarray, " line"],
    label: int,
) -> list[Polygon]:
    """Cut a polygon along the zero lines of affine functions.

    Args:
        polygon: What to cut.
        lines: Constant and two slopes of each function.
        scales: For each function, what its values are rounded to zero against.
        label: Of the new edges.
    """
    pending, done = [(polygon, lines, scales)], []
    while pending:
        part, left, limits = pending.pop()
        heights = _heights(part, left)
        heights[np.abs(heights) <= limits] = 0
        crossing = (heights > 0).any(0) & (heights < 0).any(0)
        if not crossing.any():
            done.append(part)
            continue
        left, limits, heights = left[:, crossing], limits[crossing], heights[:, crossing]
        for child in part.cut(heights[:, 0], label):
            if child is not None:
                pending.append((child, left[:, 1:], limits[1:]))
    return done


def cut_by_largest(
    polygon: Polygon, lines: Float[np.ndarray, "3 line"], scale: float, label: int
) -> list[Polygon]:
    """Cut a polygon into the parts in which each of some affine functions is the largest."""
    heights = _heights(polygon, lines)
    best = heights.max(1, keepdims=True)
    if (heights >= best - scale).all(0).any():
        return [polygon]  # one is the largest at every corner, and so everywhere
    parts = []
    for j in range(lines.shape[1]):
        part: Polygon | None = polygon
        for k in range(lines.shape[1]):
            if part is None:
                break
            difference = _heights(part, (lines[:, j] - lines[:, k])[:, None])[:, 0]
            difference[np.abs(difference) <= scale] = 0
            if k != j and (difference < 0).any():
                part = part.cut(difference, label)[0]
            elif k < j and not difference.any():
                part = None  # equal functions: the first of them has this part
        if part is not None:
            parts.append(part)
    return parts


def _heights(
    polygon: Polygon, lines: Float[np.ndarray, "3 line"]
) -> Float[np.ndarray, "corner line"]:
    heights: np.ndarray = lines[0] + polygon.corners @ lines[1:]
    return heights


def rectangle(
    low: Sequence[float] | Float[np.ndarray, " 2"], high: Sequence[float] | Float[np.ndarray, " 2"]
) -> Polygon:
    """Return the rectangle between two corners."""
    (a, b), (c, d) = low, high
    corners = np.array([[a, b], [c, b], [c, d], [a, d]], dtype=np.float64)
    return Polygon(corners, np.full(4, -1))
