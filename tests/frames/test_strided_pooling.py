"""Strided pooling: adjoint, matrix, hand values and refusals."""

import pytest
import torch

from framelets.frames import StridedPooling
from framelets.testing import assert_adjoint, assert_same_derivatives


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize("shape", [(2, 2), (6, 4), (3, 8, 2)], ids=str)
def test_adjoint(dtype, shape, rng):
    assert_adjoint(StridedPooling(), shape, dtype, generator=rng)
    assert_adjoint(StridedPooling().H, shape, dtype, generator=rng)


def test_matrix_selects_every_second_row_and_column():
    matrix = StridedPooling().to_matrix((4, 4))

    assert torch.equal(matrix, torch.eye(16, dtype=torch.float64)[[0, 2, 8, 10]])


def test_adjoint_of_a_hand_value():
    pooled = torch.tensor([[1.0, 2.0]])

    assert StridedPooling().adjoint(pooled).tolist() == [[1.0, 0.0, 2.0, 0.0], [0.0] * 4]


def test_derivatives(rng):
    point = torch.randn(3, 4, 2, dtype=torch.float64, generator=rng)

    assert_same_derivatives(StridedPooling(), lambda x: x[:, 0::2, 0::2], point)
    assert_same_derivatives(StridedPooling().H, None, point)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (4,)], ids=str)
def test_refuses_odd_or_missing_axes(shape):
    with pytest.raises(ValueError, match=r"even height and width, got \(.*pad or crop"):
        StridedPooling()(torch.zeros(shape))
