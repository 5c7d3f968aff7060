"""What a detector that counts photons makes of line integrals."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def add_photon_noise(
    sinogram: Float[Tensor, "*batch view detector"],
    photons_per_ray: float,
    electronic_noise: float = 0.0,
    generator: torch.Generator | None = None,
    count_floor: float = 1.0,
) -> Float[Tensor, "*batch view detector"]:
    """Measure line integrals with a finite number of photons.

        counts = Poisson(I0 exp(-p)) + electronic_noise N(0, 1),
        noisy p = log(I0 / max(counts, count_floor)).

    The floor keeps rays that nothing came through finite: no line integral exceeds
    log(I0 / count_floor). Counts are drawn in float64. The noise has no derivative.

    Args:
        sinogram: Noise-free line integrals p, dimensionless.
        photons_per_ray: I0, the mean count where nothing is in the way.
        electronic_noise: Standard deviation of the additive noise, in counts.
        generator: Source of randomness; torch's default one if None.
        count_floor: Smallest count that the logarithm sees.

    Returns:
        Noisy line integrals, of the sinogram's dtype.

    Raises:
        ValueError: If a count is not positive, the electronic noise negative, or a line integral
            not finite.
    """
    for name, value in (("photons_per_ray", photons_per_ray), ("count_floor", count_floor)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number of counts above 0, got {value}")
    if not (math.isfinite(electronic_noise) and electronic_noise >= 0):
        raise ValueError(f"electronic_noise must be at least 0 counts, got {electronic_noise}")
    if not sinogram.isfinite().all():
        raise ValueError("sinogram must be finite, got NaN or infinity; mend those rays first")
    mean = photons_per_ray * torch.exp(-sinogram.detach().double())
    counts = torch.poisson(mean, generator=generator)
    if electronic_noise > 0:
        noise = torch.empty_like(counts).normal_(generator=generator)
        counts = counts + electronic_noise * noise
    return torch.log(photons_per_ray / counts.clamp(min=count_floor)).to(sinogram.dtype)
