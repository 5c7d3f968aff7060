"""Frame bounds: the dense way and Lanczos, on frames whose bounds are known."""

import pytest
import torch

from framelets.core import LinearOperator
from framelets.frames import AveragePooling, HaarFilterBank, SkipFrame, StridedPooling, frame_bounds

KNOWN = [
    (SkipFrame(AveragePooling("orthonormal")), (1, 2)),
    (SkipFrame(AveragePooling("mean")), (1, 1.25)),
    (SkipFrame(StridedPooling()), (1, 2)),
    (SkipFrame(HaarFilterBank()), (2, 2)),
    (HaarFilterBank(), (1, 1)),
    (AveragePooling("mean"), (0, 0.25)),
]


class _Weights(LinearOperator):  # the frame bounds are the extreme squares
    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", weights)
        self.input_shape = self.output_shape = tuple(weights.shape)

    def forward(self, x):
        return self.weights * x

    def adjoint(self, y):
        return self.weights.conj() * y


@pytest.mark.parametrize("max_dense", [1024, 0], ids=["dense", "Lanczos"])
@pytest.mark.parametrize(("analysis", "expected"), KNOWN)
def test_known_bounds(analysis, expected, max_dense):
    bounds = frame_bounds(analysis, (8, 6), max_dense=max_dense)

    assert bounds == pytest.approx(expected, abs=1e-13 if max_dense else 1e-10)


def test_large_image_by_lanczos():
    assert frame_bounds(SkipFrame(AveragePooling()), (256, 256)) == pytest.approx((1, 2), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_dense_and_lanczos_agree_on_spread_eigenvalues(dtype):
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(300, dtype=dtype, generator=generator) + 0.2
    squares = weights.abs().square()
    expected = (float(squares.min()), float(squares.max()))

    assert frame_bounds(_Weights(weights), dtype=dtype) == pytest.approx(expected, rel=1e-12)
    found = frame_bounds(_Weights(weights), dtype=dtype, max_dense=0)
    assert found == pytest.approx(expected, abs=1e-4 * expected[1])
    assert found.lower >= expected[0] - 1e-9
    assert found.upper <= expected[1] + 1e-9


def test_refuses_an_unknown_shape():
    with pytest.raises(ValueError, match="shape must be given"):
        frame_bounds(HaarFilterBank())


def test_refuses_to_return_what_did_not_converge():
    weights = torch.linspace(1, 2, 4000, dtype=torch.float64)

    with pytest.raises(ArithmeticError, match=r"did not reach the tolerance 1e-12 in \d+ products"):
        frame_bounds(_Weights(weights), tolerance=1e-12, max_products=20)
