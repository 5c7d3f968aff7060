"""Energy of windows on their graph: the framelet identity, a loop over taps, values by hand."""

import pytest
import torch

from framelets.frames import ConvolutionFramelet, PositionMatrix
from framelets.solvers import REWEIGHTINGS, ManifoldEnergy
from framelets.testing import assert_adjoint


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("reweighting", sorted(REWEIGHTINGS))
@pytest.mark.parametrize(("shape", "window"), [((6, 8), (3, 2)), ((5, 7), (2, 3))])
def test_adjoint(reweighting, shape, window):
    energy = ManifoldEnergy(random(*shape), window, reweighting=reweighting, num_neighbors=4)

    assert_adjoint(energy, tolerance=1e-12)
    matrix = energy.to_matrix()
    torch.testing.assert_close(matrix, matrix.mT)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert eigenvalues[0] > -1e-12 * eigenvalues[-1]


@pytest.mark.parametrize("reweighting", sorted(REWEIGHTINGS))
def test_is_a_weighted_norm_of_convolution_framelets(reweighting):
    energy = ManifoldEnergy(random(6, 5), (2, 3), reweighting=reweighting, num_neighbors=3)
    values, vectors = energy.laplacian.modes()
    framelets = ConvolutionFramelet((6, 5), (2, 3), PositionMatrix(vectors), energy.directions)
    x = random(6, 5, seed=1)

    coefficients = framelets(x)
    expected = (values[:, None] * energy.weights * coefficients**2).sum() / 6

    torch.testing.assert_close((x * energy(x)).sum(), expected, rtol=1e-10, atol=0)
    assert framelets.reconstructs


def test_as_a_sum_over_taps():
    image, x = random(5, 4), random(5, 4, seed=1)
    energy = ManifoldEnergy(image, (2, 2), reweighting="inverse", num_neighbors=3)
    laplacian = torch.from_numpy(energy.laplacian.sparse.toarray())

    def windows(f):
        return torch.stack(
            [f.roll((-i, -j), (0, 1)).flatten() for i in range(2) for j in range(2)], dim=-1
        )

    _, singular_values, directions = torch.linalg.svd(windows(image))
    expected = sum(
        (singular_values[0] / s) * (windows(x) @ v) @ laplacian @ (windows(x) @ v)
        for s, v in zip(singular_values, directions, strict=True)
    )

    torch.testing.assert_close((x * energy(x)).sum(), expected / 4)


def test_equal_pixels_are_joined_by_hand():
    image = torch.tensor([[0.0, 3.0], [3.0, 0.0]], dtype=torch.float64)

    energy = ManifoldEnergy(image, (1, 1), num_neighbors=1)

    expected = torch.tensor([[1.0, 0, 0, -1], [0, 1, -1, 0], [0, -1, 1, 0], [-1, 0, 0, 1]])
    torch.testing.assert_close(energy.to_matrix(), expected.double())


def test_rules_by_hand():
    singular_values = torch.tensor([8.0, 4, 2, 1, 0.5, 0], dtype=torch.float64)

    assert REWEIGHTINGS["none"](singular_values).tolist() == [1] * 6
    assert REWEIGHTINGS["published"](singular_values).tolist() == [0, 0.5, 1, 1, 1, 1]
    assert REWEIGHTINGS["inverse"](singular_values).tolist() == [1, 2, 4, 8, 16, 1000]


def test_directions_and_weights_follow_the_singular_values():
    image = random(6, 6)
    energy = ManifoldEnergy(image, (3, 3), reweighting="inverse", num_neighbors=3)

    features = energy.lifting(image) @ energy.directions
    norms = torch.linalg.vector_norm(features, dim=0)

    torch.testing.assert_close(norms, torch.linalg.svdvals(energy.lifting(image)))
    torch.testing.assert_close(energy.weights, norms[0] / norms)


def test_all_coordinates_find_the_same_neighbors_and_few_find_others():
    image = random(8, 8)
    whole = ManifoldEnergy(image, (3, 3), num_neighbors=3)
    rotated = ManifoldEnergy(image, (3, 3), num_neighbors=3, num_coordinates=9)
    few = ManifoldEnergy(image, (3, 3), num_neighbors=3, num_coordinates=2)

    difference = abs(whole.laplacian.sparse - rotated.laplacian.sparse).max()
    assert difference < 1e-10
    assert abs(whole.laplacian.sparse - few.laplacian.sparse).max() > 0.1


def test_manifold_energy_refuses():
    with pytest.raises(ValueError, match="reweighting must be one of inverse, none, published"):
        ManifoldEnergy(random(6, 6), reweighting="inverted", window=(2, 2))
    with pytest.raises(ValueError, match="num_coordinates must be 1 to 4, got 5"):
        ManifoldEnergy(random(6, 6), (2, 2), num_coordinates=5)
    with pytest.raises(ValueError, match="image must not be zero"):
        ManifoldEnergy(torch.zeros(6, 6), (2, 2))
