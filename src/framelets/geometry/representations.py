"""How many linear maps a network is seen to choose from: counts on patches and along segments.

A pixel of the output is a function of the patch around it. Its linear maps are told apart by the
frequency response of their filters (`filter_keys`), its activation patterns by the pieces of all
units that can reach it. Two patterns may have one map: a unit that is off further on, or that
nobody reads, changes nothing.

A network that pools is not one such function but several, one for each place of the pixel in its
pooling block: patches are counted at one place. No count can exceed the number of patches; how it
grows with them says whether it is limited by the network or by their number. Along a segment,
crossings per length have no such limit, nor, for long, have maps that are told apart at a
coarse resolution only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from framelets.geometry._image_graph import images_of
from framelets.geometry._reach import Reach, reach_of, shapes_at_bends
from framelets.geometry._segment_walk import SegmentProgram, in_double
from framelets.geometry.filter_keys import count_distinct, filter_keys
from framelets.geometry.linearize import linearize
from framelets.geometry.partition_segment import SegmentPartition

_NUM_HASHES = 2
_HASH_RANGE = 2**24  # sums over 2^28 units stay below 2^53, where doubles are exact


@dataclass(frozen=True)
class RepresentationCount:
    """Distinct activation patterns and linear maps of one pixel's function on patches.

    Exact counts on these inputs, up to collisions of keys; lower bounds of how many there are.

    Attributes:
        num_patches: Patches that were looked at, all at one place of the pooling grid.
        num_patterns: Distinct patterns of the units that can reach the pixel.
        num_maps: Distinct linear maps.
        growth: Patches, patterns and maps among the first so many in random order.
        period: Pooling blocks have this size: the distance of the patches' centers.
        num_patches_everywhere: Pixels at all places, which are period^2 functions.
        num_maps_everywhere: Distinct linear maps among them.
        num_coarse_maps_everywhere: The same at a coarse resolution: cells of the space of frequency
            responses that are met.
        growth_everywhere: Patches, maps and coarse maps among the first so many in random order.
    """

    num_patches: int
    num_patterns: int
    num_maps: int
    growth: tuple[tuple[int, int, int], ...]
    period: int
    num_patches_everywhere: int
    num_maps_everywhere: int
    num_coarse_maps_everywhere: int
    growth_everywhere: tuple[tuple[int, int, int], ...]

    @property
    def saturated(self) -> bool:
        """Whether nearly every patch has a map of its own, so that their number is the limit."""
        return self.num_maps > 0.9 * self.num_patches

    def __str__(self) -> str:
        """Write the counts, and what they are worth."""
        limit = "limited by the number of patches" if self.saturated else "below it"
        return (
            f"{self.num_maps} linear maps and {self.num_patterns} patterns on {self.num_patches} "
            f"patches ({limit}): exact on these inputs, lower bounds of how many there are"
        )


@dataclass(frozen=True)
class SegmentRepresentations:
    """Patterns and linear maps along a segment; exact up to rounding.

    Attributes:
        num_patterns: Pieces of the segment: regions are convex, so that no pattern returns.
        num_maps: Pieces whose slope differs from that of the piece before, and the first.
        length: Norm of the image's change.
    """

    num_patterns: int
    num_maps: int
    length: float


def count_representations(
    network: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, "batch channel height width"],
    *,
    margin: int | None = None,
    period: int | None = None,
    forward: Callable[..., Tensor] | None = None,
    counted_at: Sequence[int] = (100, 1_000, 10_000, 100_000),
    resolution: float = 1e-8,
    coarse_resolution: float = 0.1,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> RepresentationCount:
    """Count the activation patterns and linear maps that the patches of images meet.

    Each image costs about ten passes in double precision, however many patches it has. The output
    has the images' height and width; of several channels the first is looked at for patterns, all
    for maps.

    Args:
        network: A piecewise-linear convolutional network in evaluation mode, or a function of one
            tensor that takes double precision.
        images: Images whose pixels away from the border are the inputs, with their patches.
        margin: Pixels nearer to the border than this are left out; at least, and by default, as
            far as the network sees.
        period: Distance of the patches' centers, a multiple of the network's own; default: the
            largest factor by which it lowers the resolution.
        forward: How to call the network, if not `network(image)`.
        counted_at: Numbers of patches at which the growth is told.
        resolution: Of the responses that tell maps apart, for filters with sums of about one.
        coarse_resolution: The same for coarse maps, which tells how far maps differ where every
            patch has its own.
        generator: Chooses the order of the patches; default: seed 0.
        progress: Called with the share that is done, from 0 to 1.

    Raises:
        ValueError: If the network is not piecewise linear, the margin is smaller than its reach or
            leaves no patch, or the period does not fit.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.ReLU())
        >>> images = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> count = count_representations(network, images)
        >>> count.num_patches, count.num_maps
        (256, 2)
    """
    doubled, first = in_double(network, images[:1])
    program = SegmentProgram(doubled, first, forward)
    grid = _Grid(program, margin, period)
    kept: tuple[list[Tensor], ...] = ([], [], [])
    with torch.no_grad():
        for number, image in enumerate(images.to(first.dtype)):
            local = linearize(doubled, image[None], forward)
            maps = filter_keys(local.frozen, image, resolution)
            kept[0].append(grid.pattern_keys(image[None]))
            kept[1].append(maps[grid.rows][:, grid.columns].flatten(0, 1))
            inner = (slice(grid.margin, -grid.margin or None),) * 2
            kept[2].append(maps[inner].flatten(0, 1))
            if progress is not None:
                progress((number + 1) / len(images))
    generator = generator or torch.Generator().manual_seed(0)
    patterns, maps, everywhere = (torch.cat(part) for part in kept)
    order = torch.randperm(len(maps), generator=generator)
    patterns, maps = patterns[order], maps[order]
    everywhere = everywhere[torch.randperm(len(everywhere), generator=generator)]
    step = round(coarse_resolution / resolution)
    coarse = (everywhere + step // 2).div(step, rounding_mode="floor")
    return RepresentationCount(
        num_patches=len(maps),
        num_patterns=count_distinct(patterns),
        num_maps=count_distinct(maps),
        growth=tuple(
            (n, count_distinct(patterns[:n]), count_distinct(maps[:n]))
            for n in counted_at
            if n < len(maps)
        ),
        period=grid.period,
        num_patches_everywhere=len(everywhere),
        num_maps_everywhere=count_distinct(everywhere),
        num_coarse_maps_everywhere=count_distinct(coarse),
        growth_everywhere=tuple(
            (n, count_distinct(everywhere[:n]), count_distinct(coarse[:n]))
            for n in counted_at
            if n < len(everywhere)
        ),
    )


def representations_along(
    partition: SegmentPartition, resolution: float = 1e-8
) -> SegmentRepresentations:
    """Count the patterns and the linear maps along a segment.

    A map is taken for changed if the slope along the segment is: a unit that switches changes the
    map across its boundary, which the segment crosses, or not at all.

    Args:
        partition: From `partition_segment`, followed to its end or not.
        resolution: Changes of slope below this share of the largest slope count as rounding.
    """
    largest = float(partition.slope_norms.max())
    changed = partition.slope_changes > resolution * largest
    return SegmentRepresentations(
        num_patterns=partition.num_pieces,
        num_maps=1 + int(changed.sum()),
        length=partition.reached * partition.direction_norm,
    )


class _Grid:
    """Pixels at one place of the pooling grid, and keys of the patterns of what can reach them."""

    def __init__(self, program: SegmentProgram, margin: int | None, period: int | None) -> None:
        self._program = program
        size = tuple(program.image.shape[-2:])
        if program.image.ndim != 4 or tuple(program.output.shape[-2:]) != size:
            raise ValueError(
                "network must map images to images of the same height and width, got "
                f"{tuple(program.image.shape)} to {tuple(program.output.shape)}"
            )
        own = _period(program)
        self.period = own if period is None else period
        if self.period < 1 or self.period % own:
            raise ValueError(
                f"period must be a multiple of the network's own, {own}, got {self.period}"
            )
        middle = [own * (length // 2 // own) for length in size]
        self._values = shapes_at_bends(program)
        reach = reach_of(program, self._values, middle[0] * size[1] + middle[1])
        spans = [_span(reach.image, axis) for axis in (-2, -1)]
        sides = [
            max(at - span.start, span.stop - 1 - at) for at, span in zip(middle, spans, strict=True)
        ]
        # At another place in the block a pixel may see as much further.
        seen = max(0, *sides) + own - 1
        self.margin = seen if margin is None else margin
        if self.margin < seen:
            raise ValueError(
                f"margin must be at least {seen}, which is how far the network sees, got {margin}"
            )
        if any(
            span.start == 0 or span.stop == length or 2 * self.margin + self.period > length
            for span, length in zip(spans, size, strict=True)
        ):
            raise ValueError(
                f"images must be larger than what a pixel sees, {self.margin} pixels to each side, "
                f"by a period of {self.period}, got {size}; take larger ones"
            )
        self.rows, self.columns = (
            torch.arange(self._first(at), length - self.margin, self.period)
            for at, length in zip(middle, size, strict=True)
        )
        self._middle = middle
        self._kernels = self._make_kernels(reach)

    def pattern_keys(self, image: Tensor) -> Int64[Tensor, "pixel hash"]:
        """Return keys that are the same where the pieces of all units that reach a pixel are."""
        keys = torch.zeros(_NUM_HASHES, len(self.rows), len(self.columns), dtype=torch.float64)
        back = [
            (at - int(places[0])) // self.period
            for at, places in zip(self._middle, (self.rows, self.columns), strict=True)
        ]

        def look(number: int, values: list[Tensor]) -> None:
            spans, kernel = self._kernels[number]
            if kernel is None:
                return
            choices = self._program.bends[number].choices(values).to(torch.float64).cpu()
            size = self._program.image.shape[-2:]
            strides = [
                self.period * have // length
                for have, length in zip(choices.shape[-2:], size, strict=True)
            ]
            top, left = (
                span.start - stride * steps
                for span, stride, steps in zip(spans, strides, back, strict=True)
            )
            windows = choices[..., top:, left:]
            found = functional.conv2d(windows, kernel, stride=strides)
            keys.add_(found[0, :, : keys.shape[1], : keys.shape[2]])

        self._program.visit(image, look)
        return keys.flatten(1).mT.round().to(torch.int64)

    def _first(self, at: int) -> int:
        return at - self.period * ((at - self.margin) // self.period)

    def _make_kernels(self, reach: Reach) -> list[tuple[list[slice], Tensor | None]]:
        generator = torch.Generator().manual_seed(0)
        kernels: list[tuple[list[slice], Tensor | None]] = []
        for mask in reach.units:
            if not bool(mask.any()):
                kernels.append(([], None))
                continue
            spans = [_span(mask, axis) for axis in (-2, -1)]
            box = mask[..., spans[0], spans[1]]
            shape = (_NUM_HASHES, *box.shape[1:])
            numbers = torch.randint(_HASH_RANGE, shape, generator=generator)
            kernels.append((spans, numbers.to(torch.float64) * box))
        return kernels


def _period(program: SegmentProgram) -> int:
    """Return the largest factor by which a network lowers the resolution."""
    size = program.image.shape[-2:]
    for bend in program.bends:
        if len(bend.shape) != 4 or any(
            length % have for length, have in zip(size, bend.shape[-2:], strict=True)
        ):
            raise ValueError(
                f"the units of {bend.kind!r} in {bend.place} must lie on a grid of the pixels or a "
                f"coarser one of images of {tuple(size)}, got {bend.shape}; crop the images to a "
                "multiple of the network's poolings"
            )
    factors = [
        length // have
        for i in images_of(program.recording, program.links)
        for length, have in zip(size, program.nodes[i].shape[-2:], strict=True)
        if length % have == 0
    ]
    return max(factors)


def _span(mask: Tensor, axis: int) -> slice:
    """Return from where to where a mask has entries along an axis."""
    along = mask.movedim(axis, 0).reshape(mask.shape[axis], -1).any(1).nonzero()
    if not len(along):
        return slice(0, 0)
    return slice(int(along[0]), int(along[-1]) + 1)
