"""Distances to the nearest boundary, which bounds must bracket, and densities along directions."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.geometry import (
    boundary_along,
    boundary_density,
    boundary_distance,
    directions_at,
    distance_to_cross,
    linearize,
    partition_segment,
)
from framelets.geometry._segment_norms import StepNorms
from framelets.geometry._segment_region import Region
from framelets.geometry._step_gains import convolution_norm_bound
from framelets.geometry._steps import Convolution
from framelets.geometry.boundary_distance import _Search
from framelets.networks import UNet

DTYPE = torch.float64


def bends(x):
    y = functional.max_pool2d(x, 3, 2, 1) - 0.3
    y = torch.cat([y.clamp(-0.5, 0.5), functional.softshrink(y, 0.2)], 1)
    return torch.maximum(y, functional.interpolate(y.amax((2, 3), keepdim=True), y.shape[2:]))


NETWORKS = {
    "unet": lambda: UNet(width=2, depth=2, normalization="none"),
    "max": lambda: UNet(width=2, depth=1, pooling="max", residual=True),
    "bends": lambda: bends,
    "perceptron": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.LeakyReLU(0.1), nn.Linear(12, 8), nn.ReLU()
    ),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = NETWORKS[request.param]()
    return network.to(DTYPE).eval() if isinstance(network, nn.Module) else network


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def image(rng):
    return torch.randn(1, 1, 8, 8, dtype=DTYPE, generator=rng)


def test_the_first_boundary_is_that_of_the_partition(network, image, rng):
    for _ in range(5):
        direction = torch.randn(image.shape, dtype=DTYPE, generator=rng)

        along = boundary_along(network, image, direction)

        step = 1.5 * along.distance / torch.linalg.vector_norm(direction)
        partition = partition_segment(network, image, step * direction)
        found = float(partition.positions[0]) * partition.direction_norm
        assert along.distance == pytest.approx(found, rel=1e-9)
        together = (partition.boundary_positions == 0).nonzero().flatten().tolist()
        units = [
            (partition.layers[int(partition.boundary_layers[k])], int(partition.boundary_units[k]))
            for k in together
        ]
        # An entry that is clamped where the largest one already was does not replace it.
        assert (along.layer, along.unit) in units or network is bends


def test_the_distance_to_cross_is_exact_for_the_first_and_for_one_layer(network, image, rng):
    direction = torch.randn(image.shape, dtype=DTYPE, generator=rng)
    along = boundary_along(network, image, direction)
    assert distance_to_cross(network, image, direction, 1) == along.distance

    # All positions by hand: x_j + t v_j = 0.
    crossings = -image / (direction / direction.norm())
    crossings = crossings[crossings > 0].sort().values
    found = [distance_to_cross(nn.ReLU(), image, direction, num) for num in (1, 5, 65)]
    assert found == pytest.approx([float(crossings[0]), float(crossings[4]), np.inf], rel=1e-12)


def test_bounds_bracket_the_distance(network, image):
    # The distance by all gradients, with automatic differentiation through the network itself.
    region = Region(network, image)
    distances = []
    for number, gaps in enumerate(region.gaps):
        for index, gap in enumerate(gaps.tolist()):
            if np.isfinite(gap):
                norm = float(torch.linalg.vector_norm(region.gradient(number, index)))
                distances.append(abs(gap) / norm if norm > 1e-12 else np.inf)
    distance = min(distances)

    full = boundary_distance(network, image)
    rough = boundary_distance(network, image, num_probes=3, max_gradients=1)

    assert full.lower <= distance * (1 + 1e-9)
    assert full.probable_lower <= distance * (1 + 1e-9)
    assert full.upper == pytest.approx(distance, rel=1e-6)
    assert full.exact
    # A unit that compares an entry with itself stays at zero; bounds do not see that it must.
    assert rough.lower > 0 or network is bends
    assert rough.probable_lower <= rough.upper
    assert rough.lower <= distance * (1 + 1e-9) <= rough.upper * (1 + 2e-9)
    assert rough.num_gradients == 1
    assert float(torch.linalg.vector_norm(full.direction)) == pytest.approx(1)


def test_the_boundary_found_is_crossed_and_no_nearer_one(network, image, rng):
    found = boundary_distance(network, image)
    start = linearize(network, image).activation_pattern

    partition = partition_segment(network, image, found.direction * found.upper * 1.01)
    assert partition.positions[0] * 1.01 == pytest.approx(1, rel=1e-6)
    assert found.layer in {partition.layers[k] for k in partition.boundary_layers.tolist()}
    for _ in range(20):
        step = torch.randn(image.shape, dtype=DTYPE, generator=rng)
        step *= 0.999 * found.lower / torch.linalg.vector_norm(step)
        assert linearize(network, image + step).activation_pattern == start


def test_gradients_are_those_of_the_units(image):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = nn.Conv2d(1, 3, 3, dtype=DTYPE), nn.Conv2d(3, 2, 3, dtype=DTYPE)
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    region = Region(network, image)

    rows = torch.autograd.functional.jacobian(lambda x: second(first(x).relu()), image)
    rows = rows.reshape(-1, *image.shape[1:])
    torch.testing.assert_close(region.gradient(1, 5), rows[5:6])
    direction = torch.randn_like(image)
    torch.testing.assert_close(region.slopes(direction)[1], (rows * direction).sum((1, 2, 3)))


def test_bounds_of_rows_are_bounds(network, image):
    region = Region(network, image)

    for number, bounds in enumerate(region.gradient_bounds()):
        for index in range(0, len(bounds), 7):
            if torch.isfinite(region.gaps[number][index]):
                norm = float(torch.linalg.vector_norm(region.gradient(number, index)))
                assert norm <= float(bounds[index]) * (1 + 1e-9)


def test_first_rows_are_bounded_by_themselves(image):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Conv2d(1, 2, 3, dtype=DTYPE)

    (bounds,) = Region(nn.Sequential(layer, nn.ReLU()), image).gradient_bounds()

    norms = torch.linalg.vector_norm(layer.weight.detach().flatten(1), dim=1)
    torch.testing.assert_close(bounds.reshape(2, -1), norms[:, None].expand(2, 36))


@pytest.mark.parametrize(
    "options",
    [
        ([1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        ([1, 1], [2, 2], [2, 2], False, [0, 0], 2),
        ([2, 2], [0, 0], [1, 1], False, [0, 0], 1),
        ([2, 2], [1, 1], [1, 1], True, [0, 0], 1),
        ([3, 3], [0, 0], [1, 1], False, [0, 0], 1),
        ([3, 3], [0, 0], [1, 1], True, [0, 0], 1),
    ],
    ids=["plain", "dilated-groups", "strided", "transposed", "blocks", "blocks-back"],
)
@pytest.mark.parametrize("taps", [2, 3])
def test_norms_of_convolutions_are_bounded_from_above(options, taps, rng):
    weight = torch.randn(4, 4 // options[5], taps, taps, dtype=DTYPE, generator=rng)
    step = Convolution((1, 4, 8, 8), weight, None, options)
    units = torch.eye(4 * 64, dtype=DTYPE).reshape(-1, 4, 8, 8)
    matrix = step.forward(units).flatten(1)
    norm = float(torch.linalg.matrix_norm(matrix, 2))

    bound = convolution_norm_bound(step)

    assert norm <= bound * (1 + 1e-12)
    assert bound <= norm * (2.0 if options[0] == [2, 2] else 1.4)


def test_an_unknown_operation_has_no_bound(image):
    network = nn.Sequential(nn.Upsample(scale_factor=64, mode="bicubic"), nn.ReLU())
    node = Region(network.to(DTYPE), image).program
    norms = StepNorms(node.nodes, node.image)
    norms.pass_through(node.links[0])

    assert bool(torch.isinf(norms.rows[node.links[0].output]).all())


def test_by_hand():
    # relu of (3, -8): the nearest zero is 3 away, along the first axis.
    image = torch.tensor([[3.0, -8.0]])

    found = boundary_distance(nn.ReLU(), image)

    assert found.exact
    assert found.upper == pytest.approx(3)
    assert found.direction.tolist() == [[-1, 0]]
    assert (found.layer.kind, found.unit) == ("relu", 0)
    along = boundary_along(nn.ReLU(), image, torch.tensor([[0.0, 2.0]]))
    assert (along.distance, along.unit) == (pytest.approx(8), 1)
    away = boundary_along(nn.ReLU(), image, torch.tensor([[1.0, -1.0]]))
    assert (away.distance, away.layer, away.unit) == (float("inf"), None, -1)


def test_units_that_never_move_have_no_boundary():
    # The second unit reads nothing; the third layer is constant.
    layer = nn.Linear(2, 2, dtype=DTYPE)
    layer.weight.data = torch.tensor([[1.0, 0], [0, 0]], dtype=DTYPE)
    layer.bias.data = torch.tensor([-2.0, 0.0], dtype=DTYPE)

    found = boundary_distance(nn.Sequential(layer, nn.ReLU()), torch.zeros(1, 2, dtype=DTYPE))

    assert found.exact
    assert found.upper == pytest.approx(2)


def test_the_probability_holds_over_many_starts(rng):
    layer = nn.Linear(6, 3, dtype=DTYPE)
    image = torch.randn(1, 6, dtype=DTYPE, generator=rng)
    region = Region(nn.Sequential(layer, nn.ReLU()), image)
    distances = layer(image)[0].abs() / torch.linalg.vector_norm(layer.weight, dim=1)
    search = _Search(region, 1, None)

    too_long = [
        bool((search.probable_distances(2, 0.7, rng) > distances).any()) for _ in range(300)
    ]

    # Three units, almost independent, share what may go wrong: 1 - 0.9^3.
    assert np.mean(too_long) == pytest.approx(0.271, abs=0.08)


def test_densities_along_directions_are_those_of_their_segments(image, rng):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = UNet(width=2, depth=1, normalization="none").to(DTYPE).eval()
    directions = directions_at(
        network, image, another_image=2 - image, null_space=image.flip(-1), generator=rng
    )
    shares = []

    density = boundary_density(network, image, directions, norm=3.0, progress=shares.append)

    assert list(directions) == [
        "noise",
        "scaling",
        "leading singular vector",
        "another image",
        "null space",
    ]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    jacobian = linearize(network, image).tangent
    leading = directions["leading singular vector"]
    gain = torch.linalg.vector_norm(jacobian(leading[0])) / torch.linalg.vector_norm(leading)
    assert gain > 0.97 * torch.linalg.matrix_norm(jacobian.to_matrix(dtype=DTYPE), 2)
    scaling = partition_segment(network, image, 3 * image / torch.linalg.vector_norm(image))
    rows = [row for row in density.rows() if row.direction == "scaling"]
    assert [row.num_boundaries for row in rows] == scaling.boundaries_by_layer.tolist()
    assert [row.per_norm for row in rows] == pytest.approx(scaling.boundaries_per_norm().tolist())
    for row in density.totals():
        assert row.length == pytest.approx(3)
        assert row.per_norm == pytest.approx(row.num_boundaries / 3)
        assert row.per_pixel_rms == pytest.approx(8 * row.per_norm)  # 64 pixels
        depths = [r for r in density.by_depth() if r.direction == row.direction]
        assert sum(r.num_boundaries for r in depths) == row.num_boundaries > 0
        assert [r.depth for r in depths] == sorted({layer.depth for layer in scaling.layers})


def test_refuses_wrong_arguments(image):
    with pytest.raises(ValueError, match="not be zero"):
        boundary_along(nn.ReLU(), image, 0 * image)
    with pytest.raises(ValueError, match="num must be at least 1, got 0"):
        distance_to_cross(nn.ReLU(), image, image, 0)
    with pytest.raises(ValueError, match="num_probes"):
        boundary_distance(nn.ReLU(), image, num_probes=0)
    with pytest.raises(TypeError, match="real"):
        boundary_distance(nn.ReLU(), image.to(torch.complex128))
    with pytest.raises(ValueError, match="at least one direction"):
        boundary_density(nn.ReLU(), image, {}, norm=1.0)
    with pytest.raises(ValueError, match="norm must be positive"):
        boundary_density(nn.ReLU(), image, {"noise": image}, norm=0.0)
    with pytest.raises(ValueError, match="'nothing'"):
        boundary_density(nn.ReLU(), image, {"nothing": 0 * image}, norm=1.0)
