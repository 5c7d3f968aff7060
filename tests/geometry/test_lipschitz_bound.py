"""Upper bounds of Lipschitz constants, against all regions of tiny networks and sampled balls."""

from itertools import pairwise, product, starmap
from math import inf, sqrt

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn
from torch.nn import functional

from framelets.geometry import boundary_distance, linearize, lipschitz_bound, lipschitz_estimate
from framelets.networks import UNet

F64 = torch.float64

DTYPE = torch.float64


def perceptron(seed, sizes=(2, 5, 4, 2), slope=0.2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = list(starmap(nn.Linear, pairwise(sizes)))
    stack = [m for layer in layers for m in (layer, nn.LeakyReLU(slope))][:-1]
    return nn.Sequential(*stack).to(DTYPE).requires_grad_(False)


def exact_constant(network, slope=0.2):
    """Visit every activation pattern; keep those whose region has an inside (linear programs)."""
    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in network[::2]]
    size = layers[0][0].shape[1]
    largest = 0.0
    regions = [(np.eye(size), np.zeros(size), np.zeros((0, size)), np.zeros(0))]
    for depth, (weight, bias) in enumerate(layers):
        found = []
        for matrix, offset, normals, limits in regions:
            matrix, offset = weight @ matrix, weight @ offset + bias
            if depth == len(layers) - 1:
                largest = max(largest, np.linalg.norm(matrix, 2))
                continue
            for signs in product((-1.0, 1.0), repeat=len(bias)):
                sides = np.array(signs)
                # signs * (matrix x + offset) > 0
                faces = np.concatenate([normals, -sides[:, None] * matrix])
                ends = np.concatenate([limits, sides * offset])
                if has_inside(faces, ends):
                    slopes = np.where(sides > 0, 1.0, slope)
                    found.append((slopes[:, None] * matrix, slopes * offset, faces, ends))
        regions = found
    return largest


def has_inside(faces, ends):
    """Look for the center of a ball inside {x : faces x <= ends}."""
    norms = np.linalg.norm(faces, axis=1)
    size = faces.shape[1]
    result = linprog(
        [0.0] * size + [-1.0],
        A_ub=np.concatenate([faces, norms[:, None]], axis=1),
        b_ub=ends,
        bounds=[(-1e4, 1e4)] * size + [(0, 1.0)],
    )
    return result.status == 0 and result.x[-1] > 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_bound_and_estimate_bracket_the_largest_of_all_regions(seed):
    network = perceptron(seed)
    exact = exact_constant(network)
    images = 3 * torch.randn(6, 2, dtype=DTYPE, generator=torch.Generator().manual_seed(seed))

    estimate = lipschitz_estimate(network, images, num_restarts=8, step_norm=1.0)
    bound = lipschitz_bound(network, images[:1])

    assert estimate.value <= exact * (1 + 1e-9)
    assert estimate.value >= 0.7 * exact
    assert exact <= bound.value * (1 + 1e-9)
    assert bound.value == bound.everywhere <= 8 * exact
    assert (bound.probability, bound.radius, bound.at_image) == (1.0, None, None)


def bends(x):
    y = functional.max_pool2d(x, 3, 2, 1) - 0.3
    y = torch.cat([y.clamp(-0.5, 0.5), functional.softshrink(y, 0.2)], 1)
    y = torch.maximum(y, functional.interpolate(y.amax((2, 3), keepdim=True), y.shape[2:]))
    return torch.minimum(y, (0.3 - y[:, :1]).abs())


