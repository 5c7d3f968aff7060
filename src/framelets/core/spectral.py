"""What an operator's products tell of it: one routine each, and each says what its number is.

A singular value that was found is a certified lower bound of the norm; an upper bound comes with
the probability with which it holds; a residual says how near a triplet is to a true one, not that
it is the largest; a stochastic estimate carries its standard error; a solver says whether it
converged.
"""

from ._conjugate_gradient import ConjugateGradientInfo, conjugate_gradient
from ._singular_values import (
    NormBounds,
    SingularTriplets,
    norm_bounds,
    power_iteration,
    singular_triplets,
)
from ._stochastic import DiagonalEstimate, Estimate, diagonal, trace

__all__ = [
    "ConjugateGradientInfo",
    "DiagonalEstimate",
    "Estimate",
    "NormBounds",
    "SingularTriplets",
    "conjugate_gradient",
    "diagonal",
    "norm_bounds",
    "power_iteration",
    "singular_triplets",
    "trace",
]
