"""Local bases: orthonormal filters in their order, principal components, duals of any filters."""

from functools import partial

import pytest
import torch
from scipy.fft import dctn
from sklearn.decomposition import TruncatedSVD

from framelets.frames import (
    HankelLifting,
    concentrating_local_basis,
    dct_local_basis,
    dual_filters,
    haar_local_basis,
    pca_local_basis,
)

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("make", [dct_local_basis, haar_local_basis])
@pytest.mark.parametrize("window", [(1,), (8,), (2, 4), (4, 1, 2)], ids=str)
def test_orthonormal(make, window):
    basis = make(window)

    assert_close(basis.mT @ basis, torch.eye(len(basis), dtype=torch.float64))


def test_dct_is_that_of_scipy_from_coarse_to_fine(rng):
    patch = torch.randn(3, 5, dtype=torch.float64, generator=rng)
    frequencies = [(i / 3) ** 2 + (j / 5) ** 2 for i in range(3) for j in range(5)]
    order = sorted(range(15), key=frequencies.__getitem__)

    coefficients = dct_local_basis((3, 5)).mT @ patch.flatten()

    expected = torch.from_numpy(dctn(patch.numpy(), norm="ortho")).flatten()[order]
    assert_close(coefficients, expected)


def test_haar_by_hand():
    # The constant, then the coarse step, then the two fine ones; in two dimensions the averages,
    # then the step along columns, the one along rows, and both.
    half, root = 0.5, 0.5**0.5
    one = [[half] * 4, [half, half, -half, -half], [root, -root, 0, 0], [0, 0, root, -root]]
    two = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]

    assert_close(haar_local_basis((4,)).mT, torch.tensor(one, dtype=torch.float64))
    assert_close(2 * haar_local_basis((2, 2)).mT, torch.tensor(two, dtype=torch.float64))


def test_pca_is_that_of_all_windows_together(rng):
    lifting = HankelLifting((7, 8), (3, 2), boundary="valid")
    signals = torch.randn(2, 3, 7, 8, dtype=torch.float64, generator=rng)
    windows = lifting(signals).flatten(0, 2)

    basis = pca_local_basis(lifting, signals)

    model = TruncatedSVD(4, algorithm="arpack", random_state=0).fit(windows.numpy())
    expected = torch.from_numpy(model.components_.copy())
    assert_close((expected @ basis[:, :4]).abs(), torch.eye(4, dtype=torch.float64), atol=1e-9)
    assert_close(basis.mT @ basis, torch.eye(6, dtype=torch.float64))
    assert pca_local_basis(lifting, signals[0, 0].to(torch.complex64)).dtype == torch.complex64


def test_concentrating_basis_packs_the_most_energy(rng):
    lifting = HankelLifting((40,), (6,))
    signal = torch.randn(40, dtype=torch.complex128, generator=rng)
    vectors = torch.linalg.qr(torch.randn(40, 4, dtype=torch.complex128, generator=rng)).Q
    projected = vectors.mH @ lifting(signal)

    basis = concentrating_local_basis(lifting, signal, vectors)

    energies = torch.linalg.vector_norm(projected @ basis, dim=0)
    expected = torch.linalg.svdvals(projected)
    assert_close(energies[:4], expected)
    assert torch.linalg.vector_norm(energies[4:]) <= 1e-12 * expected[0]
    assert_close(basis.mH @ basis, torch.eye(6, dtype=torch.complex128))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_dual_filters(dtype, rng):
    filters = torch.randn(4, 7, dtype=dtype, generator=rng)

    dual = dual_filters(filters)

    assert_close(filters @ dual.mH, torch.eye(4, dtype=dtype))
    assert_close(dual, torch.linalg.solve(filters @ filters.mH, filters))


def test_refuses_windows_that_are_no_power_of_two():
    with pytest.raises(ValueError, match="Haar sizes must be powers of two, got 6; crop or choose"):
        haar_local_basis((4, 6))


def test_refuses_filters_that_miss_a_direction(rng):
    filters = torch.randn(4, 3, generator=rng)
    with pytest.raises(ValueError, match="span all 4 taps, got rank 3 from 3 filters; add filters"):
        dual_filters(filters)
