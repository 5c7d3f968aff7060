"""The partition along a segment: every boundary is found, none is invented, pieces are affine."""

import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.core import RunFolder
from framelets.geometry import SegmentPartition, linearize, partition_segment
from framelets.geometry._segment_walk import SegmentProgram
from framelets.networks import UNet

DTYPE = torch.float64


class Function(nn.Module):
    """A network written as one function of its layers and the image."""

    def __init__(self, function, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = function

    def forward(self, x):
        return self.function(self.layers, x)


def conv(inputs, outputs, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def statistics(norm):
    """Give an evaluated batch norm statistics and weights that are not the defaults."""
    for tensor in (norm.running_mean, norm.weight.data, norm.bias.data):
        tensor.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm


def skips(m, x):
    first = functional.relu(m["first"](x))
    low = functional.relu(m["low"](functional.avg_pool2d(first, 2)))
    up = functional.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
    return x - m["last"](functional.leaky_relu(m["mix"](torch.cat([first, up], 1)), 0.2))


def one_dimension(m, x):
    y = functional.max_pool1d(m["first"](x.flatten(2)), 4, 2, 1, 2)
    return functional.relu(y.flip(-1)) - y


def three_dimensions(m, x):
    y = functional.max_pool3d(m["first"](x.reshape(1, 1, 4, 4, 4)), 2)
    return functional.adaptive_max_pool3d(y.abs() + m["first"](y), (1, 2, 1))


NETWORKS = {
    "unet": lambda: UNet(width=2, depth=2, normalization="none"),
    "unet-dual-frame": lambda: UNet(width=2, depth=1, pooling="dual-frame", residual=True),
    "unet-tight-frame": lambda: UNet(width=2, depth=1, pooling="tight-frame", bias_free=True),
    "unet-max": lambda: UNet(width=2, depth=1, pooling="max", normalization="none"),
    "skips": lambda: Function(
        skips, first=conv(1, 3), low=conv(3, 4), mix=conv(7, 4), last=conv(4, 1, 1)
    ),
    "batch-norm": lambda: nn.Sequential(
        conv(1, 3), statistics(nn.BatchNorm2d(3)), nn.PReLU(3), conv(3, 2)
    ),
    "clamps": lambda: nn.Sequential(
        conv(1, 3), nn.Hardtanh(-0.3, 0.4), conv(3, 3), nn.ReLU6(), conv(3, 2), nn.Softshrink(0.2)
    ),
    "overlapping-pooling": lambda: nn.Sequential(
        conv(1, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True), conv(3, 2), nn.LeakyReLU(-0.5)
    ),
    "dilated-pooling": lambda: nn.Sequential(conv(1, 2), nn.MaxPool2d(2, 1, 0, 2), nn.ReLU()),
    "adaptive-pooling": lambda: nn.Sequential(conv(1, 2), nn.AdaptiveMaxPool2d((3, 5)), nn.ReLU()),
    "strides": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 2, 2, dilation=2, padding=3),
        nn.ReLU(),
    ),
    "maxima": lambda: Function(
        lambda m, x: torch.maximum(m["a"](x), m["b"](x)).amax((2, 3)) - m["a"](x).amin(1).max(),
        a=conv(1, 3),
        b=conv(1, 3),
    ),
    "bounds": lambda: Function(
        lambda m, x: (
            torch.minimum(m["a"](x), torch.full((), 0.3, dtype=DTYPE)).clamp(min=-0.1)
            + functional.threshold(m["a"](x), 0.1, 0.1)
            + m["a"](x).abs()
        ),
        a=conv(1, 3),
    ),
    "one-dimension": lambda: Function(one_dimension, first=nn.Conv1d(1, 2, 3)),
    "three-dimensions": lambda: Function(three_dimensions, first=nn.Conv3d(1, 1, 3, padding=1)),
}


