"""Frame bounds of an analysis operator, computed and not asserted.

    lower |x|^2 <= |F x|^2 <= upper |x|^2    for every x,

that is, the extreme eigenvalues of the frame operator S = F* F (`F.gram`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from framelets.core import Identity, LinearOperator
from framelets.core.spectral import SingularTriplets, singular_triplets


class FrameBounds(NamedTuple):
    """Extreme eigenvalues of a frame operator; equal for a tight frame, both 1 for a Parseval one.

    A lower bound of 0 means that the analysis forgets something: no frame.
    """

    lower: float
    upper: float


def frame_bounds(
    analysis: LinearOperator,
    shape: Sequence[int] | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-6,
    max_products: int | None = None,
    max_dense: int = 1024,
) -> FrameBounds:
    """Compute the frame bounds of an analysis operator on inputs of one shape.

    Up to `max_dense` unknowns the frame operator is written as a dense matrix and all its
    eigenvalues are found. Beyond, Lanczos finds both ends: `upper` as |F|^2 and `lower` as
    2 upper - |2 upper I - S|. Then `upper` comes from below with a residual of at most `tolerance`
    relative to itself, and `lower` from above with one of at most twice that; eigenvalues that no
    random start sees and lower bounds smaller than the residual are not resolved.

    Args:
        analysis: The analysis F.
        shape: Shape of one input; may be left out where the operator knows it.
        dtype: Of the inputs; a real one restricts the operator to real tensors.
        device: Of the inputs; default: where the operator's buffers are.
        generator: Random start of Lanczos; default: seed 0.
        tolerance: Largest residual of Lanczos, relative to `upper`.
        max_products: Most applications of one operator to one vector; default: that of
            `core.spectral.singular_triplets`.
        max_dense: Most unknowns for the dense way.

    Raises:
        ValueError: If the shape is unknown, or the operator does not take it.
        ArithmeticError: If Lanczos does not reach the tolerance.

    Example:
        >>> from framelets.frames import AveragePooling, SkipFrame
        >>> lower, upper = frame_bounds(SkipFrame(AveragePooling("mean")), (4, 4))
        >>> round(lower, 12), round(upper, 12)
        (1.0, 1.25)
    """
    shape = analysis.input_shape if shape is None else tuple(shape)
    if shape is None:
        raise ValueError("shape must be given, as the operator takes inputs of any shape")
    if math.prod(shape) <= max_dense:
        eigenvalues = torch.linalg.eigvalsh(analysis.gram.to_matrix(shape, dtype, device))
        # S has no negative eigenvalue; what lies below 0 is rounding.
        return FrameBounds(max(0.0, float(eigenvalues[0])), float(eigenvalues[-1]))

    def leading(operator: LinearOperator) -> SingularTriplets:
        triplets = singular_triplets(
            operator,
            1,
            shape=shape,
            dtype=dtype,
            device=device,
            generator=generator,
            tolerance=tolerance,
            max_products=max_products,
        )
        if not triplets.converged:
            raise ArithmeticError(
                f"frame bounds did not reach the tolerance {tolerance} in {triplets.num_products} "
                f"products (residual {float(triplets.residuals[0]):.1e}); raise max_products or "
                "the tolerance"
            )
        return triplets

    upper = float(leading(analysis).values[0]) ** 2
    # Shifted by twice the upper end: by once, the operator of a tight frame would be all rounding.
    shift = 2 * upper
    reach = float(leading(shift * Identity() - analysis.gram).values[0])
    return FrameBounds(max(0.0, shift - reach), upper)
