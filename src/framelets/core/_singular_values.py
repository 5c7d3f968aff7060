"""Singular values of any operator: leading triplets, bounds of the norm, power iteration.

References:
    [1] J. Kuczynski and H. Wozniakowski, "Estimating the largest eigenvalue by the power and
        Lanczos algorithms with a random start", SIAM J. Matrix Anal. Appl. 13(4), 1992.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import acosh, ceil, cosh, log, sqrt

import torch
from jaxtyping import Float, Inexact
from scipy.special import betaincinv
from torch import Tensor

from ._bidiagonalization import Bidiagonalization, orthonormalize
from ._coordinates import Coordinates, seeded
from .linear_operator import LinearOperator

Progress = Callable[[float], None]


@dataclass(frozen=True)
class SingularTriplets:
    """Approximate singular triplets A v = s u, A* u = s v.

    A residual says how near a triplet is to a true one, not that it is among the largest.

    Attributes:
        left: The vectors u, orthonormal.
        values: The singular values s, descending; each is a lower bound (up to rounding) of the
            singular value of A with the same index.
        right: The vectors v, orthonormal.
        residuals: max(|A v - s u|, |A* u - s v|) / s_1, from products made for the purpose.
        converged: True if every residual is within the tolerance.
        num_products: Applications of A or A* to one vector, all together.
    """

    left: Inexact[Tensor, " num *output_shape"]
    values: Float[Tensor, " num"]
    right: Inexact[Tensor, " num *input_shape"]
    residuals: Float[Tensor, " num"]
    converged: bool
    num_products: int


@dataclass(frozen=True)
class NormBounds:
    """Bounds of an operator norm.

    Attributes:
        lower: |A v| / |v| of a vector v that was found: certain, up to rounding.
        upper: Holds with the probability below, over the random start.
        probability: With which `upper` holds, at least.
        num_products: Applications of A or A* to one vector, all together.
    """

    lower: float
    upper: float
    probability: float
    num_products: int


def singular_triplets(
    operator: LinearOperator,
    num: int,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-2,
    max_products: int | None = None,
    block_size: int = 4,
    progress: Progress | None = None,
) -> SingularTriplets:
    """Find the leading singular triplets of an operator from its products alone.

    Block Golub-Kahan-Lanczos with full reorthogonalization and thick restart (see
    `_bidiagonalization`), on two bases of max(3 num, num + 8 block_size) vectors. A Krylov space
    grown from b vectors holds at most b copies of a repeated singular value. So after convergence
    |A (I - V V*)|, which is at least the next singular value, is bounded as in `norm_bounds`: it
    exceeds 1.03 (s_num + tolerance s_1) with probability 0.01 at most. If more than
    s_num + tolerance s_1 is found there, the block grows by `block_size` random vectors and the
    search goes on. If `block_size` is at least `num`, no such check is needed.

    Args:
        operator: Any linear operator. A real-linear one on complex tensors has the triplets of its
            real matrix (see `LinearOperator.to_matrix`), given as complex tensors.
        num: Number of triplets. Beyond the rank of the operator their values are zero.
        shape: Shape of one input; may be left out where the operator knows it.
        dtype: Of the inputs; a real one restricts the operator to real tensors.
        device: Of the inputs; default: where the operator's buffers are.
        generator: Random start; default: seed 0.
        tolerance: Largest residual, relative to the largest singular value.
        max_products: Stop unconverged when so many products were made; default: 100 (num + 10).
        block_size: Vectors to which the operator is applied at once.
        progress: Called with the fraction done, 0 to 1.

    Raises:
        ValueError: If `num` exceeds the smaller dimension, an argument is out of range, or the
            operator gives NaN.
    """
    flat = Coordinates(operator, shape, dtype, device)
    smaller = min(flat.input.size, flat.output.size)
    if not 1 <= num <= smaller:
        raise ValueError(f"num must be from 1 to the smaller dimension {smaller}, got {num}")
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, got {tolerance}")
    budget = 100 * (num + 10) if max_products is None else max_products
    capacity = max(3 * num, num + 8 * block_size)
    engine = Bidiagonalization(flat, capacity, seeded(generator))
    report = _monotone(progress)

    block = block_size
    checked: Tensor | None = None  # values at the last check for missed ones
    while True:
        engine.expand(block)
        values, residuals = _leading(engine, num)
        report(0.95 * _share_done(residuals, num, tolerance))

        is_whole = engine.num_right == flat.input.size
        if is_whole or (flat.num_products >= budget and engine.num_right >= num):
            break
        is_enough = engine.num_left >= num or engine.range_found
        if engine.num_right >= num and is_enough and bool((residuals <= tolerance).all()):
            if engine.range_found or block_size >= num:
                break
            slack = tolerance * values[0]
            # A missed one was found: wait until it has entered, which raises the sum by over slack.
            if checked is None or (values - checked).sum() > slack / 2:
                if _largest_missed(flat, engine, num) <= values[-1] + slack:
                    break
                block, checked = min(block + block_size, num + 2 * block_size), values
        if engine.room < block:
            engine.restart(min(num + 2 * block_size, capacity - block))

    return _assemble(flat, engine, num, tolerance, report)


def norm_bounds(
    operator: LinearOperator,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    relative_gap: float = 0.01,
    probability: float = 0.99,
    progress: Progress | None = None,
) -> NormBounds:
    """Bound an operator norm from below with certainty and from above with a given probability.

    Lanczos on A* A (as Golub-Kahan bidiagonalization) from one vector b, uniform on the unit
    sphere of dimension n. If theta is the largest Ritz value of a Krylov space of dimension k,

        |A| <= sqrt(theta) cosh(arcosh(1/c) / (2k - 1))     unless |b_1| < c,

    where b_1 is the component of b along a leading singular vector; |b_1|^2 has the distribution
    Beta(1/2, (n-1)/2), or Beta(1, n-1) on the complex sphere, so that c is a quantile of a known
    law. The least k is taken for which cosh(...) <= 1 + relative_gap; 2 k vectors are held. This is
    the theorem of Kuczynski and Wozniakowski [1] for the Lanczos algorithm, in the sharper form
    that its proof gives; cosh(t) >= exp(t) / 2 and P(|b_1| < c) <= 0.824 sqrt(n) c bring it to

        P(theta < (1 - eps) |A|^2) <= 1.648 sqrt(n) exp(-sqrt(eps) (2k - 1)).

    Proof: for every polynomial p of degree below k, theta is at least the Rayleigh quotient of
    p(A* A) b. Scale |A| to 1; if theta < 1 - eps, then eps p(1)^2 |b_1|^2 is below the largest
    (1 - eps - t) p(t)^2 on [0, 1 - eps] times 1 - |b_1|^2. With t = (1 - eps)(1 - s^2) the best
    choice is s p = T_{2k-1}(s), the Chebyshev polynomial, which at t = 1 gives
    |b_1|^2 sinh^2((2k - 1) artanh sqrt(eps)) < 1 - |b_1|^2, that is
    |b_1| < c = 1 / cosh((2k - 1) artanh sqrt(eps)); solve for 1 / (1 - eps).

    Args:
        operator: Any linear operator.
        shape: Shape of one input; may be left out where the operator knows it.
        dtype: Of the inputs; a real one restricts the operator to real tensors.
        device: Of the inputs; default: where the operator's buffers are.
        generator: Random start, over which the probability is meant; default: seed 0.
        relative_gap: Largest (upper - lower) / lower.
        probability: With which the upper bound must hold.
        progress: Called with the fraction done, 0 to 1.

    Raises:
        ValueError: If an argument is out of range, or the operator gives NaN.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie between 0 and 1, got {probability}")
    if not relative_gap > 0:
        raise ValueError(f"relative_gap must be positive, got {relative_gap}")
    flat = Coordinates(operator, shape, dtype, device)
    report = _monotone(progress)
    lower, upper = _lanczos_bounds(
        flat, seeded(generator), relative_gap, probability, lambda share: report(0.99 * share)
    )
    report(1.0)
    return NormBounds(lower, upper, probability, flat.num_products)


