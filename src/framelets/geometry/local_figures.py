"""A network at one image in a few figures, to be compared over images and over releases.

Each figure says what it is worth: exact (up to the rounding of the precision in which the network
was recorded), a certified bound, a bound that holds with a probability, or an estimate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from framelets.geometry.linearize import LocalMap
from framelets.geometry.local_lipschitz import local_lipschitz


@dataclass(frozen=True)
class LocalFigures:
    """f(x) = L x + b at one image, in figures.

    Attributes:
        replay_error: |f(x) - (L x + b)| / |f(x)|; exact.
        input_norm: |x|; exact.
        output_norm: |f(x)|; exact.
        linear_norm: |L x|; exact.
        offset_norm: |b|; exact.
        offset_share: |b| / |f(x)|, above 1 where L x and b cancel; exact. None if f(x) = 0.
        lipschitz_lower: A gain that a change of this image has; a certified lower bound of K_p.
        lipschitz_upper: An upper bound of K_p that holds with `probability`; None if none was
            found.
        probability: Over the random start of the search.
        noise_gain: Root mean square of |J z| / |z| over random white z; an estimate.
        num_units: Units that switch.
        num_active: How many of them are on; exact.
        active_share: Their share; exact. None if no unit switches.
        pattern_digest: Fingerprint of all units: equal for equal patterns; exact.
        piecewise_linear: Whether J = L, so that all figures hold in the whole linear region.
    """

    replay_error: float
    input_norm: float
    output_norm: float
    linear_norm: float
    offset_norm: float
    offset_share: float | None
    lipschitz_lower: float
    lipschitz_upper: float | None
    probability: float
    noise_gain: float
    num_units: int
    num_active: int
    active_share: float | None
    pattern_digest: str
    piecewise_linear: bool


def local_figures(
    local: LocalMap,
    *,
    num_probes: int = 8,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> LocalFigures:
    """Compute the figures of a network at an image.

    Args:
        local: The network at the image.
        num_probes: White images of the noise gain g; its standard error is g / sqrt(2 num_probes r)
            with r = (sum s^2)^2 / sum s^4 over the singular values s of J.
        seed: Of the random start and of the white images.
        progress: Called with the share that is done, from 0 to 1.

    Example:
        >>> from framelets.geometry import linearize
        >>> local = linearize(lambda x: 2 * x + 1, torch.ones(1, 1, 4, 4))
        >>> found = local_figures(local)
        >>> round(found.lipschitz_lower, 3), round(found.offset_share, 3), found.num_units
        (2.0, 0.333, 0)
    """
    device = local.image.device
    generator = torch.Generator(device).manual_seed(seed)
    bounds = local_lipschitz(local, generator=generator, progress=progress)
    probes = torch.randn(
        (num_probes, *local.image.shape),
        dtype=local.image.dtype,
        device=device,
        generator=generator,
    )
    output, offset = _norm(local.output), _norm(local.offset)
    pattern = local.activation_pattern
    units = pattern.num_units
    return LocalFigures(
        replay_error=local.replay_error,
        input_norm=_norm(local.image),
        output_norm=output,
        linear_norm=_norm(local.frozen(local.image)),
        offset_norm=offset,
        offset_share=offset / output if output > 0 else None,
        lipschitz_lower=bounds.lower,
        lipschitz_upper=bounds.upper if math.isfinite(bounds.upper) else None,
        probability=bounds.probability,
        noise_gain=_norm(local.tangent(probes)) / _norm(probes),
        num_units=units,
        num_active=pattern.num_active,
        active_share=pattern.num_active / units if units else None,
        pattern_digest=pattern.digest(),
        piecewise_linear=local.piecewise_linear,
    )


def _norm(array: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(array))
