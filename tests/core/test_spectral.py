"""Spectral tools against LAPACK, adversarial spectra, hand values and refusals."""

import numpy as np
import pytest
import torch
from scipy.special import betaincinv

from framelets.core import Identity, LinearOperator
from framelets.core.spectral import (
    conjugate_gradient,
    diagonal,
    norm_bounds,
    power_iteration,
    singular_triplets,
    trace,
)

REAL32, REAL, COMPLEX = torch.float32, torch.float64, torch.complex128


class _Dense(LinearOperator):
    """A matrix between tensors of given shapes."""

    def __init__(self, matrix, input_shape=None, output_shape=None):
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)
        self.output_shape = output_shape or (matrix.shape[0],)
        self.input_shape = input_shape or (matrix.shape[1],)

    def forward(self, x):
        flat = x.flatten(x.ndim - len(self.input_shape)).to(self.matrix.dtype)
        return (flat @ self.matrix.mT).unflatten(-1, self.output_shape)

    def adjoint(self, y):
        flat = y.flatten(y.ndim - len(self.output_shape)).to(self.matrix.dtype)
        return (flat @ self.matrix.conj()).unflatten(-1, self.input_shape)


class _Diagonal(LinearOperator):
    """Multiplication by given numbers."""

    def __init__(self, entries):
        super().__init__()
        self.register_buffer("entries", entries, persistent=False)
        self.input_shape = self.output_shape = tuple(entries.shape)

    def forward(self, x):
        return self.entries * x

    def adjoint(self, y):
        return self.entries.conj() * y


class _Fourier(LinearOperator):
    """The orthonormal discrete Fourier transform of the last axis, not centered."""

    def forward(self, x):
        return torch.fft.fft(x, norm="ortho")

    def adjoint(self, y):
        return torch.fft.ifft(y, norm="ortho")


class _WithConjugate(LinearOperator):
    """x -> P x + Q conj(x), real-linear."""

    real_linear = True

    def __init__(self, p, q):
        super().__init__()
        self.p, self.q = p, q

    def forward(self, x):
        return x @ self.p.mT + x.conj() @ self.q.mT

    def adjoint(self, y):
        return y @ self.p.conj() + y.conj() @ self.q


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def with_values(values, rows, columns, dtype, rng):
    """Return a matrix with given singular values and random singular vectors."""
    u = torch.linalg.qr(torch.randn(rows, len(values), dtype=dtype, generator=rng))[0]
    v = torch.linalg.qr(torch.randn(columns, len(values), dtype=dtype, generator=rng))[0]
    return (u * values.to(u.real.dtype)) @ v.mH


def assert_triplets(found, matrix, tolerance, value_tolerance):
    """Assert orthonormality, the two equations with the stated residuals, and LAPACK's values."""
    u, v = found.left.flatten(1).mT, found.right.flatten(1).mT
    num, eps = len(found.values), torch.finfo(matrix.dtype).eps
    true = torch.linalg.svdvals(matrix)[:num]
    for vectors in (u, v):
        gram = vectors.mH @ vectors
        assert torch.linalg.matrix_norm(gram - torch.eye(num, dtype=gram.dtype), 2) <= 100 * eps
    s, scale = found.values, max(float(found.values[0]), 1e-30)
    forward = torch.linalg.vector_norm(matrix @ v - s * u, dim=0) / scale
    adjoint = torch.linalg.vector_norm(matrix.mH @ u - s * v, dim=0) / scale
    residuals = torch.maximum(forward, adjoint)
    torch.testing.assert_close(found.residuals, residuals, atol=100 * eps, rtol=1e-2)
    assert found.converged
    assert found.residuals.max() <= tolerance
    assert (found.values - true).max() <= 100 * eps * scale  # never above: certified from below
    assert (true - found.values).max() <= value_tolerance * scale


SPECTRA = {
    "decaying": torch.arange(1, 151, dtype=REAL) ** -0.5,
    "flat": torch.linspace(1, 0.5, 150, dtype=REAL),
    "repeated": torch.cat([torch.full((30,), 2.0), torch.linspace(1.9, 0, 120)]).to(REAL),
    "two values": torch.cat([torch.full((40,), 2.0), torch.ones(110)]).to(REAL),
    "one isolated": torch.cat([torch.tensor([9.0]), torch.linspace(1, 0, 149)]).to(REAL),
}


