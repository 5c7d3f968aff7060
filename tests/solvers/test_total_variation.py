"""Total variation: a value by hand, a second algorithm, sparse-view CT, batches, honesty."""

import math

import pytest
import torch

from framelets.core import Identity
from framelets.physics import CTProjector, ImageGrid, ParallelBeamScan, add_photon_noise
from framelets.solvers import FilteredBackProjection, total_variation
from framelets.solvers.total_variation import _gradient, _gradient_adjoint


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def scanned(rng):
    grid = ImageGrid(48, 48, 4.0)
    scan = ParallelBeamScan(torch.arange(20) * math.pi / 20, 69, 4.0)
    x, y = grid.refined(2).pixel_centers_mm().unbind(-1)
    fine = 0.02 * (torch.hypot(x, 1.3 * y) < 80) - 0.01 * (torch.hypot(x - 25, y - 20) < 22)
    clean = CTProjector(scan, grid.refined(2))(fine.float())
    reference = torch.nn.functional.avg_pool2d(fine[None], 2)[0].float()
    return scan, grid, add_photon_noise(clean, 1e4, generator=rng), reference


def test_a_step_shrinks_by_hand():
    # A row of n pixels a beside n pixels b > a: each side moves by weight / n toward the other.
    image = torch.tensor([1.0, 1, 1, 1, 2, 2, 2, 2], dtype=torch.float64).expand(3, 8)

    result = total_variation(image, Identity(), weight=0.8, num_iterations=3000, tolerance=1e-9)

    expected = torch.tensor([1.2] * 4 + [1.8] * 4, dtype=torch.float64).expand(3, 8)
    torch.testing.assert_close(result.image, expected, atol=1e-8, rtol=0)
    assert result.converged
    assert result.objective.item() == pytest.approx(24 * 0.2**2 / 2 + 0.8 * 3 * 0.6)


def test_gradient_adjoint(rng):
    image = torch.randn(2, 5, 4, dtype=torch.float64, generator=rng)
    field = torch.randn(2, 2, 5, 4, dtype=torch.float64, generator=rng)

    torch.testing.assert_close(
        (_gradient(image) * field).sum(), (image * _gradient_adjoint(field)).sum()
    )


def test_denoising_as_by_projected_gradients_on_the_dual(rng):
    # A. Chambolle, "An algorithm for total variation minimization and applications", 2004.
    noisy = torch.randn(6, 7, dtype=torch.float64, generator=rng)
    weight, field = 0.3, torch.zeros(2, 6, 7, dtype=torch.float64)
    for _ in range(3000):
        field = field + 0.25 * _gradient(noisy - _gradient_adjoint(field))
        field = field / (torch.linalg.vector_norm(field, dim=0) / weight).clamp(min=1)
    expected = noisy - _gradient_adjoint(field)

    result = total_variation(
        noisy, Identity(), weight, num_iterations=5000, tolerance=1e-9, nonnegative=False
    )

    torch.testing.assert_close(result.image, expected, atol=1e-5, rtol=0)


def test_sparse_view_ct(scanned):
    scan, grid, sinogram, reference = scanned
    projector = CTProjector(scan, grid)
    start = FilteredBackProjection(scan, grid)(sinogram)
    told = []

    result = total_variation(sinogram, projector, 0.2, start=start, progress=told.append)
    best = total_variation(sinogram, projector, 0.2, num_iterations=2000, tolerance=1e-6)

    def error(image):
        return float((image - reference).norm() / reference.norm())

    assert result.converged
    assert result.residual.item() <= 1e-4
    assert result.num_iterations < 250
    assert result.objective.item() == pytest.approx(best.objective.item(), rel=1e-2)
    assert float((result.image - best.image).norm() / best.image.norm()) < 1e-2
    assert error(result.image) < 0.5 * error(start)
    assert (result.image >= 0).all()
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_batch_is_solved_each_by_itself(scanned):
    scan, grid, sinogram, _ = scanned
    sinograms = torch.stack([sinogram, 0.2 * sinogram, 0 * sinogram])
    arguments = {"weight": 0.05, "num_iterations": 40, "tolerance": 0.0, "operator_norm": 900.0}
    projector = CTProjector(scan, grid)

    together = total_variation(sinograms, projector, **arguments)
    apart = [total_variation(one, projector, **arguments) for one in sinograms]

    torch.testing.assert_close(together.image, torch.stack([one.image for one in apart]))
    torch.testing.assert_close(together.objective, torch.stack([one.objective for one in apart]))
    assert together.residual.shape == (3,)
    assert together.image[2].count_nonzero() == 0


def test_says_when_it_did_not_converge(scanned):
    scan, grid, sinogram, _ = scanned

    result = total_variation(sinogram, CTProjector(scan, grid), 0.05, num_iterations=3)

    assert not result.converged
    assert result.num_iterations == 3
    assert result.residual.item() > 1e-4


def test_total_variation_refuses(scanned):
    scan, grid, sinogram, _ = scanned
    projector = CTProjector(scan, grid)
    with pytest.raises(ValueError, match="weight must be a finite number of at least 0"):
        total_variation(sinogram, projector, -1.0)
    with pytest.raises(ValueError, match=r"measurement must end in .* \(20, 69\)"):
        total_variation(sinogram.T, projector, 1.0)
    with pytest.raises(ValueError, match="measurement must be finite"):
        total_variation(sinogram * torch.nan, projector, 1.0)
    with pytest.raises(ValueError, match="num_iterations must be at least 1"):
        total_variation(sinogram, projector, 1.0, num_iterations=0)
    with pytest.raises(ValueError, match=r"start must have shape \(48, 48\)"):
        total_variation(sinogram, projector, 1.0, start=torch.zeros(4, 4))
