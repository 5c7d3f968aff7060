"""Tell linear maps of images apart, pixel by pixel.

The row of a map L at pixel p is a filter r_p. Its frequency response

    R_p(w) = sum_q r_p[q] exp(i <w, q - p>) = exp(-i <w, p>) (L e_w)[p],    e_w[q] = exp(i <w, q>)

needs one product with L for all pixels at once, and is the same at two pixels whose filters are
shifted copies of each other. Responses at a few random frequencies, rounded, are the key of the
filter: filters that differ have different keys but for a set of frequencies of measure zero, and
but for differences below the rounding.
"""

from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from framelets.core import LinearOperator

_FREQUENCIES = ((0.7341, -1.9523), (2.3177, 1.1069))  # radians a pixel: arbitrary, never 0 or pi


@torch.no_grad()
def filter_keys(
    operator: LinearOperator,
    image: Float[Tensor, "*channel height width"],
    resolution: float = 1e-8,
) -> Int64[Tensor, "height width key"]:
    """Return the key of the filter that makes each pixel: four integers for each pair of channels.

    Responses are computed in double precision and rounded to multiples of the resolution. It must
    lie far above the errors of the product, near 1e-15 unless a system is solved for it.

    Args:
        operator: From images to images of the same height and width, of any channels.
        image: An image of its size.
        resolution: Of the responses, for filters with sums of about one.
    """
    height, width = image.shape[-2:]
    rows = torch.arange(height, dtype=torch.float64)[:, None]
    columns = torch.arange(width, dtype=torch.float64)
    frequencies = torch.tensor(_FREQUENCIES, dtype=torch.float64)[:, :, None, None]
    waves = torch.exp(1j * (frequencies[:, 0] * rows + frequencies[:, 1] * columns))
    parts = torch.cat([waves.real, waves.imag])
    num_channels = prod(image.shape[:-2])
    # One product for every part of a wave and every channel that it stands in.
    inputs = torch.eye(num_channels, dtype=torch.float64)[:, None, :, None, None] * parts[:, None]
    made = operator(inputs.reshape(-1, *image.shape).to(image.device))
    made = made.to("cpu", torch.float64).reshape(num_channels, 2, len(waves), -1, height, width)
    responses = torch.complex(made[:, 0], made[:, 1]) * waves.conj()[:, None]
    keys = torch.view_as_real(responses).movedim((-3, -2), (0, 1)).flatten(2)
    return (keys / resolution).round().to(torch.int64)


def count_distinct(keys: Int64[Tensor, "pixel key"]) -> int:
    """Count the distinct rows.

    Example:
        >>> count_distinct(torch.tensor([[1, 2], [1, 2], [2, 1]]))
        2
    """
    return len(torch.unique(keys, dim=0))
