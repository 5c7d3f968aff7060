"""Average pooling: adjoint, matrix, hand values and the identities of its two normalizations."""

from functools import partial

import pytest
import torch

from framelets.frames import AveragePooling
from framelets.testing import assert_adjoint, assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-14, atol=1e-14)

NORMALIZATIONS = ["mean", "orthonormal"]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("shape", [(2, 2), (6, 4), (3, 8, 2)], ids=str)
def test_adjoint(normalization, dtype, shape, rng):
    assert_adjoint(AveragePooling(normalization), shape, dtype, generator=rng)
    assert_adjoint(AveragePooling(normalization).H, shape, dtype, generator=rng)


@pytest.mark.parametrize(("normalization", "gain"), [("mean", 0.25), ("orthonormal", 1.0)])
def test_rows_are_orthogonal(normalization, gain):
    matrix = AveragePooling(normalization).to_matrix((4, 6))

    assert_close(matrix @ matrix.mT, gain * torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_equals_sums_of_blocks(normalization, rng):
    divisor = {"mean": 4, "orthonormal": 2}[normalization]
    image = torch.randn(2, 3, 6, 4, dtype=torch.complex128, generator=rng)
    pooled = image.reshape(2, 3, 3, 2, 2, 2).sum((3, 5)) / divisor
    operator = AveragePooling(normalization)

    assert_close(operator(image), pooled)
    spread = pooled.repeat_interleave(2, -1).repeat_interleave(2, -2) / divisor
    assert_close(operator.adjoint(pooled), spread)


def test_values_of_one_block():
    block = torch.tensor([[1.0, 2.0], [3.0, 6.0]])

    assert AveragePooling("mean")(block).item() == 3.0
    assert AveragePooling("orthonormal")(block).item() == 6.0
    assert AveragePooling("mean").adjoint(torch.tensor([[8.0]])).tolist() == [[2.0, 2.0]] * 2
    assert AveragePooling("orthonormal").adjoint(torch.tensor([[8.0]])).tolist() == [[4.0, 4.0]] * 2


def test_keeps_channels_last(rng):
    image = torch.randn(2, 3, 6, 4, generator=rng).contiguous(memory_format=torch.channels_last)

    for result in (AveragePooling()(image), AveragePooling().adjoint(image)):
        assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("operator", [AveragePooling("mean"), AveragePooling("mean").H])
def test_derivatives(operator, rng):
    point = torch.randn(3, 4, 2, dtype=torch.float64, generator=rng)

    assert_same_derivatives(operator, None, point)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (4,)], ids=str)
def test_refuses_odd_or_missing_axes(shape):
    with pytest.raises(ValueError, match=r"even height and width, got \(.*pad or crop"):
        AveragePooling()(torch.zeros(shape))


def test_refuses_an_unknown_normalization():
    with pytest.raises(ValueError, match="mean, orthonormal, got 'ortho'; did you mean"):
        AveragePooling("ortho")
