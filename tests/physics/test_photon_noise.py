"""Photon noise: its mean and spread, its floor, its seed and its refusals."""

import math

import pytest
import torch

from framelets.physics import add_photon_noise


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("electronic_noise", [0.0, 30.0])
def test_spread_is_that_of_counts(electronic_noise, rng):
    # To first order the variance is (mean + electronic variance) / mean^2.
    photons, line_integral = 1e4, 2.0
    sinogram = torch.full((200, 500), line_integral, dtype=torch.float64)

    noisy = add_photon_noise(sinogram, photons, electronic_noise, generator=rng)

    mean = photons * math.exp(-line_integral)
    expected = math.sqrt(mean + electronic_noise**2) / mean
    assert noisy.std().item() == pytest.approx(expected, rel=0.02)
    assert noisy.mean().item() == pytest.approx(line_integral + expected**2 / 2, abs=4e-4)


def test_seed_decides(rng):
    sinogram = torch.rand(3, 4, generator=rng)
    first, second = (
        add_photon_noise(sinogram, 100.0, 1.0, torch.Generator().manual_seed(5)) for _ in range(2)
    )

    assert first.equal(second)
    assert first.dtype == sinogram.dtype


def test_rays_without_photons_end_at_the_floor(rng):
    noisy = add_photon_noise(torch.full((2, 3), 50.0), 100.0, generator=rng, count_floor=0.5)

    torch.testing.assert_close(noisy, torch.full((2, 3), math.log(200.0)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"photons_per_ray": 0.0}, "photons_per_ray must be"),
        ({"photons_per_ray": 1.0, "electronic_noise": -1.0}, "electronic_noise must be"),
        ({"photons_per_ray": 1.0, "count_floor": 0.0}, "count_floor must be"),
    ],
)
def test_noise_refuses_impossible_counts(arguments, message):
    with pytest.raises(ValueError, match=message):
        add_photon_noise(torch.zeros(2, 2), **arguments)


def test_noise_refuses_nan():
    with pytest.raises(ValueError, match="sinogram must be finite"):
        add_photon_noise(torch.full((2, 2), torch.nan), 100.0)
