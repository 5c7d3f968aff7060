"""Low-dimensional manifold model: dense systems, kept pixels, a periodic texture, honesty."""

import pytest
import torch

from framelets.core import Identity, LinearOperator
from framelets.solvers import ManifoldEnergy, low_dimensional_manifold


class Mask(LinearOperator):
    """Zero the pixels that are not measured."""

    def __init__(self, measured):
        super().__init__()
        self.input_shape = self.output_shape = tuple(measured.shape)
        self.register_buffer("measured", measured)

    def forward(self, x):
        return x * self.measured

    def adjoint(self, y):
        return y * self.measured


class RowAverages(LinearOperator):
    """Average every row with the one below, and drop the last: neither square nor symmetric."""

    def forward(self, x):
        return (x[..., 1:, :] + x[..., :-1, :]) / 2

    def adjoint(self, y):
        pad = torch.nn.functional.pad
        return (pad(y, (0, 0, 1, 0)) + pad(y, (0, 0, 0, 1))) / 2


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def stripes():
    place = torch.arange(24, dtype=torch.float64)
    return 0.5 + 0.3 * torch.sin(2 * torch.pi * (place[:, None] + 2 * place) / 6)


@pytest.fixture
def masked(stripes, rng):
    measured = torch.rand(stripes.shape, generator=rng) < 0.5
    return Mask(measured), measured


@pytest.mark.parametrize("reweighting", ["none", "published", "inverse"])
def test_an_update_solves_the_dense_system(rng, reweighting):
    measurement = torch.randn(6, 6, generator=rng, dtype=torch.float64)
    start = torch.randn(7, 6, generator=rng, dtype=torch.float64)
    options = {"reweighting": reweighting, "num_neighbors": 3, "num_coordinates": None}

    result = low_dimensional_manifold(
        measurement, RowAverages(), 0.3, start, window=(2, 3), num_updates=1, tolerance=1e-11,
        num_iterations=1000, **options,
    )  # fmt: skip

    forward = RowAverages().to_matrix((7, 6))
    energy = ManifoldEnergy(start, (2, 3), **options).to_matrix()
    expected = torch.linalg.solve(
        forward.mT @ forward + 0.3 * energy, forward.mT @ measurement.flatten()
    )
    torch.testing.assert_close(result.image.flatten(), expected, rtol=0, atol=1e-8)
    misfit = (forward @ expected - measurement.flatten()).square().sum() / 2
    penalty = 0.15 * expected @ energy @ expected
    torch.testing.assert_close(result.objective, misfit + penalty)


def test_kept_pixels_and_the_dense_system_of_the_others(stripes, masked):
    mask, measured = masked
    start = torch.where(measured, stripes, stripes.mean())

    result = low_dimensional_manifold(
        mask(stripes), mask, None, start, window=(3, 3), num_coordinates=5, num_updates=1,
        tolerance=1e-10, num_iterations=1000,
    )  # fmt: skip

    energy = ManifoldEnergy(start, (3, 3), num_coordinates=5).to_matrix()
    known = measured.flatten()
    hidden = torch.linalg.solve(
        energy[~known][:, ~known], -energy[~known][:, known] @ stripes.flatten()[known]
    )
    assert torch.equal(result.image[measured], stripes[measured])
    torch.testing.assert_close(result.image.flatten()[~known], hidden, rtol=0, atol=1e-8)
    quadratic = result.image.flatten() @ energy @ result.image.flatten() / 2
    torch.testing.assert_close(result.objective, quadratic)


@pytest.mark.parametrize("reweighting", ["none", "published", "inverse"])
def test_graphs_built_anew_find_a_periodic_texture(stripes, masked, reweighting):
    mask, measured = masked
    start = torch.where(measured, stripes, stripes.mean())
    told = []

    result = low_dimensional_manifold(
        mask(stripes), mask, None, start, window=(6, 6), reweighting=reweighting, num_updates=12,
        progress=told.append,
    )  # fmt: skip

    def error(image):
        return float((image - stripes).norm() / stripes.norm())

    assert error(result.image) < 0.05 * error(start)
    assert result.converged
    assert result.residual <= 1e-3
    assert result.num_iterations < 12
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_removes_noise(stripes, rng):
    noisy = stripes + 0.1 * torch.randn(stripes.shape, generator=rng, dtype=torch.float64)

    result = low_dimensional_manifold(noisy, Identity(), 0.3, noisy, window=(6, 6))

    assert (result.image - stripes).norm() < 0.5 * (noisy - stripes).norm()


def test_says_when_it_did_not_converge(stripes, masked):
    mask, measured = masked
    start = torch.where(measured, stripes, stripes.mean())

    few_graphs = low_dimensional_manifold(
        mask(stripes), mask, None, start, window=(6, 6), num_updates=1
    )
    few_iterations = low_dimensional_manifold(
        mask(stripes), mask, None, start, window=(6, 6), num_updates=1, num_iterations=1,
        tolerance=0.5,
    )  # fmt: skip

    assert not few_graphs.converged
    assert few_graphs.residual > 1e-3
    assert few_iterations.residual <= 0.5  # the graph moved little, conjugate gradients not enough
    assert not few_iterations.converged


def test_low_dimensional_manifold_refuses(stripes, masked):
    mask, _ = masked
    y = mask(stripes)
    with pytest.raises(ValueError, match=r"weight must be positive, or None .* got 0"):
        low_dimensional_manifold(y, mask, 0.0, stripes)
    with pytest.raises(ValueError, match="num_updates must be at least 1"):
        low_dimensional_manifold(y, mask, None, stripes, num_updates=0)
    with pytest.raises(ValueError, match="measurement must be finite"):
        low_dimensional_manifold(y * torch.nan, mask, None, stripes)
    with pytest.raises(ValueError, match=r"start must have shape \(24, 24\), got \(3, 24\)"):
        low_dimensional_manifold(y, mask, None, stripes[:3])
    with pytest.raises(ValueError, match=r"A A\* A = A"):
        low_dimensional_manifold(y, 2 * mask, None, stripes)
    with pytest.raises(ValueError, match="num_neighbors must be 1 to 575"):
        low_dimensional_manifold(y, mask, None, stripes, num_neighbors=576)
