"""Exact polygons and adaptive maps of a plane of images, and their drawing."""

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.geometry import (
    ImagePlane,
    draw_partition,
    linearize,
    local_lipschitz,
    partition_map,
    partition_plane,
    partition_segment,
)
from framelets.geometry._polygon import cut_by_largest, cut_by_lines, rectangle
from framelets.networks import UNet

DTYPE = torch.float64

NETWORKS = {
    "unet": lambda: UNet(width=2, depth=1, pooling="tight-frame", normalization="none"),
    "max": lambda: UNet(width=2, depth=1, pooling="max", normalization="none"),
    "bends": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.MaxPool2d(3, 2, 1),
        nn.Hardtanh(-0.1, 0.2),
        nn.Conv2d(2, 3, 2),
        nn.PReLU(3),
        nn.Conv2d(3, 2, 1),
        nn.Softshrink(0.1),
    ),
    "maximum": lambda: Maximum(),
}


class Maximum(nn.Module):
    """The largest of two channels and the entries' absolute values."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        a, b = self.layer(x).chunk(2, 1)
        y = torch.maximum(a, b.abs())
        return y.amin((1, 2)) + functional.leaky_relu(y[:, 0], -0.3).sum(1)


@pytest.fixture(params=NETWORKS)
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return NETWORKS[request.param]().to(DTYPE).eval()


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def images(rng):
    return list(0.1 * torch.randn(3, 1, 1, 8, 8, dtype=DTYPE, generator=rng) + 0.05)


def triangle():
    return [torch.tensor([point], dtype=DTYPE) for point in ([-1, -1], [1, -1], [0, 2])]


def fill(partition, point):
    """Return the region that holds a point, and how deep it lies inside."""
    depths = []
    for corners in partition.corners:
        sides = np.roll(corners, -1, axis=0) - corners
        x, y = (np.asarray(point) - corners).T
        depths.append(float(np.min(sides[:, 0] * y - sides[:, 1] * x)))
    return int(np.argmax(depths)), max(depths)


def test_regions_tile_the_square_and_are_those_of_the_patterns(network, images, rng):
    partition = partition_plane(network, images, half_width=0.25)

    assert 4 < partition.num_regions < 600
    assert partition.areas.sum() == pytest.approx(0.5**2, rel=1e-9)
    assert (partition.areas > 0).all()
    points = (torch.rand(25, 2, generator=rng, dtype=DTYPE) - 0.5).numpy() * 0.5
    patterns = {}
    for point in points:
        region, _ = fill(partition, point)
        local = linearize(network, partition.plane.image(point))
        pattern = patterns.setdefault(region, local.activation_pattern)
        if "Max" not in repr(network):  # which of several zeros is the largest is not a region
            assert pattern == local.activation_pattern
        weights = torch.tensor([1.0, *point], dtype=DTYPE)
        output = torch.tensordot(weights, partition.outputs[region], 1)
        torch.testing.assert_close(output.reshape(local.output.shape), local.output)
    assert len(patterns) > 3
    assert len({pattern.digest() for pattern in patterns.values()}) == len(patterns)


def test_edges_lie_where_a_segment_meets_boundaries(network, images):
    partition = partition_plane(network, images, half_width=0.25)
    plane = partition.plane
    start, end = np.array([-0.24, -0.17]), np.array([0.21, 0.24])

    segment = partition_segment(network, plane.image(start), plane.image(end) - plane.image(start))

    # Every edge that the segment crosses, from one side; each edge between regions stands twice.
    crossings = []
    for corners, labels in zip(partition.corners, partition.edge_layers, strict=True):
        for k, label in enumerate(labels):
            a, b = corners[k], corners[(k + 1) % len(corners)]
            share, along = np.linalg.solve(np.stack([end - start, a - b], axis=1), a - start)
            if 0 < share < 1 and 0 <= along < 1:
                crossings.append((share, label))
    found = sorted(crossings)
    expected = segment.positions[segment.boundary_positions].numpy()
    positions = np.array([share for share, _ in found])
    assert len(expected) > 3
    np.testing.assert_allclose(np.unique(positions.round(9)), np.unique(expected.round(9)))
    for position, layer in zip(expected, segment.boundary_layers.tolist(), strict=True):
        # A pooling may switch together with its inputs; the edge is named after the first layer.
        nearest = [label for share, label in found if abs(share - position) < 1e-9]
        assert layer in nearest or (min(nearest) < layer and "Max" in repr(network))


def test_quadrants_by_hand():
    partition = partition_plane(nn.ReLU(), triangle(), half_width=1.0)

    # The zeros of both coordinates cut the square around the origin in four.
    assert partition.areas.tolist() == pytest.approx([1.0] * 4)
    centers = {tuple(np.sign(corners.mean(0))) for corners in partition.corners}
    assert centers == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    assert sorted(partition.edge_layers[0].tolist()) == [-1, -1, 0, 0]
    assert partition.layers[0].kind == "relu"


def test_coordinates_are_those_of_the_norm(images):
    plane = ImagePlane.through(images)

    for image, point in zip(images, plane.points.tolist(), strict=True):
        torch.testing.assert_close(plane.image(point), image)
    difference = plane.image((3.0, 4.0)) - plane.image((0.0, 0.0))
    assert float(torch.linalg.vector_norm(difference)) == pytest.approx(5)
    assert float(((images[1] - images[0]) * plane.axes[0]).sum()) > 0
    assert float(((images[2] - images[0]) * plane.axes[1]).sum()) > 0


def test_lines_cut_a_square_in_the_regions_of_their_arrangement(rng):
    lines = torch.randn(3, 12, generator=rng, dtype=DTYPE).numpy()
    lines[0] *= 0.3

    parts = cut_by_lines(rectangle((-1.0, -1.0), (1.0, 1.0)), lines, np.full(12, 1e-12), 5)

    # One more for each line that meets the square, and one for each meeting inside.
    corners = np.array([[1, s, t] for s in (-1, 1) for t in (-1, 1)])
    heights = corners @ lines
    expected = 1 + int(((heights > 0).any(0) & (heights < 0).any(0)).sum())
    for i in range(12):
        for j in range(i):
            point = np.linalg.solve(lines[1:, [i, j]].T, -lines[0, [i, j]])
            expected += bool((np.abs(point) < 1).all())
    assert len(parts) == expected > 30
    assert sum(part.area for part in parts) == pytest.approx(4)
    signs = {tuple(np.sign(np.array([1, *part.center]) @ lines)) for part in parts}
    assert len(signs) == expected


def test_the_largest_of_planes_cuts_a_square_in_one_part_each(rng):
    lines = torch.randn(3, 6, generator=rng, dtype=DTYPE).numpy()
    lines = np.concatenate([lines, lines[:, :1]], axis=1)  # a plane that stands there twice

    parts = cut_by_largest(rectangle((-1.0, -1.0), (1.0, 1.0)), lines, 1e-12, 0)

    points = torch.rand(5000, 2, generator=rng, dtype=DTYPE).numpy() * 2 - 1
    largest = (lines[0] + points @ lines[1:])[:, :6].argmax(1)
    assert len(parts) == len(set(largest))
    shares = sorted(np.bincount(largest)[np.bincount(largest) > 0] / 5000)
    assert sorted(part.area / 4 for part in parts) == pytest.approx(shares, abs=0.03)


def test_gains_are_bounds_from_below_of_each_region(images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 3)).to(
            DTYPE
        )

    partition = partition_plane(network, images, half_width=0.1, with_gains=True)
    coarse = partition_map(network, images, half_width=0.1, num_pixels=8, num_gains=2)

    assert len(partition.gains) == partition.num_regions > 1
    for corners, gain in zip(partition.corners, partition.gains, strict=True):
        local = linearize(network, partition.plane.image(corners.mean(0)))
        norm = float(torch.linalg.matrix_norm(local.tangent.to_matrix(dtype=DTYPE), 2))
        assert 0.98 * norm < gain <= norm * (1 + 1e-9)
    local = linearize(network, coarse.plane.image((-0.05, 0.05)))
    assert coarse.gains[1, 0] == pytest.approx(local_lipschitz(local).lower, rel=0.02)


def test_a_map_is_exact_at_every_corner_of_a_pixel(network, images):
    exact = partition_plane(network, images, half_width=0.25)

    found = partition_map(network, images, half_width=0.25, num_pixels=16, coarsest=8)

    assert found.pixel_size == 0.5 / 16
    assert found.num_patterns <= exact.num_regions
    assert found.num_evaluated <= 17**2
    places = np.linspace(-0.25, 0.25, 17)
    regions = {}
    for row in range(1, 16):
        for column in range(1, 16):
            region, depth = fill(exact, (places[column], places[row]))
            if depth > 1e-9:
                assert (
                    regions.setdefault(region, found.patterns[row, column])
                    == (found.patterns[row, column])
                )
    assert len(set(regions.values())) == len(regions) > 3
    assert ((found.first_layers < 0) == found.uniform).all()


def test_a_map_looks_only_where_patterns_change():
    found = partition_map(nn.ReLU(), triangle(), half_width=1.0, num_pixels=64, coarsest=16)

    # Away from the two lines through the middle, the corners of coarse squares suffice.
    assert found.num_patterns == 4
    assert found.num_evaluated < 0.2 * 65**2
    assert found.patterns[10, 10] == found.patterns[20, 20] != found.patterns[20, 50]
    boundary = np.zeros((64, 64), dtype=bool)
    boundary[32], boundary[:, 32] = True, True  # zero counts as off
    assert (found.uniform == ~boundary).all()


@pytest.mark.parametrize("num_gains", [0, 2])
def test_partitions_are_drawn(images, num_gains):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 3)).to(
            DTYPE
        )
    polygons = partition_plane(network, images, half_width=0.05, with_gains=num_gains > 0)
    pixels = partition_map(network, images, num_pixels=8, num_gains=num_gains)

    for partition, word in ((polygons, "exact"), (pixels, "at least")):
        figure = draw_partition(partition)
        figure.savefig(io.BytesIO())
        panels = [axes for axes in figure.axes if axes.get_title()]
        assert word in panels[0].get_title()
        assert len(panels) == (2 if num_gains else 1)


def test_refuses_wrong_planes(images):
    with pytest.raises(ValueError, match="three of one shape"):
        partition_plane(nn.ReLU(), images[:2])
    with pytest.raises(ValueError, match="one line"):
        partition_plane(nn.ReLU(), [images[0], images[1], 2 * images[1] - images[0]])
    with pytest.raises(TypeError, match="real"):
        partition_map(nn.ReLU(), [image.to(torch.complex128) for image in images])
    with pytest.raises(ValueError, match="max_regions=3"):
        partition_plane(nn.ReLU(), images, max_regions=3)
    with pytest.raises(ValueError, match="power of two"):
        partition_map(nn.ReLU(), images, num_pixels=30, coarsest=8)
