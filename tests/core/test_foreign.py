"""Operators of other packages, by stand-ins that have their methods, and the export to deepinv."""

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator
from torch import nn

from framelets.core import Identity, LinearOperator
from framelets.core.foreign import as_operator, to_deepinv
from framelets.testing import assert_adjoint, assert_same_derivatives

REAL, COMPLEX = torch.float64, torch.complex128
rng = np.random.default_rng(0)
REAL_MATRIX = rng.standard_normal((6, 4))
COMPLEX_MATRIX = REAL_MATRIX + 1j * rng.standard_normal((6, 4))
IN, OUT = (2, 2), (3, 2)


class _Deepinv(nn.Module):
    """`A`, `A_adjoint` on exactly one batch axis, with a buffer."""

    img_size = IN

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.from_numpy(REAL_MATRIX))

    def A(self, x, **kwargs):  # noqa: ARG002, N802
        assert x.ndim == 3
        return (x.flatten(1) @ self.matrix.to(x.dtype).mT).unflatten(1, OUT)

    def A_adjoint(self, y, **kwargs):  # noqa: ARG002, N802
        assert y.ndim == 3
        return (y.flatten(1) @ self.matrix.to(y.dtype)).unflatten(1, IN)


class _Mrpro(nn.Module):
    """`forward` and `adjoint` that return tuples of one tensor and pass batch axes."""

    def forward(self, x):
        return ((x.flatten(-2) @ torch.from_numpy(COMPLEX_MATRIX).mT).unflatten(-1, OUT),)

    def adjoint(self, y):
        return ((y.flatten(-2) @ torch.from_numpy(COMPLEX_MATRIX).conj()).unflatten(-1, IN),)

    @property
    def H(self):
        raise AssertionError("a module's own apply must not be taken for sigpy's")


class _Sigpy:
    """`apply`, `H`, `ishape`, `oshape` on arrays of one shape."""

    def __init__(self, matrix, ishape, oshape):
        self.matrix, self.ishape, self.oshape = matrix, list(ishape), list(oshape)

    def apply(self, x):
        assert isinstance(x, np.ndarray)
        assert list(x.shape) == self.ishape
        return (self.matrix @ x.ravel()).reshape(self.oshape)

    @property
    def H(self):
        return _Sigpy(self.matrix.conj().T, self.oshape, self.ishape)


class _Bartorch:
    """`apply` and `H` on tensors of one shape that it does not tell."""

    def __init__(self, matrix, oshape):
        self.matrix, self.oshape = matrix, oshape

    def apply(self, x):
        return (self.matrix.to(x.dtype) @ x.flatten()).reshape(self.oshape)

    @property
    def H(self):
        return _Bartorch(self.matrix.mH, IN)


class _Odl:
    """A callable with spaces of weighted inner products and an adjoint for those."""

    def __init__(self, matrix, shapes, weights):
        self.matrix, self.shapes, self.weights = matrix, shapes, weights
        self.domain, self.range = (
            SimpleNamespace(shape=shape, weighting=SimpleNamespace(const=weight))
            for shape, weight in zip(shapes, weights, strict=True)
        )

    def __call__(self, x):
        return (self.matrix @ x.ravel()).reshape(self.range.shape)

    @property
    def adjoint(self):
        ratio = self.weights[1] / self.weights[0]
        return _Odl(ratio * self.matrix.T, self.shapes[::-1], self.weights[::-1])


def _pylops():
    operator = aslinearoperator(COMPLEX_MATRIX)
    operator.dims, operator.dimsd = IN, OUT
    return operator


class _OnlyVectors:
    """`matvec` and `rmatvec` without their block forms."""

    shape = REAL_MATRIX.shape

    def matvec(self, x):
        assert x.ndim == 1
        return REAL_MATRIX @ x

    def rmatvec(self, y):
        assert y.ndim == 1
        return REAL_MATRIX.T @ y


