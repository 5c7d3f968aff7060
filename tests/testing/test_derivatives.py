"""Right derivatives pass; wrong ones are rejected, forward and adjoint each by itself."""

import pytest
import torch
from torch.autograd import Function

from framelets.testing import assert_same_derivatives


class _Square(Function):
    """x^2 with chosen factors on its derivatives: 1 is right."""

    @staticmethod
    def forward(x, forward_factor, adjoint_factor):  # noqa: ARG004
        return x**2

    @staticmethod
    def setup_context(ctx, inputs, output):  # noqa: ARG004
        x, ctx.forward_factor, ctx.adjoint_factor = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return ctx.adjoint_factor * 2 * x.conj() * gradient, None, None

    @staticmethod
    def jvp(ctx, tangent, *_):
        (x,) = ctx.saved_tensors
        return ctx.forward_factor * 2 * x * tangent


def _square(forward_factor=1.0, adjoint_factor=1.0):
    return lambda x: _Square.apply(x, forward_factor, adjoint_factor)


@pytest.fixture(params=[torch.float64, torch.complex128], ids=str)
def point(request):
    return torch.randn(3, 2, dtype=request.param, generator=torch.Generator().manual_seed(0))


def test_accepts_right_derivatives(point):
    assert_same_derivatives(_square(), torch.square, point)
    assert_same_derivatives(torch.exp, None, point)
    assert_same_derivatives(lambda x: torch.ones_like(x), lambda x: 0 * x + 1, point)


@pytest.mark.parametrize("factor", [1 + 1e-5, 0.0, -1.0])
def test_rejects_wrong_derivatives(point, factor):
    with pytest.raises(AssertionError, match="forward derivative and central differences"):
        assert_same_derivatives(_square(forward_factor=factor), None, point)
    with pytest.raises(AssertionError, match="adjoint derivative and central differences"):
        assert_same_derivatives(_square(adjoint_factor=factor), None, point)
    assert_same_derivatives(_square(forward_factor=factor), None, point, forward_mode=False)


def test_rejects_detached_and_different_functions(point):
    with pytest.raises(AssertionError, match="adjoint derivative and central differences"):
        assert_same_derivatives(lambda x: x.detach() ** 2, None, point)
    with pytest.raises(AssertionError, match="value and that of the reference"):
        assert_same_derivatives(torch.square, lambda x: x**2 + 1, point)
    with pytest.raises(AssertionError, match="value and that of the reference must have one shape"):
        assert_same_derivatives(torch.square, lambda x: x.flatten() ** 2, point)
    with pytest.raises(AssertionError, match="adjoint derivative and that of the reference"):
        assert_same_derivatives(torch.square, lambda x: x.detach() * x, point)
    with pytest.raises(AssertionError, match="forward derivative and that of the reference"):
        assert_same_derivatives(torch.square, _square(forward_factor=0.5), point)


def test_refuses_single_precision():
    with pytest.raises(TypeError, match="point must be float64 or complex128"):
        assert_same_derivatives(torch.exp, None, torch.ones(2))
