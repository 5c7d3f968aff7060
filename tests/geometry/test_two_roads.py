"""Two roads to one operator: matrices of the theory, and the recording of the network.

`frames.EncoderDecoder` multiplies out B~(x) B(x)^T from filters, poolings and masks; `linearize`
knows none of these, and replays the operations that it saw. Both must give one L = B~(x) B(x)^T,
one offset, one set of units, and the same frame elements where both cut the network in one place.
"""

from functools import partial

import pytest
import torch

from framelets.data import natural_images
from framelets.frames import (
    AveragePooling,
    EncoderDecoder,
    HaarFilterBank,
    MaxPooling,
    decoder_filters_of,
    encoder_decoder_of_stages,
    reconstruction_conditions,
)
from framelets.geometry import linearize
from framelets.networks import UNet
from framelets.tasks import load_shipped

assert_close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-11)
F64 = torch.float64


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(rng, *sizes):
    return torch.randn(*sizes, dtype=F64, generator=rng)


def assert_factors(expansion, local, order):
    """Compare frame elements; `order` gives our blocks of coefficients in their order."""
    sizes = [torch.Size(shape).numel() for shape in expansion.coefficient_shapes]
    theirs = [tuple(shape[1:]) for shape in local.coefficient_shapes]
    assert [expansion.coefficient_shapes[i] for i in order] == theirs
    blocks = expansion.analysis_matrix().split(sizes, dim=1)
    duals = expansion.synthesis_matrix().split(sizes, dim=1)
    assert_close(torch.cat([blocks[i] for i in order], 1).mT, local.analysis.to_matrix())
    assert_close(torch.cat([duals[i] for i in order], 1), local.synthesis.to_matrix())


