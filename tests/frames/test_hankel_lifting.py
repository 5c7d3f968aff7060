"""The Hankel lifting: order, adjoint, pseudo-inverse, and products by FFT without the matrix."""

from functools import partial
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from scipy.linalg import hankel

from framelets.frames import HankelLifting
from framelets.testing import assert_adjoint, assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

SIZES = [((9,), (4,)), ((6,), (6,)), ((6, 7), (3, 2)), ((7, 5), (4, 5)), ((5, 4, 3), (2, 3, 1))]
CHANNELS = [None, 3]
BOUNDARIES = ["wrap", "valid"]
DTYPES = [torch.float64, torch.complex128]
LIFTINGS = {
    f"{shape}-{window}-{channels}-{boundary}": HankelLifting(
        shape, window, num_channels=channels, boundary=boundary
    )
    for (shape, window), channels, boundary in product(SIZES, CHANNELS, BOUNDARIES)
}
each_lifting = pytest.mark.parametrize("lifting", LIFTINGS.values(), ids=LIFTINGS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(lifting, rng, dtype=torch.float64, batch=(2,)):
    return torch.randn(*batch, *lifting.input_shape, dtype=dtype, generator=rng)


def matrix_by_loops(lifting, signal):
    """H(f) entry by entry, as the formula says."""
    channels = signal.reshape(lifting.num_channels or 1, *lifting.shape)
    columns = list(product(range(len(channels)), *map(range, lifting.window)))
    rows = list(product(*map(range, lifting.positions)))
    matrix = torch.zeros(len(rows), len(columns), dtype=signal.dtype)
    for (row, position), (column, (channel, *tap)) in product(enumerate(rows), enumerate(columns)):
        place = [(i + j) % n for i, j, n in zip(position, tap, lifting.shape, strict=True)]
        matrix[row, column] = channels[(channel, *place)]
    return matrix


def test_wrap_around_by_hand():
    lifting = HankelLifting((4,), (3,))
    signal = torch.tensor([1.0, 2.0, 3.0, 4.0])

    assert lifting(signal).tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 1], [4, 1, 2]]
    # Entry (i, j) belongs to sample i + j: sample 0 stands at (0, 0), (3, 1) and (2, 2).
    entries = torch.arange(12.0).reshape(4, 3)
    assert lifting.adjoint(entries).tolist() == [0 + 10 + 8, 1 + 3 + 11, 2 + 4 + 6, 5 + 7 + 9]
    assert lifting.pseudo_inverse(entries).tolist() == [6, 5, 4, 7]


def test_valid_by_hand():
    lifting = HankelLifting((2, 3), (2, 2), num_channels=2, boundary="valid")
    signal = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[10.0, 20, 30], [40, 50, 60]]])

    assert lifting.positions == (1, 2)
    assert lifting(signal).tolist() == [[1, 2, 4, 5, 10, 20, 40, 50], [2, 3, 5, 6, 20, 30, 50, 60]]
    assert lifting.counts.tolist() == [[1, 2, 1], [1, 2, 1]]


@each_lifting
def test_matrix_is_that_of_the_formula(lifting, rng):
    signal = random(lifting, rng, batch=())

    assert torch.equal(lifting(signal), matrix_by_loops(lifting, signal))
    assert lifting.output_shape == (lifting.num_rows, lifting.num_columns)


def test_one_dimensional_matrix_is_scipys(rng):
    signal = torch.randn(9, dtype=torch.float64, generator=rng)

    valid = HankelLifting((9,), (4,), boundary="valid")(signal)
    wrapped = HankelLifting((9,), (4,))(signal)

    assert np.array_equal(valid, hankel(signal[:6], signal[5:]))
    assert np.array_equal(wrapped, hankel(signal, np.r_[signal[8:], signal[:3]]))


@each_dtype
@each_lifting
def test_adjoint(lifting, dtype, rng):
    assert_adjoint(lifting, dtype=dtype, generator=rng)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_single_precision_stays(dtype, rng):
    lifting = HankelLifting((6, 5), (3, 2), num_channels=2)
    assert_adjoint(lifting, dtype=dtype, generator=rng)
    signal = random(lifting, rng, dtype)

    rows = lifting.times(signal, torch.randn(12, 2, dtype=dtype, generator=rng))

    assert rows.dtype == lifting.adjoint_times(signal, rows).dtype == dtype
    assert lifting.pseudo_inverse(lifting(signal)).dtype == dtype
    assert lifting.gram_matrix(signal).dtype == torch.promote_types(dtype, torch.float64)


