"""Least squares by conjugate gradients on the normal equations."""

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core.linear_operator import Identity, LinearOperator
from framelets.core.spectral import conjugate_gradient
from framelets.solvers.reconstruction import Reconstruction


def least_squares(
    measurement: Inexact[Tensor, "*batch rows columns"],
    operator: LinearOperator,
    ridge: float = 0.0,
    num_iterations: int = 50,
    tolerance: float = 1e-4,
    start: Inexact[Tensor, "*batch height width"] | None = None,
) -> Reconstruction:
    """Minimize |A x - y|^2 / 2 + ridge |x|^2 / 2.

    Without a ridge, few iterations from zero are a regularization of their own: what the
    measurement hardly shows comes last. The residual is |A* y - (A* A + ridge) x| / |A* y|.
    Gradients pass through the iterations.

    Args:
        measurement: y.
        operator: A, from images to measurements.
        ridge: Weight of the squared norm; with line integrals its unit is mm^2.
        num_iterations: Stop unconverged after so many.
        tolerance: Of the residual.
        start: First image; default: zero.

    Returns:
        The image, its objective, and whether it converged.

    Raises:
        ValueError: If the ridge is negative or a shape does not fit.
    """
    if not ridge >= 0:
        raise ValueError(f"ridge must be at least 0, got {ridge}")
    normal = operator.gram + ridge * Identity() if ridge else operator.gram
    image, info = conjugate_gradient(
        normal,
        operator.adjoint(measurement),
        shape=operator.input_shape,
        start=start,
        tolerance=tolerance,
        num_iterations=num_iterations,
    )
    with torch.no_grad():
        misfit = torch.linalg.vector_norm(operator(image) - measurement, dim=(-2, -1)) ** 2
        size = torch.linalg.vector_norm(image, dim=(-2, -1)) ** 2
    objective = (misfit + ridge * size) / 2
    return Reconstruction(image, objective, info.residual, info.num_iterations, info.converged)
