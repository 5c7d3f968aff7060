"""Trace and diagonal of an operator from random probes.

References:
    [1] M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian
        smoothing splines", Comm. Statistics - Simulation and Computation 19(2), 1990.
    [2] C. Bekas, E. Kokiopoulou and Y. Saad, "An estimator for the diagonal of a matrix", Applied
        Numerical Mathematics 57, 2007.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Inexact
from torch import Tensor

from ._coordinates import Coordinates, seeded
from .linear_operator import LinearOperator


@dataclass(frozen=True)
class Estimate:
    """A mean over random probes.

    Attributes:
        value: The mean; complex for an operator on complex tensors.
        standard_error: Of the mean: sample standard deviation over the root of the number of
            probes.
        num_products: Applications of the operator to one vector.
    """

    value: float | complex
    standard_error: float
    num_products: int


@dataclass(frozen=True)
class DiagonalEstimate:
    """A diagonal, entry by entry a mean over random probes, each with its standard error.

    Attributes:
        value: The means.
        standard_error: Real; of a real-linear operator on complex tensors, the real and imaginary
            part are the errors of those of `value`.
        num_products: Applications of the operator to one vector.
    """

    value: Inexact[Tensor, "*input_shape"]
    standard_error: Inexact[Tensor, "*input_shape"]
    num_products: int


def trace(
    operator: LinearOperator,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    num_probes: int = 32,
    block_size: int = 4,
    progress: Callable[[float], None] | None = None,
) -> Estimate:
    """Estimate the trace of a square operator, the mean of <z, A z> over random z [1].

    The entries of z are +-1 (complex-linear operators: +-1, +-i), so that a diagonal operator is
    exact with one probe. The trace of a real-linear operator on complex tensors is the one of its
    real matrix (see `LinearOperator.to_matrix`).

    Args:
        operator: Any linear operator whose outputs are like its inputs.
        shape: Shape of one input; may be left out where the operator knows it.
        dtype: Of the inputs; a real one restricts the operator to real tensors.
        device: Of the inputs; default: where the operator's buffers are.
        generator: Random probes; default: seed 0.
        num_probes: At least 2; the standard error falls with its root.
        block_size: Probes to which the operator is applied at once.
        progress: Called with the fraction done, 0 to 1.

    Raises:
        ValueError: If the operator is not square or there are fewer than two probes.

    Example:
        >>> from framelets.core import Identity
        >>> trace(3 * Identity(), shape=(2, 5)).value
        30.0
    """
    flat = _square(operator, shape, dtype, device)
    samples = torch.cat(
        [
            products.sum(1, dtype=torch.promote_types(flat.dtype, torch.float64))
            for products in _products(flat, generator, num_probes, block_size, progress)
        ]
    )
    error = float(samples.std()) / sqrt(num_probes)
    return Estimate(samples.mean().item(), error, flat.num_products)


def diagonal(
    operator: LinearOperator,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    num_probes: int = 32,
    block_size: int = 4,
    progress: Callable[[float], None] | None = None,
) -> DiagonalEstimate:
    """Estimate the diagonal of a square operator, the mean of conj(z) * (A z) over random z [2].

    Probes, arguments and refusals are those of `trace`. For a real-linear operator on complex
    tensors, real and imaginary part of the value belong to the diagonal of its real matrix.
    """
    flat = _square(operator, shape, dtype, device)
    count = 0
    mean = torch.zeros(flat.input.size, dtype=flat.dtype, device=flat.device)
    spread = torch.zeros_like(mean.real)
    for products in _products(flat, generator, num_probes, block_size, progress):
        for sample in products:  # Welford's update: one pass, no cancellation
            count += 1
            deviation = sample - mean
            mean = mean + deviation / count
            spread = spread + (deviation.conj() * (sample - mean)).real
    error = (spread / (num_probes * (num_probes - 1))).sqrt()[None]
    return DiagonalEstimate(
        value=flat.input.to_tensors(mean[None])[0],
        standard_error=flat.input.to_tensors(error)[0],
        num_products=flat.num_products,
    )


def _square(
    operator: LinearOperator,
    shape: Sequence[int] | None,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> Coordinates:
    flat = Coordinates(operator, shape, dtype, device)
    if flat.input.shape != flat.output.shape:
        raise ValueError(
            "operator must be square to have a trace or diagonal, "
            f"got {flat.input.shape} to {flat.output.shape}"
        )
    return flat


def _products(
    flat: Coordinates,
    generator: torch.Generator | None,
    num_probes: int,
    block_size: int,
    progress: Callable[[float], None] | None,
) -> Iterator[Inexact[Tensor, "count size"]]:
    """Yield conj(z) * (A z) for blocks of random unit-modulus probes z."""
    if num_probes < 2:
        raise ValueError(f"num_probes must be at least 2 for a standard error, got {num_probes}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    generator = seeded(generator)
    roots = torch.tensor([1, -1, 1j, -1j] if flat.dtype.is_complex else [1, -1])
    roots = roots.to(flat.device, flat.dtype)
    for start in range(0, num_probes, block_size):
        count = min(block_size, num_probes - start)
        shape = (count, flat.input.size)
        choice = torch.randint(len(roots), shape, device=generator.device, generator=generator)
        probes = roots[choice.to(flat.device)]
        yield probes.conj() * flat.forward(probes)
        if progress is not None:
            progress((start + count) / num_probes)
