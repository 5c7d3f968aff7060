"""Singular values and vectors of a network at an image: what it amplifies, keeps and drops."""

from collections.abc import Callable

import torch

from framelets.core import LinearOperator
from framelets.core.spectral import SingularTriplets, singular_triplets
from framelets.geometry._replay import ReplayedMap


def spectrum(
    operator: LinearOperator,
    num: int = 20,
    *,
    tolerance: float = 1e-2,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> SingularTriplets:
    """Find the leading singular triplets of a network's operator, each with its residual.

    Args:
        operator: `frozen` or `tangent` of a `LocalMap`; say which wherever you show the numbers.
        num: How many triplets.
        tolerance: Largest residual, relative to the largest singular value, to stop at.
        generator: Source of the starting vectors.
        progress: Called with the share that is done, from 0 to 1.

    Returns:
        Triplets with values in descending order; `residuals` tell how near each one is to a true
        triplet, `converged` whether all meet the tolerance.

    Example:
        >>> from framelets.geometry import linearize
        >>> local = linearize(torch.nn.Conv2d(1, 1, 1, bias=False), torch.ones(1, 1, 4, 4))
        >>> len(spectrum(local.frozen, num=2).values)
        2
    """
    return singular_triplets(
        operator,
        num,
        dtype=operator.input_dtype if isinstance(operator, ReplayedMap) else torch.float32,
        device=operator.device if isinstance(operator, ReplayedMap) else None,
        tolerance=tolerance,
        generator=generator,
        progress=progress,
    )