def made(name):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return NETWORKS[name]().to(DTYPE).eval()


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def segment(rng):
    draw = torch.randn(2, 1, 1, 8, 8, dtype=DTYPE, generator=rng)
    return draw[0], draw[1]


def inside(partition, share):
    """Return a point of every piece."""
    ends = partition.piece_ends
    return ends[:-1] + share * ends.diff()


@pytest.mark.parametrize("name", NETWORKS)
def test_pieces_are_regions_and_boundaries_are_all(name, segment):
    image, direction = segment
    network = made(name)

    partition = partition_segment(network, image, direction, keep_outputs=True)

    assert partition.reached == 1
    assert partition.num_boundaries >= partition.num_pieces - 1 > 5
    early, late = inside(partition, 0.1), inside(partition, 0.9)
    pieces = range(0, partition.num_pieces, partition.num_pieces // 12 + 1)
    before = ""
    for k in sorted({*pieces, *(k + 1 for k in pieces[:-1])}):
        a, b = (linearize(network, image + t * direction) for t in (early[k], late[k]))
        # A pooling of equal entries (zeros after ReLU) may name any of them: the same region.
        if name != "unet-max":
            assert a.activation_pattern == b.activation_pattern
        assert a.activation_pattern.digest() != before
        before = b.activation_pattern.digest()
        torch.testing.assert_close(partition.output_at(float(early[k])), a.output)
        torch.testing.assert_close(partition.output_at(float(late[k])), b.output)


@pytest.mark.parametrize("name", ["unet", "unet-tight-frame", "skips", "clamps"])
def test_units_that_switch_lead_from_pattern_to_pattern(name, segment):
    image, direction = segment
    network = made(name)

    partition = partition_segment(network, image, direction)

    start, end = (linearize(network, image + t * direction).activation_pattern for t in (0, 1))
    for k, layer in enumerate(partition.layers):
        before, after = (
            torch.from_numpy(np.unpackbits(pattern.layers[k].packed.numpy(), bitorder="little"))
            for pattern in (start, end)
        )
        assert start.layers[k].name == layer.name
        switches = partition.num_switches(k).flatten()
        if layer.kind != "softshrink":  # three states
            torch.testing.assert_close((before ^ after)[: layer.num_units], switches.byte() % 2)


@pytest.mark.parametrize("name", ["unet", "unet-tight-frame", "unet-dual-frame"])
def test_every_unit_of_a_dense_sampling_is_as_said(name, segment):
    image, direction = segment
    network = made(name)
    partition = partition_segment(network, image, direction)

    seen = []
    handles = [
        module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0] > 0))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    samples = torch.linspace(0, 1, 1500, dtype=DTYPE)
    with torch.no_grad():
        network(image + samples[:, None, None, None] * direction)
    for handle in handles:
        handle.remove()

    assert len(seen) == len(partition.layers)
    positions = partition.positions[partition.boundary_positions]
    for k, on in enumerate(seen):
        mine = partition.boundary_layers == k
        switched = torch.zeros(len(samples) + 1, partition.layers[k].num_units)
        first_after = torch.searchsorted(samples, positions[mine])
        units = partition.boundary_units[mine]
        switched.index_put_((first_after, units), torch.ones(len(units)), accumulate=True)
        expected = on[:1].flatten(1) ^ (switched[:-1].cumsum(0) % 2 == 1)
        assert torch.equal(on.flatten(1), expected)


def slow_boundaries(weights, start, direction):
    """Find boundaries of a ReLU network without skips, one event after another.

    In a region all pre-activations are u + t w; the next boundary is at the least root ahead.
    """
    t, found = 0.0, []
    active = []
    z = start
    for weight, bias in weights[:-1]:
        z = weight @ z + bias
        active.append(z > 0)
        z = np.maximum(z, 0)
    while True:
        value, slope, roots = start, direction, []
        for layer, (weight, bias) in enumerate(weights[:-1]):
            value, slope = weight @ value + bias, weight @ slope
            with np.errstate(divide="ignore", invalid="ignore"):
                root = np.where(np.where(active[layer], slope < 0, slope > 0), -value / slope, 2)
            roots += [(max(r, t), layer, unit) for unit, r in enumerate(root)]
            value, slope = value * active[layer], slope * active[layer]
        t, layer, unit = min(roots)
        if t >= 1:
            return found
        active[layer][unit] ^= True
        found.append((t, layer, unit))


