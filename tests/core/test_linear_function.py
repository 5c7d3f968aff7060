"""A map and its adjoint, closed to autograd, as one differentiable operation."""

import pytest
import torch

from framelets.core.linear_function import apply_linear, observed_by, run_unobserved

MATRIX = torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]], dtype=torch.float64)


def by_numpy(x, adjoint):
    """Multiply outside of torch, where autograd cannot look."""
    matrix = (MATRIX.T if adjoint else MATRIX).numpy()
    return torch.from_numpy(x.detach().numpy() @ matrix.T)


@pytest.fixture
def x():
    return torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_derivatives_of_both_directions(x):
    x = x.requires_grad_()
    y = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def forward(v):
        return apply_linear(v, by_numpy)

    def adjoint(v):
        return apply_linear(v, by_numpy, adjoint=True)

    assert torch.autograd.gradcheck(forward, x, check_forward_ad=True)
    assert torch.autograd.gradcheck(adjoint, y, check_forward_ad=True)
    # The derivative of |A x|^2 / 2 is A* A x, and its derivative A* A: twice through the class.
    hessian = torch.func.hessian(lambda v: forward(v).square().sum() / 2)(x.detach())
    torch.testing.assert_close(hessian, MATRIX.T @ MATRIX)


def test_vmap_adds_a_batch_axis(x):
    batch = torch.stack([x, 2 * x])

    mapped = torch.vmap(lambda v: apply_linear(v, by_numpy))(batch)

    torch.testing.assert_close(mapped, batch @ MATRIX.T)


def test_an_observer_sees_every_application(x):
    seen = []

    def observe(value, apply, adjoint):
        seen.append((tuple(value.shape), adjoint))
        return run_unobserved(value, apply, adjoint)

    with observed_by(observe):
        y = apply_linear(x, by_numpy)
        apply_linear(y, by_numpy, adjoint=True)
    apply_linear(x, by_numpy)

    assert seen == [((3,), False), ((2,), True)]
