"""Counts of patterns and linear maps against patch-by-patch evaluation, and by hand."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.geometry import (
    count_representations,
    expressivity_bound,
    filter_keys,
    linearize,
    partition_segment,
    representations_along,
)
from framelets.geometry._reach import reach_of, shapes_at_bends
from framelets.geometry._segment_walk import SegmentProgram
from framelets.geometry.representations import _Grid
from framelets.networks import UNet

DTYPE = torch.float64


def networks():
    def small(*channels):
        layers = []
        for a, b in pairwise(channels):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return {
        "plain": lambda: small(1, 2, 1),
        "unet": lambda: UNet(width=2, depth=1, normalization="none"),
        "max": lambda: UNet(width=2, depth=1, pooling="max", normalization="none", skip=False),
    }


@pytest.fixture(params=networks())
def network(request):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = networks()[request.param]()
    return network.double().eval()


def images(*shape, seed=0):
    return torch.randn(shape, dtype=DTYPE, generator=torch.Generator().manual_seed(seed))


def patch_by_patch(network, batch, grid):
    """Crop what each pixel sees, and look at it alone: its units, and its filter whole."""
    patterns, maps = set(), set()
    back = grid.margin + (-grid.margin) % grid.period
    for image in batch:
        for row in grid.rows.tolist():
            for column in grid.columns.tolist():
                top, left = row - back, column - back
                patch = image[
                    None,
                    :,
                    top : top + 2 * back + grid.period,
                    left : left + 2 * back + grid.period,
                ]
                program = SegmentProgram(network, patch)
                entry = back * patch.shape[-1] + back
                bound_units = reach_of(program, shapes_at_bends(program), entry).units
                pattern = []

                def look(number, values, program=program, pattern=pattern, units=bound_units):
                    choices = program.bends[number].choices(values)
                    pattern.append(tuple(choices[units[number]].tolist()))

                program.visit(patch, look)
                local = linearize(network, patch)
                unit = torch.zeros(patch.shape[1:], dtype=DTYPE)
                unit.view(-1)[entry] = 1
                patterns.add(tuple(pattern))
                maps.add(tuple((local.frozen.adjoint(unit).flatten() * 1e9).round().tolist()))
    return len(patterns), len(maps)


def test_counts_are_those_of_patches_one_by_one(network):
    # Smooth images, so that patterns return.
    size = 28 if isinstance(network, UNet) else 12
    batch = functional.avg_pool2d(images(2, 1, size + 8, size + 8), 9, 1) * 3
    batch = torch.cat([batch, torch.ones_like(batch[:1])])

    found = count_representations(network, batch)

    grid = _Grid(SegmentProgram(network, batch[:1]), None, None)
    expected = patch_by_patch(network, batch, grid)
    assert (found.num_patterns, found.num_maps) == expected
    assert found.num_patches == len(batch) * len(grid.rows) * len(grid.columns)
    assert found.num_maps < found.num_patches
    assert found.num_maps <= found.num_patterns
    assert not found.saturated


def test_patches_of_the_same_pixels_have_the_same_keys(network):
    batch = images(1, 1, 40, 40)
    grid = _Grid(SegmentProgram(network, batch), None, None)
    shift = grid.period
    keys = grid.pattern_keys(batch).reshape(len(grid.rows), len(grid.columns), -1)

    moved = grid.pattern_keys(batch.roll((shift, shift), (-2, -1))).reshape(keys.shape)

    # The wrapped border comes in from the top and the left.
    assert torch.equal(moved[1:, 1:], keys[:-1, :-1])
    assert not torch.equal(moved[1:], keys[1:])


def test_growth_and_places():
    network = UNet(width=2, depth=1, normalization="none").double().eval()
    with torch.no_grad():  # no unit ever switches
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.abs_()
                module.bias.fill_(1.0)
    batch = images(1, 1, 32, 32).abs()

    found = count_representations(network, batch, counted_at=(1, 10, 100))

    assert found.period == 2
    # One pattern and one map at one place of the block; the four places are four functions.
    assert (found.num_patterns, found.num_maps, found.num_maps_everywhere) == (1, 1, 4)
    assert found.growth[:2] == ((1, 1, 1), (10, 1, 1))
    assert found.growth_everywhere[-1][:2] == (100, 4)
    assert found.num_coarse_maps_everywhere <= 4
    assert "exact on these inputs, lower bounds" in str(found)


def test_a_dead_unit_has_patterns_but_no_maps():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, dtype=DTYPE), nn.ReLU(), nn.Conv2d(2, 1, 1))
    network[0].weight.data = torch.tensor([1.0, -1.0], dtype=DTYPE).reshape(2, 1, 1, 1)
    network[0].bias.data = torch.tensor([0.0, 0.5], dtype=DTYPE)
    network = network.double()
    network[2].weight.data = torch.tensor([1.0, 1e-12], dtype=DTYPE).reshape(1, 2, 1, 1)

    found = count_representations(network, images(1, 1, 20, 20))

    # On the line: x < 0, 0 < x < 1/2, x > 1/2. The second unit hardly moves the output.
    assert (found.num_patterns, found.num_maps) == (3, 2)
    assert found.num_coarse_maps_everywhere == 2
    bound = expressivity_bound(network, images(1, 1, 20, 20))
    assert bound.log2_maps_of_pixel == 2


def test_keys_of_channels_are_those_of_each_pair():
    convolution = nn.Conv2d(2, 3, 3, padding=1, bias=False, dtype=DTYPE)
    image = images(2, 12, 12)
    keys = filter_keys(linearize(convolution, image[None]).frozen, image)[2:-2, 2:-2]

    assert keys.shape == (8, 8, 2 * 2 * 3 * 2)
    assert len(torch.unique(keys.flatten(0, 1), dim=0)) == 1
    for i in range(2):
        for o in range(3):
            one = nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=DTYPE)
            one.weight.data = convolution.weight.data[o : o + 1, i : i + 1]
            alone = filter_keys(linearize(one, image[None, :1]).frozen, image[:1])[4, 4]
            of_pair = keys[2, 2].reshape(2, 2, 3, 2)[i, :, o]
            assert (of_pair.flatten() - alone).abs().max() <= 1


def test_maps_along_a_segment_by_hand():
    # Kinks at 1/4, 1/2 and 3/4, of which nobody reads the second.
    hidden, output = nn.Linear(1, 3, dtype=DTYPE), nn.Linear(3, 1, dtype=DTYPE)
    hidden.weight.data = torch.ones(3, 1, dtype=DTYPE)
    hidden.bias.data = torch.tensor([-0.25, -0.5, -0.75], dtype=DTYPE)
    output.weight.data = torch.tensor([[1.0, 0.0, 2.0]], dtype=DTYPE)
    network = nn.Sequential(hidden, nn.ReLU(), output)
    start = torch.zeros(1, 1, dtype=DTYPE)

    found = representations_along(partition_segment(network, start, torch.ones_like(start)))

    assert (found.num_patterns, found.num_maps, found.length) == (4, 3, 1)


def test_patterns_along_a_segment_are_those_of_its_points(network):
    start, direction = images(1, 1, 16, 16), 0.1 * images(1, 1, 16, 16, seed=1)
    partition = partition_segment(network, start, direction)

    found = representations_along(partition)

    ends = partition.piece_ends
    patterns = {
        linearize(network, start + t * direction).activation_pattern
        for t in ((ends[1:] + ends[:-1]) / 2).tolist()
    }
    assert found.num_patterns == len(patterns)
    assert 1 < found.num_maps <= found.num_patterns


def test_count_refuses_what_does_not_fit():
    network = UNet(width=2, depth=1, normalization="none").eval()
    with pytest.raises(ValueError, match="margin must be at least 10"):
        count_representations(network, images(1, 1, 32, 32), margin=3)
    with pytest.raises(ValueError, match="take larger ones"):
        count_representations(network, images(1, 1, 12, 12))
    with pytest.raises(ValueError, match="period must be a multiple of the network's own, 2"):
        count_representations(network, images(1, 1, 32, 32), period=3)
    with pytest.raises(ValueError, match="crop the images"):
        count_representations(network, images(1, 1, 33, 33))
    with pytest.raises(ValueError, match="same height and width"):
        count_representations(nn.Conv2d(1, 1, 3), images(1, 1, 32, 32))
