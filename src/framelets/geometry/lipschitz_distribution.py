"""K_p, the local Lipschitz constant, over a data set and along the segment between two images.

Each K_p is bounded from both sides (`local_lipschitz`): from below with certainty, from above with
a probability. The largest lower bound is a lower bound of the network's Lipschitz constant; no
upper bound follows, since other images have other regions.

Along a segment a piecewise-linear network has one Jacobian on each affine piece. Where all pieces
are visited (`partition_segment` finds them) the largest K_p is that of the whole segment; where
pieces are sampled it is an estimate, and short pieces are likely to be missed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.geometry._segment_walk import in_double
from framelets.geometry.linearize import linearize
from framelets.geometry.local_lipschitz import local_lipschitz
from framelets.geometry.partition_segment import partition_segment


@dataclass(frozen=True, eq=False)
class LipschitzDistribution:
    """K_p of many images.

    Where a unit of an image is exactly at its boundary (images with exact zeros, networks without
    biases), the Jacobian is the one recorded there, which need not be that of any region.

    Attributes:
        lower: K_p of each image from below, certified up to rounding.
        upper: K_p of each image from above; all hold together with `probability`.
        probability: With which they do, over the random starts.
    """

    lower: Float[Tensor, " image"]
    upper: Float[Tensor, " image"]
    probability: float

    def quantiles(self, shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> list[float]:
        """Return quantiles of the lower bounds over the images."""
        at = torch.tensor(shares, dtype=self.lower.dtype)
        return [float(value) for value in torch.quantile(self.lower, at)]


@dataclass(frozen=True, eq=False)
class LipschitzAlong:
    """K_p along a segment x + t (z - x), 0 <= t <= 1.

    Attributes:
        positions: The t at which the Jacobian was taken, one in each visited piece.
        starts: Where each visited piece starts, if all were visited; else the start of the interval
            that the position stands for.
        lower: K_p at each position from below, certified up to rounding.
        upper: K_p at each position from above; all hold together with `probability`.
        probability: With which they do.
        every_piece: True if every affine piece was visited: then the largest K_p is exact within
            the bounds, unless a unit stays at its boundary all along. False if pieces were sampled:
            then it is an estimate from below.
        secant: ||f(z) - f(x)|| / ||z - x||, which the mean of K_p over t can never be below.
    """

    positions: Float[Tensor, " piece"]
    starts: Float[Tensor, " piece"]
    lower: Float[Tensor, " piece"]
    upper: Float[Tensor, " piece"]
    probability: float
    every_piece: bool
    secant: float

    @property
    def largest_lower(self) -> float:
        """The largest K_p found: a lower bound of the network's Lipschitz constant, certified."""
        return float(self.lower.max())

    @property
    def mean_lower(self) -> float:
        """The mean of the lower bounds over t; of sampled pieces, an estimate of it."""
        ends = torch.cat([self.starts[1:], self.starts.new_ones(1)])
        return float((self.lower * (ends - self.starts)).sum())

    def __str__(self) -> str:
        """Say what was found and what it is worth."""
        if self.every_piece:
            bound = f"at most {float(self.upper.max()):.4g} (probability {self.probability:g})"
            return f"largest K_p of all {len(self.lower)} pieces: {self.largest_lower:.4g}, {bound}"
        return f"largest K_p of {len(self.lower)} samples: {self.largest_lower:.4g}, an estimate"


