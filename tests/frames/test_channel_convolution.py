"""Convolution from channels to channels: adjoint, matrix, other implementations, hand values."""

from functools import partial
from itertools import product
from math import prod

import pytest
import torch
from torch import nn

from framelets.frames import ChannelConvolution, HankelLifting
from framelets.testing import assert_adjoint, assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-13, atol=1e-13)

CASES = {
    "1-D": ((7,), (3,), (0,)),
    "1-D, more taps than samples": ((3,), (8,), (5,)),
    "2-D": ((5, 4), (3, 2), (1, 1)),
    "2-D, one pixel wide": ((4, 1), (2, 3), (1, 2)),
    "3-D": ((3, 4, 2), (2, 1, 3), (0, 0, 1)),
}
each_case = pytest.mark.parametrize("case", CASES)
each_padding = pytest.mark.parametrize("padding", ["circular", "zeros"])


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def convolution(case, padding, rng):
    shape, taps, origin = CASES[case]
    filters = torch.randn(3, 2, *taps, dtype=torch.float64, generator=rng)
    return ChannelConvolution(filters, origin, padding), filters, shape, origin


@each_case
@each_padding
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
def test_adjoint(case, padding, dtype, rng):
    operator, _, shape, _ = convolution(case, padding, rng)

    assert_adjoint(operator, (2, *shape), dtype, generator=rng)


@each_case
@each_padding
def test_three_roads_to_one_matrix(case, padding, rng):
    # Applied to unit vectors; written tap by tap; summed up sample by sample here.
    operator, filters, shape, origin = convolution(case, padding, rng)
    num = prod(shape)
    expected = torch.zeros(3, *shape, 2, *shape, dtype=torch.float64)
    for row in product(*(range(size) for size in shape)):
        for tap in product(*(range(size) for size in filters.shape[2:])):
            place = [i + t - o for i, t, o in zip(row, tap, origin, strict=True)]
            inside = all(0 <= p < size for p, size in zip(place, shape, strict=True))
            if inside or padding == "circular":
                place = [p % size for p, size in zip(place, shape, strict=True)]
                expected[(slice(None), *row, slice(None), *place)] += filters[:, :, *tap]
    expected = expected.reshape(3 * num, 2 * num)

    assert_close(operator.block_matrix(shape), expected)
    assert_close(operator.to_matrix((2, *shape)), expected)


def test_hankel_matrix_times_filters(rng):
    # The convolution layer of the theory: H(z_1, ..., z_p) Psi.
    filters = torch.randn(4, 3, 2, 3, dtype=torch.float64, generator=rng)
    signal = torch.randn(3, 6, 5, dtype=torch.float64, generator=rng)
    hankel = HankelLifting((6, 5), (2, 3), num_channels=3)

    expected = hankel(signal) @ filters.flatten(1).mT

    operator = ChannelConvolution(filters, (0, 0))
    assert_close(operator(signal).flatten(1).mT, expected)


@each_padding
def test_convolution_layer_of_torch(padding, rng):
    mode = "circular" if padding == "circular" else "zeros"
    layer = nn.Conv2d(2, 3, 3, padding=1, bias=False, padding_mode=mode).double()
    signal = torch.randn(5, 2, 6, 7, dtype=torch.float64, generator=rng)

    assert_close(ChannelConvolution(layer.weight, (1, 1), padding)(signal), layer(signal).detach())


def test_by_hand():
    # z = (1, 2, 3), w = (10, 1): z[i] * 10 + z[i + 1]; with the second tap at the sample
    # z[i - 1] * 10 + z[i].
    filters, signal = torch.tensor([[[10.0, 1.0]]]), torch.tensor([[1.0, 2.0, 3.0]])

    def apply(origin, padding):
        return ChannelConvolution(filters, (origin,), padding)(signal).flatten().tolist()

    assert apply(0, "circular") == [12.0, 23.0, 31.0]
    assert apply(0, "zeros") == [12.0, 23.0, 30.0]
    assert apply(1, "circular") == [31.0, 12.0, 23.0]
    assert apply(1, "zeros") == [1.0, 12.0, 23.0]


@each_padding
def test_derivatives(padding, rng):
    operator, _, shape, _ = convolution("2-D", padding, rng)
    point = torch.randn(2, *shape, dtype=torch.float64, generator=rng)

    assert_same_derivatives(operator, None, point)


def test_filters_are_copied():
    filters = torch.ones(1, 1, 1)
    operator = ChannelConvolution(filters, (0,))
    filters.zero_()

    assert operator(torch.ones(1, 2)).tolist() == [[1.0, 1.0]]


def test_refuses_what_is_no_filter():
    with pytest.raises(ValueError, match=r"filters must be real.*got torch.float32 of shape \(2,"):
        ChannelConvolution(torch.zeros(2, 2), (0,))
    with pytest.raises(ValueError, match=r"torch\.complex64"):
        ChannelConvolution(torch.zeros(1, 1, 2, dtype=torch.complex64), (0,))
    with pytest.raises(ValueError, match="did you mean 'zeros'"):
        ChannelConvolution(torch.zeros(1, 1, 2), (0,), "zero")


def test_refuses_a_large_matrix():
    with pytest.raises(ValueError, match="dense 300 x 200 matrix takes 240000 bytes"):
        ChannelConvolution(torch.zeros(3, 2, 3), (0,)).block_matrix((100,), max_bytes=200000)


@pytest.mark.parametrize("origin", [(2,), (-1,), (0, 0), ()], ids=str)
def test_refuses_origins_that_are_no_tap(origin):
    with pytest.raises(ValueError, match=r"origin must be one of the \(2,\) taps, counted from 0"):
        ChannelConvolution(torch.ones(1, 1, 2), origin)
