"""A matrix on positions: the operator is that matrix."""

import pytest
import torch

from framelets.frames import PositionMatrix
from framelets.testing import assert_adjoint, assert_same_derivatives


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("of_matrix", [torch.float64, torch.complex128], ids=str)
def test_adjoint(dtype, of_matrix, rng):
    matrix = torch.randn(5, 6, dtype=of_matrix, generator=rng)
    operator = PositionMatrix(matrix, (2, 3))

    assert_adjoint(operator, None, dtype, generator=rng)
    if dtype.is_complex or not of_matrix.is_complex:
        assert_adjoint(operator.H, None, dtype, generator=rng)


def test_dense_matrix_is_the_matrix(rng):
    matrix = torch.randn(6, 4, dtype=torch.float64, generator=rng)

    operator = PositionMatrix(matrix, (2, 2), (3, 2))

    assert torch.equal(operator.to_matrix(), matrix)
    assert operator(torch.zeros(7, 2, 2)).shape == (7, 3, 2)


def test_derivatives(rng):
    operator = PositionMatrix(torch.randn(2, 4, dtype=torch.float64, generator=rng))

    assert_same_derivatives(operator, None, torch.ones(4, dtype=torch.float64))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"matrix must have two axes, rows and columns, got \(3,"):
        PositionMatrix(torch.zeros(3))
    with pytest.raises(ValueError, match=r"input_shape must have 4 positions .* got \(2, 3\)"):
        PositionMatrix(torch.zeros(2, 4), (2, 3))
    with pytest.raises(ValueError, match=r"x must end in the shape \(4,\), got \(2, 3\)"):
        PositionMatrix(torch.zeros(2, 4))(torch.zeros(2, 3))