def power_iteration(
    operator: LinearOperator,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    start: Inexact[Tensor, "*input_shape"] | None = None,
    tolerance: float = 1e-2,
    num_iterations: int = 100,
) -> SingularTriplets:
    """Find the leading singular triplet by the power method on A* A, with one vector of memory.

    v <- A* A v / |A* A v|. Use it to follow a norm that changes little (give the last vector as
    `start`) or where memory is short; `norm_bounds` needs far fewer products.

    Args:
        operator: Any linear operator.
        shape: Shape of one input; may be left out where the operator knows it.
        dtype: Of the inputs; a real one restricts the operator to real tensors.
        device: Of the inputs; default: where the operator's buffers are.
        generator: Random start; default: seed 0.
        start: First vector, in place of a random one.
        tolerance: Stop when |A* u - s v| / s is within it.
        num_iterations: Stop unconverged after so many.

    Raises:
        ValueError: If an argument is out of range, or the operator gives NaN.
    """
    if num_iterations < 1:
        raise ValueError(f"num_iterations must be at least 1, got {num_iterations}")
    flat = Coordinates(operator, shape, dtype, device)
    if start is None:
        vector = flat.random_rows(1, flat.input.size, seeded(generator))
    elif tuple(start.shape) != flat.input.shape:
        raise ValueError(f"start must have shape {flat.input.shape}, got {tuple(start.shape)}")
    else:
        vector = flat.input.to_rows(start.detach().to(flat.device)[None])
    if not torch.linalg.vector_norm(vector) > 0:
        raise ValueError("start must have a positive finite norm")

    for _ in range(num_iterations):
        right = vector / torch.linalg.vector_norm(vector)
        image = flat.forward(right)
        value = torch.linalg.vector_norm(image)
        left = image / _positive(value)
        vector = flat.adjoint(left)
        residual = torch.linalg.vector_norm(vector - value * right) / _positive(value)
        if not torch.isfinite(residual):
            raise ValueError("operator must give finite values, got NaN or infinity")
        if residual <= tolerance:
            break
    return SingularTriplets(
        left=flat.output.to_tensors(left),
        values=value[None],
        right=flat.input.to_tensors(right),
        residuals=residual[None],
        converged=bool(residual <= tolerance),
        num_products=flat.num_products,
    )


