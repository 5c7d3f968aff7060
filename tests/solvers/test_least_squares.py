"""Least squares against a dense solver."""

import math

import pytest
import torch

from framelets.physics import CTProjector, ImageGrid, ParallelBeamScan
from framelets.solvers import least_squares


@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_against_the_dense_solution(ridge):
    generator = torch.Generator().manual_seed(0)
    angles = torch.arange(12, dtype=torch.float64) * math.pi / 12
    projector = CTProjector(ParallelBeamScan(angles, 9, 1.0), ImageGrid(5, 6, 1.0))
    sinogram = torch.randn(2, 12, 9, dtype=torch.float64, generator=generator)
    matrix = projector.to_matrix()
    normal = matrix.mT @ matrix + ridge * torch.eye(30, dtype=torch.float64)
    expected = torch.linalg.solve(normal, sinogram.flatten(1) @ matrix, left=False)

    result = least_squares(sinogram, projector, ridge, num_iterations=300, tolerance=1e-12)

    torch.testing.assert_close(result.image.flatten(1), expected)
    assert result.converged
    misfit = (projector(result.image) - sinogram).flatten(1)
    objective = misfit.square().sum(1) / 2 + ridge * expected.square().sum(1) / 2
    torch.testing.assert_close(result.objective, objective)


def test_least_squares_refuses_a_negative_ridge():
    projector = CTProjector(ParallelBeamScan(torch.zeros(1), 3, 1.0), ImageGrid(2, 2, 1.0))
    with pytest.raises(ValueError, match="ridge must be at least 0"):
        least_squares(torch.zeros(1, 3), projector, ridge=-1.0)
