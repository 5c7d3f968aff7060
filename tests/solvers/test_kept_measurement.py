"""Kept measurements: a projection, and the nearest image with the measurement."""

import pytest
import torch

from framelets.core import LinearOperator
from framelets.solvers import KeptMeasurement
from framelets.testing import assert_adjoint


class Rows(LinearOperator):
    """Keep two rows of five, mixed by a rotation and stretched."""

    def __init__(self, stretch=1.0):
        super().__init__()
        self.input_shape, self.output_shape = (5, 4), (2, 4)
        rotation = torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=torch.float64)
        self.register_buffer("matrix", stretch * rotation)

    def forward(self, x):
        return self.matrix @ x[..., 1:3, :]

    def adjoint(self, y):
        return torch.nn.functional.pad(self.matrix.mT @ y, (0, 0, 1, 2))


@pytest.fixture
def image():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_projection_onto_the_null_space(image):
    kept = KeptMeasurement(Rows(), Rows()(image))

    assert_adjoint(kept)
    matrix = kept.to_matrix()
    torch.testing.assert_close(matrix @ matrix, matrix)
    assert int(torch.linalg.matrix_rank(matrix)) == 12
    assert kept(image)[1:3].abs().max() < 1e-14
    assert torch.equal(kept(image)[3:], image[3:])


def test_nearest_image_has_the_measurement(image):
    kept = KeptMeasurement(Rows(), Rows()(image))

    nearest = kept.nearest(torch.zeros(2, 5, 4, dtype=torch.float64))

    torch.testing.assert_close(nearest[1, 1:3], image[1:3])
    assert nearest[:, [0, 3, 4]].count_nonzero() == 0


def test_kept_measurement_refuses(image):
    with pytest.raises(ValueError, match=r"A A\* A = A, .* give a weight"):
        KeptMeasurement(Rows(stretch=2.0), Rows()(image))

    class Mask(LinearOperator):
        def forward(self, x):
            return x * torch.eye(3)

        def adjoint(self, y):
            return self(y)

    with pytest.raises(ValueError, match=r"measurement must be that of an image"):
        KeptMeasurement(Mask(), torch.ones(3, 3))