def _lanczos_bounds(
    flat: Coordinates,
    generator: torch.Generator,
    relative_gap: float,
    probability: float,
    report: Progress,
) -> tuple[float, float]:
    """Return the bounds of `norm_bounds`."""
    size, degrees = flat.input.size, 2 if flat.dtype.is_complex else 1
    # In one dimension, b is a leading singular vector.
    squared = betaincinv(degrees / 2, degrees * (size - 1) / 2, 1 - probability) if size > 1 else 1
    reach = acosh(1 / sqrt(squared))
    num_steps = max(1, ceil((reach / acosh(1 + relative_gap) + 1) / 2))

    engine = Bidiagonalization(flat, min(num_steps, size), generator)
    for step in range(min(num_steps, size)):
        engine.expand(1)
        report((step + 1) / num_steps)
        if len(engine.next) == 0:  # the Krylov space is complete: it stays the same for larger k
            break
    _, _, qh = engine.decompose()
    vector = qh[:1].conj() @ engine.right
    lower = float(torch.linalg.vector_norm(flat.forward(vector)) / torch.linalg.vector_norm(vector))
    return lower, lower * cosh(reach / (2 * num_steps - 1))


def _largest_missed(flat: Coordinates, engine: Bidiagonalization, num: int) -> float:
    """Return the norm of A (I - V V*), from below, where V are the leading right vectors found."""
    _, _, qh = engine.decompose()
    remainder = flat.without(qh[:num].conj() @ engine.right)
    lower, _ = _lanczos_bounds(remainder, engine.generator, 0.03, 0.99, lambda _: None)
    flat.num_products += remainder.num_products
    return lower


def _leading(
    engine: Bidiagonalization, num: int
) -> tuple[Float[Tensor, " num"], Float[Tensor, " found"]]:
    """Return the leading values, zeros filled in, and the relative residuals of those found."""
    p, s, _ = engine.decompose()
    values = torch.nn.functional.pad(s[:num], (0, num - len(s[:num])))
    return values, engine.residuals(p)[:num] / _positive(values[0])


def _assemble(
    flat: Coordinates, engine: Bidiagonalization, num: int, tolerance: float, report: Progress
) -> SingularTriplets:
    p, _, qh = engine.decompose()
    values, _ = _leading(engine, num)
    right = qh[:num].conj() @ engine.right
    left = p.mT[:num] @ engine.left
    if len(left) < num:  # beyond the rank: any vectors orthogonal to the range
        random = flat.random_rows(num - len(left), flat.output.size, engine.generator)
        left = torch.cat([left, orthonormalize(random, left, 0.0)[0]])
    residuals = torch.empty_like(values)
    for i in range(num):  # one by one: no further block of memory
        one = slice(i, i + 1)
        forward = torch.linalg.vector_norm(flat.forward(right[one]) - values[i] * left[one])
        adjoint = torch.linalg.vector_norm(flat.adjoint(left[one]) - values[i] * right[one])
        residuals[i] = torch.maximum(forward, adjoint) / _positive(values[0])
    report(1.0)
    return SingularTriplets(
        left=flat.output.to_tensors(left),
        values=values,
        right=flat.input.to_tensors(right),
        residuals=residuals,
        converged=bool((residuals <= tolerance).all()),
        num_products=flat.num_products,
    )


def _positive(value: Tensor) -> Tensor:
    # Guards 0 / 0 of a zero operator: zero products have zero residuals.
    return value.clamp(min=torch.finfo(value.dtype).tiny)


def _share_done(residuals: Float[Tensor, " found"], num: int, tolerance: float) -> float:
    # Residuals fall geometrically: each counts by its logarithm, 1 at the tolerance.
    return float((residuals.clamp(tolerance, 1).log() / log(tolerance)).sum()) / num


def _monotone(progress: Progress | None) -> Progress:
    best = 0.0

    def report(share: float) -> None:
        nonlocal best
        best = max(best, share)
        if progress is not None:
            progress(best)

    return report
