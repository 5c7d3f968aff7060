"""The Hankel matrix of one signal: rank laws, null space, and either way to its spectrum."""

from functools import partial

import numpy as np
import pytest
import torch

from framelets.frames import HankelLifting, HankelMatrix
from framelets.testing import assert_adjoint

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

each_boundary = pytest.mark.parametrize("boundary", ["wrap", "valid"])
each_route = pytest.mark.parametrize("max_bytes", [2**24, 0], ids=["formed", "gram"])


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def exponentials(shape, rank, *, periodic):
    """Sum distinct complex exponentials along each axis, with nothing special about their bins."""
    random = np.random.default_rng(0)
    signal = np.zeros(shape, complex)
    for index in range(rank):
        wave = np.asarray(1.0 + random.random())
        for size in shape:
            bin_number = 3 * index + 1 if periodic else size * random.random()
            wave = np.multiply.outer(wave, np.exp(2j * np.pi * bin_number * np.arange(size) / size))
        signal += wave
    return torch.from_numpy(signal)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@each_boundary
def test_adjoint_and_dense_matrix(boundary, dtype, rng):
    lifting = HankelLifting((5, 6), (3, 2), num_channels=2, boundary=boundary)
    signal = torch.randn(2, 5, 6, dtype=dtype, generator=rng)
    matrix = lifting.matrix(signal)

    assert_adjoint(matrix, dtype=dtype, generator=rng)
    assert_close(matrix.to_matrix(dtype=dtype), lifting(signal))
    assert_close(matrix.gram_matrix(), matrix.gram.to_matrix(dtype=dtype))


def test_product_by_hand():
    # H = [[1, 2], [2, 4], [4, 8]] has rank one: 2 times the first column is the second.
    signal = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    matrix = HankelLifting((4,), (2,), boundary="valid").matrix(signal)

    assert_close(matrix(torch.tensor([1.0, 1.0]).double()), torch.tensor([3.0, 6, 12]).double())
    assert_close(matrix.singular_values(), torch.tensor([105.0**0.5, 0], dtype=torch.float64))
    assert matrix.numerical_rank() == 1
    (filter_,) = matrix.annihilating_filters()
    assert_close(filter_ / filter_[1], torch.tensor([-2.0, 1]).double())


@each_route
@each_boundary
@pytest.mark.parametrize(
    ("shape", "window"), [((64,), (20,)), ((16, 17), (5, 6)), ((8, 7, 9), (4, 3, 4))]
)
@pytest.mark.parametrize("rank", [1, 4])
def test_rank_is_the_number_of_exponentials(shape, window, rank, boundary, max_bytes):
    signal = exponentials(shape, rank, periodic=boundary == "wrap")

    matrix = HankelLifting(shape, window, boundary=boundary).matrix(signal)

    assert matrix.numerical_rank(tolerance=1e-5, max_bytes=max_bytes) == rank


@each_boundary
@pytest.mark.parametrize("num_taps", [3, 30])
def test_rank_of_the_weighted_spectrum_is_the_number_of_jumps(num_taps, boundary):
    # Jumps of a periodic signal on pixels; the weight is the symbol of the finite difference.
    size, jumps = 128, [7, 30, 31, 77, 100]
    levels = torch.tensor([1.0, -0.5, 2.0, 0.3, 1.4], dtype=torch.float64)
    signal = levels[torch.bucketize(torch.arange(size), torch.tensor(jumps), right=True) % 5]
    spectrum = torch.fft.fft(signal)
    weight = 1 - torch.exp(-2j * torch.pi * torch.arange(size, dtype=torch.float64) / size)
    lifting = HankelLifting((size,), (num_taps,), boundary=boundary)

    weighted = lifting.matrix(weight * spectrum)

    assert weighted.numerical_rank(tolerance=1e-8) == min(num_taps, 5)
    assert lifting.matrix(spectrum).numerical_rank(tolerance=1e-8) == num_taps


@each_boundary
def test_annihilating_filters_convolve_the_signal_to_zero(boundary):
    signal = exponentials((40,), 3, periodic=boundary == "wrap")
    matrix = HankelLifting((40,), (6,), boundary=boundary).matrix(signal)

    filters = matrix.annihilating_filters()

    assert filters.shape == (3, 6)
    assert_close(filters @ filters.mH, torch.eye(3, dtype=torch.complex128))
    for taps in filters.numpy():
        inside = np.convolve(signal.numpy(), taps[::-1], mode="valid")
        assert np.abs(inside).max() <= 1e-12
        if boundary == "wrap":
            spectra = np.fft.fft(signal.numpy()) * np.fft.ifft(taps, 40)
            assert np.abs(spectra).max() <= 1e-12


