"""What searches find: Lipschitz constants from below, distributions, the worst perturbation."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.geometry import (
    linearize,
    lipschitz_along,
    lipschitz_bound,
    lipschitz_distribution,
    lipschitz_estimate,
    worst_perturbation,
)
from framelets.networks import UNet

DTYPE = torch.float64


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def images(rng):
    return torch.rand(3, 1, 8, 8, dtype=DTYPE, generator=rng)


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return UNet(width=2, depth=1, normalization="none").to(DTYPE).eval().requires_grad_(False)


def norm_at(network, image):
    """The norm of the Jacobian by automatic differentiation and a dense SVD."""
    jacobian = torch.autograd.functional.jacobian(network, image)
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, image.numel()), 2))


def test_estimate_is_the_gain_at_the_image_that_it_gives(network, images):
    shares = []

    found = lipschitz_estimate(
        network, images, num_restarts=2, num_steps=30, progress=shares.append
    )

    jacobian = torch.autograd.functional.jacobian(network, found.image).reshape(-1, 64)
    gain = torch.linalg.vector_norm(jacobian @ found.direction.flatten())
    assert float(torch.linalg.vector_norm(found.direction)) == pytest.approx(1)
    assert found.value == pytest.approx(float(gain), rel=1e-9)
    assert norm_at(network, found.image) == pytest.approx(found.value, rel=1e-2)
    exact = [norm_at(network, image[None]) for image in images]
    assert found.at_images.tolist() == pytest.approx(exact, rel=2e-2)
    assert (found.at_images <= torch.tensor(exact, dtype=DTYPE) * (1 + 1e-9)).all()
    assert found.value > 1.05 * max(exact)  # the search goes beyond the images
    assert found.value <= lipschitz_bound(network, images[:1]).value
    distance = torch.linalg.vector_norm(found.image - images[found.start])
    assert found.distance == pytest.approx(float(distance))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert "from below" in str(found)


def test_estimate_keeps_to_balls(network, images):
    found = lipschitz_estimate(network, images[:1], num_restarts=2, num_steps=30, radius=0.02)

    assert found.distance <= 0.02 * (1 + 1e-9)
    assert found.value <= lipschitz_bound(network, images[:1], radius=0.02).value * (1 + 1e-9)


def test_estimate_of_a_map_that_is_smooth(images):
    # |tanh'| is 1 at zero and less elsewhere; the images are positive.
    found = lipschitz_estimate(torch.tanh, images, num_restarts=1, num_steps=100)

    assert float(found.at_images.max()) < found.value <= 1 + 1e-9
    assert found.value > 0.999


def test_a_network_that_is_zero_has_no_gain(images):
    found = lipschitz_estimate(lambda x: 0 * x, images, num_restarts=1, num_steps=3)

    assert found.value == 0


def test_distribution_is_that_of_dense_jacobians(network, images):
    found = lipschitz_distribution(network, images, relative_gap=0.02)

    exact = [norm_at(network, image[None]) for image in images]
    for low, norm, high in zip(found.lower.tolist(), exact, found.upper.tolist(), strict=True):
        assert low <= norm * (1 + 1e-9)
        assert norm <= high * (1 + 1e-9)
        assert high <= 1.02 * low * (1 + 1e-9)
    assert found.quantiles((0.0, 0.5, 1.0)) == sorted(found.lower.tolist())
    assert found.probability == 0.99


def test_every_piece_of_a_segment_is_visited():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU())
    network.requires_grad_(False)
    first, second = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(3))

    along = lipschitz_along(network, first, second, relative_gap=0.01)

    doubled = network.double()
    fine = (torch.arange(4000) + 0.5) / 4000
    points = [first.double() + t * (second - first).double() for t in fine.tolist()]
    digests = [linearize(doubled, point).activation_pattern.digest() for point in points[::16]]
    assert along.every_piece
    assert len(along.lower) == len(along.starts) >= len(set(digests)) > 3
    piece = torch.searchsorted(along.starts, fine.double(), right=True) - 1
    for index in range(0, 4000, 97):
        norm = norm_at(doubled, points[index])
        low, high = (float(b[piece[index]]) for b in (along.lower, along.upper))
        assert low * (1 - 1e-6) <= norm <= high * (1 + 1e-6)
    assert along.mean_lower * 1.02 >= along.secant
    assert "all" in str(along)
    sampled = lipschitz_along(network, first, second, num_samples=5)
    assert not sampled.every_piece
    assert sampled.positions.tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert sampled.largest_lower <= along.largest_lower * 1.01
    assert sampled.secant == pytest.approx(along.secant)
    assert "estimate" in str(sampled)


def test_worst_perturbation_is_that_of_the_whole_circle():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 3)).to(DTYPE)
    network.requires_grad_(False)
    image = torch.tensor([[0.3, -0.2]], dtype=DTYPE)
    angles = torch.linspace(0, 2 * torch.pi, 2000, dtype=DTYPE)
    circle = 0.7 * torch.stack([angles.cos(), angles.sin()], 1)
    changes = torch.linalg.vector_norm(network(image + circle) - network(image), dim=1)

    worst = worst_perturbation(network, image, 0.7)

    assert worst.gain == pytest.approx(float(changes.max()) / 0.7, rel=1e-3)
    assert worst.singular_vector_gain < worst.gain


def test_worst_perturbation_is_verified_by_running_the_network(network, images):
    image, single = images[:1].float(), network.float()
    shares = []

    worst = worst_perturbation(single, image, 0.5, progress=shares.append)

    with torch.no_grad():
        change = single(image + worst.perturbation) - single(image)
    torch.testing.assert_close(worst.change.float(), change, rtol=1e-3, atol=1e-5)
    assert worst.perturbation.dtype == image.dtype
    assert worst.norm == pytest.approx(0.5, rel=1e-6)
    assert worst.gain == pytest.approx(float(torch.linalg.vector_norm(change)) / 0.5, rel=1e-4)
    assert worst.gain >= worst.singular_vector_gain * (1 - 1e-6)
    assert worst.gain <= lipschitz_bound(single, image, radius=0.5).value
    assert worst.at_image == pytest.approx(norm_at(single, image), rel=1e-2)
    assert shares[-1] == 1
    # Within a region nothing is worse than the singular vector, whose gain is K_p.
    small = worst_perturbation(network.double(), images[:1], 1e-7)
    assert small.gain == pytest.approx(norm_at(network, images[:1]), rel=1e-3)


def test_worst_perturbation_of_a_network_with_an_adapter(images):
    worst = worst_perturbation(
        lambda x, scale: (scale * x, None), images[:1], 2.0, forward=lambda f, x: f(x, 3.0)[0]
    )

    assert worst.gain == pytest.approx(3)


def test_refuses_wrong_arguments(images):
    with pytest.raises(ValueError, match="at least one image"):
        lipschitz_estimate(nn.ReLU(), images[:0])
    with pytest.raises(ValueError, match="num_steps at least 1"):
        lipschitz_estimate(nn.ReLU(), images, num_steps=0)
    with pytest.raises(ValueError, match="radius must be positive"):
        lipschitz_estimate(nn.ReLU(), images, radius=0.0)
    with pytest.raises(ValueError, match="at least one image"):
        lipschitz_distribution(nn.ReLU(), images[:0])
    with pytest.raises(ValueError, match="two different images"):
        lipschitz_along(nn.ReLU(), images[:1], images[:1])
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        lipschitz_along(nn.ReLU(), images[:1], images[1:2], num_samples=0)
    with pytest.raises(ValueError, match="65 affine pieces, more than max_pieces=10"):
        lipschitz_along(nn.ReLU(), -images[:1], images[1:2], max_pieces=10)
    with pytest.raises(ValueError, match="norm must be positive"):
        worst_perturbation(nn.ReLU(), images[:1], 0.0)


def test_refuses_a_segment_of_a_network_that_is_not_piecewise_linear(images):
    with pytest.raises(ValueError, match="not piecewise linear"):
        lipschitz_along(functional.silu, images[:1], images[1:2])

    sampled = lipschitz_along(functional.silu, images[:1], images[1:2], num_samples=2)

    assert np.isfinite(sampled.largest_lower)


def test_an_image_on_a_boundary_is_left_before_its_jacobian_counts():
    # The identity; with every slope taken as that of a unit that is off, the Jacobian at 0 is 2.
    def identity(x):
        return 2 * x - torch.relu(x) + torch.relu(-x)

    estimate = lipschitz_estimate(identity, torch.zeros(1, 3, dtype=torch.float64))

    assert estimate.value == pytest.approx(1.0, abs=1e-9)


def test_lipschitz_along_refuses_images_of_different_shapes():
    with pytest.raises(ValueError, match=r"one shape, got \(1, 1\) and \(1, 3\)"):
        lipschitz_along(torch.nn.ReLU(), torch.ones(1, 1), torch.zeros(1, 3), num_samples=2)
