"""Spectrum, atoms, local Lipschitz constant, divergence and frame levels of a network."""

import pytest
import torch
from torch import nn

from framelets.geometry import (
    atoms,
    divergence,
    frame_levels,
    linearize,
    local_lipschitz,
    spectrum,
)
from framelets.networks import UNet

DTYPE = torch.float64


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def local(rng):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(width=3, depth=2, normalization="group").to(DTYPE).eval()
    return linearize(network, torch.randn(1, 1, 8, 8, dtype=DTYPE, generator=rng))


def jacobian(local):
    return local.tangent.to_matrix(dtype=DTYPE)


def test_spectrum_equals_the_dense_one(local, rng):
    matrix = local.frozen.to_matrix(dtype=DTYPE)

    triplets = spectrum(local.frozen, num=5, tolerance=1e-8, generator=rng)

    expected = torch.linalg.svdvals(matrix)[:5]
    torch.testing.assert_close(triplets.values, expected, rtol=1e-8, atol=1e-10)
    assert triplets.converged
    leading = matrix @ triplets.right[0].flatten()
    torch.testing.assert_close(
        leading, triplets.values[0] * triplets.left[0].flatten(), rtol=1e-6, atol=1e-8
    )


def test_lipschitz_bounds_bracket_the_jacobians_norm(local, rng):
    bounds = local_lipschitz(local, generator=rng)

    norm = float(torch.linalg.matrix_norm(jacobian(local), 2))
    assert bounds.lower <= norm * (1 + 1e-9)
    assert norm <= bounds.upper
    assert bounds.upper <= 1.02 * bounds.lower


def test_atoms_are_rows_and_columns_of_the_matrix(local):
    matrix = local.frozen.to_matrix(dtype=DTYPE)

    chosen = atoms(local.frozen, [(0, 2, 3), (0, 7, 0)])

    for k, (_, row, column) in enumerate(chosen.pixels):
        index = 8 * row + column
        torch.testing.assert_close(chosen.rows[k].flatten(), matrix[index])
        torch.testing.assert_close(chosen.columns[k].flatten(), matrix[:, index])


def test_the_row_of_a_complex_map_is_not_conjugated():
    def network(x):
        return x * torch.tensor([1.0, 2j, 3.0], dtype=torch.complex128)

    local = linearize(network, torch.ones(1, 1, 3, dtype=torch.complex128))

    assert atoms(local.frozen, [(0, 1)]).rows.tolist() == [[[0, 2j, 0]]]


def test_divergence_is_the_trace_of_the_jacobian(local, rng):
    estimate = divergence(local, num_probes=400, generator=rng)

    expected = float(torch.trace(jacobian(local)))
    assert abs(estimate.value - expected) <= 5 * estimate.standard_error
    assert estimate.standard_error < 0.2 * abs(expected) + 1


@pytest.mark.parametrize(
    ("pooling", "bounds", "coefficients"),
    [
        # The adjoint un-pooling and the 2x2 mean: I + P/4. Haar: I + T* T = 2 I.
        ("average", (1.0, 1.25), 1.25),
        ("dual-frame", (1.0, 1.25), 1.25),
        ("max", (1.0, 2.0), 1.25),
        ("tight-frame", (2.0, 2.0), 2.0),
    ],
)
def test_frame_levels_of_a_unet(pooling, bounds, coefficients, rng):
    network = UNet(width=2, depth=2, pooling=pooling).to(DTYPE).eval()
    local = linearize(network, torch.randn(1, 1, 16, 16, dtype=DTYPE, generator=rng))

    levels = frame_levels(local)

    assert len(levels) == 2
    for level in levels:
        assert level.skip
        assert (level.lower, level.upper) == pytest.approx(bounds, rel=1e-9)
        assert level.num_coefficients == coefficients * level.num_entries


def test_a_strided_convolution_without_skip_forgets(rng):
    network = nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(2, 1, 2, 2))
    local = linearize(network.to(DTYPE), torch.randn(1, 1, 8, 8, dtype=DTYPE, generator=rng))

    (level,) = frame_levels(local)

    assert (level.name, level.skip, level.lower, level.num_coefficients) == ("0", False, 0.0, 32)
    kernel = network[0].weight.detach().flatten(1)
    assert level.upper == pytest.approx(float(torch.linalg.svdvals(kernel)[0] ** 2), rel=0.02)


def test_atoms_refuses_a_pixel_outside(local):
    with pytest.raises(ValueError, match=r"inside \(1, 8, 8\), got \(0, 8, 0\)"):
        atoms(local.frozen, [(0, 8, 0)])
    with pytest.raises(ValueError, match=r"3 indices, got \(0, 1\)"):
        atoms(local.frozen, [(0, 1)])
    with pytest.raises(ValueError, match="at least one pixel"):
        atoms(local.frozen, [])


def test_divergence_refuses_another_output_shape(rng):
    local = linearize(nn.Conv2d(1, 2, 1), torch.randn(1, 1, 4, 4, generator=rng))

    with pytest.raises(ValueError, match=r"input's shape \(1, 4, 4\), got \(2, 4, 4\)"):
        divergence(local)