NETWORKS = {
    "unet": lambda: UNet(width=2, depth=2, normalization="none"),
    "max": lambda: UNet(width=2, depth=1, pooling="max", residual=True),
    "tight": lambda: UNet(width=2, depth=1, pooling="tight-frame"),
    "bends": lambda: bends,
    "prelu": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.PReLU(3, init=-1.5), nn.ConvTranspose2d(3, 1, 3)
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = NETWORKS[request.param]()
    if isinstance(network, nn.Module):
        network.to(DTYPE).eval().requires_grad_(False)
    return network


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def image(rng):
    return torch.randn(1, 1, 8, 8, dtype=DTYPE, generator=rng)


def norm_at(network, image):
    """The norm of the Jacobian by automatic differentiation and a dense SVD."""
    jacobian = torch.autograd.functional.jacobian(network, image)
    return float(torch.linalg.matrix_norm(jacobian.reshape(-1, image.numel()), 2))


def test_no_image_has_a_larger_norm_than_the_bound(network, image, rng):
    bound = lipschitz_bound(network, image).value

    for scale in (0.1, 1.0, 30.0):
        other = scale * torch.randn(image.shape, dtype=DTYPE, generator=rng)
        assert norm_at(network, other) <= bound * (1 + 1e-9)
        # It is about the network, not about the switches of this image.
        assert lipschitz_bound(network, other).value == pytest.approx(bound, rel=1e-9)


def test_no_image_of_a_ball_has_a_larger_norm_than_its_bound(network, image, rng):
    values = []
    for radius in (1e-3, 1e-2, 0.1, 1.0):
        bound = lipschitz_bound(network, image, radius=radius)
        values.append(bound.value)
        for _ in range(5):
            step = torch.randn(image.shape, dtype=DTYPE, generator=rng)
            step *= radius / torch.linalg.vector_norm(step)
            assert norm_at(network, image + step) <= bound.value * (1 + 1e-9)
            secant = torch.linalg.vector_norm(network(image + step) - network(image)) / radius
            assert float(secant.detach()) <= bound.value * (1 + 1e-9)
        assert bound.probability == 1  # a small image: everything is computed

    assert values == sorted(values)
    assert values[-1] <= bound.everywhere


def test_small_balls_have_the_norm_at_the_image(network, image):
    bound = lipschitz_bound(network, image, radius=1e-9)

    assert bound.value == pytest.approx(norm_at(network, image), rel=1e-6)
    assert bound.at_image == pytest.approx(bound.value, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_balls_are_bounded_where_units_switch(seed, rng):
    # In two dimensions the ball can be seen whole.
    network = perceptron(seed)
    image = torch.randn(1, 2, dtype=DTYPE, generator=rng)
    free = lipschitz_bound(network, image).value
    tighter = 0
    for radius in (0.05, 0.2, 0.8):
        bound = lipschitz_bound(network, image, radius=radius)
        angles = torch.linspace(0, 2 * torch.pi, 30, dtype=DTYPE)
        circle = torch.stack([angles.cos(), angles.sin()], 1)
        points = torch.cat([image + share * radius * circle for share in (0.3, 0.6, 0.99)])
        largest = max(norm_at(network, point[None]) for point in points)
        assert largest <= bound.value * (1 + 1e-9)
        switched = {linearize(network, p[None]).activation_pattern.digest() for p in points}
        assert bound.num_open_units > 0 or len(switched) == 1
        tighter += bound.value < 0.999 * free
    assert tighter >= 1


def test_large_images_are_bounded_with_a_probability(rng):
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.randn(2, 1, 3, 3, generator=rng))
        network[0].bias.fill_(-30.0)
        network[2].weight.fill_(1.0)
        network[0].weight[0] = 0
        network[0].bias[0] = 1e3
    image = torch.rand(1, 1, 40, 40, generator=rng)
    with torch.no_grad():
        network[0].weight[0, 0, 1, 1] = 3.0  # always on here: K_p = 3, the other is off

    bound = lipschitz_bound(network, image, radius=0.1, generator=rng)

    assert bound.num_open_units == 0
    assert 3 * (1 - 1e-6) <= bound.value <= 3.01
    assert bound.probability == 0.9999
    assert lipschitz_bound(network, image, radius=1e4).probability == 1
    assert "probability" in str(bound)


def constant(*shape):
    return torch.ones(shape, dtype=DTYPE)


BY_HAND = {
    "leaky": (lambda x: functional.leaky_relu(x, -2.5), 2.5),
    "residual": (lambda x: x + 3 * x.relu(), 4.0),
    "difference": (lambda x: x - 3 * x.relu(), 4.0),
    "side by side": (lambda x: torch.cat([x, x.abs(), 2 * x], 1), sqrt(6)),
    "windows overlap": (lambda x: functional.max_pool2d(x, (1, 3), 1, (0, 1)), sqrt(3)),
    "blocks": (lambda x: functional.max_pool2d(x, 2), 1.0),
    "means": (lambda x: functional.avg_pool2d(x, 2), 0.5),
    "copies": (lambda x: functional.interpolate(x.relu(), scale_factor=2), 2.0),
    "larger": (lambda x: torch.maximum(x, 2 * x.flip(-1)), sqrt(5)),
    "spread": (lambda x: constant(1, 1, 4, 4) + x.mean((2, 3), keepdim=True), 1.0),
    "largest": (lambda x: torch.maximum(constant(1, 1, 4, 4), x.amax((2, 3), keepdim=True)), 4.0),
    "weighted": (lambda x: torch.sub(constant(1, 1, 4, 4), x, alpha=3), 3.0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name, rng):
    network, expected = BY_HAND[name]
    image = torch.randn(1, 1, 4, 4, dtype=DTYPE, generator=rng)

    assert lipschitz_bound(network, image).value == pytest.approx(expected)


def test_factors_of_a_chain_multiply_to_the_bound(image):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(1.5), nn.MaxPool2d(2), nn.Conv2d(4, 1, 1)
        ).to(DTYPE)

    bound = lipschitz_bound(network, image)

    assert [(f.name, f.operation) for f in bound.factors] == [
        ("0", "convolution"),
        ("1", "leaky_relu"),
        ("2", "max_pool"),
        ("3", "convolution"),
    ]
    assert np.prod([f.norm for f in bound.factors]) == pytest.approx(bound.value)
    assert bound.factors[-1].reached == bound.value
    assert [f.norm for f in bound.factors[1:3]] == pytest.approx([1.5, 1.0])
    assert bound.factors[3].norm == pytest.approx(float(network[3].weight.detach().norm()))
    assert bound.num_units == 4 * 64 + 4 * 16


def test_more_frequencies_bound_a_convolution_tighter(image):
    # A 3 x 3 box: its largest value is at frequency zero, so that all of the rest is correction.
    network = nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=DTYPE)
    network.weight.data.fill_(1.0)

    coarse, fine = (lipschitz_bound(network, image, num_frequencies=num).value for num in (16, 64))

    assert 9 < fine < coarse
    assert fine == pytest.approx(9 / np.cos(np.pi / 64) ** 2)
    # The box on 8 pixels with zeros around has a smaller norm.
    assert norm_at(network, image) == pytest.approx((1 + 2 * np.cos(np.pi / 9)) ** 2)