def test_boundaries_are_those_of_an_event_after_another(rng):
    layers = [nn.Linear(a, b, dtype=DTYPE) for a, b in ((6, 20), (20, 15), (15, 10), (10, 3))]
    for layer in layers:
        nn.init.normal_(layer.weight, generator=rng)
        nn.init.normal_(layer.bias, generator=rng)
    network = nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())][:-1])
    image, direction = torch.randn(2, 1, 6, dtype=DTYPE, generator=rng)
    image, direction = image - 4 * direction, 8 * direction

    partition = partition_segment(network, image, direction)

    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]
    expected = slow_boundaries(weights, image[0].numpy(), direction[0].numpy())
    found = zip(
        partition.positions[partition.boundary_positions].tolist(),
        partition.boundary_layers.tolist(),
        partition.boundary_units.tolist(),
        strict=True,
    )
    assert len(expected) == partition.num_boundaries > 20
    for (a, *unit), (b, *same) in zip(expected, found, strict=True):
        assert unit == same
        assert abs(a - b) < 1e-11


def test_two_units_by_hand():
    # relu(x) at -1 + 4t and 3 - 4t: zeros at 1/4 and 3/4; then their difference over relu: 1/2.
    def network(x):
        y = functional.relu(x)
        return functional.relu(y[:, :1] - y[:, 1:])

    image, direction = torch.tensor([[[-1.0, 3.0]], [[4.0, -4.0]]], dtype=DTYPE)

    partition = partition_segment(network, image, direction, keep_outputs=True)

    assert partition.positions.tolist() == [0.25, 0.5, 0.75]
    assert partition.boundary_layers.tolist() == [0, 1, 0]
    assert partition.boundary_units.tolist() == [0, 0, 1]
    assert [layer.depth for layer in partition.layers] == [1, 2]
    assert partition.outputs.flatten().tolist() == [0, 0, 0, 2, 3]
    assert partition.slope_norms.tolist() == [0, 0, 8, 4]
    assert partition.slope_changes.tolist() == [0, 8, 4]  # the first unit does not reach the output
    assert partition.output_at(0.625).tolist() == [1.0]


def test_largest_of_three_lines_by_hand():
    # 0, 4t - 1 and 8t - 5: the upper envelope changes at 1/4 and at 1.
    image, direction = torch.tensor([[[0.0, -1, -5]], [[0.0, 4, 12]]], dtype=DTYPE)

    partition = partition_segment(lambda x: x.amax(1), image, direction)

    assert partition.positions.tolist() == [0.25, 0.5]
    assert partition.boundary_units.tolist() == [0, 0]


def test_largest_of_many_lines_by_all_their_meetings(rng):
    image, direction = torch.randn(2, 1, 7, 12, dtype=DTYPE, generator=rng)
    direction = 4 * direction

    partition = partition_segment(lambda x: x.amax(2), image, direction)

    expected = []
    for a, b in zip(image[0], direction[0], strict=True):
        meetings = (a[:, None] - a) / (b - b[:, None])
        meetings = meetings[(meetings > 0) & (meetings < 1)].unique()
        sides = [(a + (meetings + s)[:, None] * b).argmax(1) for s in (-1e-9, 1e-9)]
        expected.append(meetings[sides[0] != sides[1]])
    assert len(partition.positions) > 7
    torch.testing.assert_close(partition.positions, torch.cat(expected).unique())