@each_lifting
def test_counts_are_the_diagonal_of_the_gram_operator(lifting):
    dense = lifting.to_matrix()

    gram = dense.mT @ dense

    expected = lifting.counts.expand(lifting.input_shape).flatten().diag()
    assert torch.equal(gram, expected)
    if lifting.boundary == "wrap":
        assert torch.equal(lifting.counts, torch.full(lifting.shape, prod(lifting.window)).double())


@each_dtype
@each_lifting
def test_pseudo_inverse_inverts(lifting, dtype, rng):
    signal = random(lifting, rng, dtype)

    error = torch.linalg.vector_norm(lifting.pseudo_inverse(lifting(signal)) - signal)

    assert error <= 1e-13 * torch.linalg.vector_norm(signal)


@each_lifting
def test_pseudo_inverse_is_that_of_the_dense_matrix(lifting, rng):
    matrix = torch.randn(lifting.output_shape, dtype=torch.float64, generator=rng)

    expected = torch.linalg.pinv(lifting.to_matrix()) @ matrix.flatten()

    assert_close(lifting.pseudo_inverse(matrix).flatten(), expected)


@each_lifting
def test_adjoint_weighs_the_pseudo_inverse_by_the_counts(lifting, rng):
    # <H m, M> = <m, counts H^+ M> for complex m and M.
    signal = random(lifting, rng, torch.complex128, batch=())
    matrix = torch.randn(lifting.output_shape, dtype=torch.complex128, generator=rng)

    in_range = torch.vdot(lifting(signal).flatten(), matrix.flatten())
    mean = lifting.counts * lifting.pseudo_inverse(matrix)
    in_domain = torch.vdot(signal.flatten(), mean.flatten())

    assert_close(in_range, in_domain)