@pytest.mark.parametrize("num_layers", [2, 3])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("shape", [(16,), (8, 16)], ids=["1-D", "2-D"])
def test_a_network_of_the_theory(num_layers, skip, shape, rng):
    channels, taps = (2, 3, 4, 2), (3,) * len(shape)
    if len(shape) == 1:
        sizes = [shape[0] // 2**i for i in range(num_layers)]
        poolings = [random(rng, n // 2, n) for n in sizes]
        unpoolings = [random(rng, n, n // 2) for n in sizes]
    else:
        poolings, unpoolings = [AveragePooling("mean")] * num_layers, None
    network = EncoderDecoder.of_filters(
        shape,
        [random(rng, channels[i + 1], channels[i], *taps) for i in range(num_layers)],
        [random(rng, channels[i], channels[i + 1], *taps) for i in range(num_layers)],
        poolings,
        unpoolings,
        skip=skip,
    )
    signal = random(rng, 1, *network.input_shape)
    expansion, local = network.at(signal[0]), linearize(network, signal)

    assert_close(expansion.frozen.to_matrix(), local.frozen.to_matrix())
    if len(shape) == 2:  # a matrix on positions is not seen as a pooling, and cut elsewhere
        assert_factors(expansion, local, list(reversed(range(1 + num_layers * skip))))
    assert torch.count_nonzero(local.offset) == 0
    assert local.activation_pattern.num_units == network.units.total
    assert local.activation_pattern.num_active == int(network.activation_pattern(signal).sum())


POOLINGS = {
    "average": {"pooling": AveragePooling("mean")},
    "dual-frame": {"pooling": AveragePooling("mean"), "subtract": True},
    "max": {"pooling": MaxPooling, "unpooling": 2 * AveragePooling("orthonormal").H},
    "tight-frame": {"pooling": HaarFilterBank()},
}
# Our blocks run from bottom to top, theirs in the order of execution.
ORDERS = {
    "average": [2, 1, 0],
    "dual-frame": [3, 4, 1, 2, 0],
    "max": [2, 1, 0],
    "tight-frame": [5, 6, 7, 8, 1, 2, 3, 4, 0],
}


def unet(pooling, bias_free, rng, **options):
    network = UNet(
        width=3, depth=2, pooling=pooling, bias_free=bias_free, normalization="none", **options
    ).double()
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 0.5 if parameter.ndim == 1 else (2 / parameter[0].numel()) ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, dtype=F64, generator=rng))
    return network


def circular(network):
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.padding_mode = "circular"
            module._reversed_padding_repeated_twice = [module.padding[0]] * 4
    return network


def algebra_of(network, shape, **pooling):
    return encoder_decoder_of_stages(
        network.encoders,
        network.bottom,
        network.decoders,
        network.last,
        shape=shape,
        residual=network.residual,
        **pooling,
    )


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("bias_free", [True, False], ids=["bias-free", "biases"])
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_our_unets(pooling, bias_free, padding, rng):
    network = unet(pooling, bias_free, rng)
    network = circular(network) if padding == "circular" else network
    image = random(rng, 1, 1, 8, 12)
    algebra = algebra_of(network, (8, 12), **POOLINGS[pooling])
    expansion = algebra.at(image[0])
    local = linearize(network, image, cut="bottom")

    assert algebra.padding == padding
    assert_close(algebra(image), network(image))
    assert_close(expansion.frozen.to_matrix(), local.frozen.to_matrix())
    assert_factors(expansion, local, ORDERS[pooling])
    assert_close(expansion.offset, local.offset)
    assert bool(torch.count_nonzero(local.offset)) != bias_free
    selected = 3 * 24 + 6 * 6 if pooling == "max" else 0  # recorded as units, all of them on
    assert local.activation_pattern.num_units == algebra.units.total + selected
    on = int(algebra.activation_pattern(image).sum())
    assert local.activation_pattern.num_active == on + selected


def test_a_residual_unet_has_its_input_among_the_coefficients(rng):
    network = unet("average", True, rng, residual=True)
    image = random(rng, 1, 1, 8, 8)
    expansion = algebra_of(network, (8, 8), pooling=AveragePooling("mean")).at(image[0])
    local = linearize(network, image)

    assert_close(expansion.frozen.to_matrix(), local.frozen.to_matrix())
    assert_factors(expansion, local, [3, 2, 1, 0])
    assert expansion.coefficient_shapes[3] == (1, 8, 8)


@pytest.fixture(scope="module")
def photograph():
    """A crop of a photograph, as the shipped network would see one: 64 x 64, mean 1."""
    image = natural_images()["camera"][100:164, 200:264].double()
    return (image / image.mean())[None, None]


def test_the_shipped_unet_at_a_photograph(photograph, rng):
    network = load_shipped("sparse-view-ct/unet").double()
    algebra = algebra_of(network, (64, 64), pooling=AveragePooling())
    expansion, local = algebra.at(photograph[0]), linearize(network, photograph)
    vectors = random(rng, 4, 1, 64, 64)

    def agree(ours, theirs):
        error = torch.linalg.vector_norm(ours - theirs)
        assert error < 1e-11 * torch.linalg.vector_norm(theirs)

    agree(expansion.frozen(vectors), local.frozen(vectors))
    agree(expansion.frozen.adjoint(vectors), local.frozen.adjoint(vectors))
    agree(expansion.offset, local.offset)
    agree(expansion.frozen(photograph[0]) + expansion.offset, network(photograph)[0])
    sizes = [torch.Size(shape).numel() for shape in expansion.coefficient_shapes]
    blocks = expansion.analysis(vectors).split(sizes, dim=-1)
    agree(torch.cat(blocks[::-1], -1), local.analysis(vectors))
    coefficients = random(rng, 2, expansion.num_columns)
    reordered = torch.cat(coefficients.split(sizes, dim=-1)[::-1], -1)
    agree(expansion.synthesis(coefficients), local.synthesis(reordered))
    assert torch.linalg.vector_norm(local.offset) > 1e-3 * torch.linalg.vector_norm(local.output)
    assert algebra.units.total == local.activation_pattern.num_units


def test_reconstruction_conditions_of_the_shipped_unet():
    # A level: the encoder's last convolution, average pooling, the first one of the decoder, cut
    # into what it does to the skip and to what comes up. The dense layer is written out here.
    network = load_shipped("sparse-view-ct/unet").double()
    encoder = network.encoders[0].convolution_1.weight
    decoder = network.decoders[0].convolution_0.weight
    channels = encoder.shape[0]
    filters = decoder_filters_of(decoder)
    pooling = AveragePooling()

    found = reconstruction_conditions(
        encoder,
        filters[:, channels:],
        pooling,
        shape=(8, 8),
        skip=True,
        skip_decoder_filters=filters[:, :channels],
        padding="zeros",
        origin="center",
    )

    def level(x):
        features = torch.nn.functional.conv2d(x, encoder, padding=1)
        up = pooling.adjoint(pooling(features))
        return torch.nn.functional.conv2d(torch.cat([features, up], 1), decoder, padding=1)

    units = torch.eye(channels * 64, dtype=F64).reshape(-1, channels, 8, 8)
    matrix = level(units).detach().reshape(channels * 64, -1)
    distance = torch.linalg.matrix_norm(matrix - torch.eye(channels * 64), ord=2)
    assert found.distance == pytest.approx(float(distance), rel=1e-11)
    assert found.alpha == pytest.approx(1 / 4, rel=1e-14)
    assert len(found.obstacles) == 3
