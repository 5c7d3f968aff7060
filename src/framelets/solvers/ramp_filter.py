"""The band-limited ramp filter of filtered back-projection and its usual windows."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core.choices import choose

FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "ram-lak": torch.ones_like,
    "shepp-logan": lambda nu: torch.sinc(nu / 2),
    "cosine": lambda nu: torch.cos(math.pi * nu / 2),
    "hamming": lambda nu: 0.54 + 0.46 * torch.cos(math.pi * nu),
    "hann": lambda nu: 0.5 + 0.5 * torch.cos(math.pi * nu),
}
"""Windows by name, as functions of the frequency over the cutoff, from 0 to 1."""


def ramp_response(
    num_samples: int, spacing_mm: float, filter_name: str = "ram-lak", cutoff: float = 1.0
) -> Float[Tensor, " frequency"]:
    """Sample the ramp's frequency response, times a window, for a zero-padded real FFT.

    The ramp of bandwidth 1 / (2 spacing) has in space the samples, in 1/mm^2,

        h[0] = 1 / (4 spacing^2),  h[n] = -1 / (pi n spacing)^2 for odd n,  0 for even n,

    and the response is the FFT of these, times the spacing. Sampling |nu| in its place would lose
    the mean of the signal and darken the image.

    Args:
        num_samples: Length of the FFT; twice the signal's at least, so that no end meets the other.
        spacing_mm: Distance of samples.
        filter_name: A window of `FILTERS`.
        cutoff: Frequency where the window ends, over the highest, 1 / (2 spacing); above it the
            response is 0.

    Returns:
        Response at the frequencies of `torch.fft.rfftfreq(num_samples)`, in float64 and 1/mm.

    Raises:
        ValueError: If the name is unknown or the cutoff lies outside (0, 1].
    """
    window = choose("filter_name", filter_name, FILTERS)
    if not 0 < cutoff <= 1:
        raise ValueError(f"cutoff must be in (0, 1] of the highest frequency, got {cutoff}")
    n = torch.arange(num_samples, dtype=torch.float64)
    n = torch.where(n < (num_samples + 1) // 2, n, n - num_samples)  # in the order of the FFT
    kernel = torch.where(n % 2 == 1, -1 / (math.pi * n * spacing_mm) ** 2, 0.0)
    kernel[0] = 1 / (4 * spacing_mm**2)
    nu = 2 * torch.fft.rfftfreq(num_samples, dtype=torch.float64) / cutoff
    ramp = torch.fft.rfft(kernel).real * spacing_mm
    response: Tensor = ramp * window(nu) * (nu <= 1 + 1e-12)
    return response
