"""The Haar filter bank: its algebra, a second implementation, hand values and refusals."""

from functools import partial

import pytest
import torch

from framelets.frames import SUBBANDS, AveragePooling, HaarFilterBank, HaarSubband
from framelets.testing import assert_adjoint, assert_isometry, assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-14, atol=1e-14)

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 2), (6, 4), (3, 8, 2), (2, 1, 4, 6)], ids=str)
def test_adjoint_and_isometry(shape, dtype, rng):
    for operator in (HaarFilterBank(), HaarSubband("LH"), HaarSubband("HL").H):
        assert_adjoint(operator, shape, dtype, generator=rng)
    assert_isometry(HaarFilterBank(), shape, dtype, generator=rng)


def test_matrix_is_orthogonal():
    matrix = HaarFilterBank().to_matrix((6, 4))

    assert matrix.shape == (24, 24)
    assert_close(matrix.mT @ matrix, torch.eye(24, dtype=torch.float64))


def test_equals_the_separable_transform_of_blocks(rng):
    # Every block X becomes H X H*, here written out with the definition of the docstring.
    hadamard = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.complex128) / 2**0.5
    image = torch.randn(3, 8, 6, dtype=torch.complex128, generator=rng)
    blocks = image.reshape(3, 4, 2, 3, 2).movedim(2, 3)

    expected = (hadamard @ blocks @ hadamard.mH).flatten(-2).movedim(-1, 1)

    assert_close(HaarFilterBank()(image), expected)


def test_subbands_of_a_ramp():
    # The image grows by 1 to the right and by 2 downwards, so HL is twice LH and HH vanishes.
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    subbands = dict(zip(SUBBANDS, HaarFilterBank()(image).flatten().tolist(), strict=True))

    assert subbands == {"LL": 5.0, "LH": -1.0, "HL": -2.0, "HH": 0.0}


def test_low_subband_is_orthonormal_average_pooling(rng):
    image = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=rng)

    assert_close(HaarSubband("LL")(image), AveragePooling("orthonormal")(image))


def test_subbands_keep_channels_last(rng):
    image = torch.randn(2, 3, 6, 4, generator=rng).contiguous(memory_format=torch.channels_last)

    for operator in HaarFilterBank().subbands:
        for result in (operator(image), operator.adjoint(image)):
            assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("operator", [HaarFilterBank(), HaarFilterBank().H], ids=["T", "T*"])
def test_derivatives(operator, rng):
    point = torch.randn(4, 4, 2, dtype=torch.float64, generator=rng)

    assert_same_derivatives(operator, None, point)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 5, 4), (4,)], ids=str)
def test_forward_refuses_odd_or_missing_axes(shape):
    for operator in (HaarFilterBank(), HaarSubband("HH")):
        with pytest.raises(ValueError, match=r"even height and width, got \(.*pad or crop"):
            operator(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 2, 2), (2, 2)], ids=str)
def test_adjoint_refuses_other_than_four_subbands(shape):
    with pytest.raises(ValueError, match=r"\(\*batch, 4, rows, columns\), got \("):
        HaarFilterBank().adjoint(torch.zeros(shape))


def test_refuses_an_unknown_subband():
    with pytest.raises(ValueError, match="subband must be one of HH, HL, LH, LL, got 'L'"):
        HaarSubband("L")
