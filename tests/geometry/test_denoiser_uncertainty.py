"""Uncertainty of denoisers against exact posteriors and simulated errors."""

import math

import pytest
import torch
from torch import nn

from framelets.geometry import denoiser_uncertainty, linearize
from framelets.networks import UNet

F64 = torch.float64


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def gaussian_prior(rng, shape):
    """A covariance on images and a sampler of its images."""
    size = math.prod(shape)
    factor = torch.randn(size, size, dtype=F64, generator=rng) / math.sqrt(size)

    def draw(count):
        normal = torch.randn(count, size, dtype=F64, generator=rng)
        return (normal @ factor.mT).reshape(count, 1, *shape)

    return factor @ factor.mT, draw


def wiener(covariance, noise_std):
    """The denoiser of least mean squared error for that prior, and its matrix."""
    matrix = covariance @ torch.linalg.inv(
        covariance + noise_std**2 * torch.eye(len(covariance), dtype=F64)
    )
    return lambda y: (y.flatten(1) @ matrix.mT).reshape(y.shape), matrix


def soft_threshold(y):
    return torch.relu(y - 1) - torch.relu(-y - 1)


def test_soft_thresholding_by_hand():
    # f = (2, 0, -1, 0); |f - y|^2 = 1 + 0.25 + 1 + 0.04 = 2.29; div f = 2; sigma^2 = 1/4:
    # SURE = 2.29 - 1 + 1; its square distance 4/4 2.29 + 4/16 2 - 8/16 = 2.29.
    y = torch.tensor([[[[3.0, 0.5], [-2.0, 0.2]]]], dtype=F64)

    found = denoiser_uncertainty(linearize(soft_threshold, y), 0.5, exact=True)

    assert found.divergence == 2
    assert found.mean_squared_error == pytest.approx(2.29 / 4)
    assert found.mean_squared_error_deviation == pytest.approx(math.sqrt(2.29) / 4)
    assert found.standard_deviation.flatten().tolist() == [0.5, 0, 0.5, 0]
    assert found.mean_variance == pytest.approx(0.125)
    assert (found.num_negative, found.asymmetry) == (0, 0)
    text = str(found)
    assert "mean squared error 0.5725 +- 0.38 (SURE: estimate" in text
    assert "divergence 2 +- 0 (exact)" in text


def test_a_gaussian_prior_has_the_posterior_variance_and_it_is_the_error(rng):
    covariance, draw = gaussian_prior(rng, (3, 4))
    noise_std = 0.6
    network, matrix = wiener(covariance, noise_std)
    posterior = torch.linalg.inv(
        torch.linalg.inv(covariance) + torch.eye(12, dtype=F64) / noise_std**2
    )
    images = draw(20000)
    noisy = images + noise_std * torch.randn(images.shape, dtype=F64, generator=rng)
    errors = (network(noisy) - images).square()

    found = denoiser_uncertainty(linearize(network, noisy[:1]), noise_std, exact=True)

    torch.testing.assert_close(found.variance.flatten(), posterior.diagonal())
    assert found.asymmetry < 1e-12
    assert found.num_negative == 0
    spread = errors.std(0) / math.sqrt(len(errors))
    assert ((errors.mean(0) - found.variance).abs() < 4 * spread).all()
    assert found.divergence == pytest.approx(float(matrix.trace()))


def test_a_nonlinear_posterior_uses_the_tangent():
    # x = +-1 alike: f(y) = E(x | y) = tanh(y / sigma^2), Var(x | y) = 1 - tanh^2.
    noise_std = 0.8
    y = torch.linspace(-2, 2, 6, dtype=F64).reshape(1, 1, 2, 3)

    local = linearize(lambda y: torch.tanh(y / noise_std**2), y)
    found = denoiser_uncertainty(local, noise_std, exact=True)

    torch.testing.assert_close(found.variance, 1 - torch.tanh(y[0] / noise_std**2) ** 2)


