"""The frame of a skip beside a pooling: frame operator, bounds, and the dual that inverts it."""

from functools import partial

import pytest
import torch

from framelets.core import LinearOperator
from framelets.frames import (
    AveragePooling,
    DualFrameSynthesis,
    HaarFilterBank,
    MaxPooling,
    SkipFrame,
    StridedPooling,
)
from framelets.testing import assert_adjoint, assert_frame_bounds, assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-13, atol=1e-13)

SHAPE = (6, 4)
IMAGE = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
POOLINGS = {
    "orthonormal": AveragePooling("orthonormal"),
    "mean": AveragePooling("mean"),
    "strided": StridedPooling(),
    "max": MaxPooling(IMAGE),
    "haar": HaarFilterBank(),
}
BOUNDS = {
    "orthonormal": (1.0, 2.0),
    "mean": (1.0, 1.25),
    "strided": (1.0, 2.0),
    "max": (1.0, 2.0),
    "haar": (2.0, 2.0),
}
each_pooling = pytest.mark.parametrize("name", POOLINGS)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@each_pooling
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
def test_adjoint(name, dtype, rng):
    for make in (SkipFrame, DualFrameSynthesis):
        operator = make(POOLINGS[name])
        analysis = operator if make is SkipFrame else operator.H
        assert_adjoint(analysis, SHAPE, dtype, generator=rng)
        if name != "haar":
            assert_adjoint(analysis.H, (5, 3, 2), dtype, generator=rng)


@each_pooling
def test_frame_bounds(name):
    assert_frame_bounds(SkipFrame(POOLINGS[name]), SHAPE, *BOUNDS[name], tolerance=1e-13)


@each_pooling
def test_frame_operator_is_identity_plus_the_pooling_and_its_adjoint(name):
    pooling = POOLINGS[name].to_matrix(SHAPE)
    identity = torch.eye(24, dtype=torch.float64)

    frame_operator = SkipFrame(POOLINGS[name]).gram.to_matrix(SHAPE)

    assert_close(frame_operator, identity + pooling.mT @ pooling)


def test_average_frame_operators_by_the_projection():
    # P = block means spread over their blocks; S = I + P (orthonormal) and I + P / 4 (mean).
    blocks = torch.block_diag(*[torch.ones(2, 2, dtype=torch.float64)] * 2) / 2
    projection = torch.kron(blocks, blocks)
    identity = torch.eye(16, dtype=torch.float64)

    for normalization, share in (("orthonormal", 1), ("mean", 1 / 4)):
        gram = SkipFrame(AveragePooling(normalization)).gram.to_matrix((4, 4))
        assert_close(gram, identity + share * projection)


@each_pooling
def test_dual_is_the_pseudo_inverse(name):
    # The canonical dual's synthesis is (F* F)^-1 F*, which is the Moore-Penrose inverse.
    analysis = SkipFrame(POOLINGS[name]).to_matrix(SHAPE)

    synthesis = DualFrameSynthesis(POOLINGS[name]).H.to_matrix(SHAPE).mT

    assert_close(synthesis, torch.linalg.pinv(analysis))


@each_pooling
def test_dual_inverts_the_frame(name, rng):
    image = torch.randn(2, *SHAPE, dtype=torch.complex128, generator=rng)

    back = DualFrameSynthesis(POOLINGS[name])(SkipFrame(POOLINGS[name])(image))

    assert_close(back, image)


def test_dual_by_the_published_formulas(rng):
    frame = SkipFrame(AveragePooling())  # only joins the parts
    skip = torch.randn(3, 6, 4, dtype=torch.float64, generator=rng)
    low = torch.randn(3, 3, 2, dtype=torch.float64, generator=rng)
    means = skip.reshape(3, 3, 2, 2, 2).mean((2, 4))

    def spread(maps):
        return maps.repeat_interleave(2, -1).repeat_interleave(2, -2)

    expected = {
        "orthonormal": skip + spread(low - 2 * means) / 2 / 2,
        "mean": skip + spread(low - means) / 5,
    }
    for normalization, image in expected.items():
        synthesis = DualFrameSynthesis(AveragePooling(normalization))
        assert_close(synthesis(frame.join(skip, low)), image)


@pytest.mark.parametrize(
    ("name", "gain"), [("orthonormal", 1), ("mean", 0.25), ("strided", 1), ("max", 1), ("haar", 1)]
)
def test_gain_of_the_pooling(name, gain):
    assert DualFrameSynthesis(POOLINGS[name]).gain == pytest.approx(gain, rel=1e-14)


def test_order_of_the_coefficients():
    image = torch.tensor([[1.0, 2.0], [3.0, 6.0]])

    coefficients = SkipFrame(AveragePooling("mean"))(image)

    assert coefficients.flatten().tolist() == [1.0, 2.0, 3.0, 6.0, 3.0]


def test_shapes_are_those_of_the_pooling():
    assert SkipFrame(POOLINGS["max"]).input_shape == SHAPE
    assert DualFrameSynthesis(POOLINGS["max"]).output_shape == SHAPE
    assert SkipFrame(AveragePooling()).input_shape is None


@each_pooling
def test_derivatives(name, rng):
    point = torch.randn(SHAPE, dtype=torch.float64, generator=rng)

    assert_same_derivatives(DualFrameSynthesis(POOLINGS[name]).H, None, point)
    coefficients = SkipFrame(POOLINGS[name])(point)
    assert_same_derivatives(DualFrameSynthesis(POOLINGS[name]), None, coefficients)


def test_refuses_odd_images_and_missing_coefficients():
    frame = SkipFrame(AveragePooling())
    with pytest.raises(ValueError, match=r"even height and width, got \(3, 4\)"):
        frame(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"more than 4, rows, columns\), got \(4, 2, 2\)"):
        frame.adjoint(torch.zeros(4, 2, 2))


def test_dual_refuses_a_pooling_without_orthogonal_rows():
    class Uneven(LinearOperator):
        def forward(self, x):
            pooled = AveragePooling()(x)
            return pooled * torch.arange(1, 1 + pooled.shape[-1])

        def adjoint(self, y):
            return AveragePooling().adjoint(y * torch.arange(1, 1 + y.shape[-1]))

    with pytest.raises(ValueError, match="A A\\* = c I"):
        DualFrameSynthesis(Uneven())


def test_identity_beside_a_tight_frame_is_twice_the_identity():
    # [I T] [I T]^T = 2 I for T T^T = I, written out.
    frame = HaarFilterBank().to_matrix(SHAPE).mT
    extended = torch.cat([torch.eye(24, dtype=torch.float64), frame], dim=1)

    twice = 2 * torch.eye(24, dtype=torch.float64)
    assert torch.linalg.matrix_norm(extended @ extended.mT - twice, 2) <= 1e-14
    assert (
        torch.linalg.matrix_norm(SkipFrame(HaarFilterBank()).gram.to_matrix(SHAPE) - twice, 2)
        <= 1e-14
    )
