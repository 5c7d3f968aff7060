"""Orthonormal matrices along one axis, and the order of their products from coarse to fine."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from scipy.fft import idct
from torch import Tensor

Axis = tuple[Float[Tensor, "place function"], Float[Tensor, " function"]]
"""An orthonormal matrix, its functions as columns, and the squared frequency of each."""


def dct_axis(size: int) -> Axis:
    """Return the cosines of the DCT-II: frequency k has k half periods along the axis."""
    matrix = torch.from_numpy(
        idct(torch.eye(size, dtype=torch.float64).numpy(), axis=0, norm="ortho")
    )
    return matrix, (torch.arange(size, dtype=torch.float64) / size).square()


def haar_axis(size: int) -> Axis:
    """Return the constant, then the Haar functions of 1, 2, 4, ... shifts.

    Raises:
        ValueError: If the size is not a power of two.
    """
    if size & (size - 1):
        raise ValueError(f"Haar sizes must be powers of two, got {size}; crop or choose the DCT")
    rows, frequencies = torch.ones(1, 1, dtype=torch.float64), [0.0]
    while (half := len(rows)) < size:
        coarse = torch.kron(rows, torch.ones(1, 2, dtype=torch.float64))
        pair = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
        fine = torch.kron(torch.eye(half, dtype=torch.float64), pair)
        rows = torch.cat([coarse, fine]) / 2**0.5
        frequencies += [half / size] * half
    return rows.mT.contiguous(), torch.tensor(frequencies, dtype=torch.float64).square()


AXES: dict[str, Callable[[int], Axis]] = {"dct": dct_axis, "haar": haar_axis}


def coarse_to_fine(frequencies: Sequence[Float[Tensor, " _"]]) -> Int[Tensor, " function"]:
    """Sort the products of the functions of all axes by the sum of their squared frequencies.

    Returns:
        Their places in row-major order; equal ones keep it.
    """
    total = torch.zeros(1, dtype=torch.float64)
    for along in frequencies:
        total = (total[:, None] + along).flatten()
    return torch.argsort(total, stable=True)
