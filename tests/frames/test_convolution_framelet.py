"""Convolution framelets: reconstruction, energy, the sum by terms, and what each basis packs."""

from functools import partial

import pytest
import torch

from framelets.core import Identity
from framelets.data import natural_images
from framelets.frames import (
    ConvolutionFramelet,
    GraphLaplacian,
    HankelLifting,
    SeparableBasis,
    cadzow_step,
    concentrating_local_basis,
    dct_local_basis,
    haar_local_basis,
    pca_local_basis,
    svd_nonlocal_basis,
)
from framelets.frames._right_singular import right_singular
from framelets.testing import assert_adjoint, assert_frame_bounds, assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

SHAPE, WINDOW = (8, 4), (4, 2)
LIFTING = HankelLifting(SHAPE, WINDOW)
SIGNAL = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LAPLACIAN = GraphLaplacian.of_points(LIFTING(SIGNAL), num_neighbors=4)
NONLOCAL = {
    "identity": Identity(),
    "dct": SeparableBasis("dct", SHAPE),
    "haar": SeparableBasis("haar", SHAPE),
    "svd": svd_nonlocal_basis(LIFTING, SIGNAL),
    "graph": LAPLACIAN.modes().vectors,
}
LOCAL = {
    "dct": dct_local_basis(WINDOW),
    "haar": haar_local_basis(WINDOW),
    "pca": pca_local_basis(LIFTING, SIGNAL),
}
each_pair = pytest.mark.parametrize(
    "framelet",
    [
        ConvolutionFramelet(SHAPE, WINDOW, phi, psi)
        for phi in NONLOCAL.values()
        for psi in LOCAL.values()
    ],
    ids=[f"{phi}-{psi}" for phi in NONLOCAL for psi in LOCAL],
)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@each_pair
def test_orthonormal_bases_are_a_tight_frame(framelet):
    num_taps = 8.0

    assert framelet.reconstructs
    assert_frame_bounds(framelet, None, num_taps, num_taps, tolerance=1e-12)
    coefficients = framelet(SIGNAL)
    energy, expected = (x.square().sum() for x in (coefficients, SIGNAL))
    assert_close(energy, num_taps * expected)
    assert_close(framelet.inverse(coefficients), SIGNAL)
    assert_close(framelet.adjoint(coefficients), num_taps * SIGNAL)


@each_pair
def test_coefficients_are_the_product_of_three_matrices(framelet):
    phi = framelet.nonlocal_basis.to_matrix((32,))

    assert_close(framelet(SIGNAL), phi.mT @ LIFTING(SIGNAL) @ framelet.local_basis)


