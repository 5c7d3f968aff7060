"""A certified upper bound of the Lipschitz constant of a network, everywhere or in a ball.

The Lipschitz constant K of a piecewise-linear network is the largest norm K_p = ||J_p|| of the
Jacobians of its regions [1]. It is bounded without visiting them.

Everywhere. Each recorded operation has a gain that no image exceeds: of a ReLU 1, of a leaky one
max(1, |a|), of max pooling the root of the number of windows that overlap, of a convolution the
norm of the circulant one that it is a part of. From the image on, norms are multiplied; those of
a sum are added; those of tensors side by side are combined as a root of squares. Beside it runs a
bound of every row of the Jacobian (`_segment_norms`), whose Frobenius norm is taken where smaller.

In a ball of radius r around an image x, with J the Jacobian at x and J' any other of the ball (of
the network, or of the map from the image to one of its tensors), follow two numbers through the
operations: a bound e of ||J' - J||, and bounds of the rows of J'. For a linear operation A,

    ||A J' - A J|| <= ||A|| e.

An operation that bends has slopes D at x and D' elsewhere:

    D' J' - D J = D' (J' - J) + (D' - D) J.

The first term is at most its gain times e. D' - D is zero but at units that may switch. To switch,
a gap of the unit (a quantity that changes sign then) must fall from |g| to zero within the
distance r, so that |g| <= r |row of J'|, where |row of J'| <= |row of J| + e (2 e
for the difference of two entries). The rows of
(D' - D) J are then the jump of the slope times the gap's row of J, and the root of the sum of their
squares bounds the second term. Where no unit can switch e stays zero. At the output
||J'|| <= ||J|| + e. Rows of J are computed for small images and bounded for large ones.

Beside it, the product of the gains is bounded again with all units held but those that may switch,
and the least of the three bounds is taken. All of it grows with the radius: from K_p, as long as no
unit can switch, to the bound everywhere.

All norms are in double precision, and certified up to its rounding.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, prod, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core.spectral import norm_bounds
from framelets.geometry._segment_norms import StepNorms
from framelets.geometry._segment_region import Region
from framelets.geometry._step_gains import StepGains
from framelets.geometry.linearize import linearize

_SMALL = 1024
"""Pixels of an image at which one product for each of them is made."""


@dataclass(frozen=True)
class OperationNorm:
    """What one operation contributes to the bound everywhere.

    Attributes:
        name: Path of the module that ran it.
        operation: What it is: "convolution", "relu", ...
        norm: The norm so far over that of what it reads (the root of squares of several): along a
            chain without skips their product is the bound.
        reached: The bound from the image to its output.
    """

    name: str
    operation: str
    norm: float
    reached: float


@dataclass(frozen=True)
class LipschitzBound:
    """A certified upper bound of the Lipschitz constant; never an estimate.

    Attributes:
        value: ||f(x) - f(y)|| <= value ||x - y|| for all x and y, or for all in the ball.
        radius: Of the ball around the image in the norm of the image, or None for all images.
        everywhere: The bound for all images.
        probability: With which `value` holds: 1, or less where the norm of the Jacobian at the
            image is known only with a probability (over the random start of its search).
        at_image: Upper bound of K_p at the image, or None without a ball.
        num_open_units: Units that may switch inside the ball; without one, all.
        num_units: Units of all operations that bend.
        factors: What each operation contributes to `everywhere`, in the order of the network.
    """

    value: float
    radius: float | None
    everywhere: float
    probability: float
    at_image: float | None
    num_open_units: int
    num_units: int
    factors: tuple[OperationNorm, ...]

    def __str__(self) -> str:
        """Say what it bounds."""
        where = "everywhere" if self.radius is None else f"within {self.radius:g} of the image"
        certainty = "certified" if self.probability == 1 else f"probability {self.probability:g}"
        return f"Lipschitz constant {where} <= {self.value:.4g} ({certainty} upper bound)"


def lipschitz_bound(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Float[Tensor, " 1 *sample"],
    *,
    forward: Callable[..., Tensor] | None = None,
    radius: float | None = None,
    num_frequencies: int = 32,
    probability: float = 0.9999,
    generator: torch.Generator | None = None,
) -> LipschitzBound:
    """Bound the Lipschitz constant of a network from above.

    Args:
        network: A piecewise-linear network of real tensors, as for `partition_segment`.
        image: An image of the size that is meant, with its batch axis of one. Without `radius` its
            values do not matter.
        forward: How to call the network, if not `network(image)`.
        radius: If given, bound the constant in the ball of this radius around the image only.
        num_frequencies: At which convolutions are evaluated, an axis; 3 taps at 16 frequencies add
            2 percent an axis to the norm of each, at 32 half a percent.
        probability: With which the norm of the Jacobian at the image is to be bounded where the
            image has more than 1024 pixels; of smaller ones it is computed.
        generator: Source of the start of that search.

    Raises:
        ValueError: If the network is not piecewise linear, an operation has no known bound, or an
            argument is out of range.
        TypeError: If the image, or something that the network makes of it, is complex.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU())
        >>> _ = network[0].weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        >>> bound = lipschitz_bound(network, torch.tensor([[-2.0, 1.0]]))
        >>> print(bound)
        Lipschitz constant everywhere <= 3 (certified upper bound)
        >>> lipschitz_bound(network, torch.tensor([[-2.0, 1.0]]), radius=0.5).value
        1.0
    """
    if radius is not None and not (isfinite(radius) and radius >= 0):
        raise ValueError(f"radius must be finite and not negative, got {radius}")
    with torch.no_grad():
        region = Region(network, image, forward)
        bounds = _Bounds(region, num_frequencies)
        if radius is None:
            return bounds.result(bounds.everywhere, None, 1.0, None, bounds.num_units)
        ball, change, num_open = bounds.inside(radius)
        at_image, certainty = _norm_at_image(region, probability, generator)
    product = min(bounds.everywhere, ball)
    value = min(product, at_image + change)
    return bounds.result(value, radius, certainty if value < product else 1.0, at_image, num_open)


class _Bounds:
    """The bounds of one recording."""

    def __init__(self, region: Region, num_frequencies: int) -> None:
        self._region = region
        program = region.program
        if any(program.nodes[i].dtype.is_complex for k in program.links for i in k.inputs):
            raise TypeError("network must work on real tensors for lipschitz_bound, got complex")
        self._gains = StepGains(program.nodes, program.image, num_frequencies)
        self.num_units = sum(prod(bend.shape) for bend in program.bends)
        self._factors: list[OperationNorm] = []
        self.everywhere = self._bound_everywhere()

    def result(
        self,
        value: float,
        radius: float | None,
        probability: float,
        at_image: float | None,
        num_open: int,
    ) -> LipschitzBound:
        """Collect what was found."""
        return LipschitzBound(
            value,
            radius,
            self.everywhere,
            probability,
            at_image,
            num_open,
            self.num_units,
            tuple(self._factors),
        )

    def inside(self, radius: float) -> tuple[float, float, int]:
        """Bound what a ball can do.

        Returns:
            The product with open units only, the bound of ||J' - J||, and how many units are open.
        """
        region, program = self._region, self._region.program
        ball = StepNorms(program.nodes, program.image, self._gains)
        held = StepNorms(program.nodes, program.image, self._gains)
        exact = _exact_rows(region)
        change, num_open = {0: 0.0}, 0
        for k, link in enumerate(program.links):
            changes = [change[i] for i in link.inputs]
            number = program.bend_of.get(link.output)
            if number is None:
                ball.pass_through(link)
                change[link.output] = self._gains.of(link).of(changes)
            else:
                bend = program.bends[number]
                at_image = region.gap_norms(number, [held.rows[i] for i in link.inputs])
                if exact is not None:
                    at_image = torch.minimum(at_image, exact[number])
                rests = [torch.full_like(held.rows[i], change[i]) for i in link.inputs]
                rows = torch.minimum(
                    region.gap_norms(number, [ball.rows[i] for i in link.inputs]),
                    at_image + region.gap_norms(number, rests),
                )
                switching = region.gaps[number].abs() <= radius * rows
                moved = bend.largest_by_unit(torch.where(switching, at_image, 0.0)) * bend.jump()
                open_units = bend.largest_by_unit(switching.to(rows.dtype)) > 0
                num_open += int(open_units.sum())
                ball.pass_through(link, bend, open_units)
                change[link.output] = bend.open_gain().of(changes) + float(
                    torch.linalg.vector_norm(moved)
                )
            held.pass_through(link)
            program.forget(ball.rows, k)
            program.forget(held.rows, k)
        return ball.norms[program.target], change[program.target], num_open

    def _bound_everywhere(self) -> float:
        program = self._region.program
        norms = StepNorms(program.nodes, program.image, self._gains)
        for k, link in enumerate(program.links):
            number = program.bend_of.get(link.output)
            bend = None if number is None else program.bends[number]
            norms.pass_through(link, bend)
            reached = norms.norms[link.output]
            if reached == inf:
                raise ValueError(
                    f"operation {link.name!r} in {link.place} has no known bound of its norm, so "
                    "that the network has none either; use lipschitz_estimate, or bound a part of "
                    "the network that does without it"
                )
            before = sqrt(sum(norms.norms[i] ** 2 for i in link.inputs))
            self._factors.append(
                OperationNorm(
                    link.place,
                    bend.kind if bend else link.name,
                    reached / before if before else 0.0,
                    reached,
                )
            )
            program.forget(norms.rows, k)
        return norms.norms[program.target]


def _exact_rows(region: Region) -> list[Tensor] | None:
    """Return the norms of all gap gradients at the image, or None if it has too many pixels."""
    image = region.program.image
    if image.numel() > _SMALL:
        return None
    squares = [torch.zeros_like(gaps) for gaps in region.gaps]
    for unit in torch.eye(image.numel(), dtype=image.dtype, device=image.device):
        for total, slopes in zip(squares, region.slopes(unit.reshape(image.shape)), strict=True):
            total += slopes.square()
    return [total.sqrt() for total in squares]


def _norm_at_image(
    region: Region, probability: float, generator: torch.Generator | None
) -> tuple[float, float]:
    """Bound the norm of the Jacobian from above, and say with what probability it holds."""
    program = region.program
    tangent = linearize(program.run, program.image).tangent
    if program.image.numel() <= _SMALL:
        matrix = tangent.to_matrix(dtype=program.image.dtype)
        return float(torch.linalg.matrix_norm(matrix, 2)), 1.0
    found = norm_bounds(
        tangent,
        dtype=program.image.dtype,
        device=program.image.device,
        relative_gap=0.001,
        probability=probability,
        generator=generator,
    )
    return found.upper, probability
