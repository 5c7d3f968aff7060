"""Max pooling at an image: the selection it makes there, against torch's own layers."""

import pytest
import torch
from torch import nn

from framelets.frames import MaxPooling
from framelets.testing import assert_adjoint, assert_same_derivatives

SHAPES = [(2, 2), (6, 4), (3, 8, 2), (2, 2, 4, 6)]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adjoint(shape, dtype, rng):
    operator = MaxPooling(torch.randn(shape, generator=rng))

    assert_adjoint(operator, dtype=dtype, generator=rng)
    assert_adjoint(operator.H, dtype=dtype, generator=rng)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_max_pooling_at_the_image_and_near_it(shape, rng):
    image = torch.randn(shape, dtype=torch.float64, generator=rng)
    near = image + 1e-9 * torch.randn(shape, dtype=torch.float64, generator=rng)

    for point in (image, near):
        expected = nn.functional.max_pool2d(point.reshape(-1, 1, *shape[-2:]), 2)
        assert torch.equal(MaxPooling(image)(point).flatten(), expected.flatten())


def test_adjoint_is_max_unpooling(rng):
    image = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=rng)
    _, switches = nn.functional.max_pool2d(image, 2, return_indices=True)
    pooled = torch.randn(2, 3, 3, 2, dtype=torch.float64, generator=rng)

    expected = nn.functional.max_unpool2d(pooled, switches, 2)

    assert torch.equal(MaxPooling(image).adjoint(pooled), expected)


def test_matrix_selects_one_pixel_of_each_block():
    # The largest pixels of the two blocks are 5 (row 0, column 1) and 8 (row 1, column 2).
    image = torch.tensor([[1.0, 5.0, 2.0, 3.0], [4.0, 0.0, 8.0, 7.0]])

    matrix = MaxPooling(image).to_matrix()

    assert torch.equal(matrix, torch.eye(8, dtype=torch.float64)[[1, 6]])


def test_takes_the_first_of_equal_pixels():
    pooled = torch.ones(1, 1)

    assert MaxPooling(torch.zeros(2, 2)).adjoint(pooled).tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_derivatives_are_those_of_max_pooling(rng):
    image = torch.randn(1, 2, 4, 6, dtype=torch.float64, generator=rng)

    assert_same_derivatives(MaxPooling(image), lambda x: nn.functional.max_pool2d(x, 2), image)
    pooled = torch.randn(1, 2, 2, 3, dtype=torch.float64, generator=rng)
    assert_same_derivatives(MaxPooling(image).H, None, pooled)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (4,)], ids=str)
def test_refuses_odd_or_missing_axes(shape):
    with pytest.raises(ValueError, match=r"even height and width, got \(.*pad or crop"):
        MaxPooling(torch.zeros(shape))


def test_refuses_nan_and_other_shapes():
    with pytest.raises(ValueError, match="free of NaN"):
        MaxPooling(torch.full((2, 2), torch.nan))
    operator = MaxPooling(torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match=r"image must have shape \(\*batch, 2, 4, 6\).*\(4, 6\)"):
        operator(torch.zeros(4, 6))
    with pytest.raises(ValueError, match=r"pooled must have shape \(\*batch, 2, 2, 3\)"):
        operator.adjoint(torch.zeros(3, 2, 3))
