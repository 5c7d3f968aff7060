"""The unrolled network: what its iterations are without and with a regularizer, and refusals."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from framelets.core import LinearOperator
from framelets.networks import UNet, UnrolledNetwork
from framelets.testing import assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


class _Views(LinearOperator):
    """A fixed random matrix from images to measurements `view detector`."""

    def __init__(self, image_shape, output_shape, rng):
        super().__init__()
        self.input_shape, self.output_shape = image_shape, output_shape
        rows, columns = (torch.Size(s).numel() for s in (output_shape, image_shape))
        matrix = torch.randn(rows, columns, dtype=torch.float64, generator=rng)
        self.register_buffer("matrix", matrix)

    def forward(self, x):
        return (x.flatten(-2) @ self.matrix.mT).unflatten(-1, self.output_shape)

    def adjoint(self, y):
        return (y.flatten(-2) @ self.matrix).unflatten(-1, self.input_shape)


class _Matrix(_Views):
    def __init__(self, matrix, operator):
        LinearOperator.__init__(self)
        self.input_shape, self.output_shape = operator.output_shape, operator.input_shape
        self.register_buffer("matrix", matrix)


class _Shrink(nn.Module):
    """Soft thresholding, the proximal map of the l1 norm."""

    def forward(self, x):
        return nn.functional.softshrink(x, 0.05)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def operator(rng):
    return _Views((4, 6), (5, 8), rng)


def test_equals_the_iteration_written_with_matrices(operator, rng):
    network = UnrolledNetwork(_Shrink(), num_iterations=3).double()
    network.log_step_sizes.data = torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64).log()
    measurement = torch.randn(2, 3, 5, 8, dtype=torch.float64, generator=rng)
    start = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=rng)

    expected = torch.empty_like(start)
    a = operator.matrix
    for i in range(2):
        for channel in range(3):
            x, y = start[i, channel].flatten(), measurement[i, channel].flatten()
            for step in (0.01, 0.02, 0.03):
                x = x - step * a.mT @ (a @ x - y)
                x = x.sign() * (x.abs() - 0.05).clamp(min=0)
            expected[i, channel] = x.reshape(4, 6)

    assert_close(network(measurement, operator, start), expected)


def test_converges_to_the_image_without_a_regularizer(operator, rng):
    image = torch.randn(1, 1, 4, 6, dtype=torch.float64, generator=rng)
    step = 1 / float(torch.linalg.matrix_norm(operator.matrix, ord=2)) ** 2
    network = UnrolledNetwork(nn.Identity(), 400, initial_step_size=step).double()

    with torch.no_grad():
        reconstruction = network(operator(image), operator)

    error = torch.linalg.vector_norm(reconstruction - image)
    assert error <= 1e-3 * torch.linalg.vector_norm(image)


def test_an_inverse_as_backward_map_solves_in_one_step(operator, rng):
    image = torch.randn(2, 1, 4, 6, dtype=torch.float64, generator=rng)
    inverse = _Matrix(torch.linalg.pinv(operator.matrix), operator)
    network = UnrolledNetwork(nn.Identity(), 1).double()

    for start in (torch.zeros_like(image), None):
        reconstruction = network(operator(image), operator, start, backward_map=inverse)
        assert_close(reconstruction, image)


def test_starts_with_the_first_step_from_zero(operator, rng):
    measurement = torch.randn(1, 1, 5, 8, dtype=torch.float64, generator=rng)
    network = UnrolledNetwork(nn.Identity(), 2).double()
    network.log_step_sizes.data.fill_(math.log(0.01))

    assert_close(
        network(measurement, operator),
        network(measurement, operator, 0.01 * operator.adjoint(measurement)),
    )


def test_regularizers_are_shared_or_one_for_every_iteration():
    regularizers = [UNet(width=2, depth=1) for _ in range(3)]

    shared = UnrolledNetwork(regularizers[0], 3)
    separate = UnrolledNetwork(regularizers, 3)

    count = sum(parameter.numel() for parameter in regularizers[0].parameters())
    assert sum(parameter.numel() for parameter in shared.parameters()) == count + 3
    assert sum(parameter.numel() for parameter in separate.parameters()) == 3 * count + 3
    assert list(separate.regularizers) == regularizers
    assert len(UnrolledNetwork(nn.ModuleList(regularizers), 3).regularizers) == 3


def test_separate_regularizers_take_their_turn(operator):
    class Add(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return 10 * x + self.value

    network = UnrolledNetwork([Add(1), Add(2), Add(3)], 3).double()
    measurement = torch.zeros(1, 1, 5, 8, dtype=torch.float64)
    nothing = 0 * operator

    # With A = 0 each step is its regularizer alone: 0 -> 1 -> 12 -> 123.
    assert set(network(measurement, nothing).flatten().tolist()) == {123.0}


def test_a_step_size_stays_positive_in_training(operator, rng):
    network = UnrolledNetwork(nn.Identity(), 2, initial_step_size=1e-3).double()
    assert network.step_sizes.tolist() == pytest.approx([1e-3, 1e-3], rel=1e-6)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    measurement = torch.randn(1, 1, 5, 8, dtype=torch.float64, generator=rng)

    (network(measurement, operator) ** 2).sum().backward()
    assert network.log_step_sizes.grad.abs().min() > 0
    optimizer.step()

    assert (network.step_sizes > 0).all()


def test_derivatives(operator, rng):
    torch.manual_seed(0)
    regularizer = UNet(width=2, depth=1, pooling="tight-frame")
    network = UnrolledNetwork(regularizer, 2, initial_step_size=0.01).double().eval()
    measurement = torch.randn(1, 1, 5, 8, dtype=torch.float64, generator=rng)

    assert_same_derivatives(lambda y: network(y, operator), None, measurement)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nn.Identity(), 0), "num_iterations must be at least 1, got 0"),
        ((nn.Identity(), 2, 0.0), "initial_step_size must be positive, got 0.0"),
        (([nn.Identity()] * 3, 2), "one network or 2 of them, one for every iteration, got 3"),
    ],
)
def test_refuses_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        UnrolledNetwork(*arguments)