@pytest.mark.parametrize("boundary", ["wrap", "valid"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_adjoint_and_derivatives(dtype, boundary, rng):
    lifting = HankelLifting((5, 4), (2, 3), num_channels=2, boundary=boundary)
    phi = torch.randn(lifting.num_rows, 5, dtype=dtype, generator=rng)
    psi = torch.randn(12, 4, dtype=dtype, generator=rng)

    framelet = ConvolutionFramelet((5, 4), (2, 3), phi, psi, num_channels=2, boundary=boundary)

    assert_adjoint(framelet, dtype=dtype, generator=rng)
    signal = torch.randn(2, 5, 4, dtype=torch.float64, generator=rng)
    if dtype == torch.float64:
        assert_same_derivatives(framelet, None, signal)


@pytest.mark.parametrize("boundary", ["wrap", "valid"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_dual_pairs_reconstruct(dtype, boundary, rng):
    # More non-local functions than positions and more filters than taps, none orthogonal.
    lifting = HankelLifting((6, 5), (3, 2), num_channels=2, boundary=boundary)
    phi = torch.randn(lifting.num_rows, 40, dtype=dtype, generator=rng)
    psi = torch.randn(12, 15, dtype=dtype, generator=rng)
    signal = torch.randn(3, 2, 6, 5, dtype=torch.complex128, generator=rng)

    framelet = ConvolutionFramelet((6, 5), (3, 2), phi, psi, num_channels=2, boundary=boundary)

    assert framelet.reconstructs
    assert_close(framelet.inverse(framelet(signal)), signal)


def test_given_duals_are_used(rng):
    psi = torch.cat([torch.eye(3), torch.eye(3)], dim=1).double()
    other = torch.cat([torch.eye(3), torch.zeros(3, 3)], dim=1).double()
    signal = torch.randn(6, dtype=torch.float64, generator=rng)

    framelet = ConvolutionFramelet(
        (6,), (3,), Identity(), psi, nonlocal_dual=Identity(), local_dual=other
    )
    assert framelet.reconstructs
    assert torch.equal(framelet.local_dual, other)
    assert_close(framelet.inverse(framelet(signal)), signal)

    wrong = ConvolutionFramelet((6,), (3,), 2 * Identity(), psi)
    assert not wrong.reconstructs
    assert not ConvolutionFramelet((6,), (3,), Identity(), psi[:, :2]).reconstructs


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_expansion_term_by_term(dtype, rng):
    # f = (1/d) sum_ij <phi_i (*) conj(psi_j), f> phi~_i (*) conj(psi~_j), by sums over samples.
    size, num_taps = 6, 3
    phi = torch.randn(size, 8, dtype=dtype, generator=rng)
    psi = torch.randn(num_taps, 4, dtype=dtype, generator=rng)
    signal = torch.randn(size, dtype=dtype, generator=rng)
    framelet = ConvolutionFramelet((size,), (num_taps,), phi, psi)
    phi_dual = torch.linalg.solve(phi @ phi.mH, phi)
    psi_dual = torch.linalg.solve(psi @ psi.mH, psi)

    def convolve(long, short):
        taps = short.conj()
        return torch.stack(
            [sum(taps[j] * long[(k - j) % size] for j in range(num_taps)) for k in range(size)]
        )

    total = torch.zeros_like(signal)
    coefficients = torch.zeros(8, 4, dtype=dtype)
    for i in range(8):
        for j in range(4):
            coefficients[i, j] = torch.vdot(convolve(phi[:, i], psi[:, j]), signal)
            total += coefficients[i, j] * convolve(phi_dual[:, i], psi_dual[:, j]) / num_taps

    assert_close(total, signal)
    assert_close(framelet(signal), coefficients)
    assert_close(framelet.inverse(coefficients), signal)


def test_coefficients_by_hand():
    # Windows (1, 2), (2, 4), (4, 1) of f = (1, 2, 4); filters: sum and difference.
    psi = torch.tensor([[1.0, 1.0], [1.0, -1.0]])

    framelet = ConvolutionFramelet((3,), (2,), Identity(), psi)

    coefficients = framelet(torch.tensor([1.0, 2.0, 4.0]))
    torch.testing.assert_close(coefficients, torch.tensor([[3.0, -1], [6, -2], [5, 3]]))


def test_energy_of_the_laplacian_is_a_weighted_sum_of_squares():
    # sum_j <F v_j, L F v_j> = sum_ij lambda_i C_ij^2, for any orthonormal v_j.
    values, vectors = LAPLACIAN.modes()
    for psi in LOCAL.values():
        coefficients = ConvolutionFramelet(SHAPE, WINDOW, vectors, psi)(SIGNAL)
        columns = (LIFTING(SIGNAL) @ psi).mT

        energy = (columns * LAPLACIAN(columns)).sum()

        expected = (values[:, None] * coefficients.square()).sum()
        assert_close(energy, expected, rtol=1e-10, atol=0)


def test_leading_singular_vectors_as_filters_make_a_cadzow_step(rng):
    for boundary in ("wrap", "valid"):
        lifting = HankelLifting((9, 8), (3, 4), boundary=boundary)
        signal = torch.randn(9, 8, dtype=torch.complex128, generator=rng)
        left, values, right = torch.linalg.svd(lifting(signal), full_matrices=False)
        for rank in (1, 5, 12):
            nearest = (left[:, :rank] * values[:rank]) @ right[:rank]
            expected = lifting.pseudo_inverse(nearest)
            filters = right[:rank].mH

            layer = ConvolutionFramelet((9, 8), (3, 4), Identity(), filters, boundary=boundary)

            assert_close(layer.inverse(layer(signal)), expected)
            step = cadzow_step(signal, (3, 4), rank, boundary=boundary)
            assert_close(step, expected)
        assert_close(step, signal)  # of all taps


def test_cadzow_step_of_batches_and_channels(rng):
    signals = torch.randn(3, 2, 20, dtype=torch.float64, generator=rng)

    steps = cadzow_step(signals, (4,), 3, num_channels=2)

    for signal, step in zip(signals, steps, strict=True):
        assert_close(step, cadzow_step(signal, (4,), 3, num_channels=2))
    place = torch.arange(32, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * 3 * place / 32)  # two exponentials: rank 2 passes
    assert_close(cadzow_step(wave, (8,), 2), wave)


def test_parseval_of_complex_orthonormal_bases(rng):
    phi, psi = (
        torch.linalg.qr(torch.randn(size, size, dtype=torch.complex128, generator=rng)).Q
        for size in (32, 8)
    )
    signal = torch.randn(SHAPE, dtype=torch.complex128, generator=rng)
    framelet = ConvolutionFramelet(SHAPE, WINDOW, phi, psi)

    coefficients = framelet(signal)

    assert_close(coefficients, phi.mH @ LIFTING(signal) @ psi)
    energy, expected = (x.abs().square().sum() for x in (coefficients, signal))
    assert_close(energy, 8 * expected)
    assert_close(framelet.inverse(coefficients), signal)


def test_valid_windows_keep_the_energy_of_the_matrix_and_not_of_the_signal():
    framelet = ConvolutionFramelet(
        (4,), (2,), Identity(), torch.eye(2, dtype=torch.float64), boundary="valid"
    )
    signal = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)

    assert float(framelet(signal).square().sum()) == 1.0
    assert float(framelet(signal.roll(1)).square().sum()) == 2.0


def with_spread(spread):
    """Waves whose windows of 8 taps are orthogonal: singular values 16, 16 spread, 1.6 spread."""
    place = torch.arange(32, dtype=torch.float64)
    waves = [torch.exp(2j * torch.pi * frequency * place / 32) for frequency in (0, 4, 12)]
    return waves[0] + spread * waves[1], 0.1 * spread * waves[2]


@pytest.mark.parametrize("spread", [1e-6, 1e-8, 1e-10])
def test_cadzow_step_keeps_small_singular_values(spread):
    kept, dropped = with_spread(spread)

    step = cadzow_step(kept + dropped, (8,), 2)

    assert torch.linalg.vector_norm(step - kept) < 1e-13 < 1e-2 * torch.linalg.vector_norm(dropped)


@pytest.mark.parametrize("spread", [1e-6, 1e-8, 1e-10])
def test_principal_components_of_small_singular_values(spread):
    lifting = HankelLifting((32,), (8,))
    signal = sum(with_spread(spread))

    sizes = torch.linalg.vector_norm(lifting(signal) @ pca_local_basis(lifting, signal), dim=0)

    expected = 16 * torch.tensor([1.0, spread, 0.1 * spread], dtype=torch.float64)
    torch.testing.assert_close(sizes[:3], expected, rtol=1e-3, atol=0)
    assert sizes[3:].max() < 1e-13


@pytest.mark.parametrize("boundary", ["wrap", "valid"])
def test_a_matrix_too_large_to_form_gives_the_same_where_it_can(boundary, rng):
    lifting = HankelLifting((12,), (5,), boundary=boundary)
    signals = torch.randn(3, 12, dtype=torch.complex128, generator=rng)
    for together in (False, True):
        found, by_gram = (
            right_singular(lifting, signals, size, together=together) for size in (2**24, 0)
        )
        assert (found.formed, by_gram.formed) == (True, False)
        assert_close(found.values, by_gram.values)
        products = (found.vectors.mH @ by_gram.vectors).abs()  # vectors up to a phase
        torch.testing.assert_close(products, torch.eye(5).double().expand_as(products))


def test_concentration_of_energy_on_a_real_image():
    image = natural_images()["camera"][200:232, 200:232].double()
    image = image - image.mean()
    lifting = HankelLifting(image.shape, (4, 4))
    num_nonlocal, num_local = 32, 4
    graph = GraphLaplacian.of_points(lifting(image), num_neighbors=8)
    nonlocal_vectors = {
        "identity": torch.eye(1024, num_nonlocal, dtype=torch.float64),
        "dct": SeparableBasis("dct", image.shape).leading(num_nonlocal),
        "haar": SeparableBasis("haar", image.shape).leading(num_nonlocal),
        "svd": svd_nonlocal_basis(lifting, image, 16),
        "graph": graph.modes(num_nonlocal).vectors,
    }
    share = {}
    for name, phi in nonlocal_vectors.items():
        local = {
            "dct": dct_local_basis((4, 4)),
            "haar": haar_local_basis((4, 4)),
            "pca": pca_local_basis(lifting, image),
            "suited": concentrating_local_basis(lifting, image, phi),
        }
        for local_name, psi in local.items():
            framelet = ConvolutionFramelet(image.shape, (4, 4), phi, psi)
            concentration = framelet.energy_concentration(image, num_nonlocal, num_local)
            share[name, local_name] = float(concentration)

    for name in nonlocal_vectors:
        # The suited basis is the best of all orthonormal ones for its non-local vectors.
        best = max(share[name, local_name] for local_name in ("dct", "haar", "pca"))
        assert share[name, "suited"] >= best * (1 - 1e-12)
    values = lifting.matrix(image).singular_values()
    best_possible = float(values[:num_local].square().sum() / values.square().sum())
    assert share["svd", "pca"] == pytest.approx(best_possible, rel=1e-10)
    assert max(share.values()) <= best_possible * (1 + 1e-12)
    assert share["identity", "suited"] < share["dct", "suited"] < 1
    assert share["graph", "suited"] > share["haar", "suited"]


def test_energy_concentration_counts_samples_of_valid_windows(rng):
    signal = torch.randn(2, 9, dtype=torch.complex128, generator=rng)
    framelet = ConvolutionFramelet(
        (9,), (3,), Identity(), dct_local_basis((3,)), num_channels=None, boundary="valid"
    )

    shares = framelet.energy_concentration(signal, 4, 2)

    coefficients = framelet(signal).abs().square()
    expected = coefficients[:, :4, :2].sum((1, 2)) / coefficients.sum((1, 2))
    assert_close(shares, expected)
    assert_close(framelet.energy_concentration(signal, 7, 3), torch.ones(2, dtype=torch.float64))


def test_single_precision_stays(rng):
    signal = torch.randn(2, *SHAPE, generator=rng)
    framelet = ConvolutionFramelet(SHAPE, WINDOW, NONLOCAL["dct"], LOCAL["pca"])

    coefficients = framelet(signal)

    assert coefficients.dtype == framelet.inverse(coefficients).dtype == torch.float32
    torch.testing.assert_close(framelet.inverse(coefficients), signal)


def test_refuses_bases_of_other_sizes():
    with pytest.raises(
        ValueError, match=r"local_basis must have one row for each of 8 taps .*\(4, 4\)"
    ):
        ConvolutionFramelet(SHAPE, WINDOW, Identity(), torch.eye(4))
    with pytest.raises(ValueError, match=r"local_dual must have .* got \(8, 7\)"):
        ConvolutionFramelet(SHAPE, WINDOW, Identity(), torch.eye(8), local_dual=torch.zeros(8, 7))
    with pytest.raises(
        ValueError, match=r"nonlocal_basis must have values at 32 positions, got \(30,\)"
    ):
        ConvolutionFramelet(SHAPE, WINDOW, torch.eye(30), torch.eye(8))


def test_refuses_shares_of_nothing():
    framelet = ConvolutionFramelet(SHAPE, WINDOW, Identity(), LOCAL["dct"])
    with pytest.raises(ValueError, match="signal must not be zero"):
        framelet.energy_concentration(torch.stack([SIGNAL, 0 * SIGNAL]), 4, 2)


def test_refuses_bases_of_mixed_precision():
    single = torch.eye(8)
    with pytest.raises(TypeError, match=r"local_basis in torch\.float32, local_dual in torch\.fl"):
        ConvolutionFramelet(SHAPE, WINDOW, Identity(), single, local_dual=single.double())
    with pytest.raises(TypeError, match=r"bases must be of one precision, got .* nonlocal_basis"):
        ConvolutionFramelet(SHAPE, WINDOW, torch.eye(32), single.double())
    complex_basis = single.to(torch.complex64)
    mixed = ConvolutionFramelet(SHAPE, WINDOW, Identity(), complex_basis, local_dual=single)
    assert mixed.reconstructs


def test_refuses_ranks_out_of_range():
    with pytest.raises(ValueError, match="rank must be 1 to 4, got 5"):
        cadzow_step(torch.zeros(8), (4,), 5)
    with pytest.raises(ValueError, match=r"window must have 1 to \(8,\) taps"):
        cadzow_step(torch.zeros(8), (4, 4), 2)
