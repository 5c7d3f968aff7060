"""Low-dimensional manifold model: reconstruct so that windows that look alike vary together.

    min over x of  |A x - y|^2 / 2 + weight <x, R x> / 2,

or, for measurements without noise, min <x, R x> under A x = y; R is the energy of the windows of x
on their graph (see `ManifoldEnergy`), the weighted l2 norm of their convolution framelets [1]. R
depends on x: it is built from the last image, x solved for, R built again, and so on [2].

Two things are not as in [2] and in the program published with [1]. They discretize the Laplacian of
the manifold by point integrals, which gives a system that is not symmetric, and they let the
windows go apart from the image between split Bregman iterations. Here L is the symmetric Laplacian
of the graph and the unknown is the image itself: an update is one positive semidefinite system,
which conjugate gradients solve.

References:
    [1] R. Yin, T. Gao, Y. M. Lu and I. Daubechies, "A tale of two bases: local-nonlocal
        regularization on image patches with convolution framelets", SIAM J. Imaging Sciences 10(2),
        2017.
    [2] S. Osher, Z. Shi and W. Zhu, "Low dimensional manifold model for image processing", SIAM J.
        Imaging Sciences 10(4), 2017.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core.linear_operator import LinearOperator
from framelets.core.spectral import conjugate_gradient
from framelets.solvers.kept_measurement import KeptMeasurement
from framelets.solvers.manifold_energy import ManifoldEnergy
from framelets.solvers.reconstruction import Reconstruction

_INNER_SHARE = 0.1  # tolerance of conjugate gradients over that of the updates


@torch.no_grad()
def low_dimensional_manifold(
    measurement: Float[Tensor, "*measurement"],
    operator: LinearOperator,
    weight: float | None,
    start: Float[Tensor, "height width"],
    *,
    window: Sequence[int] = (8, 8),
    reweighting: str = "none",
    num_neighbors: int = 10,
    num_coordinates: int | None = 12,
    num_updates: int = 5,
    num_iterations: int = 200,
    tolerance: float = 1e-3,
    progress: Callable[[float], None] | None = None,
) -> Reconstruction:
    """Minimize a data term and the energy of the windows on their graph, building the graph anew.

    The residual is the relative change |x' - x| / |x'| of the image in the last update. Graphs are
    found by sorting distances and jump as the image changes, so that nothing proves that the
    updates converge; few of them are usual.

    Args:
        measurement: y, of one image.
        operator: A, from images to measurements.
        weight: Of the energy, without unit if A has none; None: keep the measurement exactly, which
            needs A A* A = A, as of a mask.
        start: First image, from which the first graph is built: missing pixels must be filled in.
        window: Height and width of the windows.
        reweighting: "none", or a rule of `REWEIGHTINGS`.
        num_neighbors: Of each window in the graph.
        num_coordinates: Of the windows, by which neighbors are found; None: all.
        num_updates: Most graphs to build.
        num_iterations: Most conjugate gradient iterations in an update.
        tolerance: Of the residual; a tenth of it is that of conjugate gradients.
        progress: Told the share of `num_updates` that was made.

    Returns:
        The image, its objective with the last graph, the number of updates, and whether they
        converged.

    Raises:
        ValueError: If the weight is not positive, a number or shape does not fit, the measurement
            is not finite, or it cannot be kept.
    """
    if weight is not None and not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"weight must be positive, or None to keep the measurement, got {weight}")
    if num_updates < 1:
        raise ValueError(f"num_updates must be at least 1, got {num_updates}")
    if not measurement.isfinite().all():
        raise ValueError("measurement must be finite, got NaN or infinity")
    back_projection = operator.adjoint(measurement)
    if start.shape != back_projection.shape:
        raise ValueError(
            f"start must have shape {tuple(back_projection.shape)}, got {tuple(start.shape)}"
        )
    kept = KeptMeasurement(operator, measurement) if weight is None else None
    image = start.to(back_projection) if kept is None else kept.nearest(start.to(back_projection))
    update, converged = 0, False
    while update < num_updates and not converged:
        update += 1
        energy = ManifoldEnergy(
            image,
            window,
            reweighting=reweighting,
            num_neighbors=num_neighbors,
            num_coordinates=num_coordinates,
        )
        if weight is not None:
            system, rhs = operator.gram + weight * energy, back_projection
        if kept is not None:  # the part that is not measured is the unknown
            system, rhs = kept @ energy @ kept, -kept(energy(kept.known))
        solution, info = conjugate_gradient(
            system,
            rhs,
            shape=image.shape,
            start=image if kept is None else kept(image),
            tolerance=_INNER_SHARE * tolerance,
            num_iterations=num_iterations,
        )
        previous, image = image, solution if kept is None else kept.nearest(solution)
        change = torch.linalg.vector_norm(image - previous) / torch.linalg.vector_norm(image)
        converged = bool(change <= tolerance) and info.converged
        if progress is not None:
            progress(1.0 if converged else update / num_updates)
    objective = (image * energy(image)).sum() / 2
    if weight is not None:
        misfit = torch.linalg.vector_norm(operator(image) - measurement) ** 2 / 2
        objective = misfit + weight * objective
    return Reconstruction(image, objective, change, update, converged)