@pytest.mark.parametrize("dtype", [REAL32, REAL, COMPLEX], ids=str)
@pytest.mark.parametrize("name", SPECTRA)
def test_triplets_equal_lapack(name, dtype, rng):
    matrix = with_values(SPECTRA[name], 170, 150, dtype, rng)

    found = singular_triplets(_Dense(matrix), 10, dtype=dtype, generator=rng)

    assert_triplets(found, matrix, 1e-2, 1e-2)


@pytest.mark.parametrize("shape", [(170, 150), (60, 150)], ids=["tall", "wide"])
def test_triplets_to_high_accuracy_on_image_shapes(shape, rng):
    matrix = with_values(SPECTRA["decaying"][: min(shape)], *shape, COMPLEX, rng)
    operator = _Dense(matrix, (5, 30), (10, shape[0] // 10))

    found = singular_triplets(operator, 5, dtype=COMPLEX, tolerance=1e-10, generator=rng)

    assert found.left.shape == (5, 10, shape[0] // 10)
    assert found.right.shape == (5, 5, 30)
    assert_triplets(found, matrix, 1e-10, 1e-13)


@pytest.mark.parametrize("block_size", [1, 3, 50])
def test_triplets_with_any_block_size(block_size, rng):
    matrix = with_values(SPECTRA["decaying"][:40], 45, 40, REAL, rng)

    found = singular_triplets(_Dense(matrix), 6, dtype=REAL, block_size=block_size, tolerance=1e-6)

    assert_triplets(found, matrix, 1e-6, 1e-10)


@pytest.mark.parametrize("num", [5, 20])
def test_triplets_beyond_the_rank_are_zero(num, rng):
    matrix = with_values(torch.tensor([3.0, 2.0, 1.0], dtype=REAL), 20, 25, REAL, rng)

    found = singular_triplets(_Dense(matrix), num, dtype=REAL)

    expected = torch.zeros(num, dtype=REAL)
    expected[:3] = torch.tensor([3.0, 2.0, 1.0])
    torch.testing.assert_close(found.values, expected)
    assert_triplets(found, matrix, 1e-10, 1e-10)


@pytest.mark.parametrize("size", [1, 7])
def test_triplets_of_the_whole_space(size, rng):
    matrix = torch.randn(size, size, dtype=COMPLEX, generator=rng)

    assert_triplets(singular_triplets(_Dense(matrix), size, dtype=COMPLEX), matrix, 1e-10, 1e-12)


def test_triplets_of_identity_and_zero():
    identity = singular_triplets(Identity(), 12, shape=(10, 20))
    torch.testing.assert_close(identity.values, torch.ones(12))
    zero = singular_triplets(0 * Identity(), 12, shape=(10, 20))
    assert zero.values.tolist() == [0.0] * 12
    assert zero.residuals.tolist() == [0.0] * 12
    assert zero.converged


def test_triplets_of_a_real_linear_operator(rng):
    p, q = (torch.randn(6, 5, dtype=COMPLEX, generator=rng) for _ in range(2))
    operator = _WithConjugate(p, q)

    found = singular_triplets(operator, 4, shape=(5,), dtype=COMPLEX, tolerance=1e-8)

    # Written by hand on stacked real and imaginary parts instead of interleaved pairs.
    real = torch.cat(
        [
            torch.cat([(p + q).real, (q - p).imag], dim=1),
            torch.cat([(p + q).imag, (p - q).real], dim=1),
        ]
    )
    torch.testing.assert_close(found.values, torch.linalg.svdvals(real)[:4])
    assert found.right.dtype == COMPLEX
    torch.testing.assert_close(operator(found.right), found.values[:, None] * found.left)


def test_real_dtype_restricts_to_real_input():
    # |F x| = |x|, but F* F restricted to real tensors is E* F* F E = I on half as many dimensions.
    found = singular_triplets(_Fourier(), 6, shape=(6,), dtype=REAL)

    torch.testing.assert_close(found.values, torch.ones(6, dtype=REAL))
    assert (found.right.dtype, found.left.dtype) == (REAL, COMPLEX)


def test_triplets_say_when_they_stop_unconverged(rng):
    matrix = with_values(SPECTRA["flat"], 150, 150, REAL, rng)

    found = singular_triplets(_Dense(matrix), 5, dtype=REAL, tolerance=1e-9, max_products=60)

    assert not found.converged
    assert found.residuals.max() > 1e-9
    assert found.num_products <= 60 + 8 + 10  # the block under way and the residuals


def test_progress_rises_to_one(rng):
    heard = []
    operator = _Dense(with_values(SPECTRA["decaying"], 150, 150, REAL, rng))

    singular_triplets(operator, 10, dtype=REAL, progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert 0 < heard[1] < 1
    for function in (norm_bounds, trace, diagonal):
        heard.clear()
        function(operator, dtype=REAL, progress=heard.append)
        assert heard == sorted(heard)
        assert heard[-1] == 1.0


def test_same_seed_same_triplets(rng):
    operator = _Dense(with_values(SPECTRA["decaying"], 150, 150, REAL, rng))

    first, second = (singular_triplets(operator, 3, dtype=REAL) for _ in range(2))

    assert torch.equal(first.right, second.right)


def adversarial(size, num_steps, gap):
    """Return squared singular values that are worst for Lanczos: one at 1, the rest at extrema.

    The proof of the bound is sharp where the optimal polynomial, s p(t) = T_{2k-1}(s) with
    t = (1 - eps)(1 - s^2), takes its largest values.
    """
    angles = torch.arange(num_steps, dtype=REAL) * torch.pi / (2 * num_steps - 1)
    extrema = (1 - gap) * (1 - angles.cos() ** 2)
    return torch.cat([torch.ones(1, dtype=REAL), extrema.repeat(size)])[:size]


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
def test_upper_bound_holds_with_its_probability_on_the_worst_spectrum(dtype):
    size, num_trials, probability, relative_gap = 41, 100, 0.5, 0.2
    options = {"dtype": dtype, "relative_gap": relative_gap, "probability": probability}
    any_spectrum = norm_bounds(_Diagonal(torch.linspace(0, 1, size).to(dtype)), **options)
    num_steps = (any_spectrum.num_products - 1) // 2
    gap = 1 - (any_spectrum.lower / any_spectrum.upper) ** 2
    operator = _Diagonal(adversarial(size, num_steps, gap).sqrt().to(dtype))
    generator = torch.Generator().manual_seed(1)

    bounds = [norm_bounds(operator, generator=generator, **options) for _ in range(num_trials)]

    assert all(bound.lower <= 1 + 1e-12 for bound in bounds)
    failures = sum(bound.upper < 1 for bound in bounds)
    spread = (num_trials * probability * (1 - probability)) ** 0.5
    assert failures <= num_trials * (1 - probability) + 3 * spread
    # It is nearly sharp here: a bound that is too tight would be found out.
    assert failures >= 0.5 * num_trials * (1 - probability)


@pytest.mark.parametrize("name", SPECTRA)
def test_norm_bounds_enclose_the_norm(name, rng):
    matrix = with_values(SPECTRA[name], 170, 150, REAL, rng)
    norm = float(SPECTRA[name][0])

    found = norm_bounds(_Dense(matrix), dtype=REAL, generator=rng, relative_gap=0.01)

    assert found.lower <= norm * (1 + 1e-12) <= found.upper
    assert found.upper <= 1.01 * found.lower * (1 + 1e-12)
    assert found.probability == 0.99


@pytest.mark.parametrize("size", [2, 3, 10, 1000, 10**6])
def test_bound_implies_the_published_one(size):
    # P(|b_1| < c) <= 0.824 sqrt(n) c, the constant behind 1.648 = 2 * 0.824.
    for failure in (1e-6, 1e-3, 0.1, 0.5):
        quantile = betaincinv(0.5, (size - 1) / 2, failure) ** 0.5
        assert failure <= 0.824 * size**0.5 * quantile


def test_norm_bounds_of_simple_operators():
    found = norm_bounds(3 * Identity(), shape=(4, 5))
    assert found.lower == pytest.approx(3)
    assert 3 <= found.upper <= 3.0301
    assert norm_bounds(0 * Identity(), shape=(4,)).upper == 0
    one = norm_bounds(2 * Identity(), shape=(1,), dtype=REAL)
    assert (one.lower, one.upper) == (2, 2)


def test_power_iteration_equals_lapack_and_starts_warm(rng):
    matrix = with_values(SPECTRA["one isolated"], 170, 150, COMPLEX, rng)
    operator = _Dense(matrix)

    found = power_iteration(operator, dtype=COMPLEX, tolerance=1e-9)
    assert_triplets(found, matrix, 1e-9, 1e-13)
    again = power_iteration(operator, dtype=COMPLEX, tolerance=1e-8, start=found.right[0])
    assert again.num_products == 2
    short = power_iteration(operator, dtype=COMPLEX, tolerance=1e-9, num_iterations=1)
    assert not short.converged
    assert power_iteration(0 * Identity(), shape=(3,)).values.tolist() == [0.0]


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
def test_trace_and_diagonal_within_their_errors(dtype, rng):
    matrix = torch.randn(30, 30, dtype=dtype, generator=rng) + 5 * torch.eye(30, dtype=dtype)

    found = trace(_Dense(matrix), dtype=dtype, generator=rng, num_probes=400)
    assert abs(found.value - matrix.trace().item()) <= 4 * found.standard_error
    # Var <z, A z> is the sum over i < j of |a_ij + a_ji|^2 for signs, of all |a_ij|^2, i != j, for
    # fourth roots of unity.
    off = matrix - torch.diag(matrix.diagonal())
    squares = (off + off.mT).square() / 2 if dtype == REAL else off.abs().square()
    assert found.standard_error == pytest.approx(float(squares.sum() / 400) ** 0.5, rel=0.15)

    entries = diagonal(_Dense(matrix), dtype=dtype, generator=rng, num_probes=400)
    errors = (entries.value - matrix.diagonal()).abs() / entries.standard_error
    assert errors.max() <= 5
    assert 0.5 <= errors.square().mean().sqrt() <= 1.5
    torch.testing.assert_close(
        entries.standard_error, (off.abs().square().sum(1) / 400).sqrt(), rtol=0.2, atol=0
    )


def test_trace_and_diagonal_of_a_diagonal_are_exact(rng):
    entries = torch.randn(4, 6, dtype=COMPLEX, generator=rng)

    found = diagonal(_Diagonal(entries), dtype=COMPLEX, num_probes=2)
    torch.testing.assert_close(found.value, entries)
    assert found.standard_error.max() <= 1e-15
    assert found.standard_error.dtype == REAL
    total = trace(_Diagonal(entries), dtype=COMPLEX, num_probes=2)
    assert total.value == pytest.approx(entries.sum().item())
    assert total.num_products == 2


def test_trace_of_a_real_linear_operator_is_that_of_its_real_matrix():
    operator = _WithConjugate(torch.eye(3, dtype=COMPLEX), torch.eye(3, dtype=COMPLEX))

    # x + conj(x) = 2 Re x: eigenvalue 2 on real parts, 0 on imaginary parts.
    assert trace(operator, shape=(3,), dtype=COMPLEX).value == pytest.approx(6)


@pytest.mark.parametrize("dtype", [REAL, COMPLEX], ids=str)
def test_conjugate_gradient_equals_lapack_in_batches(dtype, rng):
    matrix = torch.randn(12, 12, dtype=dtype, generator=rng)
    matrix = matrix.mH @ matrix + torch.eye(12, dtype=dtype)
    rhs = torch.randn(3, 2, 12, dtype=dtype, generator=rng) * torch.tensor([1.0, 1e6])[:, None]
    rhs[1, 1] = 0

    found, info = conjugate_gradient(_Dense(matrix), rhs, tolerance=1e-11)

    torch.testing.assert_close(
        found, torch.linalg.solve(matrix, rhs.flatten(0, 1).mT).mT.view(rhs.shape)
    )
    assert info.converged
    assert info.residual.shape == (3, 2)
    assert info.residual.max() <= 1e-11
    warm = conjugate_gradient(_Dense(matrix), rhs, start=found, tolerance=1e-10)[1]
    assert warm.num_iterations == 0


def test_conjugate_gradient_of_a_singular_operator_has_least_norm(rng):
    tall = torch.randn(4, 9, dtype=REAL, generator=rng)
    rhs = tall.mT @ torch.randn(4, dtype=REAL, generator=rng)

    found, info = conjugate_gradient(_Dense(tall).gram, rhs, tolerance=1e-10)

    torch.testing.assert_close(found, torch.linalg.pinv(tall.mT @ tall, rtol=1e-12) @ rhs)
    assert info.converged


def test_conjugate_gradient_says_unconverged():
    entries = torch.linspace(1e-6, 1, 50, dtype=REAL)

    found, info = conjugate_gradient(
        _Diagonal(entries), torch.ones(50, dtype=REAL), num_iterations=3
    )

    assert not info.converged
    assert info.num_iterations == 3
    residual = torch.linalg.vector_norm(1 - entries * found) / 50**0.5
    torch.testing.assert_close(info.residual, residual)
    # The right-hand side leaves the range of a singular operator: no solution, and it says so.
    outside = conjugate_gradient(_Diagonal(torch.tensor([1.0, 0.0])), torch.ones(2))[1]
    assert not outside.converged


def test_conjugate_gradient_solves_real_linear_systems(rng):
    p, q = (torch.randn(5, 5, dtype=COMPLEX, generator=rng) for _ in range(2))
    operator = _WithConjugate(p, q)
    x = torch.randn(5, dtype=COMPLEX, generator=rng)
    normal = operator.gram + Identity()

    found, info = conjugate_gradient(normal, normal(x), tolerance=1e-12)

    assert info.converged
    torch.testing.assert_close(found, x)


def test_gradients_pass_through_conjugate_gradient(rng):
    matrix = torch.randn(4, 4, dtype=REAL, generator=rng)
    operator = _Dense(matrix.mT @ matrix + torch.eye(4, dtype=REAL))
    rhs = torch.randn(2, 4, dtype=REAL, generator=rng).requires_grad_()

    assert torch.autograd.gradcheck(
        lambda b: conjugate_gradient(operator, b, tolerance=1e-13, num_iterations=6)[0], rhs
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: singular_triplets(a, 0), "num must be from 1 to .* 4, got 0"),
        (lambda a: singular_triplets(a, 5), "num must be from 1 to .* 4, got 5"),
        (lambda a: singular_triplets(a, 1, block_size=0), "block_size must be at least 1, got 0"),
        (lambda a: singular_triplets(a, 1, tolerance=0.0), "tolerance must lie between 0 and 1"),
        (lambda a: norm_bounds(a, probability=1.0), "probability must lie between 0 and 1"),
        (lambda a: norm_bounds(a, relative_gap=0.0), "relative_gap must be positive"),
        (lambda a: power_iteration(a, num_iterations=0), "num_iterations must be at least 1"),
        (lambda a: power_iteration(a, start=torch.zeros(3)), r"start must have shape \(4,\)"),
        (lambda a: power_iteration(a, start=torch.zeros(4)), "start must have a positive"),
        (lambda a: trace(a, num_probes=1), "num_probes must be at least 2"),
        (lambda a: trace(a, block_size=0), "block_size must be at least 1"),
        (lambda a: conjugate_gradient(a, torch.ones(3)), r"rhs must end in .* \(4,\), got \(3,\)"),
        (
            lambda a: conjugate_gradient(a, torch.ones(4), start=torch.ones(1, 4)),
            "start must have the shape of rhs",
        ),
        (lambda a: conjugate_gradient(-a, torch.ones(4)), "must be Hermitian positive"),
        (lambda a: conjugate_gradient(a * np.nan, torch.ones(4)), "must be Hermitian positive"),
        (
            lambda a: conjugate_gradient(_Fourier(), torch.ones(4)),  # noqa: ARG005
            "must keep the dtype of rhs, torch.float32, got torch.complex64",
        ),
        (lambda a: singular_triplets(a * np.nan, 1), "must give finite values, got NaN"),
        (lambda a: norm_bounds(a * np.inf), "must give finite values, got NaN or infinity"),
        (lambda a: power_iteration(a * np.nan), "must give finite values, got NaN"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call(_Diagonal(torch.arange(1.0, 5.0)))


def test_trace_refuses_operators_that_are_not_square():
    with pytest.raises(ValueError, match=r"must be square .*, got \(2,\) to \(3,\)"):
        trace(_Dense(torch.ones(3, 2)))
