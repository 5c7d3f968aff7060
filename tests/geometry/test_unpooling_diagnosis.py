"""Checkerboards, by hand and as they appear in what a constant becomes."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.geometry import diagnose_unpoolings, linearize
from framelets.networks import UNet

DTYPE = torch.float64


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def diagnose(network, *shape, rng):
    return diagnose_unpoolings(
        linearize(network, torch.randn(1, *shape, dtype=DTYPE, generator=rng))
    )


def measured(layer, channels, stride, size=12):
    """Feed constants of each channel and compare the phases in the middle."""
    constants = torch.eye(channels, dtype=DTYPE).reshape(channels, channels, 1, 1)
    output = layer(constants.expand(-1, -1, size, size)).detach()
    start = stride * (size // 2)
    block = output[..., start : start + stride, start : start + stride].flatten(2)
    return float((block - block.mean(-1, keepdim=True)).norm() / block.norm())


def test_ones_of_three_by_three_by_hand(rng):
    layer = nn.ConvTranspose2d(1, 1, 3, stride=2, bias=False).to(DTYPE)
    nn.init.ones_(layer.weight)

    (found,) = diagnose(layer, 1, 6, 6, rng=rng)

    # Sums 4, 2, 2, 1: mean 9/4, mean square 25/4, variance 19/16.
    assert found.uneven_overlap
    assert found.checkerboard == pytest.approx(math.sqrt((19 / 16) / (25 / 4)))
    assert found.operation == "transposed convolution 3x3, stride 2"


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (5, 3)])
def test_learned_kernels_as_a_constant_shows_them(kernel, stride, rng):
    layer = nn.ConvTranspose2d(3, 2, kernel, stride=stride, bias=False).to(DTYPE)
    nn.init.normal_(layer.weight, generator=rng)

    (found,) = diagnose(layer, 3, 6, 6, rng=rng)

    assert found.checkerboard == pytest.approx(measured(layer, 3, stride), rel=1e-12)
    assert found.uneven_overlap == (kernel % stride != 0)


def test_equal_weights_that_overlap_evenly_have_none(rng):
    layer = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1).to(DTYPE)
    nn.init.ones_(layer.weight)

    (found,) = diagnose(layer, 2, 6, 6, rng=rng)

    assert found.checkerboard == pytest.approx(0, abs=1e-15)
    assert not found.uneven_overlap


def test_groups_and_dilation(rng):
    layer = nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2, dilation=2, bias=False).to(DTYPE)
    nn.init.normal_(layer.weight, generator=rng)

    (found,) = diagnose(layer, 4, 6, 6, rng=rng)

    # Taps two apart all hit the same phase: three of four get nothing.
    assert found.checkerboard == pytest.approx(math.sqrt(3 / 4))
    assert found.checkerboard == pytest.approx(measured(layer, 4, 2), rel=1e-12)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_interpolation_has_none(mode, rng):
    (found,) = diagnose(nn.Upsample(scale_factor=2, mode=mode), 2, 6, 6, rng=rng)

    assert found.checkerboard == pytest.approx(0, abs=1e-12)


def test_a_pixel_shuffle_counts_with_the_convolution_before_and_the_averaging_behind(rng):
    convolution = nn.Conv2d(2, 8, 3, padding=1, bias=False).to(DTYPE)
    nn.init.normal_(convolution.weight, generator=rng)
    shuffle = nn.Sequential(convolution, nn.PixelShuffle(2))
    blur = nn.Sequential(nn.ReplicationPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, stride=1))

    (found,) = diagnose(shuffle, 2, 8, 8, rng=rng)
    (blurred,) = diagnose(nn.Sequential(shuffle, blur), 2, 8, 8, rng=rng)

    assert found.checkerboard == pytest.approx(measured(shuffle, 2, 2), rel=1e-12)
    assert blurred.checkerboard == pytest.approx(0, abs=1e-12)


def test_a_map_that_is_too_small_says_nothing(rng):
    (found,) = diagnose(nn.PixelShuffle(2), 4, 2, 2, rng=rng)

    assert found.checkerboard is None


@pytest.mark.parametrize("pooling", ["average", "dual-frame", "max", "tight-frame"])
def test_subbands_that_go_straight_to_the_decoder_are_no_unpooling(pooling, rng):
    network = UNet(width=2, depth=2, pooling=pooling).to(DTYPE).eval()

    found = diagnose(network, 1, 16, 16, rng=rng)

    assert len(found) == 2
    assert [rise.name.split(".")[1] for rise in found] == ["1", "0"]
    for rise in found:
        assert rise.checkerboard == pytest.approx(0, abs=1e-12)


def test_functions_are_named_by_what_they_follow(rng):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 2, 3, padding=1)
            self.second = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, image):
            up = functional.interpolate(self.first(image).relu(), scale_factor=2)
            return functional.interpolate(self.second(up).relu(), scale_factor=2)

    names = [rise.name for rise in diagnose(Network().to(DTYPE), 1, 6, 6, rng=rng)]

    assert names == ["upsample_nearest2d after first", "upsample_nearest2d after second"]
