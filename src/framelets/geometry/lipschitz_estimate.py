"""The Lipschitz constant of a whole network from below: the largest gain that a search finds.

K = max_p K_p is the largest norm of the Jacobian over all regions [1]. Whatever image is found
inside a region, its K_p is a certified lower bound of K; how far below K it lies, the search does
not tell. At an image on a boundary, such as one of zeros, the recorded Jacobian need not be that of
any region: the image that was found is moved a little at random, which leaves all boundaries,
before its K_p is taken for the result.

K_p itself cannot be climbed: inside a region it is constant, so its gradient in x is zero almost
everywhere. The gain of a secant can,

    q(x, d) = ||f(x + d) - f(x)|| / ||d||  <=  K,

since a secant of length h averages the slopes of the pieces that it crosses, and its gradient
tells towards where they get steeper. From the images with the largest K_p the search ascends q in x
and in the direction of d, with steps that are kept only if q grows and shrink if not, while h
shrinks from `step_norm` to a hundredth of it; where no small step helps, random ones are tried.
Every second ascent starts from a random place near its image. A secant crosses a piece that is at
least as steep as itself, so that its two ends and its middle are then tried as images.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core.spectral import power_iteration
from framelets.geometry._segment_walk import in_double
from framelets.geometry.linearize import linearize


@dataclass(frozen=True, eq=False)
class LipschitzEstimate:
    """A lower bound of the Lipschitz constant; never an upper one.

    Attributes:
        value: ||J v|| of the image and direction that were found: certain, up to rounding.
        image: The image, inside a region, with its batch axis of one.
        direction: The direction v, of norm one.
        at_images: K_p of each given image, from below, where no unit is exactly at its boundary.
        start: Index of the given image from which the search came to `image`.
        distance: From that image to `image`, in the norm of the image; 0 if none was steeper.
    """

    value: float
    image: Float[Tensor, " 1 *sample"]
    direction: Float[Tensor, " 1 *sample"]
    at_images: Float[Tensor, " image"]
    start: int
    distance: float

    def __str__(self) -> str:
        """Say what it bounds."""
        return (
            f"Lipschitz constant >= {self.value:.4g} (found at distance {self.distance:.3g} from "
            f"image {self.start}; an estimate from below)"
        )


def lipschitz_estimate(
    network: nn.Module | Callable[[Tensor], Tensor],
    images: Float[Tensor, " image *sample"],
    *,
    forward: Callable[..., Tensor] | None = None,
    num_restarts: int = 4,
    num_steps: int = 100,
    step_norm: float | None = None,
    radius: float | None = None,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> LipschitzEstimate:
    """Search for the image and the direction in which a network amplifies most.

    Args:
        network: A network in evaluation mode, or a function of one tensor.
        images: Images to begin with, at least one.
        forward: How to call the network, if not `network(image)`.
        num_restarts: How many ascents, from the images with the largest K_p in turn; every second
            one starts at a distance of ten times `step_norm`, in a random direction.
        num_steps: Steps of each ascent; each takes about one pass forwards and one backwards.
        step_norm: First length h of the secants; default: a tenth of the largest norm of an image.
        radius: If given, stay in the balls of this radius around the images, secants included.
        generator: Source of random directions.
        progress: Called with the share that is done, from 0 to 1.

    Returns:
        The largest K_p found, evaluated in double precision if the network is an nn.Module.

    Raises:
        ValueError: If there is no image, a number is not positive, or the network cannot be
            linearized.

    Example:
        >>> bend = lambda x: x + 2 * torch.relu(x - 1)
        >>> estimate = lipschitz_estimate(bend, torch.tensor([[0.99, 0.5]], dtype=torch.float64))
        >>> round(float(estimate.at_images[0]), 3), round(estimate.value, 3)
        (1.0, 3.0)
    """
    _check(images, num_restarts, num_steps, step_norm, radius)
    generator = generator or torch.Generator().manual_seed(0)

    def run(x: Tensor) -> Tensor:
        return forward(network, x) if forward else network(x)

    def report(done: int) -> None:
        if progress is not None:
            progress(min(1.0, done / (len(images) + num_restarts)))

    found: list[tuple[float, Tensor, Tensor, int]] = []
    for number, image in enumerate(images.detach()):
        found.append((*_steepest(network, forward, image[None], None, generator), number))
        report(number + 1)
    at_images = torch.tensor([value for value, *_ in found], dtype=torch.float64)
    order = at_images.argsort(descending=True).tolist()
    largest = max(float(torch.linalg.vector_norm(image)) for image in images)
    h = step_norm or 0.1 * largest or 1.0
    if radius is not None:
        h = min(h, 0.5 * radius)
    for restart in range(num_restarts):
        _, image, direction, number = found[order[restart // 2 % len(order)]]
        x = image
        if restart % 2:
            x = _within(image + 10 * h * _random_like(image, generator), image, radius, h)
        ends = _climb(run, x, direction, image, h, num_steps, radius, generator)
        for start in ends:
            found.append((*_steepest(network, forward, start, direction, generator), number))
        report(len(images) + restart + 1)
    _, image, direction, number = max(found, key=lambda one: one[0])
    distance = float(torch.linalg.vector_norm(image - images[number]))
    nudge = torch.finfo(image.dtype).eps ** 0.5 * (largest or h)
    image = _within(image + nudge * _random_like(image, generator), images[number], radius, 0.0)
    value, direction = _refined(network, forward, image, direction)
    return LipschitzEstimate(value, image, direction, at_images, number, distance)


def _climb(
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    d: Tensor,
    center: Tensor,
    h: float,
    num_steps: int,
    radius: float | None,
    generator: torch.Generator,
) -> list[Tensor]:
    """Ascend the gain of secants; return the ends and the middle of the last one."""
    shrink = 0.01 ** (1 / num_steps)
    best, ascent = _secant(run, x, d, h)
    step = h
    for _ in range(num_steps):
        trial_x = _within(x + step * ascent[0], center, radius, h)
        trial_d = _unit(d + step / h * ascent[1])
        gain, gradients = _secant(run, trial_x, trial_d, h)
        if gain > best:
            x, d, best, ascent, step = trial_x, trial_d, gain, gradients, 1.5 * step
            h *= shrink
        else:
            step *= 0.5
            if step < 0.01 * h:
                step = 10 * h
                ascent = (_random_like(x, generator), _random_like(x, generator))
    return [x, x + 0.5 * h * d, x + h * d]


def _secant(
    run: Callable[[Tensor], Tensor], x: Tensor, d: Tensor, h: float
) -> tuple[float, tuple[Tensor, Tensor]]:
    """Return the gain of a secant and its normalized gradients in the point and the direction."""
    with torch.enable_grad():
        x, d = x.detach().requires_grad_(), d.detach().requires_grad_()
        gain = torch.linalg.vector_norm(run(x + h * d) - run(x)) / h
        in_x, in_d = torch.autograd.grad(gain, (x, d))
    return float(gain.detach()), (_unit(in_x), _unit(in_d))


def _steepest(
    network: nn.Module | Callable[[Tensor], Tensor],
    forward: Callable[..., Tensor] | None,
    image: Tensor,
    start: Tensor | None,
    generator: torch.Generator,
) -> tuple[float, Tensor, Tensor]:
    """Return K_p at an image from below, the image, and the direction that has it."""
    tangent = linearize(network, image, forward).tangent
    if start is None or not bool((tangent(start[0]) != 0).any()):
        start = _random_like(image, generator)
    found = power_iteration(
        tangent, dtype=image.dtype, start=start[0], num_iterations=30, device=image.device
    )
    return float(found.values[0]), image, _unit(found.right)


def _refined(
    network: nn.Module | Callable[[Tensor], Tensor],
    forward: Callable[..., Tensor] | None,
    image: Tensor,
    direction: Tensor,
) -> tuple[float, Tensor]:
    """Go on with the power method, in double precision where the network can be converted."""
    if isinstance(network, nn.Module):
        network, image = in_double(network, image)
    tangent = linearize(network, image, forward).tangent
    start = direction[0].to(image.dtype)
    if not bool((tangent(start) != 0).any()):
        return 0.0, _unit(direction.to(image.dtype))
    found = power_iteration(
        tangent, dtype=image.dtype, device=image.device, start=start, tolerance=1e-4
    )
    return float(found.values[0]), found.right


def _within(x: Tensor, center: Tensor, radius: float | None, h: float) -> Tensor:
    """Keep a secant of length h that starts at x in the ball."""
    if radius is None:
        return x
    offset = x - center
    size, room = float(torch.linalg.vector_norm(offset)), max(0.0, radius - h)
    return center + offset * min(1.0, room / size) if size > 0 else x


def _random_like(image: Tensor, generator: torch.Generator) -> Tensor:
    return _unit(torch.randn(image.shape, dtype=image.dtype, generator=generator).to(image.device))


def _unit(vector: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(vector)
    return vector / norm.clamp(min=torch.finfo(norm.dtype).tiny)


def _check(
    images: Tensor,
    num_restarts: int,
    num_steps: int,
    step_norm: float | None,
    radius: float | None,
) -> None:
    if images.ndim < 2 or not len(images):
        raise ValueError(f"images must hold at least one image, got shape {tuple(images.shape)}")
    if num_restarts < 0 or num_steps < 1:
        raise ValueError(
            "num_restarts must not be negative and num_steps at least 1, got "
            f"{num_restarts} and {num_steps}"
        )
    for name, length in {"step_norm": step_norm, "radius": radius}.items():
        if length is not None and not length > 0:
            raise ValueError(f"{name} must be positive, got {length}")