def test_refuses_what_has_no_bound(image):
    with pytest.raises(ValueError, match=r"native_group_norm.* in 1 is not piecewise linear"):
        lipschitz_bound(nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(1, 2)), image)
    with pytest.raises(ValueError, match=r"mul"):
        lipschitz_bound(lambda x: x * x, image)
    up = nn.Upsample(scale_factor=64, mode="bicubic")
    with pytest.raises(ValueError, match=r"'upsample_bicubic2d' in 0 has no known bound"):
        lipschitz_bound(nn.Sequential(up, nn.ReLU()), image)


def test_refuses_wrong_arguments(image):
    for radius in (-1.0, inf):
        with pytest.raises(ValueError, match="radius must be finite and not negative"):
            lipschitz_bound(nn.ReLU(), image, radius=radius)
    with pytest.raises(TypeError, match="real tensors"):
        lipschitz_bound(lambda x: torch.fft.fft2(x).real, image)


def test_samples_that_a_network_makes_of_one():
    # f(x) = relu(x_1) + relu(x_2), with the entries as samples of a convolution.
    def network(x):
        filtered = nn.functional.conv2d(x.reshape(2, 1, 1, 1), torch.ones(1, 1, 1, 1, dtype=F64))
        return filtered.sum(0, keepdim=True).relu()

    image = torch.tensor([[1.0, -1.1]], dtype=F64)

    assert lipschitz_bound(network, image, radius=0.05).value == 0.0
    assert lipschitz_bound(network, image, radius=0.5).value >= 2**0.5 - 1e-12
    assert boundary_distance(network, image).lower <= 0.1 / 2**0.5 + 1e-12


def test_a_slope_that_single_precision_rounds_down():
    network = nn.Sequential(*[nn.LeakyReLU(1.3) for _ in range(9)])

    assert lipschitz_bound(network, torch.ones(1, 2, dtype=F64)).value >= 1.3**9 * (1 - 1e-14)


@pytest.mark.parametrize(
    "network",
    [
        lambda x: x * (1 + x.max(1).indices.double()[:, None]),
        lambda x: x.gather(1, x.max(1, keepdim=True).indices + 0),
        lambda x: x.gather(1, x.max(1, keepdim=True).indices.clone()),
    ],
)
def test_lipschitz_bound_refuses_networks_that_jump(network):
    with pytest.raises(ValueError, match="indices that a pooling chose, so that the network jumps"):
        lipschitz_bound(network, torch.tensor([[0.0, 1.0, 5.0]], dtype=F64))


def test_lipschitz_bound_refuses_a_maximum_with_itself():
    with pytest.raises(ValueError, match="compares or jumps"):
        lipschitz_bound(lambda x: torch.maximum(x, x), torch.ones(1, 2, dtype=F64))