def lipschitz_distribution(
    network: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, " image *sample"],
    *,
    forward: Callable[..., Tensor] | None = None,
    relative_gap: float = 0.05,
    probability: float = 0.99,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> LipschitzDistribution:
    """Bound K_p at each image of a data set.

    Args:
        network: A network in evaluation mode, or a function of one tensor.
        images: The images, at least one.
        forward: How to call the network, if not `network(image)`.
        relative_gap: Width of each pair of bounds, as for `local_lipschitz`.
        probability: With which all upper bounds hold together.
        generator: Source of the starts.
        progress: Called with the share that is done, from 0 to 1.

    Raises:
        ValueError: If there is no image, or the network cannot be linearized.

    Example:
        >>> images = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
        >>> found = lipschitz_distribution(torch.nn.ReLU(), images)
        >>> [round(value, 6) for value in found.lower.tolist()]
        [1.0, 0.0]
    """
    if images.ndim < 2 or not len(images):
        raise ValueError(f"images must hold at least one image, got shape {tuple(images.shape)}")
    generator = generator or torch.Generator().manual_seed(0)
    each = 1 - (1 - probability) / len(images)
    bounds = []
    for number, image in enumerate(images):
        local = linearize(network, image[None], forward)
        found = local_lipschitz(
            local, relative_gap=relative_gap, probability=each, generator=generator
        )
        bounds.append((found.lower, found.upper))
        if progress is not None:
            progress((number + 1) / len(images))
    lower, upper = torch.tensor(bounds, dtype=torch.float64).unbind(1)
    return LipschitzDistribution(lower, upper, probability)


def lipschitz_along(
    network: nn.Module | Callable[[Tensor], Tensor],
    first: Float[Tensor, " 1 *sample"],
    second: Float[Tensor, " 1 *sample"],
    *,
    forward: Callable[..., Tensor] | None = None,
    num_samples: int | None = None,
    max_pieces: int = 2000,
    relative_gap: float = 0.05,
    probability: float = 0.99,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> LipschitzAlong:
    """Bound K_p on the pieces of the segment between two images.

    Args:
        network: A network; for every piece a piecewise-linear one, as for `partition_segment`.
        first: The image at t = 0, with its batch axis of one.
        second: The image at t = 1.
        forward: How to call the network, if not `network(image)`.
        num_samples: If given, take so many positions at equal distances instead of every piece.
        max_pieces: Most pieces to visit without `num_samples`.
        relative_gap: Width of each pair of bounds.
        probability: With which all upper bounds hold together.
        generator: Source of the starts.
        progress: Called with the share that is done, from 0 to 1.

    Raises:
        ValueError: If there are more pieces than `max_pieces`, the images are equal or of
            different shapes, or the network is refused.

    Example:
        >>> first, second = torch.tensor([[-1.0]]), torch.tensor([[3.0]])
        >>> along = lipschitz_along(torch.nn.ReLU(), first, second)
        >>> along.starts.tolist(), along.lower.tolist(), along.every_piece
        ([0.0, 0.25], [0.0, 1.0], True)
    """
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have one shape, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}"
        )
    direction = second - first
    length = float(torch.linalg.vector_norm(direction))
    if not length > 0:
        raise ValueError("first and second must be two different images")
    doubled, first = in_double(network, first)
    direction = direction.to(first.dtype)
    if num_samples is None:
        starts, positions = _pieces(doubled, first, direction, forward, max_pieces)
    else:
        starts = torch.arange(num_samples, dtype=torch.float64) / num_samples
        positions = starts + 0.5 / num_samples
    images = torch.cat([first + t * direction for t in positions.tolist()])
    found = lipschitz_distribution(
        doubled,
        images,
        forward=forward,
        relative_gap=relative_gap,
        probability=probability,
        generator=generator,
        progress=progress,
    )
    with torch.no_grad():
        ends = [forward(doubled, x) if forward else doubled(x) for x in (first, first + direction)]
    secant = float(torch.linalg.vector_norm(ends[1] - ends[0])) / length
    return LipschitzAlong(
        positions, starts, found.lower, found.upper, probability, num_samples is None, secant
    )


def _pieces(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Tensor,
    direction: Tensor,
    forward: Callable[..., Tensor] | None,
    max_pieces: int,
) -> tuple[Tensor, Tensor]:
    """Return where each affine piece starts, and its middle."""
    partition = partition_segment(network, image, direction, forward=forward)
    if partition.num_pieces > max_pieces:
        raise ValueError(
            f"the segment has {partition.num_pieces} affine pieces, more than max_pieces="
            f"{max_pieces}; raise it, or give num_samples for an estimate from samples"
        )
    ends = partition.piece_ends.unique()  # a breakpoint at an end bounds a piece without length
    return ends[:-1], (ends[:-1] + ends[1:]) / 2
