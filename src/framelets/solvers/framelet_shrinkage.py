"""Sparse coefficients of a tight frame: l1 regularization by the alternating direction method.

For a frame T with T* T = c I, such as convolution framelets of orthonormal bases or wavelets,

    min over x of  |A x - y|^2 / 2 + (weight / c) sum_k r_k |(T x)_k|,

or, for measurements without noise, min sum_k r_k |(T x)_k| under A x = y. It asks for sparse
coefficients of the image (analysis), not for an image of sparse coefficients (synthesis); for
orthonormal T the two agree. The scaled form of the alternating direction method of multipliers [1]
with z = T x repeats

    x = argmin |A x - y|^2 / 2 + (rho / 2 c) |T x - z + u|^2,
        or (A* A + rho) x = A* y + (rho / c) T* (z - u)
    z = soft(T x + u, weight r / rho)    with soft(a, t) = a max(1 - t / |a|, 0)
    u = u + T x - z

which for c = 1 are the split Bregman iterations for framelets of [2].

References:
    [1] S. Boyd, N. Parikh, E. Chu, B. Peleato and J. Eckstein, "Distributed optimization and
        statistical learning via the alternating direction method of multipliers", Foundations and
        Trends in Machine Learning 3(1), 2011: scaled form, residuals (3.3), balancing (3.4.1).
    [2] J.-F. Cai, S. Osher and Z. Shen, "Split Bregman methods and frame based image restoration",
        Multiscale Modeling and Simulation 8(2), 2009.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core.linear_operator import Identity, LinearOperator
from framelets.core.spectral import conjugate_gradient
from framelets.solvers.kept_measurement import KeptMeasurement
from framelets.solvers.reconstruction import Reconstruction

_FIRST_BALANCE = 10
_IMBALANCE = 5.0  # ratio of the two residuals beyond which rho is doubled or halved
_INNER_ITERATIONS = 50


@torch.no_grad()
def framelet_shrinkage(
    measurement: Float[Tensor, "*measurement"],
    operator: LinearOperator,
    weight: float | None,
    frame: LinearOperator,
    *,
    relative_weights: Float[Tensor, "*coefficients"] | None = None,
    start: Float[Tensor, "height width"] | None = None,
    num_iterations: int = 200,
    tolerance: float = 1e-3,
    progress: Callable[[float], None] | None = None,
) -> Reconstruction:
    """Minimize a data term and the weighted l1 norm of the coefficients in a tight frame.

    The residual is the larger of the relative primal and dual residuals of [1],

        |T x - z| / max(|T x|, |z|),    |T* (z' - z)| / |T* u|    (P T* if the measurement is kept)

    with z' the next z and P the projection onto the null space of A. rho begins with the threshold
    weight / rho = sum r |T x| / sum r^2 of the first image; after 10, 20, 40, ... iterations it is
    doubled or halved where one residual is more than five times the other [1].

    Args:
        measurement: y, of one image.
        operator: A, from images to measurements.
        weight: Of the norm, in the unit of the coefficients if |A| = 1; None: keep the measurement
            exactly, which needs A A* A = A, as of a mask.
        frame: T, with T* T = c I; c is measured.
        relative_weights: r, not negative, one a coefficient or broadcast to them; default: 1.
        start: First image; default: A* y.
        num_iterations: Stop unconverged after so many.
        tolerance: Of the residual.
        progress: Told the share of `num_iterations` that was made.

    Returns:
        The image, its objective, and whether it converged.

    Raises:
        ValueError: If a weight is not as said, the frame is not tight, a shape does not fit, the
            measurement is not finite, or it cannot be kept.
    """
    if weight is not None and not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"weight must be positive, or None to keep the measurement, got {weight}")
    if num_iterations < 1:
        raise ValueError(f"num_iterations must be at least 1, got {num_iterations}")
    if not measurement.isfinite().all():
        raise ValueError("measurement must be finite, got NaN or infinity")
    back_projection = operator.adjoint(measurement)
    if start is not None and start.shape != back_projection.shape:
        raise ValueError(
            f"start must have shape {tuple(back_projection.shape)}, got {tuple(start.shape)}"
        )
    kept = KeptMeasurement(operator, measurement) if weight is None else None
    image = back_projection if start is None else start.to(back_projection)
    if kept is not None:
        image = kept.nearest(image)
    gain = _gain(frame, image)
    split = frame(image)
    relative = _relative(relative_weights, split)
    strength = 1.0 if weight is None else weight

    tiny = torch.finfo(image.dtype).tiny
    threshold = float((relative * split.abs()).sum() / relative.expand_as(split).square().sum())
    rho = strength / max(threshold, tiny) if threshold > 0 else 1.0
    dual = torch.zeros_like(split)
    lowered_split, lowered_dual = frame.adjoint(split), torch.zeros_like(image)
    iteration, next_balance, converged = 0, _FIRST_BALANCE, False
    while iteration < num_iterations and not converged:
        iteration += 1
        pull = (lowered_split - lowered_dual) / gain
        if kept is not None:
            image = kept.nearest(pull)
        else:
            image, _ = conjugate_gradient(
                operator.gram + rho * Identity(),
                back_projection + rho * pull,
                shape=image.shape,
                start=image,
                tolerance=tolerance / 10,
                num_iterations=_INNER_ITERATIONS,
            )
        coefficients = frame(image)
        moved = coefficients + dual
        split = moved - moved.clamp(-relative * strength / rho, relative * strength / rho)
        dual = moved - split
        previous, lowered_split = lowered_split, frame.adjoint(split)
        lowered_dual = lowered_dual + gain * image - lowered_split
        step = lowered_split - previous
        if kept is not None:
            step = kept(step)
        size = torch.maximum(_norm(coefficients), _norm(split)).clamp(min=tiny)
        primal_residual = _norm(coefficients - split) / size
        dual_residual = _norm(step) / _norm(lowered_dual).clamp(min=tiny)
        residual = torch.maximum(primal_residual, dual_residual)
        converged = bool(residual <= tolerance)
        if progress is not None:
            progress(1.0 if converged else iteration / num_iterations)
        if iteration == next_balance:  # ever more rarely, for rho must settle
            next_balance *= 2
            factor = _balance(float(primal_residual), float(dual_residual))
            rho *= factor
            dual, lowered_dual = dual / factor, lowered_dual / factor
    objective = (relative * frame(image).abs()).sum() * strength / gain
    if kept is None:
        objective = objective + _norm(operator(image) - measurement) ** 2 / 2
    return Reconstruction(image, objective, residual, iteration, converged)


def _balance(primal_residual: float, dual_residual: float) -> float:
    if primal_residual > _IMBALANCE * dual_residual:
        return 2.0
    return 0.5 if dual_residual > _IMBALANCE * primal_residual else 1.0


def _relative(relative_weights: Tensor | None, coefficients: Tensor) -> Tensor:
    if relative_weights is None:
        return coefficients.new_ones(())
    try:
        fits = torch.broadcast_shapes(relative_weights.shape, coefficients.shape)
    except RuntimeError:
        fits = torch.Size()
    if fits != coefficients.shape or not (relative_weights >= 0).all():
        raise ValueError(
            "relative_weights must not be negative and broadcast to the coefficients of shape "
            f"{tuple(coefficients.shape)}, got shape {tuple(relative_weights.shape)}"
        )
    return relative_weights.to(coefficients)


def _gain(frame: LinearOperator, image: Tensor) -> float:
    # One random x decides, up to chance zero: it is an eigenvector of T* T only if all are.
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)
    again = frame.adjoint(frame(probe))
    gain = float((probe * again).sum() / probe.square().sum())
    tolerance = 1e3 * torch.finfo(image.dtype).eps
    if not (gain > 0 and _norm(again - gain * probe) <= tolerance * _norm(again)):
        raise ValueError(
            "frame must be tight, T* T = c I, and is not; take orthonormal bases, or wavelets of "
            "this room"
        )
    return gain


def _norm(part: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(part)
    return norm
