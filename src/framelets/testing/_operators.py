"""Properties of linear operators."""

from collections.abc import Sequence

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator

BATCH = (2, 3)
"""Leading axes of the random inputs: more than one, and of different sizes."""


def assert_adjoint(
    operator: LinearOperator,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
    *,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    tolerance: float | None = None,
) -> None:
    """Assert <A x, y> = <x, A* y> for random x and y, and that batch axes and dtypes pass through.

    The inner product is real where the operator is real-linear, or maps real to complex tensors or
    back; a complex adjoint of a real input then counts by its real part.

    Args:
        operator: A.
        shape: Shape of one input; may be left out where the operator knows it.
        dtype: Of the inputs.
        device: Of the inputs; default: CPU.
        generator: Of the random vectors; default: seed 0.
        tolerance: Relative to |A x| |y| + |x| |A* y|; default: 100 times the machine epsilon.

    Raises:
        AssertionError: If one of these is not so.
    """
    generator = _seeded(generator)
    tolerance = _default(tolerance, dtype)
    x = _random((*BATCH, *_shape_of(operator, shape)), dtype, device, generator)
    forward = operator(x)
    y = _random(forward.shape, forward.dtype, device, generator)
    adjoint = operator.adjoint(y)

    _assert_like("A x", forward, operator.output_shape, dtype)
    _assert_like("A* y", adjoint, tuple(x.shape[len(BATCH) :]), dtype)
    is_mixed = x.is_complex() != forward.is_complex()
    may_be_complex = not x.is_complex() and forward.is_complex() and not operator.real_linear
    if adjoint.is_complex() != x.is_complex() and not may_be_complex:
        raise AssertionError(f"A* y must have the dtype of x, {x.dtype}, got {adjoint.dtype}")
    if may_be_complex and adjoint.is_complex():
        adjoint = adjoint.real

    in_range = _inner(forward, y)
    in_domain = _inner(x, adjoint)
    if operator.real_linear or is_mixed:
        in_range, in_domain = in_range.real, in_domain.real
    scale = _norm(forward) * _norm(y) + _norm(x) * _norm(adjoint)
    _assert_small("<A x, y> - <x, A* y>", in_range - in_domain, scale, tolerance)

    for name, function, batch, result in (
        ("A x", operator, x, forward),
        ("A* y", operator.adjoint, y, operator.adjoint(y)),
    ):
        one = function(batch[1, 2])
        if one.shape != result.shape[len(BATCH) :]:
            raise AssertionError(
                f"{name} must pass batch axes through: one sample gives {tuple(one.shape)}, "
                f"a batch {BATCH} of them {tuple(result.shape)}"
            )
        difference = torch.linalg.vector_norm(one - result[1, 2])
        _assert_small(f"{name} alone and in a batch", difference, _norm(result), tolerance)


def assert_isometry(
    operator: LinearOperator,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
    *,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    tolerance: float | None = None,
) -> None:
    """Assert |A x| = |x| and A* A x = x for random x; arguments are those of `assert_adjoint`.

    A deviation that touches few of many dimensions is small in a random vector; where it matters,
    `assert_frame_bounds` with bounds of 1 finds the worst case.
    """
    tolerance = _default(tolerance, dtype)
    x = _random((*BATCH, *_shape_of(operator, shape)), dtype, device, _seeded(generator))
    forward = operator(x)
    for index in range(BATCH[0]):
        difference = _norm(forward[index]) - _norm(x[index])
        _assert_small("|A x| - |x|", difference, _norm(x[index]), tolerance)
    back = operator.adjoint(forward)
    back = back.real if back.is_complex() and not x.is_complex() else back
    _assert_small("A* A x - x", torch.linalg.vector_norm(back - x), _norm(x), tolerance)


def assert_frame_bounds(
    operator: LinearOperator,
    shape: Sequence[int] | None,
    lower: float,
    upper: float,
    dtype: torch.dtype = torch.float64,
    *,
    device: torch.device | str | None = None,
    tolerance: float | None = None,
) -> None:
    """Assert that lower |x|^2 <= |T x|^2 <= upper |x|^2 for all x, with the best such bounds.

    Both are read from the dense matrix, so `shape` must be small.

    Args:
        operator: T, the analysis operator.
        shape: Shape of one input; None where the operator knows it.
        lower: Largest lower frame bound.
        upper: Smallest upper frame bound.
        dtype: Of the inputs.
        device: Of the inputs; default: where the operator's buffers are.
        tolerance: Relative to `upper`; default: 100 times the machine epsilon.

    Raises:
        AssertionError: If either bound is not so.
    """
    tolerance = _default(tolerance, dtype)
    matrix = operator.to_matrix(shape, dtype, device)
    squares = torch.linalg.svdvals(matrix).double() ** 2
    found_lower = float(squares[-1]) if matrix.shape[0] >= matrix.shape[1] else 0.0
    found_upper = float(squares[0])
    for name, found, stated in (("lower", found_lower, lower), ("upper", found_upper, upper)):
        if not abs(found - stated) <= tolerance * max(found_upper, upper):
            raise AssertionError(f"{name} frame bound must be {stated}, found {found}")


def _shape_of(operator: LinearOperator, shape: Sequence[int] | None) -> tuple[int, ...]:
    shape = operator.input_shape if shape is None else shape
    if shape is None:
        raise ValueError("shape must be given: the operator takes inputs of any shape")
    return tuple(shape)


def _seeded(generator: torch.Generator | None) -> torch.Generator:
    return torch.Generator().manual_seed(0) if generator is None else generator


def _default(tolerance: float | None, dtype: torch.dtype) -> float:
    return 100 * torch.finfo(dtype).eps if tolerance is None else tolerance


def _random(
    shape: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str | None,
    generator: torch.Generator,
) -> Inexact[Tensor, "*shape"]:
    x = torch.randn(tuple(shape), dtype=dtype, device=generator.device, generator=generator)
    return x.to(device)


def _assert_like(
    name: str, result: Tensor, shape: tuple[int, ...] | None, dtype: torch.dtype
) -> None:
    if tuple(result.shape[: len(BATCH)]) != BATCH:
        raise AssertionError(
            f"{name} must keep the batch axes {BATCH} in front, got {tuple(result.shape)}"
        )
    if shape is not None and tuple(result.shape[len(BATCH) :]) != shape:
        raise AssertionError(
            f"{name} must end in shape {shape}, got {tuple(result.shape[len(BATCH) :])}"
        )
    if result.dtype.to_real() != dtype.to_real():
        raise AssertionError(f"{name} must have the precision of {dtype}, got {result.dtype}")


def _inner(u: Tensor, v: Tensor) -> Tensor:
    u, v = (t.detach().to(torch.complex128).flatten() for t in (u, v))
    return torch.vdot(u, v)


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x.detach())
    return norm.double()


def _assert_small(name: str, difference: Tensor, scale: Tensor, tolerance: float) -> None:
    error, allowed = float(difference.detach().abs()), tolerance * float(scale)
    if not error <= allowed:
        raise AssertionError(
            f"{name} must vanish up to rounding, {allowed:.2g}, got {error:.2g} "
            f"({error / max(float(scale), 1e-300):.2g} of the norms involved)"
        )