FOREIGN = {
    "deepinv": (_Deepinv(), REAL_MATRIX, ()),
    "mrpro": (_Mrpro(), COMPLEX_MATRIX, (IN,)),
    "scipy": (aslinearoperator(REAL_MATRIX), REAL_MATRIX, (IN, OUT)),
    "vectors": (_OnlyVectors(), REAL_MATRIX, (IN, OUT)),
    "pylops": (_pylops(), COMPLEX_MATRIX, ()),
    "sigpy": (_Sigpy(COMPLEX_MATRIX, IN, OUT), COMPLEX_MATRIX, ()),
    "bartorch": (_Bartorch(torch.from_numpy(COMPLEX_MATRIX), OUT), COMPLEX_MATRIX, (IN, OUT)),
    "odl": (_Odl(REAL_MATRIX, (IN, OUT), (0.25, 3.0)), REAL_MATRIX, ()),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_operators_equal_their_matrix(name):
    foreign, matrix, shapes = FOREIGN[name]
    dtype = COMPLEX if np.iscomplexobj(matrix) else REAL

    operator = as_operator(foreign, *shapes)

    assert isinstance(operator, LinearOperator)
    torch.testing.assert_close(operator.to_matrix(IN, dtype), torch.from_numpy(matrix))
    assert_adjoint(operator, IN, dtype)
    assert_same_derivatives(operator, None, torch.ones(2, *IN, dtype=dtype))
    assert (operator @ torch.ones(5, 1, *IN, dtype=dtype)).shape == (5, 1, *OUT)
    copied = deepcopy(operator)
    torch.testing.assert_close(copied.to_matrix(IN, dtype), torch.from_numpy(matrix))


def test_precision_follows_the_input():
    for name in ("scipy", "pylops"):
        foreign, matrix, shapes = FOREIGN[name]
        result = as_operator(foreign, *shapes)(torch.ones(IN))
        assert result.dtype == (torch.complex64 if np.iscomplexobj(matrix) else torch.float32)


def test_own_operators_come_back_and_modules_move():
    operator = Identity()
    assert as_operator(operator) is operator
    foreign = _Deepinv()
    as_operator(foreign).to(torch.float32)
    assert foreign.matrix.dtype == torch.float32


def test_scipy_round_trip():
    operator = as_operator(as_operator(_Deepinv()).to_scipy())

    torch.testing.assert_close(operator.to_matrix(), torch.from_numpy(REAL_MATRIX))


def _without(operator, name):
    for space in (operator.domain, operator.range):
        delattr(space.weighting, name)
    return operator


@pytest.mark.parametrize(
    ("foreign", "shapes", "error", "message"),
    [
        (torch.ones(2, 2), (), TypeError, "foreign must be a linear operator .*, got Tensor"),
        (lambda x: x, (), TypeError, "got function"),
        (_Bartorch(torch.ones(6, 4), OUT), (), ValueError, "input_shape must be given"),
        (_Sigpy(REAL_MATRIX, IN, OUT), ((4,),), ValueError, r"must be \(2, 2\) as the operator"),
        (aslinearoperator(REAL_MATRIX), ((3,),), ValueError, r"must have 4 entries, got \(3,\)"),
        (
            SimpleNamespace(A=abs, A_adjoint=abs),
            (),
            ValueError,
            "input_shape must be given: the physics has no img_size",
        ),
        (
            SimpleNamespace(A=lambda x: [x], A_adjoint=abs),
            (IN,),
            TypeError,
            "foreign must return one tensor, got list",
        ),
        (
            _without(_Odl(REAL_MATRIX, (IN, OUT), (1.0, 1.0)), "const"),
            (),
            ValueError,
            "must have constant weights",
        ),
    ],
)
def test_refuses(foreign, shapes, error, message):
    with pytest.raises(error, match=message):
        as_operator(foreign, *shapes)


def test_refuses_inputs_of_another_shape():
    operator = as_operator(_Deepinv())
    with pytest.raises(ValueError, match=r"x must end in shape \(2, 2\), got \(4,\)"):
        operator(torch.ones(4))
    with pytest.raises(ValueError, match=r"y must end in shape \(3, 2\), got \(2, 2\)"):
        operator.adjoint(torch.ones(2, 2))
    with pytest.raises(TypeError, match="foreign must return one tensor, got tuple"):
        as_operator(_TwoOutputs())(torch.ones(2))


class _TwoOutputs:
    def __call__(self, x):
        return x, x

    def adjoint(self, y):
        return y


@pytest.fixture
def physics():
    return to_deepinv(as_operator(_Mrpro(), IN, OUT))


def test_deepinv_export_has_its_products(physics):
    x = torch.randn(3, *IN, dtype=COMPLEX, generator=torch.Generator().manual_seed(0))
    y = physics.A(x)

    torch.testing.assert_close(physics(x), y)
    torch.testing.assert_close(physics.A_adjoint_A(x), physics.A_adjoint(y))
    torch.testing.assert_close(physics.A_A_adjoint(y), physics.A(physics.A_adjoint(y)))
    torch.testing.assert_close(physics.A_vjp(x, y), physics.A_adjoint(y))
    assert physics.adjointness_test(x).abs() <= 1e-13 * x.norm() * y.norm()


def test_deepinv_export_solves(physics):
    matrix = torch.from_numpy(COMPLEX_MATRIX)
    y = torch.randn(3, *OUT, dtype=COMPLEX, generator=torch.Generator().manual_seed(0))
    z = torch.randn(3, *IN, dtype=COMPLEX, generator=torch.Generator().manual_seed(1))
    columns = y.flatten(1).mT

    solution = physics.A_dagger(y, tol=1e-12).flatten(1).mT
    torch.testing.assert_close(solution, torch.linalg.pinv(matrix) @ columns)
    solution = physics.prox_l2(z, y, 0.7, tol=1e-12).flatten(1).mT
    normal = 0.7 * matrix.mH @ matrix + torch.eye(4, dtype=COMPLEX)
    expected = torch.linalg.solve(normal, 0.7 * matrix.mH @ columns + z.flatten(1).mT)
    torch.testing.assert_close(solution, expected)


def test_deepinv_export_finds_the_norm(physics):
    norm = torch.linalg.matrix_norm(torch.from_numpy(COMPLEX_MATRIX), 2)
    x0 = torch.zeros(IN, dtype=COMPLEX)

    torch.testing.assert_close(physics.compute_norm(x0, tol=1e-8), norm**2)
    torch.testing.assert_close(physics.compute_norm(x0, tol=1e-8, squared=False), norm)


def test_deepinv_export_of_any_shape_solves_each_sample():
    y = torch.tensor([[1.0, 2.0], [0.0, 0.0]])

    torch.testing.assert_close(to_deepinv(2 * Identity()).A_dagger(y), y / 2)


def test_deepinv_export_carries_a_noise_model():
    class Noise(nn.Module):
        level = 1.0

        def forward(self, y):
            return y + self.level

        def update_parameters(self, level):
            self.level = level

    physics = to_deepinv(Identity(), Noise())
    assert physics(torch.zeros(1, 1)).item() == 1
    physics.update(level=2.0)
    assert physics(torch.zeros(1, 1)).item() == 2
    assert physics.A(torch.zeros(1, 1)).item() == 0


def test_deepinv_export_warns_when_unconverged(physics):
    with pytest.warns(UserWarning, match="stopped unconverged after 1 steps"):
        physics.A_dagger(torch.ones(1, *OUT, dtype=COMPLEX), max_iter=1)


def test_deepinv_export_refuses_to_change(physics):
    physics.update()
    with pytest.raises(ValueError, match="update got mask, but the operator does not change"):
        physics.update(mask=torch.ones(1))
