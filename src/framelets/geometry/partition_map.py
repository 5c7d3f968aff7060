"""The partition of a plane of images for networks of any size: a map of patterns, refined.

A region of the input space, all images with one activation pattern, is a convex polytope: given the
pattern, every unit is an affine function of the image, and the signs of these are what the pattern
says. So if the four corners of a square share a pattern, the whole square lies in their region, and
nothing inside it has to be looked at. The map starts from coarse squares and divides those whose
corners differ, down to single pixels.

What it says is therefore exact at every corner of a pixel, and in every pixel with one pattern; a
pixel whose corners differ holds at least one boundary, and may hold regions that no corner shows.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from framelets.geometry._segment_walk import SegmentProgram, in_double
from framelets.geometry.linearize import linearize
from framelets.geometry.local_lipschitz import local_lipschitz
from framelets.geometry.partition_plane import ImagePlane
from framelets.geometry.partition_segment import BoundaryLayer, layers_of


@dataclass(frozen=True, eq=False)
class PartitionMap:
    """Patterns on a grid of a plane; rows follow the second axis of the plane, upwards.

    Attributes:
        plane: The plane.
        half_width: Half the side of the square, in units of the image norm.
        layers: The operations that draw boundaries.
        pixel_size: Side of a pixel, in units of the image norm: the resolution of the map.
        patterns: At each corner of a pixel, which of the patterns that were met it has.
        layer_patterns: The same of each layer alone.
        num_evaluated: At how many corners the network was run; the others follow by convexity.
        gains: On a coarse grid over the square, K_p = |J| as a certified lower bound
            (`local_lipschitz`); None if not asked for.
    """

    plane: ImagePlane
    half_width: float
    layers: tuple[BoundaryLayer, ...]
    pixel_size: float
    patterns: Int[np.ndarray, "corner_row corner_column"]
    layer_patterns: Int[np.ndarray, "layer corner_row corner_column"]
    num_evaluated: int
    gains: Float[np.ndarray, "coarse_row coarse_column"] | None

    @property
    def num_patterns(self) -> int:
        """How many patterns were met: a certified lower bound of the regions of the square."""
        return len(np.unique(self.patterns))

    @property
    def uniform(self) -> Bool[np.ndarray, "row column"]:
        """The pixels that lie in one region: exact."""
        first = self.patterns[:-1, :-1]
        others = (self.patterns[1:, :-1], self.patterns[:-1, 1:], self.patterns[1:, 1:])
        uniform: np.ndarray = np.logical_and.reduce([first == other for other in others])
        return uniform

    @property
    def first_layers(self) -> Int[np.ndarray, "row column"]:
        """Of each pixel, the first layer whose pattern differs at its corners; -1 for none."""
        maps = self.layer_patterns
        first = maps[:, :-1, :-1]
        others = (maps[:, 1:, :-1], maps[:, :-1, 1:], maps[:, 1:, 1:])
        differs = np.logical_or.reduce([first != other for other in others])
        found: np.ndarray = np.where(differs.any(0), differs.argmax(0), -1)
        return found


def partition_map(
    network: nn.Module | Callable[[Tensor], Tensor],
    images: Sequence[Tensor],
    *,
    half_width: float | None = None,
    num_pixels: int = 64,
    coarsest: int = 8,
    num_gains: int = 0,
    forward: Callable[..., Tensor] | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> PartitionMap:
    """Map the regions of a square of the plane through three images.

    The cost is one pass in double precision for every corner that is evaluated: at most
    (num_pixels + 1)^2, where boundaries are everywhere.

    Args:
        network: A piecewise-linear network in evaluation mode, or a function of one tensor that
            takes double precision.
        images: Three real images with a batch axis of one, not on one line.
        half_width: Half the side of the square around their mean, in units of the image norm;
            default: so that it holds the three images with a margin of a quarter.
        num_pixels: Pixels along a side; their size is the resolution.
        coarsest: Side in pixels of the squares to start from; a divisor of `num_pixels` and a power
            of two.
        num_gains: Bound K_p on a grid of so many points along a side; 0 for none.
        forward: How to call the network, if not `network(image)`.
        generator: Source of the starts of `local_lipschitz`.
        progress: Called with a share that is done, at least, from 0 to 1.

    Raises:
        ValueError: If the network is not piecewise linear, the images lie on a line, or the sizes
            do not divide.

    Example:
        >>> images = [torch.tensor([point]) for point in ([-1.0, -1], [1.0, -1], [0.0, 2])]
        >>> partition_map(torch.nn.ReLU(), images, num_pixels=16).num_patterns
        4
    """
    if coarsest < 1 or coarsest & (coarsest - 1) or num_pixels < 1 or num_pixels % coarsest:
        raise ValueError(
            "coarsest must be a power of two that divides num_pixels, got "
            f"{coarsest} and {num_pixels}"
        )
    plane = ImagePlane.through(images)
    doubled, _ = in_double(network, images[0])
    program = SegmentProgram(doubled, plane.center, forward)
    width = plane.half_width if half_width is None else half_width
    grid = _Grid(program, plane, width, num_pixels, progress)
    for row in range(0, num_pixels, coarsest):
        for column in range(0, num_pixels, coarsest):
            grid.fill(row, column, coarsest)
    gains = None
    if num_gains:
        places = width * ((2 * np.arange(num_gains) + 1) / num_gains - 1)
        gains = np.array(
            [
                [
                    local_lipschitz(
                        linearize(doubled, plane.image((s, t)), forward), generator=generator
                    ).lower
                    for s in places
                ]
                for t in places
            ]
        )
    return PartitionMap(
        plane=plane,
        half_width=width,
        layers=layers_of(program),
        pixel_size=2 * width / num_pixels,
        patterns=grid.patterns,
        layer_patterns=grid.layer_patterns,
        num_evaluated=grid.num_evaluated,
        gains=gains,
    )


class _Grid:
    """The corners of all pixels, filled square by square."""

    def __init__(
        self,
        program: SegmentProgram,
        plane: ImagePlane,
        half_width: float,
        num_pixels: int,
        progress: Callable[[float], None] | None,
    ) -> None:
        self._program, self._plane, self._progress = program, plane, progress
        self._places = np.linspace(-half_width, half_width, num_pixels + 1)
        num_corners = num_pixels + 1
        num_layers = len(program.bends)
        self.patterns = np.full((num_corners, num_corners), -1)
        self.layer_patterns = np.full((num_layers, num_corners, num_corners), -1)
        self._known: list[dict[bytes, int]] = [{} for _ in range(num_layers + 1)]
        self.num_evaluated = 0
        self._num_pixels_done = 0

    def fill(self, row: int, column: int, size: int) -> None:
        """Fill a square: by its corners if they agree, else by its four quarters."""
        corners = [(row + i, column + j) for i in (0, size) for j in (0, size)]
        for corner in corners:
            if self.patterns[corner] < 0:
                self._evaluate(*corner)
        if size == 1 or len({self.patterns[corner] for corner in corners}) == 1:
            inside = (slice(row, row + size + 1), slice(column, column + size + 1))
            if size > 1:
                self.patterns[inside] = self.patterns[row, column]
                self.layer_patterns[:, *inside] = self.layer_patterns[:, row, column, None, None]
            self._num_pixels_done += size**2
            if self._progress is not None:
                self._progress(self._num_pixels_done / (len(self._places) - 1) ** 2)
            return
        half = size // 2
        for i in (0, half):
            for j in (0, half):
                self.fill(row + i, column + j, half)

    def _evaluate(self, row: int, column: int) -> None:
        image = self._plane.image((self._places[column], self._places[row]))
        digests = [
            hashlib.blake2b(bits, digest_size=16).digest() for bits in self._program.patterns(image)
        ]
        whole = hashlib.blake2b(b"".join(digests), digest_size=16).digest()
        for layer, digest in enumerate(digests):
            known = self._known[layer]
            self.layer_patterns[layer, row, column] = known.setdefault(digest, len(known))
        known = self._known[-1]
        self.patterns[row, column] = known.setdefault(whole, len(known))
        self.num_evaluated += 1
