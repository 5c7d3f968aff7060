"""Each assertion passes on a right operator and rejects every kind of broken one."""

import pytest
import torch

from framelets.core import Identity, LinearOperator, RealInput
from framelets.testing import assert_adjoint, assert_frame_bounds, assert_isometry

REAL, COMPLEX = torch.float64, torch.complex128


class _Maps(LinearOperator):
    """Two maps, right or wrong."""

    def __init__(self, forward, adjoint, **attributes):
        super().__init__()
        self.maps = forward, adjoint
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.maps[0](x)

    def adjoint(self, y):
        return self.maps[1](y)


def _same(x):
    return x


def _conjugate(x):
    return x.conj()


def _pad(x):
    return torch.nn.functional.pad(x, (0, 1))


def _crop(y):
    return y[..., :-1]


@pytest.mark.parametrize(
    ("operator", "dtype"),
    [
        (Identity(), torch.float32),
        (Identity(), COMPLEX),
        (_Maps(_pad, _crop), torch.complex64),
        (_Maps(_conjugate, _conjugate, real_linear=True), COMPLEX),
        (_Maps(torch.fft.fft, lambda y: y.shape[-1] * torch.fft.ifft(y)), REAL),
        (RealInput(), REAL),
        (RealInput().H, COMPLEX),
    ],
)
def test_assert_adjoint_accepts(operator, dtype):
    assert_adjoint(operator, (3, 5), dtype)


@pytest.mark.parametrize(
    ("operator", "dtype", "message"),
    [
        (_Maps(lambda x: 2 * x, _same), REAL, "<A x, y> - <x, A. y> must vanish"),
        (_Maps(lambda x: x, lambda y: (1 + 1e-10) * y), REAL, "must vanish"),
        (_Maps(lambda x: x.roll(1, -1), lambda y: y.roll(1, -1)), REAL, "must vanish"),
        (_Maps(lambda x: 1j * x, lambda y: 1j * y), COMPLEX, "must vanish"),
        (_Maps(_conjugate, _conjugate), COMPLEX, "must vanish"),
        (_Maps(torch.abs, torch.abs), REAL, "must vanish"),
        (_Maps(_pad, _same), REAL, r"A\* y must end in shape \(3, 5\), got \(3, 6\)"),
        (_Maps(_pad, _crop, output_shape=(3, 5)), REAL, r"A x must end in shape \(3, 5\)"),
        (_Maps(torch.Tensor.float, torch.Tensor.float), REAL, "A x must have the precision"),
        (_Maps(_same, torch.Tensor.float), REAL, r"A\* y must have the precision"),
        (_Maps(_same, torch.real), COMPLEX, r"A\* y must have the dtype of x"),
        (_Maps(lambda x: x.flatten(1), lambda y: y), REAL, "A x must keep the batch axes"),
        (_Maps(lambda x: x.cumsum(0), lambda y: y.flip(0).cumsum(0).flip(0)), REAL, "in a batch"),
        (_Maps(lambda x: x * torch.nan, _same), REAL, "must vanish"),
    ],
)
def test_assert_adjoint_rejects(operator, dtype, message):
    with pytest.raises(AssertionError, match=message):
        assert_adjoint(operator, (3, 5), dtype)


def test_assert_adjoint_rejects_a_real_input_operator_with_complex_adjoint():
    operator = _Maps(lambda x: x + 0j, _same, real_linear=True)
    with pytest.raises(AssertionError, match="must have the dtype of x"):
        assert_adjoint(operator, (2,), REAL)


def test_assert_isometry():
    assert_isometry(Identity(), (4,), COMPLEX)
    assert_isometry(_Maps(_pad, _crop), (3,), torch.float32)
    assert_isometry(
        _Maps(lambda x: torch.fft.fft(x, norm="ortho"), lambda y: torch.fft.ifft(y, norm="ortho")),
        (5,),
        REAL,
    )
    with pytest.raises(AssertionError, match=r"\|A x\| - \|x\| must vanish"):
        assert_isometry(1.001 * Identity(), (4,))
    with pytest.raises(AssertionError, match=r"A\* A x - x must vanish"):
        assert_isometry(_Maps(lambda x: x.roll(1, -1), lambda y: y.roll(1, -1)), (4,))


def test_assert_frame_bounds():
    # [I; P] for the mean P over all of 3 entries: bounds 1 and 1 + |P|^2 = 1 + 3 / 9.
    operator = _Maps(
        lambda x: torch.cat([x, x.mean(-1, keepdim=True)], -1),
        lambda y: y[..., :-1] + y[..., -1:] / 3,
    )
    assert_frame_bounds(operator, (3,), 1.0, 4 / 3)
    assert_frame_bounds(operator.H, (4,), 0.0, 4 / 3)
    for lower, upper in ((0.99, 4 / 3), (1.0, 1.4), (1.0, 1.3), (1.1, 4 / 3)):
        with pytest.raises(AssertionError, match="frame bound must be"):
            assert_frame_bounds(operator, (3,), lower, upper)


def test_refuses_an_unknown_shape():
    with pytest.raises(ValueError, match="shape must be given"):
        assert_adjoint(Identity())
