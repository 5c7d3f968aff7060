"""The plateau filter: self-adjoint, and what it does to filtered back-projection."""

import pytest
import torch

from framelets.physics import CTProjector, ImageGrid
from framelets.solvers import FilteredBackProjection
from framelets.tasks.ct_simulation import SimulationConfig, draw_scan
from framelets.tasks.preconditioner import RampPlateau
from framelets.testing import assert_adjoint

GRID = ImageGrid(48, 48, 1.0)


def few_views(seed):
    config = SimulationConfig(min_views=6, max_views=12)
    return draw_scan(config, GRID, torch.Generator().manual_seed(seed))


def test_adjoint():
    scan = few_views(0)
    assert_adjoint(RampPlateau(scan, GRID), scan.shape, generator=torch.Generator().manual_seed(0))


def test_constant_passes_and_alternation_is_damped():
    # Far from the ends of a long detector: 1 at frequency 0, and 1 / (1 + pi D / (2 N h)) at the
    # highest frequency 1 / (2 h), h being the pitch at the axis.
    scan = few_views(3)
    num = scan.num_detectors
    pitch = scan.detector_spacing_mm / getattr(scan, "magnification", 1.0)
    sign = 1 - 2.0 * (torch.arange(num) % 2)
    plateau = RampPlateau(scan, GRID)

    damped = plateau(sign * torch.ones(scan.num_views, 1)) * sign

    wanted = 1 / (1 + torch.pi * 48.0 / (2 * scan.num_views * pitch))
    middle = damped[:, num // 3 : 2 * num // 3].mean()
    torch.testing.assert_close(middle, torch.tensor(wanted), rtol=0.1, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_backward_map_does_not_overshoot(seed):
    scan = few_views(seed)
    projector, fbp = CTProjector(scan, GRID), FilteredBackProjection(scan, GRID)
    generator = torch.Generator().manual_seed(0)
    norms = []
    for backward in (fbp, fbp @ RampPlateau(scan, GRID)):
        image = torch.randn(48, 48, generator=generator)
        for _ in range(25):
            image = backward(projector(image / image.norm()))
        norms.append(float(image.norm()))

    assert norms[0] > 3
    assert norms[1] < 2
