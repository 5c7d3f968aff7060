"""`linearize` on networks that others wrote: MONAI, fastMRI and the trained Open Image Denoise.

f(x) = L x + b at the image, L is linear, its adjoint is exact, it is synthesis after analysis, and
the tangent map is autograd's Jacobian: in float64, at small widths, with seeded weights and with
normalization statistics far from their defaults.
"""

import importlib.util
import math
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from monai.networks.nets import AttentionUnet, BasicUNet, DynUNet, SegResNet, UNet

from framelets.geometry import linearize
from framelets.networks.open_image_denoise import open_image_denoise

EXACT = 1e-12
AUTOGRAD = 1e-10


def fastmri_unet(**options):
    """Build the U-Net of fastMRI from its file alone: the package imports pandas and Lightning."""
    (folder,) = importlib.util.find_spec("fastmri").submodule_search_locations
    spec = importlib.util.spec_from_file_location("fastmri_unet", Path(folder, "models", "unet.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Unet(**options)


class Case(NamedTuple):
    """How to build a network, the shape of its image, and what is known of it."""

    build: Any
    shape: tuple[int, ...]
    piecewise_linear: bool = False
    trained: bool = False


BASIC = partial(BasicUNet, in_channels=1, out_channels=2, features=(6, 6, 8, 8, 10, 6))
BASIC_RELU = partial(BASIC, norm="batch", act="relu")
UNET = partial(UNet, in_channels=2, out_channels=1, channels=(6, 8, 10), strides=(2, 2))
DYN = partial(DynUNet, in_channels=1, out_channels=2, filters=(6, 8, 10))
SEG_RES = partial(SegResNet, init_filters=8, in_channels=1, out_channels=2)
ATTENTION = partial(AttentionUnet, in_channels=1, out_channels=2, channels=(4, 8, 12))
FASTMRI = partial(fastmri_unet, in_chans=1, out_chans=1, chans=4, num_pool_layers=3)
ISOTROPIC = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
ANISOTROPIC = {
    "kernel_size": [(3, 3, 1), 3, 3],
    "strides": [1, (2, 2, 1), 2],
    "upsample_kernel_size": [(2, 2, 1), 2],
}

CASES = {
    # BasicUNet pads odd sizes by replication.
    "basic-instance": Case(partial(BASIC, spatial_dims=2), (1, 35, 38)),
    "basic-batch": Case(partial(BASIC_RELU, spatial_dims=2), (1, 33, 32), True),
    "basic-bilinear": Case(
        partial(BASIC_RELU, spatial_dims=2, upsample="nontrainable"), (1, 32, 37), True
    ),
    "basic-shuffle": Case(
        partial(BASIC_RELU, spatial_dims=2, upsample="pixelshuffle"), (1, 32, 32), True
    ),
    "basic-swish": Case(partial(BASIC, spatial_dims=2, norm="batch", act="swish"), (1, 32, 33)),
    "basic-gelu": Case(partial(BASIC, spatial_dims=2, norm="batch", act="gelu"), (1, 32, 32)),
    "basic-3d-batch": Case(partial(BASIC_RELU, spatial_dims=3), (1, 16, 17, 18), True),
    "unet-instance-prelu": Case(partial(UNET, spatial_dims=2), (2, 24, 20)),
    "unet-residual-batch": Case(
        partial(UNET, spatial_dims=2, num_res_units=2, norm="batch"), (2, 20, 24), True
    ),
    "unet-swish": Case(partial(UNET, spatial_dims=2, num_res_units=1, act="memswish"), (2, 20, 24)),
    "unet-3d-group": Case(
        partial(UNET, spatial_dims=3, norm=("group", {"num_groups": 1})), (2, 12, 8, 16)
    ),
    "dynunet-instance": Case(partial(DYN, spatial_dims=2, **ISOTROPIC), (1, 24, 28)),
    "dynunet-3d-residual": Case(
        partial(DYN, spatial_dims=3, res_block=True, **ANISOTROPIC), (1, 12, 8, 6)
    ),
    "dynunet-3d-batch": Case(
        partial(DYN, spatial_dims=3, norm_name="batch", **ANISOTROPIC), (1, 8, 12, 6), True
    ),
    "segresnet-group": Case(
        partial(SEG_RES, spatial_dims=2, blocks_down=(1, 2, 1), blocks_up=(1, 1)), (1, 20, 24)
    ),
    "segresnet-3d-deconv": Case(
        partial(
            SEG_RES, spatial_dims=3, blocks_down=(1, 1), blocks_up=(1,), upsample_mode="deconv"
        ),
        (1, 8, 6, 8),
    ),
    "segresnet-batch": Case(
        partial(SEG_RES, spatial_dims=2, blocks_down=(1, 1), blocks_up=(1,), norm="batch"),
        (1, 16, 18),
        True,
    ),
    "attention": Case(partial(ATTENTION, spatial_dims=2, strides=(2, 2)), (1, 24, 20)),
    "attention-3d": Case(partial(ATTENTION, spatial_dims=3, strides=(2, 2)), (1, 8, 12, 8)),
    # The U-Net of fastMRI pads odd sizes by reflection.
    "fastmri": Case(FASTMRI, (1, 32, 40)),
    "fastmri-odd": Case(FASTMRI, (1, 35, 45)),
    "denoiser": Case(lambda: open_image_denoise().core, (3, 32, 48), True, trained=True),
    "denoiser-padded": Case(
        lambda: open_image_denoise("rt_ldr_small", transfer="none"), (3, 27, 33), True, trained=True
    ),
}


def randomize(network, generator):
    """Give every parameter and every running statistic a seeded value far from its default."""

    def normal(tensor):
        return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)

    def positive(tensor):
        return 0.3 + torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                fan_in = math.prod(parameter.shape[1:])
                parameter.copy_(normal(parameter) * math.sqrt(2 / fan_in))
            elif name.endswith("bias"):
                parameter.copy_(0.3 * normal(parameter))
            else:  # scales of normalizations, slopes of PReLU
                parameter.copy_(positive(parameter))
        for name, statistic in network.named_buffers():
            if name.endswith("running_mean"):
                statistic.copy_(0.3 * normal(statistic))
            elif name.endswith("running_var"):
                statistic.copy_(positive(statistic))
    return network


def make(case, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    network = case.build().eval().requires_grad_(False).to(dtype)
    if not case.trained:
        randomize(network, generator)
    image = torch.rand(1, *case.shape, dtype=dtype, generator=generator)
    return network, image, generator


@pytest.fixture(scope="module", params=CASES)
def explained(request):
    case = CASES[request.param]
    network, image, _ = make(case)
    return case, network, image, linearize(network, image)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(1)


def draw(shape, rng, num=1):
    return torch.randn(num, *shape, dtype=torch.float64, generator=rng)


def assert_equal(result, expected, tolerance):
    assert result.shape == expected.shape
    error = torch.linalg.vector_norm(result - expected)
    assert error <= tolerance * torch.linalg.vector_norm(expected)


def test_replays_the_network(explained):
    case, network, image, local_map = explained
    output = network(image)[0]

    assert local_map.image.shape == case.shape
    assert_equal(local_map.output, output, EXACT)
    assert_equal(local_map.frozen(image)[0] + local_map.offset, output, EXACT)
    assert local_map.replay_error <= EXACT


def test_frozen_is_linear(explained, rng):
    case, _, _, local_map = explained
    x = draw(case.shape, rng, num=2)

    images = local_map.frozen(x)

    scale = torch.linalg.vector_norm(images)
    superposed = local_map.frozen(2 * x[:1] - 3 * x[1:])
    error = torch.linalg.vector_norm(superposed - 2 * images[:1] + 3 * images[1:])
    assert error <= EXACT * scale
    assert not local_map.frozen(torch.zeros_like(x)).any()


def test_adjoints_are_exact(explained, rng):
    case, _, _, local_map = explained
    x = draw(case.shape, rng)
    for name in ("frozen", "tangent", "analysis", "synthesis"):
        operator = getattr(local_map, name)
        point = local_map.analysis(x) if name == "synthesis" else x
        image = operator(point)
        y = torch.randn(image.shape, dtype=image.dtype, generator=rng)

        in_range = (image * y).sum()
        in_domain = (point * operator.adjoint(y)).sum()

        scale = torch.linalg.vector_norm(image) * torch.linalg.vector_norm(y)
        assert (in_range - in_domain).abs() <= EXACT * scale, name


def test_frozen_is_synthesis_after_analysis(explained, rng):
    case, _, _, local_map = explained
    x = draw(case.shape, rng)

    assert_equal(local_map.synthesis(local_map.analysis(x)), local_map.frozen(x), EXACT)


def test_tangent_is_the_jacobian(explained, rng):
    case, network, image, local_map = explained
    x, y = draw(case.shape, rng), draw(local_map.output.shape, rng)

    _, jvp = torch.func.jvp(network, (image,), (x,))
    point = image.clone().requires_grad_()
    (vjp,) = torch.autograd.grad(network(point), point, y)

    assert_equal(local_map.tangent(x), jvp, AUTOGRAD)
    assert_equal(local_map.tangent.adjoint(y), vjp, AUTOGRAD)


def test_says_whether_it_is_piecewise_linear(explained, rng):
    case, _, _, local_map = explained
    x = draw(case.shape, rng)
    frozen, tangent = local_map.frozen(x), local_map.tangent(x)

    assert local_map.piecewise_linear == case.piecewise_linear
    apart = torch.linalg.vector_norm(frozen - tangent) / torch.linalg.vector_norm(frozen)
    assert apart <= EXACT if case.piecewise_linear else apart > 1e-3


@pytest.mark.parametrize("name", ["basic-batch", "basic-instance", "attention-3d", "fastmri-odd"])
def test_maps_batches_one_by_one(name, rng):
    network, image, _ = make(CASES[name])
    frozen = linearize(network, image).frozen
    x = draw(CASES[name].shape, rng, num=6).reshape(2, 3, *CASES[name].shape)

    together = frozen(x)

    for row, column in [(0, 0), (1, 2)]:
        assert_equal(together[row, column], frozen(x[row, column]), EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [(32, 32), (33, 32), (32, 47), (39, 41), (64, 20)], ids=str)
@pytest.mark.parametrize("name", ["basic-instance", "basic-batch", "fastmri", "denoiser-padded"])
def test_shapes_and_types(name, size, dtype, rng):
    network, image, _ = make(CASES[name]._replace(shape=(CASES[name].shape[0], *size)), dtype)
    local_map = linearize(network, image)
    y = torch.randn(local_map.output.shape, dtype=dtype, generator=rng)

    result, pulled_back = local_map.frozen(image)[0], local_map.frozen.adjoint(y)

    assert result.dtype == pulled_back.dtype == local_map.offset.dtype == dtype
    # Some thirty layers, each within a few units of the precision.
    tolerance = 100 * torch.finfo(dtype).eps
    assert_equal(result + local_map.offset, network(image)[0], tolerance)
    gap = (result * y).sum() - (image[0] * pulled_back).sum()
    assert gap.abs() <= tolerance * torch.linalg.vector_norm(result) * torch.linalg.vector_norm(y)