@pytest.mark.parametrize("name", ["wiener", "soft threshold", "network"])
def test_sure_is_unbiased_and_its_deviation_is_the_one_of_simulation(name, rng):
    noise_std, shape = 0.6, (1, 8, 8) if name == "network" else (1, 4, 4)
    image = torch.randn(shape, dtype=F64, generator=rng)
    if name == "wiener":
        network, _ = wiener(gaussian_prior(rng, (4, 4))[0], noise_std)
    elif name == "soft threshold":
        network, image = soft_threshold, 2 * image
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = UNet(width=2, depth=1).to(F64).eval()
    estimates, deviations, errors = [], [], []
    for _ in range(100):
        noisy = image + noise_std * torch.randn(shape, dtype=F64, generator=rng)
        local = linearize(network, noisy[None])
        found = denoiser_uncertainty(local, noise_std, exact=True)
        estimates.append(found.mean_squared_error)
        deviations.append(found.mean_squared_error_deviation)
        errors.append(float((local.output - image).square().mean()))

    differences = torch.tensor(estimates) - torch.tensor(errors)
    standard_error = float(differences.std()) / math.sqrt(len(differences))
    assert abs(float(differences.mean())) < 4 * standard_error
    assert standard_error < 0.25 * sum(errors) / len(errors)
    squares = differences.square()
    expected = torch.tensor(deviations).square()
    gap = (squares - expected).mean()
    assert abs(float(gap)) < 4 * float((squares - expected).std()) / math.sqrt(len(squares))
    assert float(squares.mean()) == pytest.approx(float(expected.mean()), rel=0.5)


def test_probes_agree_with_the_whole_jacobian(rng):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(width=3, depth=2, normalization="group").to(F64).eval()
    local = linearize(network, torch.randn(1, 1, 8, 8, dtype=F64, generator=rng))
    exact = denoiser_uncertainty(local, 0.5, exact=True)

    found = denoiser_uncertainty(local, 0.5, num_probes=400, generator=rng)

    assert not found.exact
    assert abs(found.divergence - exact.divergence) < 5 * found.divergence_standard_error
    apart = (found.variance - exact.variance).abs()
    assert (apart < 5 * found.variance_standard_error + 1e-12).all()
    assert found.asymmetry == pytest.approx(exact.asymmetry, rel=0.1)
    matrix = local.tangent.to_matrix(dtype=F64)
    assert exact.asymmetry == pytest.approx(float((matrix - matrix.mT).norm() / matrix.norm()))
    assert found.mean_squared_error_deviation == pytest.approx(
        exact.mean_squared_error_deviation, rel=0.2
    )
    assert "estimate from random probes" in str(found)


def test_a_map_that_no_posterior_has_is_reported(rng):
    y = torch.randn(1, 1, 2, 2, dtype=F64, generator=rng)
    local = linearize(lambda y: y.flip(-1) * torch.tensor([1.0, 2.0]).double() - 0.1 * y, y)

    for exact in (True, False):
        found = denoiser_uncertainty(local, 1.0, exact=exact, num_probes=200)

        # J = D S - 0.1 I, D S with entries 1 and 2 beside the diagonal, twice.
        assert found.asymmetry == pytest.approx(math.sqrt(4 / (10 + 0.04)), rel=0.2)
        if exact:
            assert found.num_negative == 4
            assert found.standard_deviation.isnan().all()
            assert found.asymmetry == pytest.approx(math.sqrt(4 / 10.04))


def test_rounding_is_no_negative_variance(rng):
    # The denoiser takes all of the first 40 pixels away: zeros there, up to rounding of any sign.
    basis = torch.linalg.qr(torch.randn(40, 40, dtype=F64, generator=rng)).Q
    taken = torch.nn.functional.pad(basis, (0, 24, 0, 24))
    y = torch.randn(1, 1, 8, 8, dtype=F64, generator=rng)
    local = linearize(lambda y: y - (y.flatten(1) @ taken @ taken.mT).reshape(y.shape), y)

    found = denoiser_uncertainty(local, 1.0, exact=True)

    assert -1e-14 < found.variance.min() < 0
    assert found.num_negative == 0


def test_denoiser_uncertainty_refuses_what_is_no_denoiser(rng):
    y = torch.randn(1, 1, 4, 4, generator=rng)
    with pytest.raises(ValueError, match=r"input's shape \(1, 4, 4\), got \(2, 4, 4\)"):
        denoiser_uncertainty(linearize(nn.Conv2d(1, 2, 1), y), 1.0)
    with pytest.raises(ValueError, match="noise_std must be positive, got 0"):
        denoiser_uncertainty(linearize(nn.Conv2d(1, 1, 1), y), 0.0)
    with pytest.raises(TypeError, match="real network"):
        denoiser_uncertainty(linearize(lambda y: y * 1.0, y.to(torch.complex64)), 1.0)