@pytest.mark.parametrize("num_taps", [1, 4, 7])
def test_pseudo_inverse_of_an_outer_product_is_a_circular_convolution(num_taps, rng):
    u = torch.randn(7, 1, dtype=torch.float64, generator=rng)
    v = torch.randn(num_taps, 1, dtype=torch.float64, generator=rng)
    lifting = HankelLifting((7,), (num_taps,))
    expected = sum(v[tap] * u[:, 0].roll(tap) for tap in range(num_taps)) / num_taps

    assert_close(lifting.pseudo_inverse(u @ v.mT), expected, rtol=1e-13, atol=1e-13)
    assert_close(lifting.pseudo_inverse_of_factors(u, v), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_product_is_the_convolution_of_a_network(num_axes, rng):
    shape, window, filters = (7, 6, 5)[:num_axes], (3, 2, 4)[:num_axes], 2
    lifting = HankelLifting(shape, window, num_channels=3)
    signal = random(lifting, rng)
    taps = torch.randn(lifting.num_columns, filters, dtype=torch.float64, generator=rng)

    padding = [size for taps in reversed(window) for size in (0, taps - 1)]
    padded = torch.nn.functional.pad(signal, padding, mode="circular")
    convolution = getattr(torch.nn.functional, f"conv{num_axes}d")
    expected = convolution(padded, taps.mT.reshape(filters, 3, *window))

    assert_close(lifting.times(signal, taps).mT.reshape(expected.shape), expected)
    assert_close(lifting(signal) @ taps, lifting.times(signal, taps))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("other", DTYPES, ids=str)
@each_lifting
def test_products_are_those_of_the_dense_matrix(lifting, dtype, other, rng):
    signal = random(lifting, rng, dtype)
    right = torch.randn(lifting.num_columns, 3, dtype=other, generator=rng)
    left = torch.randn(2, lifting.num_rows, 3, dtype=dtype, generator=rng)
    matrix, common = lifting(signal), torch.promote_types(dtype, other)

    assert_close(lifting.times(signal, right), matrix.to(common) @ right.to(common))
    assert_close(lifting.adjoint_times(signal, left), matrix.mH @ left)
    product_of_factors = left.to(common) @ right.mH.to(common)
    assert_close(lifting.adjoint_of_factors(left, right), lifting.adjoint(product_of_factors))
    assert_close(
        lifting.pseudo_inverse_of_factors(left, right), lifting.pseudo_inverse(product_of_factors)
    )


@each_dtype
@each_lifting
def test_gram_is_that_of_the_dense_matrix(lifting, dtype, rng):
    signal = random(lifting, rng, dtype, batch=(2, 1))
    matrix = lifting(signal)

    assert_close(lifting.gram_matrix(signal), matrix.mH @ matrix)


def test_derivatives(rng):
    lifting = HankelLifting((5, 4), (2, 3), num_channels=2, boundary="valid")
    signal = random(lifting, rng, batch=())

    assert_same_derivatives(lifting, None, signal)
    assert_same_derivatives(lifting.H, None, lifting(signal))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@each_dtype
def test_products_pass_gradients(boundary, dtype, rng):
    lifting = HankelLifting((4, 3), (2, 2), num_channels=2, boundary=boundary)
    signal = random(lifting, rng, dtype, batch=()).requires_grad_()
    taps = torch.randn(8, 2, dtype=dtype, generator=rng, requires_grad=True)
    rows = torch.randn(lifting.num_rows, 2, dtype=dtype, generator=rng, requires_grad=True)

    check = partial(torch.autograd.gradcheck, fast_mode=True)
    assert check(lifting.times, (signal, taps))
    assert check(lifting.adjoint_times, (signal, rows))
    assert check(lifting.pseudo_inverse_of_factors, (rows, taps))
    assert check(lifting.gram_matrix, (signal,))


@pytest.mark.parametrize(
    ("shape", "window", "message"),
    [
        ((4, 4), (5, 2), r"window must have 1 to \(4, 4\) taps, axis by axis, got \(5, 2\)"),
        ((4, 4), (2,), r"window must have 1 to \(4, 4\) taps, axis by axis, got \(2,\)"),
        ((4,), (0,), r"got \(0,\)"),
        ((), (), r"shape must have one to three axes, got \(\)"),
        ((2, 2, 2, 2), (1, 1, 1, 1), "one to three axes"),
    ],
)
def test_refuses_windows_that_do_not_fit(shape, window, message):
    with pytest.raises(ValueError, match=message):
        HankelLifting(shape, window)


def test_refuses_unknown_boundaries_and_no_channels():
    with pytest.raises(ValueError, match="boundary must be one of valid, wrap, got 'wrapped'"):
        HankelLifting((4,), (2,), boundary="wrapped")
    with pytest.raises(ValueError, match="num_channels must be at least 1, or None, got 0"):
        HankelLifting((4,), (2,), num_channels=0)


def test_refuses_other_shapes():
    lifting = HankelLifting((4, 5), (2, 2), num_channels=2)
    with pytest.raises(ValueError, match=r"signal must end in shape \(2, 4, 5\), got \(4, 5\)"):
        lifting(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"matrix must end in shape \(20, 8\), got \(20, 4\)"):
        lifting.adjoint(torch.zeros(20, 4))
    with pytest.raises(ValueError, match=r"taps must have shape \(\*batch, 8, number of vectors"):
        lifting.times(torch.zeros(2, 4, 5), torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"rows must have shape \(\*batch, 20, number of vectors"):
        lifting.adjoint_times(torch.zeros(2, 4, 5), torch.zeros(20))
    with pytest.raises(ValueError, match="same number of columns, got 3 and 1"):
        lifting.adjoint_of_factors(torch.zeros(20, 3), torch.zeros(8, 1))


def test_refuses_integers():
    with pytest.raises(
        TypeError, match=r"signal must be floating-point or complex, got torch\.int64"
    ):
        HankelLifting((4,), (2,))(torch.arange(4))


def test_refuses_a_matrix_too_large():
    lifting = HankelLifting((64, 64), (8, 8), max_bytes=2**20)
    with pytest.raises(ValueError, match="max_bytes=1048576, got 1 x 4096 x 64 entries of 2097152"):
        lifting(torch.zeros(64, 64, dtype=torch.float64))


@pytest.mark.parametrize("boundary", ["wrap", "valid"])
def test_gram_of_an_empty_batch(boundary):
    lifting = HankelLifting((6, 5), (3, 2), num_channels=2, boundary=boundary)

    empty = lifting.gram_matrix(torch.zeros(3, 0, 2, 6, 5, dtype=torch.complex64))

    assert (tuple(empty.shape), empty.dtype) == ((3, 0, 12, 12), torch.complex128)
