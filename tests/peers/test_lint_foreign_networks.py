"""Levels of networks that others wrote: MONAI, fastMRI and the trained Open Image Denoise."""

import importlib.util
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, UNet

from framelets.geometry import diagnose_poolings, diagnose_unpoolings, linearize
from framelets.networks import Reframed, reframe
from framelets.networks.open_image_denoise import open_image_denoise

DTYPE = torch.float64
EXACT = 1e-12


def fastmri_unet(**options):
    """Build the U-Net of fastMRI from its file alone: the package imports pandas and Lightning."""
    (folder,) = importlib.util.find_spec("fastmri").submodule_search_locations
    spec = importlib.util.spec_from_file_location("fastmri_unet", Path(folder, "models", "unet.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Unet(**options)


# Where the skip has as many channels as what comes up, as in the networks as they are published.
BASIC = partial(BasicUNet, in_channels=1, out_channels=2, features=(4, 4, 8, 16, 32, 4))
FASTMRI = partial(fastmri_unet, in_chans=1, out_chans=1, chans=4, num_pool_layers=3)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def make(build, shape, rng):
    network = build().to(DTYPE).eval()
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, dtype=DTYPE, generator=rng))
    return network, torch.rand(1, *shape, dtype=DTYPE, generator=rng)


def assert_equal(result, expected):
    error = torch.linalg.vector_norm(result - expected)
    assert error <= EXACT * torch.linalg.vector_norm(expected)


WITH_PLAIN_POOLING = {
    "basic": (partial(BASIC, spatial_dims=2), (1, 32, 32), 4, (1, 2)),
    "basic-odd": (partial(BASIC, spatial_dims=2, norm="batch"), (1, 35, 38), 4, (1, 2)),
    "basic-shuffle": (
        partial(BASIC, spatial_dims=2, upsample="pixelshuffle"),
        (1, 32, 32),
        4,
        (1, 2),
    ),
    "basic-3d": (partial(BASIC, spatial_dims=3, norm="batch"), (1, 16, 16, 16), 4, (1, 2)),
    "fastmri": (FASTMRI, (1, 32, 40), 3, (1, 1.25)),
    "fastmri-odd": (FASTMRI, (1, 35, 45), 3, (1, 1.25)),
}


@pytest.mark.parametrize("name", WITH_PLAIN_POOLING)
def test_tight_frames_give_the_same_and_count_alike(name, rng):
    build, shape, num_levels, bounds = WITH_PLAIN_POOLING[name]
    network, image = make(build, shape, rng)
    even = "odd" not in name  # a last odd row is not pooled: there is nothing but the skip

    before = diagnose_poolings(linearize(network, image))
    fixed = reframe(network, "tight-frame", image)
    after = diagnose_poolings(linearize(fixed, image))

    assert isinstance(fixed, Reframed)
    assert (len(fixed.completed), fixed.left) == (num_levels, ())
    assert_equal(fixed(image), network(image))
    assert len(before) == len(after) == num_levels
    for level in before:
        assert (level.level.lower, level.level.upper) == pytest.approx(bounds)
        assert (level.ratio, level.completion) == (pytest.approx(2), "pseudo-inverse")
    for level in after:
        assert level.ratio == pytest.approx(1, abs=1e-9)
        assert level.error == pytest.approx(0, abs=1e-9)
        assert level.level.upper == pytest.approx(bounds[1])
        assert level.level.lower == pytest.approx(bounds[1] if even else 1, abs=bounds[1] - 1)


@pytest.mark.parametrize("name", ["basic", "basic-3d", "fastmri", "fastmri-odd"])
def test_dual_frames_count_low_frequencies_once(name, rng):
    build, shape, num_levels, bounds = WITH_PLAIN_POOLING[name]
    network, image = make(build, shape, rng)

    fixed = reframe(network, "dual-frame", image)

    assert len(fixed.completed) == num_levels
    assert torch.linalg.vector_norm(fixed(image) - network(image)) > 1e-3
    for level in diagnose_poolings(linearize(fixed, image)):
        assert level.ratio == pytest.approx(1, abs=1e-9)
        assert (level.level.lower, level.level.upper) == pytest.approx(bounds)


def test_interpolation_and_its_dual(rng):
    network, image = make(partial(BASIC, spatial_dims=2, upsample="nontrainable"), (1, 32, 32), rng)

    fixed = reframe(network, "dual-frame", image)

    for level in diagnose_poolings(linearize(network, image)):
        assert level.completion == "network"
        assert level.ratio > 2
    for level in diagnose_poolings(linearize(fixed, image)):
        assert level.ratio == pytest.approx(1, abs=1e-9)
    for rise in diagnose_unpoolings(linearize(network, image)):
        assert rise.checkerboard == pytest.approx(0, abs=1e-12)


def test_learned_strides_over_all_channels(rng):
    build = partial(
        DynUNet,
        spatial_dims=2,
        in_channels=1,
        out_channels=2,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=(3, 4, 5),
    )
    network, image = make(build, (1, 16, 16), rng)

    levels = diagnose_poolings(linearize(network, image))

    names = ["downsamples.0.conv1.conv", "bottleneck.conv1.conv"]
    assert [level.level.name for level in levels] == names
    for level in levels:
        convolution = network.get_submodule(level.level.name)
        size = level.level.num_entries // convolution.in_channels
        zero = torch.zeros(1, convolution.in_channels, *[math.isqrt(size)] * 2, dtype=DTYPE)
        matrix = torch.func.jacrev(convolution)(zero).reshape(-1, zero.numel()).detach()
        upper = 1 + float(torch.linalg.matrix_norm(matrix, 2)) ** 2
        assert level.learned
        assert (level.level.lower, level.level.upper) == pytest.approx((1, upper), rel=2e-3)
        assert 0 < level.aliasing < 1


def test_uneven_overlap_of_the_monai_unet(rng):
    build = partial(
        UNet, spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 6, 8), strides=(2, 2)
    )
    network, image = make(build, (1, 16, 16), rng)
    local = linearize(network, image)

    rises = diagnose_unpoolings(local)

    assert len(rises) == len(diagnose_poolings(local)) == 2
    assert all(rise.uneven_overlap and rise.checkerboard > 0.1 for rise in rises)
    with pytest.raises(ValueError, match="it is learned"):
        reframe(network, "tight-frame", image)


def test_open_image_denoise_skips_from_below_its_poolings(rng):
    network = open_image_denoise("rt_ldr_small").core.to(DTYPE)
    image = torch.rand(1, 3, 32, 32, dtype=DTYPE, generator=rng)

    levels = diagnose_poolings(linearize(network, image))

    assert [level.level.skip for level in levels] == [False] * 4
    assert all(level.level.lower == 0 and level.ratio == math.inf for level in levels)
    with pytest.raises(ValueError, match="after enc_conv1: what it pools is not concatenated"):
        reframe(network, "tight-frame", image)