def test_densities_by_hand_have_two_units():
    image, direction = torch.tensor([[-1.0, 3, 1, 1]]), torch.tensor([[4.0, -4, 1, 1]])

    partition = partition_segment(nn.ReLU(), image, direction)

    norm = 34**0.5
    assert partition.direction_norm == pytest.approx(norm)
    assert partition.boundaries_per_norm().tolist() == pytest.approx([2 / norm])
    assert partition.boundaries_per_pixel_rms().tolist() == pytest.approx([4 / norm])


@pytest.mark.parametrize("name", ["unet", "overlapping-pooling"])
def test_stretches_join_to_the_whole(name, segment):
    image, direction = segment
    network = made(name)
    whole = partition_segment(network, image, direction, keep_outputs=True)
    seen = []

    parts = partition_segment(
        network,
        image,
        direction,
        keep_outputs=True,
        memory_limit_bytes=8 * SegmentProgram(network, image).bytes_per_knot,
        progress=seen.append,
    )

    assert len(seen) > 4
    assert seen == sorted(seen)
    assert seen[-1] == 1
    torch.testing.assert_close(parts.positions, whole.positions, rtol=0, atol=1e-12)
    for field in ("boundary_positions", "boundary_layers", "boundary_units"):
        torch.testing.assert_close(getattr(parts, field), getattr(whole, field))
    for field in ("slope_norms", "slope_changes", "outputs"):
        torch.testing.assert_close(
            getattr(parts, field), getattr(whole, field), rtol=1e-6, atol=1e-8
        )


def test_a_walk_goes_on_from_a_file(segment, tmp_path, monkeypatch):
    image, direction = segment
    network = made("unet")
    limit = {"memory_limit_bytes": 12 * SegmentProgram(network, image).bytes_per_knot}
    whole = partition_segment(network, image, direction)

    # A clock that stops the walk after two stretches.
    clock = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    partition = partition_segment(network, image, direction, time_limit_s=0.0, **limit)
    assert (partition.reached, partition.num_boundaries) == (0, 0)
    num_calls = 0
    while partition.reached < 1:
        before = partition.reached
        folder = RunFolder(tmp_path)
        folder.write_npz("walk.npz", **partition.to_arrays())
        kept = SegmentPartition.from_arrays(folder.read_npz("walk.npz"))
        partition = partition_segment(
            network, image, direction, previous=kept, time_limit_s=3.0, **limit
        )
        num_calls += 1
        assert before < partition.reached

    assert num_calls > 2
    torch.testing.assert_close(partition.positions, whole.positions, rtol=0, atol=1e-12)


def test_single_precision_is_taken_with_its_weights(segment):
    network = made("skips").float()
    image, direction = (value.float() for value in segment)

    single = partition_segment(network, image, direction)
    double = partition_segment(network.double(), image.double(), direction.double())

    assert single.positions.dtype == torch.float64
    assert torch.equal(single.positions, double.positions)


def test_boundaries_through_one_point_are_one_breakpoint(segment):
    image, _ = segment
    network = nn.Sequential(conv(1, 3, bias=False), nn.ReLU(), conv(3, 2, bias=False), nn.ReLU())

    # Scaling through zero: every unit of the first layer switches there.
    partition = partition_segment(network.to(DTYPE), image, -2 * image)

    assert partition.positions.tolist() == [0.5]
    assert partition.boundaries_by_layer[0] == 3 * 64


def test_a_boundary_at_the_image_itself_bounds_a_piece_of_no_length():
    image, direction = torch.tensor([[[0.0, 1.0]], [[1.0, -1.0]]], dtype=DTYPE)

    partition = partition_segment(nn.ReLU(), image, direction, keep_outputs=True)

    # The first unit is off at zero and on right after; the second is off from 1 on.
    assert partition.positions.tolist() == [0.0, 1.0]
    assert partition.num_pieces == 3
    assert partition.slope_changes.tolist() == [0.0, 0.0]
    assert partition.output_at(0.5).tolist() == [0.5, 0.5]


