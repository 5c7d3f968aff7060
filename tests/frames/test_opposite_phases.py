"""Opposite phases: a network with ReLU that computes what the linear one does."""

import pytest
import torch

from framelets.frames import (
    AveragePooling,
    Branch,
    EncoderDecoder,
    EncoderDecoderLayer,
    HaarFilterBank,
    MaxPooling,
    opposite_phases,
    reconstructing_filters,
)

ALPHA = 1.7


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(rng, *sizes):
    return torch.randn(*sizes, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_perfect_reconstruction_through_relu(skip, num_layers, rng):
    filters = [random(rng, 2 ** (i + 1), 2**i, 2) for i in range(num_layers)]
    duals = [reconstructing_filters(psi, ALPHA + skip) for psi in filters]
    rotation = torch.linalg.qr(random(rng, 9, 9)).Q
    linear = EncoderDecoder.of_filters(
        (9,),
        filters,
        duals,
        [rotation] * num_layers,
        [ALPHA * rotation.mT] * num_layers,
        skip=skip,
        relu=False,
    )
    network = opposite_phases(linear)
    signal = random(rng, 5, 1, 9)

    samples = [9 * 2**i for i in range(num_layers + 1)]  # of the linear network's features
    assert network.units.encoder == tuple(2 * size for size in samples[1:])
    assert network.units.decoder == tuple(2 * size * (size > 9) for size in samples[:-1])
    assert network.units.skip == tuple(2 * size * skip for size in samples[1:])
    for signed in (signal, -signal):
        error = torch.linalg.vector_norm(network(signed) - signed)
        assert error < 1e-11 * torch.linalg.vector_norm(signal)
    # Half of the units are on, at any signal: it is the same frame expansion, chosen anew.
    on = network.activation_pattern(signal)
    assert torch.equal(on.sum(-1), torch.full((5,), network.units.total // 2))
    assert not torch.equal(on[0], on[1])


def test_one_layer_has_the_published_filters(rng):
    psi, dual = random(rng, 3, 1, 2), random(rng, 1, 3, 2)
    linear = EncoderDecoder.of_filters((4,), [psi], [dual], relu=False)

    (layer,) = opposite_phases(linear).layers

    assert torch.equal(layer.main.encoder_filters, torch.cat([psi, -psi], 0))
    assert torch.equal(layer.main.decoder_filters, torch.cat([dual, -dual], 1))
    assert layer.main.relu
    assert not layer.relu


def test_any_linear_network_with_biases_skips_and_bands(rng):
    def branch(channels_in, channels, pooling, decoder_channels):
        return Branch(
            random(rng, channels, channels_in, 3, 3),
            random(rng, channels_in, decoder_channels, 3, 3),
            pooling=pooling,
            encoder_bias=random(rng, channels),
        )

    layers = [
        EncoderDecoderLayer(
            branch(1, 2, HaarFilterBank(), 2), (Branch(), branch(1, 3, None, 3)), random(rng, 1)
        ),
        EncoderDecoderLayer(branch(8, 3, AveragePooling(), 3), (Branch(),), random(rng, 8)),
    ]
    linear = EncoderDecoder(layers, (8, 12))
    signal = random(rng, 2, 1, 8, 12)

    torch.testing.assert_close(opposite_phases(linear)(signal), linear(signal))


def test_refuses_what_is_not_linear():
    relu = EncoderDecoder([EncoderDecoderLayer(Branch(relu=True))], (4,))
    with pytest.raises(ValueError, match="take without_relu"):
        opposite_phases(relu)
    pooling = Branch(pooling=MaxPooling, unpooling=AveragePooling().H)
    with pytest.raises(ValueError, match="poolings depend on it"):
        opposite_phases(EncoderDecoder([EncoderDecoderLayer(pooling)], (4, 4)))
