"""Completing poolings: a tight frame gives the same, a dual frame counts low frequencies once."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.frames import HaarFilterBank
from framelets.networks import Reframed, UNet, reframe
from framelets.networks._pooled_blocks import pooled_blocks

DTYPE = torch.float64
EXACT = 1e-12


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def draw(*shape, rng):
    return torch.randn(*shape, dtype=DTYPE, generator=rng)


def randomize(network, rng):
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=rng, dtype=DTYPE) * 0.5 + 0.05)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=rng)
    return network.to(DTYPE).eval()


def assert_equal(result, expected):
    assert result.shape == expected.shape
    error = torch.linalg.vector_norm(result - expected)
    assert error <= EXACT * torch.linalg.vector_norm(expected)


class Net(nn.Module):
    """A U-Net of two levels as others write it: functions, and a stack of skips."""

    def __init__(self, pooling, axes=2, raising="transposed", width=3, joined=None):
        super().__init__()
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        transposed = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[axes]
        self.down = nn.ModuleList(convolution(n, width, 3, padding=1) for n in (2, width))
        self.bottom = convolution(width, width, 3, padding=1)
        self.up = nn.ModuleList(transposed(width, width, 2, stride=2) for _ in range(2))
        self.after = nn.ModuleList(convolution(2 * width, width, 3, padding=1) for _ in range(2))
        self.last = convolution(width, 1, 1)
        self.pooling, self.raising = pooling, raising
        self.joined = joined or (lambda up, skip: torch.cat([up, skip], dim=1))

    def forward(self, image):
        skips, features = [], image
        for layer in self.down:
            skips.append(torch.relu(layer(features)))
            features = self.pooling(skips[-1])
        features = torch.relu(self.bottom(features))
        for up, after in zip(self.up, self.after, strict=True):
            skip = skips.pop()
            if self.raising == "transposed":
                raised = up(features)
            else:
                raised = functional.interpolate(features, scale_factor=2, mode=self.raising)
            missing = [n - m for n, m in zip(skip.shape[2:], raised.shape[2:], strict=True)]
            raised = functional.pad(raised, [m for n in reversed(missing) for m in (0, n)])
            features = torch.relu(after(self.joined(raised, skip)))
        return self.last(features)


def average(axes):
    return lambda image: [functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d][
        axes - 1
    ](image, 2)


def every_second(image):
    return image[..., ::2, ::2]


POOLINGS = {
    "mean": (average(2), 2),
    "mean-1d": (average(1), 1),
    "mean-3d": (average(3), 3),
    "sum/2": (lambda image: functional.avg_pool2d(image, 2, divisor_override=2), 2),
    "max": (nn.MaxPool2d(2), 2),
    "max-function": (lambda image: functional.max_pool2d(image, kernel_size=2), 2),
    "max-1d": (nn.MaxPool1d(2), 1),
    "max-3d": (nn.MaxPool3d(2, stride=2), 3),
    "strided": (every_second, 2),
    "strided-layer": (nn.AvgPool2d(1, stride=2), 2),
    "strided-max": (nn.MaxPool2d(1, 2), 2),
}


@pytest.mark.parametrize("name", POOLINGS)
def test_what_is_kept_and_the_details_add_up_and_are_orthogonal(name, rng):
    pooling, axes = POOLINGS[name]
    image = draw(2, 3, *(8, 6, 4)[:axes], rng=rng)
    blocks = called(pooling, image)

    parts = [blocks.kept(image), *blocks.details(image)]

    assert len(parts) == 2**axes
    assert blocks.num_details == 2**axes - 1
    assert_equal(sum(parts), image)
    products = torch.stack([part.flatten() for part in parts])
    gram = products @ products.mT
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-12)
    # What is kept is all that the pooling sees.
    if "max" not in name:
        assert_equal(pooling(parts[0]), pooling(image))
        for part in parts[1:]:
            assert torch.linalg.vector_norm(pooling(part)) <= 1e-12


def called(pooling, image):
    """Return what is recognized when a pooling runs."""
    found = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            found.append(pooled_blocks(func.__name__, args, kwargs or {}, result))
            return result

    with Watch():
        pooling(image)
    return next(block for block in found if block is not None)


def test_details_of_the_mean_are_the_haar_subbands(rng):
    image = draw(1, 1, 6, 4, rng=rng)
    bank = HaarFilterBank()

    blocks = called(average(2), image)

    bands = [subband.adjoint(subband(image)) for subband in bank.subbands]
    assert_equal(blocks.kept(image), bands[0])
    expected = sorted(bands[1:], key=lambda band: float(band.norm()))
    details = sorted(blocks.details(image), key=lambda part: float(part.norm()))
    for detail, band in zip(details, expected, strict=True):
        assert_equal(detail, band)


def test_details_of_a_block_by_hand():
    image = torch.tensor([[[[1.0, 4.0], [3.0, 2.0]]]], dtype=DTYPE)

    details = called(nn.MaxPool2d(2), image).details(image)

    # Opposite the 4, in the same row 1, in the same column 2, across 3.
    assert [part.flatten().tolist() for part in details] == [
        [1, 0, 0, 0],
        [0, 0, 0, 2],
        [0, 0, 3, 0],
    ]


@pytest.mark.parametrize("name", POOLINGS)
def test_a_tight_frame_gives_the_same(name, rng):
    pooling, axes = POOLINGS[name]
    network = randomize(Net(pooling, axes), rng)
    image = draw(2, 2, *(16, 8, 8)[:axes], rng=rng)

    fixed = reframe(network, "tight-frame", image)

    assert isinstance(fixed, Reframed)
    assert len(fixed.completed) == 2
    assert fixed.left == ()
    assert_equal(fixed(image), network(image))


@pytest.mark.parametrize("size", [(11, 13), (12, 9)])
@pytest.mark.parametrize("name", ["mean", "max"])
def test_odd_sizes(name, size, rng):
    network = randomize(Net(POOLINGS[name][0]), rng)
    image = draw(1, 2, *size, rng=rng)

    fixed = reframe(network, "tight-frame", image)

    assert_equal(fixed(image), network(image))
    assert reframe(network, "dual-frame", image)(image).shape == network(image).shape


def test_new_filters_are_learned_and_saved(rng):
    network = randomize(Net(average(2)), rng)
    image = draw(2, 2, 8, 8, rng=rng)
    fixed = reframe(network, "tight-frame", image)
    before = copy.deepcopy(fixed.state_dict())

    optimizer = torch.optim.SGD(fixed.parameters(), lr=0.1)
    fixed(image).square().mean().backward()
    optimizer.step()

    for name, value in fixed.state_dict().items():
        assert not torch.equal(value, before[name]), name
    assert not torch.equal(fixed(image), network(image))
    again = reframe(network, "tight-frame", torch.zeros_like(image))
    again.load_state_dict(fixed.state_dict())
    assert torch.equal(again(image), fixed(image))
    assert torch.equal(copy.deepcopy(fixed)(image), fixed(image))
    # The network itself was not touched.
    assert all(
        torch.equal(value, before[f"network.{name}"])
        for name, value in network.state_dict().items()
    )


@pytest.mark.parametrize("raising", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", ["mean", "max", "strided"])
def test_a_dual_frame_gives_a_level_back(name, raising, rng):
    # Nothing but skip and un-pooling: the branches of the dual frame add up to the image.
    pooling, _ = POOLINGS[name]

    class Level(nn.Module):
        def forward(self, image):
            raised = functional.interpolate(pooling(image), scale_factor=2, mode=raising)
            return torch.cat([raised, image], dim=1)

    image = draw(1, 1, 8, 10, rng=rng)
    plain = Level()(image).sum(1)

    fixed = Reframed(Level(), "dual-frame", image)

    assert_equal(fixed(image).sum(1), image[:, 0])
    assert torch.linalg.vector_norm(plain - image[:, 0]) > 0.1 * torch.linalg.vector_norm(image)


def test_a_dual_frame_subtracts_what_the_pooling_keeps(rng):
    seen = []

    def joined(up, skip):
        both = torch.cat((skip, up), 1)
        seen.append((up, skip, both))
        return both

    network = randomize(Net(average(2), joined=joined), rng)
    image = draw(1, 2, 8, 8, rng=rng)
    fixed = reframe(network, "dual-frame", image)

    seen.clear()
    fixed(image)

    for up, skip, both in seen:
        low = functional.interpolate(functional.avg_pool2d(skip, 2), scale_factor=2)
        assert_equal(both, torch.cat([skip, up - low], 1))


# The U-Net of the package.


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
@pytest.mark.parametrize("pooling_normalization", ["mean", "orthonormal"])
@pytest.mark.parametrize("bias_free", [False, True])
def test_a_unet_becomes_a_tight_frame_unet_and_gives_the_same(
    normalization, pooling_normalization, bias_free, rng
):
    network = UNet(
        in_channels=2,
        out_channels=2,
        width=4,
        depth=3,
        residual=True,
        bias_free=bias_free,
        normalization=normalization,
        pooling_normalization=pooling_normalization,
    )
    randomize(network, rng)
    image = draw(2, 2, 17, 24, rng=rng)

    fixed = reframe(network, "tight-frame", image)

    assert isinstance(fixed, UNet)
    assert fixed.pooling == "tight-frame"
    assert not fixed.training
    assert_equal(fixed(image), network(image))


def test_a_unet_becomes_a_dual_frame_unet_with_the_same_weights(rng):
    network = randomize(UNet(width=3, depth=2, normalization="none"), rng)
    image = draw(1, 1, 16, 16, rng=rng)

    fixed = reframe(network, "dual-frame", image)

    assert isinstance(fixed, UNet)
    assert fixed.pooling == "dual-frame"
    for name, value in fixed.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    # A wrapper finds the same subtraction by itself.
    assert_equal(Reframed(copy.deepcopy(network), "dual-frame", image)(image), fixed(image))


def test_a_unet_inside_another_network(rng):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = UNet(width=3, depth=2)

        def forward(self, image):
            return image + self.inner(image)

    network = randomize(Outer(), rng)
    image = draw(1, 1, 8, 8, rng=rng)

    fixed = reframe(network, "tight-frame", image)

    assert (network.inner.pooling, fixed.inner.pooling) == ("average", "tight-frame")
    assert_equal(fixed(image), network(image))


def test_a_unet_with_max_pooling_is_wrapped(rng):
    network = randomize(UNet(width=3, depth=2, pooling="max"), rng)
    image = draw(1, 1, 16, 16, rng=rng)

    fixed = reframe(network, "tight-frame", image)

    assert fixed.completed == ("poolings.0.layer", "poolings.1.layer")
    assert_equal(fixed(image), network(image))


# Modes and flags.


def test_training_flags_and_statistics_stay(rng):
    network = Net(average(2)).to(DTYPE)
    network.after[0] = nn.Sequential(nn.Conv2d(6, 3, 3, padding=1), nn.BatchNorm2d(3)).to(DTYPE)
    network.train()
    network.down[0].eval()
    statistics = copy.deepcopy(network.after[0][1].state_dict())

    fixed = Reframed(network, "tight-frame", draw(1, 2, 8, 8, rng=rng))

    assert fixed.training
    assert network.training
    assert not network.down[0].training
    assert network.down[1].training
    for name, value in network.after[0][1].state_dict().items():
        assert torch.equal(value, statistics[name])


# Refusals.


def test_refuses_an_unknown_form_and_what_is_fixed_already(rng):
    image = draw(1, 1, 8, 8, rng=rng)
    with pytest.raises(ValueError, match="did you mean 'tight-frame'"):
        reframe(UNet(width=2, depth=1), "tight-fram", image)
    with pytest.raises(ValueError, match="tight-frame U-Net already"):
        reframe(UNet(width=2, depth=1, pooling="tight-frame"), "dual-frame", image)


@pytest.mark.parametrize(
    ("pooling", "joined", "form", "reason"),
    [
        (nn.AvgPool2d(3, 2, 1), None, "tight-frame", r"avg_pool2d of \(3, 3\) pixels with stride"),
        (nn.MaxPool2d(2, ceil_mode=True), None, "tight-frame", "only blocks of two pixels"),
        (
            average(2),
            lambda up, skip: torch.cat([up + skip, up - skip], 1),
            "tight-frame",
            "what it pools is not concatenated",
        ),
        (
            average(2),
            lambda up, skip: torch.cat([up, skip], 1).relu(),
            "tight-frame",
            "no convolution of all channels reads",
        ),
        (
            average(2),
            lambda up, skip: torch.cat([up[:, :1], skip, up[:, 1:]], 1),
            "dual-frame",
            "not one tensor of the same shape",
        ),
    ],
)
def test_refuses_levels_that_cannot_be_completed(pooling, joined, form, reason, rng):
    network = randomize(Net(pooling, joined=joined), rng)
    with pytest.raises(ValueError, match=reason):
        Reframed(network, form, draw(1, 2, 8, 8, rng=rng))


def test_refuses_learned_strides_and_networks_without_pooling(rng):
    image = draw(1, 1, 8, 8, rng=rng)
    strided = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 1, 3)).to(DTYPE)
    with pytest.raises(ValueError, match=r"conv2d with stride \(2, 2\) in 0: it is learned"):
        reframe(strided, "tight-frame", image)
    with pytest.raises(ValueError, match="it has no pooling"):
        reframe(nn.Conv2d(1, 1, 3).to(DTYPE), "dual-frame", image)
