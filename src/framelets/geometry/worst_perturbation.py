"""The perturbation of a given norm that changes a network's output most, as an image.

Of a linear map it is the leading right singular vector. A network is linear only within a region,
so from that vector, with either sign, and from random ones the search goes on by ascending
||f(x + d) - f(x)|| over all d of the norm [1]: with the gradient

    g = J(x + d)^T (f(x + d) - f(x)),

the direction of d / |d| + t g / |g| is tried at that norm; t doubles after a success and is halved
where the change does not grow. (Without the d, for a linear map, this is the power method.)

What is found was verified by running the network on it, so its gain is a certified lower bound of
the Lipschitz constant of the network in the ball. It is never an upper bound: another perturbation
may do more.

References:
    [1] V. Antun, F. Renna, C. Poon, B. Adcock and A. C. Hansen, "On instabilities of deep learning
        in image reconstruction and the potential costs of AI", PNAS 117(48), 2020.
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
class WorstPerturbation:
    """The worst perturbation that was found; a lower bound of what perturbations can do.

    Attributes:
        perturbation: d, with the batch axis of one, in the image's type.
        norm: |d|.
        change: f(x + d) - f(x), from two runs of the network in double precision where it can be
            converted.
        gain: |change| / |d|, a certified lower bound of the Lipschitz constant.
        at_image: K_p of the image from below, where no unit is exactly at its boundary: the gain of
            its leading singular vector, in the limit of small norms.
        singular_vector_gain: Gain of the leading singular vector at this norm, the better sign.
    """

    perturbation: Float[Tensor, " 1 *sample"]
    norm: float
    change: Float[Tensor, " *output_shape"]
    gain: float
    at_image: float
    singular_vector_gain: float

    def __str__(self) -> str:
        """Say what was found."""
        return (
            f"perturbation of norm {self.norm:.4g} with gain {self.gain:.4g} (found, a lower "
            f"bound); leading singular vector {self.singular_vector_gain:.4g}, K_p at the image "
            f"{self.at_image:.4g}"
        )


def worst_perturbation(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Float[Tensor, " 1 *sample"],
    norm: float,
    *,
    forward: Callable[..., Tensor] | None = None,
    num_steps: int = 50,
    num_restarts: int = 1,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> WorstPerturbation:
    """Search for the perturbation of a norm that changes the output of a network most.

    Args:
        network: A network in evaluation mode, or a function of one tensor.
        image: The image x with its batch axis of one.
        norm: Of the whole perturbation, root of the sum of squares, in the unit of the image.
        forward: How to call the network, if not `network(image)`.
        num_steps: Steps of each ascent; each takes about one pass forwards and one backwards.
        num_restarts: Ascents from random directions, beside the two from the singular vector.
        generator: Source of random directions.
        progress: Called with the share that is done, from 0 to 1.

    Raises:
        ValueError: If the norm is not positive, or the network cannot be linearized.

    Example:
        >>> network = torch.nn.Linear(2, 2, bias=False)
        >>> _ = network.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        >>> worst = worst_perturbation(network, torch.zeros(1, 2), 0.5)
        >>> [round(abs(value), 3) for value in worst.perturbation[0].tolist()], round(worst.gain, 3)
        ([0.5, 0.0], 3.0)
    """
    if not norm > 0:
        raise ValueError(f"norm must be positive, got {norm}")
    generator = generator or torch.Generator().manual_seed(0)
    tangent = linearize(network, image, forward).tangent
    leading = power_iteration(
        tangent, dtype=image.dtype, device=image.device, generator=generator, tolerance=1e-3
    )
    random = [
        torch.randn(image.shape, dtype=image.dtype, generator=generator).to(image.device)
        for _ in range(num_restarts)
    ]
    starts = [leading.right, -leading.right, *random]
    search = _Search(network, forward, image, norm)
    found = []
    for number, start in enumerate(starts):
        found.append(search.climb(start, num_steps))
        if progress is not None:
            progress((number + 1) / len(starts))
    exact = _Search(*_converted(network, image, forward), norm)
    best = max((d for d, _ in found), key=lambda d: exact.gain(d))
    return WorstPerturbation(
        perturbation=best,
        norm=float(torch.linalg.vector_norm(best.double() if best.is_floating_point() else best)),
        change=exact.change(best),
        gain=exact.gain(best),
        at_image=float(leading.values[0]),
        singular_vector_gain=max(first for _, first in found[:2]),
    )


class _Search:
    """Perturbations of one image."""

    def __init__(
        self,
        network: nn.Module | Callable[[Tensor], Tensor],
        forward: Callable[..., Tensor] | None,
        image: Tensor,
        norm: float,
    ) -> None:
        self._network, self._forward = network, forward
        self._image, self._norm = image.detach(), norm
        with torch.no_grad():
            self._output = self._run(self._image)

    def change(self, d: Tensor) -> Tensor:
        """Return f(x + d) - f(x)."""
        with torch.no_grad():
            return self._run(self._image + d) - self._output

    def gain(self, d: Tensor) -> float:
        """Return |f(x + d) - f(x)| / |d|."""
        d = d.to(self._image.dtype)
        return float(torch.linalg.vector_norm(self.change(d)) / torch.linalg.vector_norm(d))

    def climb(self, start: Tensor, num_steps: int) -> tuple[Tensor, float]:
        """Ascend from a direction; return the perturbation and the gain that it started with."""
        best = self._scaled(start)
        first = value = self.gain(best)
        step = 4.0
        ascent = self._ascent(best)
        for _ in range(num_steps):
            trial = self._scaled(best / self._norm + step * ascent)
            gain = self.gain(trial)
            if gain > value:
                best, value, step = trial, gain, 2 * step
                ascent = self._ascent(best)
            else:
                step *= 0.5
                if step < 1e-4:
                    break
        return best, first

    def _ascent(self, d: Tensor) -> Tensor:
        with torch.enable_grad():
            given = d.detach().requires_grad_()
            squares = torch.linalg.vector_norm(self._run(self._image + given) - self._output)
            (gradient,) = torch.autograd.grad(squares, given)
        size = torch.linalg.vector_norm(gradient)
        return gradient / size if size > 0 else gradient

    def _scaled(self, d: Tensor) -> Tensor:
        unit: Tensor = d / torch.linalg.vector_norm(d)
        return self._norm * unit

    def _run(self, image: Tensor) -> Tensor:
        if self._forward is not None:
            return self._forward(self._network, image)
        return self._network(image)


def _converted(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Tensor,
    forward: Callable[..., Tensor] | None,
) -> tuple[nn.Module | Callable[[Tensor], Tensor], Callable[..., Tensor] | None, Tensor]:
    """Return the network and the image in double precision, where the network can be converted."""
    if isinstance(network, nn.Module):
        network, image = in_double(network, image)
    return network, forward, image
