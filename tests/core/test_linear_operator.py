"""The algebra of operators against dense matrices, real, complex and real-linear."""

from operator import add, matmul, mul, sub

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import lsmr, svds

from framelets.core import Identity, LinearOperator, RealInput
from framelets.testing import assert_adjoint

COMPLEX, REAL = torch.complex128, torch.float64


class _Dense(LinearOperator):
    """A matrix on vectors of one length."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)
        self.output_shape, self.input_shape = (matrix.shape[0],), (matrix.shape[1],)

    def forward(self, x):
        return x.to(self.matrix.dtype) @ self.matrix.mT

    def adjoint(self, y):
        return y.to(self.matrix.dtype) @ self.matrix.conj()


class _Conjugation(LinearOperator):
    """x -> conj(x): the simplest operator on complex tensors that is only real-linear."""

    real_linear = True

    def forward(self, x):
        return x.conj()

    def adjoint(self, y):
        return y.conj()


class _Fourier(LinearOperator):
    """The orthonormal discrete Fourier transform of the last axis, not centered."""

    def forward(self, x):
        return torch.fft.fft(x, norm="ortho")

    def adjoint(self, y):
        return torch.fft.ifft(y, norm="ortho")


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(*shape, dtype, rng):
    return torch.randn(shape, dtype=dtype, generator=rng)


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
def test_algebra_equals_that_of_matrices(dtype, rng):
    a, b = (random(3, 4, dtype=dtype, rng=rng) for _ in range(2))
    c = random(4, 2, dtype=dtype, rng=rng)
    A, B, C = _Dense(a), _Dense(b), _Dense(c)  # noqa: N806  # operators

    for operator, expected in (
        (A, a),
        (A.H, a.mH),
        (A @ C, a @ c),
        ((A @ C).H, (a @ c).mH),
        (A + B, a + b),
        (A - B, a - b),
        (-A, -a),
        (2 * A, 2 * a),
        (A * np.float32(0.5), 0.5 * a),
        (np.float64(2) * A, 2 * a),
        (A.gram, a.mH @ a),
        (A.gram + 0.1 * Identity(), a.mH @ a + 0.1 * torch.eye(4, dtype=dtype)),
    ):
        torch.testing.assert_close(operator.to_matrix(dtype=dtype), expected)
        assert_adjoint(operator, dtype=dtype)


def test_complex_factor_is_conjugated_in_the_adjoint(rng):
    a = random(3, 2, dtype=COMPLEX, rng=rng)
    scaled = (1 - 2j) * _Dense(a)

    torch.testing.assert_close(scaled.to_matrix(dtype=COMPLEX), (1 - 2j) * a)
    torch.testing.assert_close(scaled.H.to_matrix(dtype=COMPLEX), (1 + 2j) * a.mH)


def test_shapes_and_real_linearity_propagate(rng):
    tall, conjugation = _Dense(random(3, 2, dtype=COMPLEX, rng=rng)), _Conjugation()

    assert (tall.H.input_shape, tall.H.output_shape) == ((3,), (2,))
    assert (tall.gram.input_shape, tall.gram.output_shape) == ((2,), (2,))
    assert ((Identity() + tall.gram).input_shape) == (2,)
    assert not tall.gram.real_linear
    for operator in (conjugation.H, tall @ conjugation, 2 * conjugation, Identity() + conjugation):
        assert operator.real_linear


def test_adjoint_of_the_adjoint_is_the_operator():
    operator = _Fourier()
    assert operator.H.H is operator


def test_matmul_applies_and_passes_batch_axes(rng):
    a, x = random(3, 4, dtype=REAL, rng=rng), random(5, 2, 4, dtype=REAL, rng=rng)

    torch.testing.assert_close(_Dense(a) @ x, torch.einsum("ij,bcj->bci", a, x))


def test_parts_move_with_the_whole():
    operator = _Dense(torch.eye(2)) + _Dense(torch.ones(2, 2))

    operator.to(torch.float64)

    assert [buffer.dtype for buffer in operator.buffers()] == [torch.float64] * 2


def test_gradients_pass_through_the_algebra(rng):
    a = random(3, 4, dtype=REAL, rng=rng)
    x = random(4, dtype=REAL, rng=rng).requires_grad_()

    assert torch.autograd.gradcheck((2 * _Dense(a)).gram, x)


def test_norm_is_the_largest_singular_value(rng):
    a = random(6, 4, dtype=COMPLEX, rng=rng)

    assert _Dense(a).norm(dtype=COMPLEX) == pytest.approx(float(torch.linalg.matrix_norm(a, 2)))


def test_matrix_of_conjugation_is_real_and_flips_imaginary_parts():
    matrix = _Conjugation().to_matrix((2,), COMPLEX)

    assert matrix.dtype == REAL
    torch.testing.assert_close(matrix, torch.diag(torch.tensor([1, -1, 1, -1], dtype=REAL)))


def test_real_input_restricts_a_complex_operator(rng):
    # The Fourier transform of three real samples, by hand: rows (re, im) of exp(-2 pi i k n / 3).
    n = torch.arange(3, dtype=REAL)
    phase = 2 * torch.pi / 3 * torch.outer(n, n)
    expected = torch.stack([phase.cos(), -phase.sin()], dim=1).reshape(6, 3) / 3**0.5

    torch.testing.assert_close(_Fourier().to_matrix((3,), REAL), expected)
    composed = _Fourier() @ RealInput()
    torch.testing.assert_close(composed.to_matrix((3,), REAL), expected)
    torch.testing.assert_close(composed.H.to_matrix((3,), COMPLEX), expected.mT)
    assert_adjoint(composed, (3,), REAL, generator=rng)
    assert_adjoint(_Fourier(), (3,), REAL, generator=rng)
    assert_adjoint(RealInput().H, (3,), COMPLEX, generator=rng)
    torch.testing.assert_close(composed.gram.to_matrix((3,)), torch.eye(3, dtype=REAL))


@pytest.mark.parametrize(
    ("operator", "dtype"),
    [(_Fourier(), COMPLEX), (_Fourier(), REAL), (_Conjugation() - Identity(), COMPLEX)],
    ids=["complex", "real to complex", "real-linear"],
)
def test_scipy_export_equals_the_matrix(operator, dtype):
    matrix = operator.to_matrix((2, 3), dtype).numpy()
    exported = operator.to_scipy((2, 3), dtype)
    x = np.random.default_rng(0).standard_normal((matrix.shape[1], 2))
    y = np.random.default_rng(1).standard_normal((matrix.shape[0], 2))

    assert exported.shape == matrix.shape
    assert exported.dtype == matrix.dtype
    np.testing.assert_allclose(exported @ x, matrix @ x, atol=1e-14)
    np.testing.assert_allclose(exported @ x[:, 0], matrix @ x[:, 0], atol=1e-14)
    np.testing.assert_allclose(exported.H @ y, matrix.conj().T @ y, atol=1e-14)
    np.testing.assert_allclose(exported @ (1j * x), matrix @ (1j * x), atol=1e-14)


def test_scipy_solvers_take_the_export(rng):
    a, x = random(20, 8, dtype=REAL, rng=rng), random(8, dtype=REAL, rng=rng)
    exported = _Dense(a).to_scipy()

    values = svds(exported, k=3, return_singular_vectors=False, rng=0)
    np.testing.assert_allclose(sorted(values), torch.linalg.svdvals(a)[:3].flip(0), rtol=1e-10)
    solution = lsmr(exported, (a @ x).numpy(), atol=1e-12, btol=1e-12)[0]
    np.testing.assert_allclose(solution, x, rtol=1e-8)


def test_repr_says_the_shapes():
    assert repr(_Dense(torch.eye(2))) == "_Dense(input_shape=(2,), output_shape=(2,))"


def test_refuses_shapes_that_do_not_fit():
    square, tall = _Dense(torch.eye(2)), _Dense(torch.ones(3, 2))

    with pytest.raises(ValueError, match=r"A @ B needs equal shapes: input of A \(2,\).*\(3,\)"):
        square @ tall
    with pytest.raises(ValueError, match=r"A \+ B needs equal shapes: output of A \(2,\)"):
        square + tall
    with pytest.raises(ValueError, match=r"x must end in .* \(2,\), got \(2, 3\)"):
        tall @ torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"x must end in .* \(2,\), got \(\)"):
        tall @ torch.tensor(1.0)
    with pytest.raises(ValueError, match=r"shape must be .* \(2,\), got \(4,\)"):
        tall.to_matrix((4,))
    with pytest.raises(ValueError, match="shape must be given"):
        Identity().norm()


def test_refuses_a_complex_factor_of_a_real_linear_operator():
    with pytest.raises(ValueError, match="factor of a real_linear operator must be real, got 2j"):
        2j * _Conjugation()


@pytest.mark.parametrize("other", ["a", None, [1]], ids=str)
def test_refuses_other_operands(other):
    for operation in (mul, matmul, add, sub):
        with pytest.raises(TypeError, match=r"unsupported operand|can.t multiply"):
            operation(Identity(), other)


def test_to_matrix_refuses_more_than_max_bytes():
    with pytest.raises(ValueError, match=r"800000000 bytes, more than\s+max_bytes=1000; raise"):
        Identity().to_matrix((100, 100), max_bytes=1000)


def test_refuses_integers_and_lost_batch_axes():
    class Sum(LinearOperator):
        def forward(self, x):
            return x.sum()

        def adjoint(self, y):
            return y

    with pytest.raises(
        TypeError, match=r"dtype must be floating-point or complex, got torch.int64"
    ):
        Identity().to_matrix((2,), torch.int64)
    with pytest.raises(ValueError, match="must pass leading batch axes through"):
        Sum().to_matrix((2,))