@each_route
def test_channels_with_a_common_source_annihilate_each_other(max_bytes, rng):
    # f_1 = rho (*) s_1 and f_2 = rho (*) s_2 give f_1 (*) s_2 - f_2 (*) s_1 = 0: with 3 taps in s
    # and 8 in the window, 6 shifts of that relation, which one channel alone does not have.
    source = torch.randn(50, dtype=torch.float64, generator=rng)
    taps = torch.randn(2, 3, dtype=torch.float64, generator=rng)
    spectra = torch.fft.rfft(source) * torch.fft.rfft(taps, n=50)
    channels = torch.fft.irfft(spectra, n=50)

    matrix = HankelLifting((50,), (8,), num_channels=2).matrix(channels)

    assert matrix.numerical_rank(tolerance=1e-6, max_bytes=max_bytes) == 16 - 6
    assert HankelLifting((50,), (8,)).matrix(channels[0]).numerical_rank() == 8
    filters = matrix.annihilating_filters(rank=10, max_bytes=max_bytes)
    assert filters.shape == (6, 2, 8)
    relation = torch.zeros(2, 8, dtype=torch.float64)
    relation[0, 2:5], relation[1, 2:5] = taps[1].flip(0), -taps[0].flip(0)
    relation /= torch.linalg.vector_norm(relation)
    share = torch.linalg.vector_norm(filters.flatten(1) @ relation.flatten())
    assert_close(share, torch.ones((), dtype=torch.float64), rtol=1e-9, atol=1e-9)


@each_boundary
def test_either_way_gives_the_singular_values_of_the_dense_matrix(boundary, rng):
    lifting = HankelLifting((9, 8), (3, 4), boundary=boundary)
    signal = torch.randn(9, 8, dtype=torch.complex128, generator=rng)
    matrix, dense = lifting.matrix(signal), lifting(signal)
    expected = torch.linalg.svdvals(dense)

    assert_close(matrix.singular_values(), expected)
    assert_close(matrix.singular_values(max_bytes=0), expected)
    for max_bytes in (0, 2**24):
        leading = matrix.right_singular_vectors(3, max_bytes=max_bytes)
        assert_close(torch.linalg.vector_norm(dense @ leading, dim=0), expected[:3])


def test_more_columns_than_rows(rng):
    # 4 positions of 7 taps: at most 4 singular values, and a null space of 3 dimensions at least.
    signal = torch.randn(10, dtype=torch.float64, generator=rng)
    matrix = HankelLifting((10,), (7,), boundary="valid").matrix(signal)

    assert matrix.singular_values().shape == (4,)
    for filters in (matrix.annihilating_filters(), matrix.annihilating_filters(max_bytes=0)):
        assert filters.shape == (3, 7)
        assert torch.linalg.vector_norm(matrix(filters)) <= 1e-10


def test_rank_of_single_precision_is_that_of_its_rounding():
    signal = exponentials((64,), 4, periodic=True)
    single = HankelLifting((64,), (20,)).matrix(signal.to(torch.complex64))

    assert single.numerical_rank() == 4
    assert single.annihilating_filters().dtype == torch.complex64
    assert HankelLifting((64,), (20,)).matrix(0 * signal).numerical_rank() == 0


def test_max_bytes_counts_the_right_singular_vectors(monkeypatch, rng):
    # 5 rows of 60 columns: the matrix takes 2400 bytes, its right singular vectors 28800.
    signal = torch.randn(64, dtype=torch.float64, generator=rng)
    matrix = HankelLifting((64,), (60,), boundary="valid").matrix(signal)
    formed = []
    form = HankelLifting.forward
    monkeypatch.setattr(HankelLifting, "forward", lambda self, x: formed.append(1) or form(self, x))

    matrix.annihilating_filters(rank=5, max_bytes=31000)
    assert not formed
    matrix.annihilating_filters(rank=5, max_bytes=31200)
    assert len(formed) == 1
    # Values need none of the vectors.
    assert matrix.numerical_rank(max_bytes=2400) == 5
    assert len(formed) == 2
    assert matrix.singular_values(max_bytes=2399).shape == (5,)
    assert len(formed) == 2


def test_exponentials_between_the_frequencies_wrap_with_a_jump():
    # Rank 1 inside; where indices wrap, the jump at the end fills the matrix.
    signal = torch.exp(2j * torch.pi * 2.5 * torch.arange(16, dtype=torch.float64) / 16)

    ranks = [
        HankelLifting((16,), (4,), boundary=boundary).matrix(signal).numerical_rank()
        for boundary in ("valid", "wrap")
    ]

    assert ranks == [1, 4]


def test_refuses_batches_and_values_that_are_not_finite():
    lifting = HankelLifting((4,), (2,))
    with pytest.raises(ValueError, match=r"one of shape \(4,\), got \(3, 4\); the products of"):
        HankelMatrix(lifting, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="signal must be finite"):
        lifting.matrix(torch.tensor([0.0, float("nan"), 0.0, 0.0]))


def test_refuses_ranks_and_tolerances_out_of_range():
    matrix = HankelLifting((4,), (2,)).matrix(torch.arange(4.0, dtype=torch.float64))
    with pytest.raises(ValueError, match="rank must be 1 to 2, got 3"):
        matrix.right_singular_vectors(3)
    with pytest.raises(ValueError, match="rank must be 0 to 2, got -1"):
        matrix.annihilating_filters(rank=-1)
    with pytest.raises(ValueError, match="give rank or tolerance, got both: 1 and 0"):
        matrix.annihilating_filters(rank=1, tolerance=0.1)
    with pytest.raises(ValueError, match=r"tolerance must be at least 3e-08, .* got 1e-08; give"):
        matrix.numerical_rank(tolerance=1e-8, max_bytes=0)