def test_units_that_stay_zero_do_not_switch(segment):
    image, direction = segment
    image[..., 4:], direction[..., 4:] = 0, 0

    partition = partition_segment(
        nn.Sequential(conv(1, 3, bias=False), nn.ReLU()).to(DTYPE), image, direction
    )

    assert partition.num_switches(0)[..., 5:].sum() == 0
    assert partition.num_switches(0)[..., :5].sum() > 0
    assert partition.num_undecided == 0


def test_what_rounding_leaves_open_is_counted():
    # The first unit is zero in exact arithmetic; in double precision it is 2e-16 at 3 and 0 at 5.
    def network(x):
        return functional.relu(torch.cat([0.1 * x + 0.2 * x - 0.3 * x, x - 4], 1))

    image, direction = torch.tensor([[[5.0]], [[-2.0]]], dtype=DTYPE)

    partition = partition_segment(network, image, direction)

    assert sorted(partition.boundary_units.tolist()) == [0, 1]
    assert partition.num_undecided == 1


def test_a_complex_image_of_two_real_channels(rng):
    def network(x):
        return functional.relu(torch.view_as_real(torch.fft.fft(x)))

    image, direction = torch.randn(2, 1, 8, dtype=torch.complex128, generator=rng)

    partition = partition_segment(network, image, direction)

    u, v = (torch.view_as_real(torch.fft.fft(value)).flatten() for value in (image, direction))
    roots = (-u / v)[((-u / v) > 0) & ((-u / v) < 1)]
    torch.testing.assert_close(partition.positions, roots.sort().values)


JUMPS = {
    "where": (lambda x: torch.where(x > 0, x, 0.1 * x), "'gt'"),
    "sign": (lambda x: x * torch.sign(x), "'sign'"),
    "hardshrink": (lambda x: functional.hardshrink(x), "'hardshrink'"),
    "threshold": (lambda x: functional.threshold(x, 0.5, 0.0), "'threshold'"),
    "unpooling": (
        lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
        "indices",
    ),
    "group-norm": (lambda x: functional.group_norm(x, 1), "piecewise linear"),
    "sigmoid": (lambda x: torch.sigmoid(x), "piecewise linear"),
    "square": (lambda x: x**2, "piecewise linear"),
}


@pytest.mark.parametrize("name", JUMPS)
def test_refuses_what_is_not_piecewise_linear(name, segment):
    function, message = JUMPS[name]
    with pytest.raises(ValueError, match=message):
        partition_segment(function, *segment)


def test_refuses_wrong_arguments(segment):
    image, direction = segment
    network = made("skips")
    with pytest.raises(ValueError, match="image's shape"):
        partition_segment(network, image, direction[..., :4])
    with pytest.raises(ValueError, match="not zero"):
        partition_segment(network, image, 0 * direction)
    with pytest.raises(ValueError, match="four points"):
        partition_segment(network, image, direction, memory_limit_bytes=1000)
    with pytest.raises(TypeError, match="plain function"):
        partition_segment(functional.relu, image.float(), direction.float())
    previous = partition_segment(network, image, direction)
    with pytest.raises(ValueError, match="another segment"):
        partition_segment(network, image, 2 * direction, previous=previous)
    with pytest.raises(ValueError, match="keep_outputs"):
        partition_segment(network, image, direction, previous=previous, keep_outputs=True)
    with pytest.raises(ValueError, match="keep_outputs=True"):
        previous.output_at(0.5)


def test_refuses_a_network_that_takes_another_way(segment):
    image, direction = segment
    calls = []

    def network(x):
        calls.append(x)
        return functional.relu(x) if len(calls) < 2 else functional.relu(x) + 1

    with pytest.raises(ValueError, match="does not replay"):
        partition_segment(network, image, direction)
