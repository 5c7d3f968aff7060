"""Derivatives of a function against finite differences and against a second implementation."""

from collections.abc import Callable

import torch
from jaxtyping import Inexact
from torch import Tensor
from torch.autograd import forward_ad

Function = Callable[[Tensor], Tensor]


def assert_same_derivatives(
    function: Function,
    reference: Function | None,
    point: Inexact[Tensor, "*axes"],
    *,
    forward_mode: bool = True,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-6,
) -> None:
    """Assert that a function has the right derivatives at a point.

    For a random direction t and a random w, its forward derivative J t and its adjoint derivative
    J* w are compared with central differences D (|J t - D|, and Re<J* w, t> = Re<w, D>), and value,
    J t and J* w with those of the reference. Central differences are accurate to about 1e-10 in
    float64, and only where the function is smooth: choose the point away from kinks.

    Args:
        function: From one tensor to one tensor.
        reference: A second implementation, or None.
        point: Where; float64 or complex128.
        forward_mode: Test J t too; False for functions without forward-mode derivatives.
        generator: Of the random directions; default: seed 0.
        tolerance: Relative to the norms involved.

    Raises:
        AssertionError: If a derivative or value differs.
        TypeError: If the point has less than double precision.
    """
    if point.dtype not in (torch.float64, torch.complex128):
        raise TypeError(f"point must be float64 or complex128, got {point.dtype}")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    point = point.detach()
    direction = _random_like(point, generator)
    value = function(point).detach()
    weight = _random_like(value, generator)

    step = torch.finfo(torch.float64).eps ** (1 / 3) * max(1.0, float(point.abs().max()))
    with torch.no_grad():
        difference = function(point + step * direction) - function(point - step * direction)
        difference = difference / (2 * step)
    back = _adjoint_derivative(function, point, weight)
    pairings = _real_inner(weight, difference), _real_inner(back, direction)
    scale = float(weight.norm() * difference.norm() + back.norm() * direction.norm())
    _assert_close("adjoint derivative and central differences", *pairings, scale, tolerance)
    if forward_mode:
        along = _forward_derivative(function, point, direction)
        _assert_same("forward derivative and central differences", along, difference, tolerance)

    if reference is None:
        return
    _assert_same("value and that of the reference", value, reference(point).detach(), tolerance)
    other = _adjoint_derivative(reference, point, weight)
    _assert_same("adjoint derivative and that of the reference", back, other, tolerance)
    if forward_mode:
        other = _forward_derivative(reference, point, direction)
        _assert_same("forward derivative and that of the reference", along, other, tolerance)


def _forward_derivative(function: Function, point: Tensor, direction: Tensor) -> Tensor:
    with forward_ad.dual_level():
        result = forward_ad.unpack_dual(function(forward_ad.make_dual(point, direction)))
        tangent = result.tangent
        # No tangent: the function does not depend on the point.
        return torch.zeros_like(result.primal) if tangent is None else tangent.detach().clone()


def _adjoint_derivative(function: Function, point: Tensor, weight: Tensor) -> Tensor:
    point = point.clone().requires_grad_()
    with torch.enable_grad():
        value = function(point)
    if not value.requires_grad:
        return torch.zeros_like(point)
    gradient = torch.autograd.grad(value, point, weight, materialize_grads=True)[0]
    return gradient.detach()


def _random_like(x: Tensor, generator: torch.Generator) -> Tensor:
    random = torch.randn(x.shape, dtype=x.dtype, device=generator.device, generator=generator)
    return random.to(x.device)


def _real_inner(u: Tensor, v: Tensor) -> float:
    return float(torch.vdot(u.flatten(), v.flatten()).real)


def _assert_same(name: str, first: Tensor, second: Tensor, tolerance: float) -> None:
    if first.shape != second.shape:
        raise AssertionError(
            f"{name} must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    scale = max(float(first.norm()), float(second.norm()))
    _assert_close(name, float((first - second).norm()), 0.0, scale, tolerance)


def _assert_close(name: str, first: float, second: float, scale: float, tolerance: float) -> None:
    error = abs(first - second)
    if not error <= tolerance * scale:
        raise AssertionError(
            f"{name} must agree to {tolerance:.2g} of the norms involved, "
            f"got {error / max(scale, 1e-300):.2g}"
        )
