"""How far an image is from the nearest boundary of its linear region.

The region around an image x is the polytope on which every unit keeps its side. Within it each
pre-activation is affine, u_j + <r_j, d> for the image x + d, so that the nearest boundary lies at

    min_j |u_j| / |r_j|,

over all units of all layers. Along one direction the first boundary is known exactly from one
product. In a ball the gradients r_j of millions of units are too many to compute, and three numbers
bracket the distance: one certain, one that holds with a stated probability and one that was met.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float
from scipy.special import gammaincinv
from torch import Tensor, nn

from framelets.geometry._segment_region import Region
from framelets.geometry.partition_segment import BoundaryLayer, layers_of


@dataclass(frozen=True)
class BoundaryAlong:
    """The first boundary along a direction; exact up to rounding.

    Attributes:
        distance: In units of the image norm; infinity if there is none.
        layer: The operation that draws it, or None.
        unit: Its unit, an index into the flattened layer.
    """

    distance: float
    layer: BoundaryLayer | None
    unit: int


@dataclass(frozen=True, eq=False)
class BoundaryDistance:
    """The distance to the nearest boundary in any direction, in units of the image norm.

    Attributes:
        lower: Certified (up to rounding): no boundary is nearer.
        probable_lower: No boundary is nearer, with `probability` over the random probes.
        probability: With which `probable_lower` holds, at least.
        upper: Certified: a boundary lies at this distance along `direction`.
        direction: Of norm one, with the batch axis of one.
        layer: The operation that draws that boundary, or None if no unit ever switches.
        unit: Its unit.
        num_gradients: How many units were computed exactly.
    """

    lower: float
    probable_lower: float
    probability: float
    upper: float
    direction: Float[Tensor, " 1 *sample"]
    layer: BoundaryLayer | None
    unit: int
    num_gradients: int

    @property
    def exact(self) -> bool:
        """True if the certified bounds agree: `upper` is the distance."""
        return self.lower >= self.upper * (1 - 1e-9)


def boundary_along(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Float[Tensor, " 1 *sample"],
    direction: Float[Tensor, " 1 *sample"],
    *,
    forward: Callable[..., Tensor] | None = None,
) -> BoundaryAlong:
    """Find the first boundary from an image in a direction, exactly.

    Args:
        network: As for `partition_segment`.
        image: The image with its batch axis of one.
        direction: Of the same shape; its length does not matter.
        forward: How to call the network, if not `network(image)`.

    Raises:
        ValueError: If the network is not piecewise linear, or the direction is zero or of another
            shape.

    Example:
        >>> image, direction = torch.tensor([[3.0, -8.0]]), torch.tensor([[-1.0, 1.0]])
        >>> round(boundary_along(torch.nn.ReLU(), image, direction).distance / 2**0.5, 6)
        3.0
    """
    with torch.no_grad():
        return _along(*_region_along(network, image, direction, forward))


def distance_to_cross(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Float[Tensor, " 1 *sample"],
    direction: Float[Tensor, " 1 *sample"],
    num: int,
    *,
    forward: Callable[..., Tensor] | None = None,
) -> float:
    """Estimate how far to go in a direction to cross so many boundaries.

    Every unit is taken to move on as it does in the region of the image. That is exact for the
    first boundary and an estimate for the others: use it to choose the length of a segment. Units
    that switch at one place count one by one, and of a maximum every entry that overtakes the one
    chosen here.

    Args:
        network: As for `partition_segment`.
        image: The image with its batch axis of one.
        direction: Of the same shape; its length does not matter.
        num: How many boundaries.
        forward: How to call the network, if not `network(image)`.

    Returns:
        The distance in units of the image norm; infinity if fewer units ever switch.

    Raises:
        ValueError: If `num` is not positive, the network is not piecewise linear, or the direction
            is zero or of another shape.

    Example:
        >>> image, direction = torch.tensor([[3.0, 8.0]]), torch.tensor([[-1.0, 0.0]])
        >>> [distance_to_cross(torch.nn.ReLU(), image, direction, num) for num in (1, 2)]
        [3.0, inf]
    """
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}")
    with torch.no_grad():
        region, unit = _region_along(network, image, direction, forward)
        steps = torch.cat([unit[:0].flatten(), *region.switch_distances(region.slopes(unit))])
        return float(steps.kthvalue(num).values) if len(steps) >= num else inf


def boundary_distance(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Float[Tensor, " 1 *sample"],
    *,
    num_probes: int = 64,
    max_gradients: int = 64,
    probability: float = 0.99,
    forward: Callable[..., Tensor] | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> BoundaryDistance:
    """Bracket the distance from an image to the nearest boundary, in any direction.

    Random images z estimate all |r_j| at once, since <r_j, z> has the variance |r_j|^2. The units
    that may be nearest are computed exactly, nearest first, and the boundary found is verified
    along its gradient. Of the others,

        |r_j|^2 <= sum_m <r_j, z_m>^2 / q    for all j together, with `probability`,

    where q is the quantile of the chi-squared distribution at (1 - probability) / (number of
    units); and certainly |r_j| is below a product of bounds of the network's operations, which is
    loose in deep networks.

    Args:
        network: A piecewise-linear network of real tensors, as for `partition_segment`.
        image: The image with its batch axis of one.
        num_probes: Random images; each takes one pass.
        max_gradients: Most units to compute exactly; each takes one pass backwards.
        probability: With which `probable_lower` holds.
        forward: How to call the network, if not `network(image)`.
        generator: Source of the random images.
        progress: Called with the share that is done, from 0 to 1.

    Raises:
        ValueError: If the network is not piecewise linear, or an argument is out of range.
    """
    if num_probes < 1 or max_gradients < 1 or not 0 < probability < 1:
        raise ValueError(
            "num_probes and max_gradients must be at least 1 and probability between 0 and 1, got "
            f"{num_probes}, {max_gradients} and {probability}"
        )
    if image.is_complex():
        raise TypeError("image must be real for distances to boundaries, got a complex one")
    generator = generator or torch.Generator().manual_seed(0)
    with torch.no_grad():
        region = Region(network, image, forward)
        search = _Search(region, num_probes + max_gradients, progress)
        probable = search.probable_distances(num_probes, probability, generator)
        certain = torch.cat([g.abs() for g in region.gaps]) / torch.cat(region.gradient_bounds())
        certain = certain.nan_to_num(nan=inf)  # zero over zero: a unit that never moves
        search.verify(probable, max_gradients)
        search.verify(certain, max_gradients)
        probable_lower = search.lower(probable)
        along = BoundaryAlong(inf, None, -1)
        if search.best_direction is not None:
            along = _along(region, search.best_direction)
    direction = search.best_direction
    return BoundaryDistance(
        lower=min(search.lower(certain), along.distance),
        probable_lower=min(probable_lower, along.distance),
        probability=probability,
        upper=along.distance,
        direction=torch.zeros_like(image.double()) if direction is None else direction,
        layer=along.layer,
        unit=along.unit,
        num_gradients=len(search.exact),
    )


class _Search:
    """Computes units exactly, those first that may be nearest."""

    def __init__(
        self, region: Region, num_steps: int, progress: Callable[[float], None] | None
    ) -> None:
        self.region = region
        self.exact: dict[int, float] = {}
        self.best, self.best_direction = inf, None  # type: float, Tensor | None
        self._starts = torch.tensor([len(gaps) for gaps in region.gaps]).cumsum(0)
        self._gaps = torch.cat(region.gaps)
        self._num_steps, self._num_done, self._progress = num_steps, 0, progress

    def probable_distances(
        self, num_probes: int, probability: float, generator: torch.Generator
    ) -> Tensor:
        """Return distances that are too short for all units together, with a probability."""
        image = self.region.program.image
        squares = torch.zeros_like(self._gaps)
        for _ in range(num_probes):
            probe = torch.randn(image.shape, dtype=torch.float64, generator=generator)
            squares += torch.cat(self.region.slopes(probe.to(image.device))).square()
            self._count()
        chance = (1 - probability) / max(1, len(self._gaps))
        quantile = 2 * float(gammaincinv(num_probes / 2, chance))
        distances: Tensor = self._gaps.abs() / (squares / quantile).sqrt()
        return distances.nan_to_num(nan=inf)

    def verify(self, bounds: Tensor, max_gradients: int) -> None:
        """Compute units in the order of lower bounds, while one may still be nearer."""
        order = bounds.topk(min(len(bounds), max_gradients), largest=False).indices
        for index in order.tolist():
            if len(self.exact) >= max_gradients or float(bounds[index]) >= self.best:
                return
            if index not in self.exact:
                self._compute(index)

    def lower(self, bounds: Tensor) -> float:
        """Return the least distance, by the bounds of all units that were not computed."""
        known = torch.tensor(list(self.exact), dtype=torch.long)
        values = torch.tensor(list(self.exact.values()), dtype=torch.float64)
        tightened = bounds.index_put((known,), values)
        return float(tightened.min()) if len(tightened) else inf

    def _compute(self, index: int) -> None:
        number = int(torch.searchsorted(self._starts, index, right=True))
        first = int(self._starts[number]) - len(self.region.gaps[number])
        with torch.enable_grad():
            gradient = self.region.gradient(number, index - first)
        gap, norm = float(self._gaps[index]), float(torch.linalg.vector_norm(gradient))
        self.exact[index] = abs(gap) / norm if norm > 0 else inf
        if self.exact[index] < self.best:
            towards = -1.0 if gap > 0 or self.region.program.bends[number].on_at_zero else 1.0
            self.best, self.best_direction = self.exact[index], towards * gradient / norm
        self._count()

    def _count(self) -> None:
        self._num_done += 1
        if self._progress is not None:
            self._progress(min(1.0, self._num_done / self._num_steps))


def _region_along(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Tensor,
    direction: Tensor,
    forward: Callable[..., Tensor] | None,
) -> tuple[Region, Tensor]:
    """Return the region of an image, and the direction with length one."""
    if direction.shape != image.shape or not bool((direction != 0).any()):
        raise ValueError(
            f"direction must have the image's shape {tuple(image.shape)} and not be zero, got "
            f"shape {tuple(direction.shape)}"
        )
    direction = direction.detach().double()
    return Region(network, image, forward), direction / torch.linalg.vector_norm(direction)


def _along(region: Region, direction: Tensor) -> BoundaryAlong:
    distance, number, gap = region.first_switch(region.slopes(direction))
    if number < 0:
        return BoundaryAlong(distance, None, -1)
    layer = layers_of(region.program)[number]
    return BoundaryAlong(distance, layer, region.program.bends[number].gap_unit(gap))
