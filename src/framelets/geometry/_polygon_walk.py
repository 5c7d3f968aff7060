"""Send a plane of images through a network, layer by layer, and cut it at every boundary.

On a plane every tensor of a piecewise-linear network is affine in each of finitely many convex
polygons. It is kept by its affine function in every polygon: a constant and two slopes. A linear
operation maps these. An operation that bends first cuts each polygon along the lines on which one
of its units switches, which are known there since the quantities that decide it are affine; then it
is replaced by its derivative inside each part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from framelets.geometry._polygon import TOLERANCE, Polygon, cut_by_largest, cut_by_lines
from framelets.geometry._segment_bends import Bend, EnvelopeBend, SignBend
from framelets.geometry._segment_walk import SegmentProgram


@dataclass(frozen=True)
class Cells:
    """Polygons, and the output as an affine function on each.

    Attributes:
        polygons: The polygons; labels of edges are indices of bends.
        outputs: Constant and two slopes of the output, shape `polygon 3 *output_shape`.
    """

    polygons: list[Polygon]
    outputs: Tensor


def cut_plane(
    program: SegmentProgram,
    axes: Tensor,
    polygon: Polygon,
    max_polygons: int,
) -> Cells:
    """Cut a polygon of the plane image + s axis_0 + t axis_1 at every boundary.

    Args:
        program: The network, recorded at the origin of the plane.
        axes: The two axes, shape `2 1 *sample`.
        polygon: In coordinates s, t.
        max_polygons: More are refused.

    Raises:
        ValueError: If there are more.
    """
    polygons = [polygon]
    held: dict[int, Tensor] = {0: torch.stack([program.image, *axes])[None]}
    for k, link in enumerate(program.links):
        values = [held[i] for i in link.inputs]
        number = program.bend_of.get(link.output)
        if number is None:
            linear = torch.vmap(torch.vmap(link.step.forward))
            result = linear(*values)
            if link.step.constant is not None:
                result = result.clone()
                result[:, 0] += link.step.constant
        else:
            bend = program.bends[number]
            polygons, parents = _cut(bend, number, polygons, values)
            if len(polygons) > max_polygons:
                raise ValueError(
                    f"the plane must have at most max_regions={max_polygons} regions, got "
                    f"{len(polygons)} at {bend.place}; take a smaller part of it, a smaller "
                    "network, or partition_map"
                )
            held = {i: value[parents] for i, value in held.items()}
            result = _bent(bend, polygons, [held[i] for i in link.inputs])
        held[link.output] = result
        program.forget(held, k)
    return Cells(polygons, held[program.target])


def _cut(
    bend: Bend, number: int, polygons: Sequence[Polygon], values: Sequence[Tensor]
) -> tuple[list[Polygon], Tensor]:
    """Cut each polygon where a unit switches; return the parts, and what each is a part of."""
    parts: list[Polygon] = []
    parents: list[int] = []
    for index, polygon in enumerate(polygons):
        affine = [value[index] for value in values]
        if isinstance(bend, SignBend):
            children = _cut_by_signs(bend, number, polygon, affine)
        elif isinstance(bend, EnvelopeBend):
            children = _cut_by_windows(bend, number, polygon, affine[0])
        parts += children
        parents += [index] * len(children)
    return parts, torch.tensor(parents)


def _cut_by_signs(
    bend: SignBend, number: int, polygon: Polygon, affine: Sequence[Tensor]
) -> list[Polygon]:
    # The quantities are affine in their inputs: three points give their three coefficients.
    constant = bend.quantities(*(u[0] for u in affine))
    ends = [bend.quantities(*(u[0] + u[axis] for u in affine)) for axis in (1, 2)]
    lines = torch.stack(
        [torch.cat([q.flatten() for q in quantities]) for quantities in (constant, *ends)]
    ).numpy()
    lines[1:] -= lines[0]
    return cut_by_lines(polygon, lines, _scales(polygon, lines), number)


def _cut_by_windows(
    bend: EnvelopeBend, number: int, polygon: Polygon, affine: Tensor
) -> list[Polygon]:
    entries, exists = bend.entries.numpy(), bend.exists.numpy()
    lines = bend.sign * affine.flatten(1).numpy()
    heights = lines[0] + polygon.corners @ lines[1:]
    limit = float(_scales(polygon, lines).max())
    in_windows = np.where(exists, heights[:, entries], -np.inf)
    best = in_windows.max(2, keepdims=True)
    undecided = ~(in_windows >= best - limit).all(0).any(1)
    parts = [polygon]
    for unit in np.flatnonzero(undecided):
        chosen = lines[:, entries[unit][exists[unit]]]
        parts = [c for part in parts for c in cut_by_largest(part, chosen, limit, number)]
    return parts


def _scales(polygon: Polygon, lines: np.ndarray) -> np.ndarray:
    size = np.abs(polygon.corners).max(0)
    scales: np.ndarray = TOLERANCE * (np.abs(lines[0]) + size @ np.abs(lines[1:]))
    return scales


def _bent(bend: Bend, polygons: Sequence[Polygon], values: Sequence[Tensor]) -> Tensor:
    """Apply an operation, affine in each polygon, to affine functions: by its derivative inside."""
    centers = torch.from_numpy(np.stack([polygon.center for polygon in polygons]))
    weights = torch.cat([torch.ones_like(centers[:, :1]), centers], dim=1)

    def at_one(weight: Tensor, *affine: Tensor) -> Tensor:
        points = tuple(torch.tensordot(weight, u, 1) for u in affine)

        def slope(*tangents: Tensor) -> Tensor:
            result: Tensor = torch.func.jvp(bend.apply, points, tangents)[1]
            return result

        slopes = torch.stack([slope(*(u[axis] for u in affine)) for axis in (1, 2)])
        constant = bend.apply(*points) - torch.tensordot(weight[1:], slopes, 1)
        return torch.cat([constant[None], slopes])

    result: Tensor = torch.vmap(at_one)(weights, *values)
    return result
