"""Total variation reconstruction by the primal-dual hybrid gradient method.

References:
    [1] A. Chambolle and T. Pock, "A first-order primal-dual algorithm for convex problems with
        applications to imaging", J. Math. Imaging and Vision 40, 2011.
    [2] L. Condat, "A primal-dual splitting method for convex optimization involving Lipschitzian,
        proximable and linear composite terms", J. Optimization Theory and Applications 158, 2013:
        over-relaxation.
    [3] E. Y. Sidky, J. H. Jorgensen and X. Pan, "Convex optimization problem prototyping for image
        reconstruction in computed tomography with the Chambolle-Pock algorithm", Physics in
        Medicine and Biology 57, 2012.
    [4] D. Applegate et al., "Practical large-scale linear programming using primal-dual hybrid
        gradient", Advances in Neural Information Processing Systems 34, 2021: primal weight.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core.linear_operator import LinearOperator
from framelets.core.spectral import norm_bounds
from framelets.solvers.reconstruction import Reconstruction

_RELAXATION = 1.9
_FIRST_DUAL_STEP = 0.05
_DUAL_STEP = 4.0  # in units of the distances that dual and primal variables have traveled
_GRADIENT_SHARE = 0.5  # norm of the scaled gradient over that of the scaled operator
_CHECK_EVERY = 10


@torch.no_grad()
def total_variation(
    measurement: Float[Tensor, "*batch view detector"],
    operator: LinearOperator,
    weight: float,
    num_iterations: int = 500,
    tolerance: float = 1e-4,
    start: Float[Tensor, "*batch height width"] | None = None,
    nonnegative: bool = True,
    operator_norm: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Reconstruction:
    """Minimize a data term and the isotropic total variation of the image.

        min over x >= 0 of  |A x - y|^2 / 2 + weight sum over pixels |(D x)(pixel)|,

    with D x the differences to the pixel below and to the right, not divided by the spacing, and
    zero beyond the last row and column. Solved by over-relaxed PDHG [1, 2, 3] on K = (A / a, D / d)
    with a >= |A|; the constraint x >= 0 may be left out. An iteration makes one product with A and
    one with A*. After 10, 20, 40, ... iterations the dual step becomes four times the ratio of the
    distances that dual and primal variables have traveled [4]. The residual is the larger of the
    two optimality residuals, relative:

        |r| / |A* y| for r in K* z + dG(x),    |s| / |y| for s in dF*(z) - K x.

    The images of a batch share the products and are solved each by itself.

    Args:
        measurement: y.
        operator: A, from images to measurements.
        weight: Of the total variation; with line integrals as y it has their unit times mm.
        num_iterations: Stop unconverged after so many.
        tolerance: Of the residual; checked at every tenth iteration.
        start: First image, such as a filtered back-projection; default: zero.
        nonnegative: Keep the image at or above zero.
        operator_norm: An upper bound of |A|; default: estimated, at about thirty products.
        progress: Told the share of `num_iterations` that was made.

    Returns:
        The image, its objective, and whether it converged.

    Raises:
        ValueError: If the weight is negative, a shape does not fit, or the measurement is not
            finite.
    """
    _refuse_bad_input(measurement, operator, weight, num_iterations)
    back_projection = operator.adjoint(measurement)
    if operator_norm is None:
        operator_norm = norm_bounds(
            operator,
            shape=back_projection.shape[-2:],
            dtype=measurement.dtype,
            device=measurement.device,
            relative_gap=0.05,
        ).upper
    # In units where |A| is 1: y and A are divided by a, the weight by a^2, the objective by a^2.
    gradient_scale = _GRADIENT_SHARE / math.sqrt(8)
    ball = weight / operator_norm**2 / gradient_scale
    data = measurement / operator_norm

    def apply(image: Tensor) -> tuple[Tensor, Tensor]:
        return operator(image) / operator_norm, gradient_scale * _gradient(image)

    def apply_adjoint(line: Tensor, field: Tensor) -> Tensor:
        return operator.adjoint(line) / operator_norm + gradient_scale * _gradient_adjoint(field)

    tiny = torch.finfo(data.dtype).tiny
    primal_scale = (_norm(back_projection, 2) / operator_norm**2).clamp(min=tiny)
    dual_scale = _norm(data, 2).clamp(min=tiny)

    image = _start_image(start, back_projection)
    lines, differences = apply(image)
    line, field = torch.zeros_like(lines), torch.zeros_like(differences)
    slope = torch.zeros_like(image)
    first_image = image
    sigma = torch.full_like(dual_scale, _FIRST_DUAL_STEP)[..., None, None]
    iteration, next_balance, converged = 0, _CHECK_EVERY, False
    while iteration < num_iterations and not converged:
        iteration += 1
        tau = 1 / (sigma * (1 + _GRADIENT_SHARE**2))
        new_image = image - tau * slope
        if nonnegative:
            new_image.clamp_(min=0)
        new_lines, new_differences = apply(new_image)
        new_line = (line + sigma * (2 * new_lines - lines - data)) / (1 + sigma)
        new_field = _onto_balls(
            field + sigma[..., None] * (2 * new_differences - differences), ball
        )
        new_slope = apply_adjoint(new_line, new_field)
        if iteration % _CHECK_EVERY == 0 or iteration == num_iterations:
            primal = _norm((image - new_image) / tau + new_slope - slope, 2)
            dual = torch.hypot(
                _norm((line - new_line) / sigma + new_lines - lines, 2),
                _norm((field - new_field) / sigma[..., None] + new_differences - differences, 3),
            )
            residual = torch.maximum(primal / primal_scale, dual / dual_scale)
            converged = bool((residual <= tolerance).all())
            if progress is not None:
                progress(1.0 if converged else iteration / num_iterations)
        image, lines, differences, line, field, slope = (
            old.lerp(new, _RELAXATION)
            for old, new in (
                (image, new_image),
                (lines, new_lines),
                (differences, new_differences),
                (line, new_line),
                (field, new_field),
                (slope, new_slope),
            )
        )
        if iteration == next_balance:
            next_balance *= 2
            dual_path = torch.hypot(_norm(line, 2), _norm(field, 3))
            ratio = _DUAL_STEP * (dual_path / _norm(image - first_image, 2))[..., None, None]
            sigma = torch.where(ratio.isfinite() & (ratio > 0), ratio, sigma)
    misfit = (operator_norm * _norm(new_lines - data, 2)) ** 2 / 2
    variation = _magnitude(_gradient(new_image)).sum(dim=(-2, -1))
    return Reconstruction(new_image, misfit + weight * variation, residual, iteration, converged)


def _refuse_bad_input(
    measurement: Tensor, operator: LinearOperator, weight: float, num_iterations: int
) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight must be a finite number of at least 0, got {weight}")
    if num_iterations < 1:
        raise ValueError(f"num_iterations must be at least 1, got {num_iterations}")
    shape = operator.output_shape
    if shape is not None and tuple(measurement.shape[-len(shape) :]) != shape:
        raise ValueError(
            f"measurement must end in the operator's output shape {shape}, "
            f"got {tuple(measurement.shape)}"
        )
    if not measurement.isfinite().all():
        raise ValueError("measurement must be finite, got NaN or infinity; mend those rays first")


def _start_image(start: Tensor | None, like: Tensor) -> Tensor:
    if start is None:
        return torch.zeros_like(like)
    if start.shape != like.shape:
        raise ValueError(f"start must have shape {tuple(like.shape)}, got {tuple(start.shape)}")
    return start.to(like)


def _gradient(image: Tensor) -> Tensor:
    # Differences to the pixel below and to the right, on an axis before height and width.
    field = image.new_zeros(*image.shape[:-2], 2, *image.shape[-2:])
    torch.sub(image[..., 1:, :], image[..., :-1, :], out=field[..., 0, :-1, :])
    torch.sub(image[..., :, 1:], image[..., :, :-1], out=field[..., 1, :, :-1])
    return field


def _gradient_adjoint(field: Tensor) -> Tensor:
    down, right = field[..., 0, :-1, :], field[..., 1, :, :-1]
    image = field.new_zeros(*field.shape[:-3], *field.shape[-2:])
    image[..., 1:, :] += down
    image[..., :-1, :] -= down
    image[..., :, 1:] += right
    image[..., :, :-1] -= right
    return image


def _magnitude(field: Tensor) -> Tensor:
    return torch.hypot(field[..., 0, :, :], field[..., 1, :, :])


def _onto_balls(field: Tensor, radius: float) -> Tensor:
    magnitude = _magnitude(field).unsqueeze(-3)
    return field * (radius / magnitude.clamp(min=max(radius, torch.finfo(field.dtype).tiny)))


def _norm(part: Tensor, num_axes: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(part, dim=tuple(range(-num_axes, 0)))
    return norm
