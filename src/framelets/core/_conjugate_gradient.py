"""Conjugate gradients for Hermitian positive semidefinite operators.

References:
    [1] M. R. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving linear systems",
        J. Research National Bureau of Standards 49(6), 1952.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from .linear_operator import LinearOperator


@dataclass(frozen=True)
class ConjugateGradientInfo:
    """How a conjugate gradient run ended.

    Attributes:
        residual: |b - A x| / |b| of each system, from a product made for the purpose.
        converged: True if every residual is within the tolerance.
        num_iterations: Steps made.
    """

    residual: Float[Tensor, "*batch"]
    converged: bool
    num_iterations: int


def conjugate_gradient(
    operator: LinearOperator,
    rhs: Inexact[Tensor, "*axes"],
    *,
    shape: Sequence[int] | None = None,
    start: Inexact[Tensor, "*axes"] | None = None,
    tolerance: float = 1e-5,
    num_iterations: int = 100,
) -> tuple[Inexact[Tensor, "*axes"], ConjugateGradientInfo]:
    """Solve A x = b for a Hermitian positive (semi)definite operator [1].

    The systems along the leading batch axes share the products but step and stop each by itself. A
    semidefinite operator is solved where b lies in its range: from a zero start the solution is
    then the one of least norm. The inner product is real, so real-linear operators are welcome.
    Gradients pass through the steps.

    Args:
        operator: A = A* with <x, A x> >= 0.
        rhs: b, with any leading batch axes.
        shape: Shape of one system; default: the operator's, and where that is unknown too, the
            shape of `rhs`: then all of it is one system.
        start: First x; default: zero.
        tolerance: A system is done when |b - A x| <= tolerance |b|.
        num_iterations: Stop unconverged after so many steps.

    Returns:
        The solution and `ConjugateGradientInfo`, which says whether it converged.

    Raises:
        ValueError: If the shapes do not fit, the operator gives NaN, or a negative <p, A p> shows
            that it is not positive.
    """
    known = operator.input_shape if shape is None else tuple(shape)
    known = tuple(rhs.shape) if known is None else known
    num_batch_axes = rhs.ndim - len(known)
    if num_batch_axes < 0 or tuple(rhs.shape[num_batch_axes:]) != known:
        raise ValueError(f"rhs must end in the shape of one system {known}, got {tuple(rhs.shape)}")
    if start is not None and start.shape != rhs.shape:
        raise ValueError(
            f"start must have the shape of rhs {tuple(rhs.shape)}, got {tuple(start.shape)}"
        )
    axes = tuple(range(num_batch_axes, rhs.ndim))

    solution = torch.zeros_like(rhs) if start is None else start
    residual = rhs if start is None else rhs - operator(start)
    direction = residual
    goal = tolerance**2 * _inner(rhs, rhs, axes).detach()
    squared = _inner(residual, residual, axes)
    iteration = 0
    while iteration < num_iterations:
        active = squared.detach() > goal
        if not active.any():
            break
        image = operator(direction)
        if image.dtype != direction.dtype:
            raise ValueError(
                f"operator must keep the dtype of rhs, {rhs.dtype}, got {image.dtype}; to solve "
                "for real x, compose it with RealInput before taking the Gram operator"
            )
        curvature = _inner(direction, image, axes)
        _refuse_negative(curvature, direction, image, axes)
        active = active & (curvature.detach() > 0)  # zero: the direction lies in the null space
        if not active.any():
            break
        step = torch.where(active, squared, 0) / torch.where(active, curvature, 1)
        solution = solution + step * direction
        residual = residual - step * image
        previous, squared = squared, _inner(residual, residual, axes)
        ratio = torch.where(active, squared, 0) / torch.where(active, previous, 1)
        direction = residual + ratio * direction
        iteration += 1
    with torch.no_grad():
        norm = _inner(rhs, rhs, axes).sqrt().clamp(min=torch.finfo(rhs.dtype).tiny)
        error = rhs - operator(solution)
        relative = (_inner(error, error, axes).sqrt() / norm).reshape(rhs.shape[:num_batch_axes])
    converged = bool((relative <= tolerance).all())
    return solution, ConjugateGradientInfo(relative, converged, iteration)


def _inner(u: Tensor, v: Tensor, axes: tuple[int, ...]) -> Tensor:
    product = (u.conj() * v).real if u.is_complex() else u * v
    return product.sum(axes, keepdim=True) if axes else product


@torch.no_grad()
def _refuse_negative(
    curvature: Tensor, direction: Tensor, image: Tensor, axes: tuple[int, ...]
) -> None:
    squares = _inner(direction, direction, axes) * _inner(image, image, axes)
    rounding = torch.finfo(curvature.dtype).eps ** 0.5 * squares.sqrt()
    if not (curvature >= -rounding).all():
        raise ValueError(
            "operator must be Hermitian positive semidefinite, but <p, A p> = "
            f"{float(curvature.min()):.3g} for a direction p; give A.gram for least squares"
        )
