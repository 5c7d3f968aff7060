"""What the page shows at a pixel that is clicked: its value as a sum, its atoms, its frame pairs.

At an output pixel p the network is, exactly,

    f(x)[p] = (L x)[p] + b[p],    (L x)[p] = sum_i <b_i, x> b~_i[p],

with the frame vectors b_i, b~_i of the cut where the encoder ends. All i are summed by the tensor
that they belong to (the bottom, one for each skip); of every tensor the pair that contributes most
is kept as images, so that atoms of all resolutions are seen. A network that takes a scan has
vectors b_i of rays; the page shows A* b_i, and the row and the column of L A, from an object by way
of the scan A to the image.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from framelets.commands.atom_store import AtomStore
from framelets.commands.pixels import Pixel
from framelets.commands.stages import Progress, silent
from framelets.core import LinearOperator
from framelets.geometry import LocalMap


def explain_grid(
    local: LocalMap,
    store: AtomStore,
    pixels: Sequence[Pixel],
    num: int,
    num_pairs: int,
    *,
    projector: LinearOperator | None = None,
    maps: Mapping[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Take apart the output at a grid of pixels.

    Args:
        local: A network at an image, or at a scan.
        store: Where the atoms go.
        pixels: Pixels of the output to have beside the grid.
        num: Rows and columns of the grid.
        num_pairs: Most frame pairs to keep at each pixel; one of a tensor.
        projector: The scan A, if the network takes one.
        maps: Images to read off at every pixel, of the output's shape, by name.
        progress: Called with the share that is done.

    Returns:
        `tensors`, the coefficients at the cut, by shape and whether they are the input itself;
        `points`, for each pixel its values and the numbers of its atoms; `through_scan`; or
        `missing`, why there is none.
    """
    progress = progress or silent("atoms")
    reason = why_not(local, projector)
    if reason or num == 0:
        return {"missing": reason or "it was not asked for (--grid 0)"}
    places = grid_places(local.output.shape[-2:], num, pixels)
    coefficients = local.analysis(local.image)
    if coefficients.is_complex() or len(coefficients) != sum(map(prod, local.coefficient_shapes)):
        return {"missing": "the network computes with complex numbers"}
    read_off = {name: image.reshape(local.output.shape)[0] for name, image in (maps or {}).items()}
    pairs = _Pairs(local, store, projector, coefficients)
    linear = local.output - local.offset
    points: list[dict[str, Any]] = []
    for row, column in places:
        unit = _unit(local.output, row, column)
        dual = local.synthesis.adjoint(unit)
        weights = local.analysis.adjoint(dual)  # the row of L, without going through L again
        source = (row, column)
        if projector is None:
            size, whole = local.image.shape[-2:], local.output.shape[-2:]
            source = (row * size[0] // whole[0], column * size[1] // whole[1])
            response = local.frozen(_unit(local.image, *source))
        else:
            weights = projector.adjoint(weights)
            ones = _unit(local.output, row, column)[:1]
            response = local.frozen(projector(ones).reshape(local.image.shape))
        shares = dual * coefficients
        points.append(
            {
                "row": row,
                "column": column,
                "output": float(local.output[0, row, column]),
                "linear": float(linear[0, row, column]),
                "offset": float(local.offset[0, row, column]),
                **{name: float(image[row, column]) for name, image in read_off.items()},
                "row_atom": store.add(weights, source),
                "column_atom": store.add(response, (row, column)),
                "parts": [float(part.sum()) for part in shares.split(pairs.sizes)],
                "pairs": pairs.at(shares, num_pairs),
            }
        )
        progress(len(points) / len(places))
    return {
        "tensors": _tensors(local, coefficients),
        "through_scan": projector is not None,
        "points": points,
    }


def why_not(local: LocalMap, projector: LinearOperator | None) -> str:
    """Say why the page has no atoms of a network; "" if it has."""
    if local.output.is_complex() or local.image.is_complex():
        return "the images are complex"
    if local.output.ndim != 3 or local.image.ndim != 3:
        return "the images are not of two dimensions"
    if projector is not None and local.output.shape[0] != 1:
        return "the network makes several channels from one scan"
    return ""


def grid_places(
    shape: Sequence[int], num: int, pixels: Sequence[Pixel] = ()
) -> list[tuple[int, int]]:
    """Return the middles of num x num equal cells of an image, and some pixels beside them.

    Example:
        >>> grid_places((8, 6), 2, [Pixel("edge", 0, 5)])
        [(2, 1), (2, 4), (6, 1), (6, 4), (0, 5)]
    """
    height, width = shape
    rows, columns = ((2 * torch.arange(num) + 1) * size // (2 * num) for size in (height, width))
    grid = [(row, column) for row in rows.unique().tolist() for column in columns.unique().tolist()]
    beside = [(p.row, p.column) for p in pixels if p.row < height and p.column < width]
    return list(dict.fromkeys([*grid, *beside]))


class _Pairs:
    """The frame vectors of a network at one image; each is computed once."""

    def __init__(
        self,
        local: LocalMap,
        store: AtomStore,
        projector: LinearOperator | None,
        coefficients: Tensor,
    ) -> None:
        self._local, self._store, self._projector = local, store, projector
        self._coefficients = coefficients
        self.sizes = [prod(shape) for shape in local.coefficient_shapes]
        self._known: dict[int, tuple[int, int]] = {}

    def at(self, shares: Tensor, num: int) -> list[dict[str, Any]]:
        """Describe the pair of the largest share of each tensor, the largest of all first."""
        first, chosen = 0, []
        for size in self.sizes:
            index = first + int(shares[first : first + size].abs().argmax())
            chosen.append((index, float(shares[index])))
            first += size
        chosen.sort(key=lambda found: -abs(found[1]))
        return [self._describe(index, share) for index, share in chosen[:num]]

    def _describe(self, index: int, contribution: float) -> dict[str, Any]:
        tensor, first = _tensor_of(index, self.sizes)
        coefficient = float(self._coefficients[index])
        if index not in self._known:
            unit = torch.zeros_like(self._coefficients)
            unit[index] = 1
            analysis = self._local.analysis.adjoint(unit)
            if self._projector is not None:
                analysis = self._projector.adjoint(analysis)
            synthesis = self._local.synthesis(unit)
            self._known[index] = (self._store.add(analysis), self._store.add(synthesis))
        analysis_atom, synthesis_atom = self._known[index]
        return {
            "tensor": tensor,
            "unit": unravel(index - first, self._local.coefficient_shapes[tensor]),
            "coefficient": coefficient,
            "contribution": contribution,
            "analysis_atom": analysis_atom,
            "synthesis_atom": synthesis_atom,
        }


def unravel(index: int, shape: Sequence[int]) -> list[int]:
    """Turn an index into a flattened tensor into indices, without a batch axis of one."""
    found = []
    for size in reversed(shape):
        index, place = divmod(index, size)
        found.append(place)
    return found[::-1][1 if shape[0] == 1 and len(shape) > 1 else 0 :]


def _tensors(local: LocalMap, coefficients: Tensor) -> list[dict[str, Any]]:
    parts = coefficients.split([prod(shape) for shape in local.coefficient_shapes])
    given = local.image.flatten()
    return [
        {"shape": list(shape), "is_image": torch.equal(part, given)}
        for shape, part in zip(local.coefficient_shapes, parts, strict=True)
    ]


def _tensor_of(index: int, sizes: Iterable[int]) -> tuple[int, int]:
    first = 0
    for number, size in enumerate(sizes):
        if index < first + size:
            return number, first
        first += size
    raise IndexError(index)


def _unit(like: Tensor, row: int, column: int) -> Tensor:
    unit = torch.zeros_like(like)
    unit[0, row, column] = 1
    return unit
