"""Conditions of perfect reconstruction: met, missed one at a time, and against the distance."""

import math
from functools import partial

import pytest
import torch

from framelets.frames import (
    AveragePooling,
    Branch,
    EncoderDecoder,
    EncoderDecoderLayer,
    HaarFilterBank,
    StridedPooling,
    decoder_filters_of,
    network_conditions,
    reconstructing_filters,
    reconstruction_conditions,
)

ALPHA = 1.7
each_skip = pytest.mark.parametrize("skip", [False, True])


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(rng, *sizes):
    return torch.randn(*sizes, dtype=torch.float64, generator=rng)


def rotation(rng, size):
    return torch.linalg.qr(random(rng, size, size)).Q


def three_layers(skip, rng, size=10):
    """Three taps, three times the channels each layer, rotations for pooling, times alpha back."""
    filters = [random(rng, 3 ** (i + 1), 3**i, 3) for i in range(3)]
    duals = [reconstructing_filters(psi, ALPHA + skip) for psi in filters]
    poolings = [rotation(rng, size) for _ in range(3)]
    unpoolings = [ALPHA * pooling.mT for pooling in poolings]
    return filters, duals, poolings, unpoolings


@each_skip
def test_perfect_reconstruction_of_three_layers(skip, rng):
    filters, duals, poolings, unpoolings = three_layers(skip, rng)
    network = EncoderDecoder.of_filters(
        (10,), filters, duals, poolings, unpoolings, skip=skip, relu=False
    )
    signal = random(rng, 4, 1, 10)

    found = network_conditions(network)

    error = torch.linalg.vector_norm(network(signal) - signal)
    assert error < 1e-10 * torch.linalg.vector_norm(signal)
    assert found.distance < 1e-10
    for layer in found.layers:
        assert layer.alpha == pytest.approx(ALPHA, rel=1e-13)
        assert layer.skip == ("same filters" if skip else "none")
        assert layer.pooling_residual < 1e-12
        assert layer.filter_residual < 1e-10
        assert layer.frequency_residual < 1e-10
        assert layer.distance < 1e-10
        assert layer.obstacles == ()


@each_skip
def test_filters_of_the_other_case_miss_by_the_other_gain(skip, rng):
    # 1 / (r alpha) with a skip gives (alpha + 1) / alpha of the signal, and the reverse.
    filters, duals, poolings, unpoolings = three_layers(not skip, rng)

    found = reconstruction_conditions(
        filters[0], duals[0], poolings[0], unpoolings[0], shape=(10,), skip=skip
    )

    factor = (ALPHA + 1) / ALPHA if skip else ALPHA / (ALPHA + 1)
    for residual in (found.filter_residual, found.frequency_residual, found.distance):
        assert residual == pytest.approx(abs(factor - 1), rel=1e-10)


@each_skip
def test_a_broken_pooling_shows_in_the_pooling_residual_alone(skip, rng):
    (psi, *_), (dual, *_), (pooling, *_), (unpooling, *_) = three_layers(skip, rng)
    broken = random(rng, 10, 10)
    broken = 1e-3 * (broken - (broken @ pooling).trace() / 10 * pooling.mT)  # alpha stays
    before = 0.0
    for factor in (1, 10):
        found = reconstruction_conditions(
            psi, dual, pooling, unpooling + factor * broken, shape=(10,), skip=skip
        )
        assert found.pooling_residual > max(1e-4, 5 * before)
        assert found.filter_residual < 1e-10
        assert found.frequency_residual < 1e-10
        assert found.distance > 1e-5
        before = found.pooling_residual


@each_skip
def test_a_broken_filter_shows_in_the_filter_residuals(skip, rng):
    (psi, *_), (dual, *_), (pooling, *_), (unpooling, *_) = three_layers(skip, rng)
    broken = 1e-3 * random(rng, *dual.shape)
    before = 0.0
    for factor in (1, 10):
        found = reconstruction_conditions(
            psi, dual + factor * broken, pooling, unpooling, shape=(10,), skip=skip
        )
        assert found.pooling_residual < 1e-12
        assert found.filter_residual > max(1e-4, 5 * before)
        assert found.frequency_residual > 1e-4
        before = found.filter_residual


@each_skip
@pytest.mark.parametrize("shape", [(10,), (5, 4), (2, 3)], ids=str)
def test_with_the_pooling_condition_the_distance_is_that_of_the_frequencies(skip, shape, rng):
    # The smallest shape is shorter than the filters.
    taps = (3,) * len(shape)
    psi, dual = random(rng, 5, 2, *taps), random(rng, 2, 5, *taps)
    own = {}
    if skip:
        own = {
            "skip_encoder_filters": random(rng, 4, 2, *taps),
            "skip_decoder_filters": random(rng, 2, 4, *taps),
        }

    found = reconstruction_conditions(psi, dual, shape=shape, skip=skip, **own)

    assert found.alpha == 1
    assert found.pooling_residual == 0
    assert found.distance == pytest.approx(found.frequency_residual, rel=1e-12)
    assert found.distance > 1
    assert found.filter_residual > found.distance


@each_skip
def test_with_the_filter_condition_the_distance_is_that_of_the_mean_pooling(skip, rng):
    psi = random(rng, 7, 2, 3)
    pooling, unpooling = random(rng, 4, 6), random(rng, 6, 4)
    alpha = float((unpooling @ pooling).trace()) / 6

    found = reconstruction_conditions(
        psi,
        reconstructing_filters(psi, alpha + skip),
        pooling,
        unpooling,
        shape=(6,),
        skip=skip,
    )

    assert found.alpha == pytest.approx(alpha, rel=1e-12)
    assert found.filter_residual < 1e-10
    assert found.distance == pytest.approx(found.mean_pooling_residual, rel=1e-9)
    assert 0.1 < found.distance < found.pooling_residual


def test_own_filters_of_the_skip_add_their_share(rng):
    # alpha M + M_s = I / r: the main filters give 1/4 of it, the skip's the rest.
    psi, other = random(rng, 6, 2, 3), random(rng, 8, 2, 3)
    pooling = rotation(rng, 8)

    found = reconstruction_conditions(
        psi,
        reconstructing_filters(psi, 4 * ALPHA),
        pooling,
        ALPHA * pooling.mT,
        shape=(8,),
        skip=True,
        skip_encoder_filters=other,
        skip_decoder_filters=reconstructing_filters(other, 4 / 3),
    )

    assert found.skip == "own filters"
    assert found.filter_residual < 1e-10
    assert found.frequency_residual < 1e-10
    assert found.distance < 1e-10


def test_haar_pooling_reconstructs_and_average_pooling_does_not(rng):
    psi = random(rng, 9, 1, 3, 3)
    dual = reconstructing_filters(psi, 1.0)

    haar = reconstruction_conditions(psi, dual, HaarFilterBank(), shape=(6, 4))
    average = reconstruction_conditions(psi, dual, AveragePooling(), shape=(6, 4))

    assert (haar.alpha, haar.num_pooled) == (1.0, 24)
    assert haar.distance < 1e-12
    assert average.alpha == pytest.approx(1 / 4)
    assert average.pooling_residual == pytest.approx(3)  # P / alpha - I is 3 on block means
    assert average.distance >= 3 / 4
    assert "pooling keeps 6 of 24 positions" in average.obstacles[0]


def test_strided_pooling_reconstructs_though_the_pooling_condition_fails():
    impulses = torch.eye(4, dtype=torch.float64).reshape(4, 1, 2, 2)

    found = reconstruction_conditions(
        impulses, impulses.transpose(0, 1), StridedPooling(), shape=(6, 4)
    )

    assert found.alpha == 1 / 4
    assert found.pooling_residual == 3
    assert (found.mean_pooling_residual, found.filter_residual, found.distance) == (0, 0, 0)


def test_an_impulse_reconstructs_though_the_filter_condition_fails():
    impulse = torch.tensor([[[1.0, 0.0, 0.0]]])

    found = reconstruction_conditions(impulse, impulse, shape=(5,))

    assert found.filter_residual == 2  # r Psi Psi~^T = diag(3, 0, 0)
    assert (found.frequency_residual, found.distance) == (0, 0)
    assert "channels (1) are fewer than taps times input channels (3)" in found.obstacles[0]


@pytest.mark.parametrize(("shape", "missed"), [((7,), 1 / 3), ((5, 6), 5 / 9)], ids=["1-D", "2-D"])
def test_zeros_beyond_the_ends_cost_what_taps_are_lost_there(shape, missed, rng):
    # At an end one of three taps falls outside, at a corner five of nine.
    taps = (3,) * len(shape)
    psi = random(rng, 10, 1, *taps)

    found = reconstruction_conditions(
        psi,
        reconstructing_filters(psi, 1.0),
        shape=shape,
        padding="zeros",
        origin="center",
    )

    assert found.filter_residual < 1e-10
    assert found.distance == pytest.approx(missed, rel=1e-9)
    assert "in the interior only" in found.obstacles[-1]


def test_filters_of_different_lengths_meet_at_the_sample():
    # A 1x1 decoder behind a 3x3 impulse: aligned at the center, they are each other's inverse.
    impulse = torch.zeros(1, 1, 3, 3)
    impulse[..., 1, 1] = 4

    found = reconstruction_conditions(
        impulse, torch.full((1, 1, 1, 1), 0.25), shape=(4, 4), origin="center"
    )

    assert (found.frequency_residual, found.distance) == (0, 0)
    assert found.num_taps == 9


def test_convolution_layers_are_turned_around(rng):
    # conv2d correlates, conv_transpose2d is its adjoint: encoder w, decoder w again as a weight
    # flipped. An orthogonal filter bank then reconstructs.
    psi = torch.linalg.qr(random(rng, 9, 9)).Q.reshape(9, 1, 3, 3) / 3
    layer = torch.nn.Conv2d(9, 1, 3, padding=1, bias=False, padding_mode="circular").double()
    with torch.no_grad():
        layer.weight.copy_(psi.transpose(0, 1).flip(2, 3))
    signal = random(rng, 1, 1, 6, 6)
    padded = torch.nn.functional.pad(signal, (1, 1, 1, 1), mode="circular")

    found = reconstruction_conditions(
        psi, decoder_filters_of(layer.weight), shape=(6, 6), origin="center"
    )

    assert found.distance < 1e-12
    torch.testing.assert_close(layer(torch.nn.functional.conv2d(padded, psi)), signal)


def test_a_large_layer_is_measured_from_products(rng):
    psi, dual = random(rng, 5, 3, 3, 3), random(rng, 3, 5, 3, 3)
    shape = (20, 24)  # 1440 entries

    found = reconstruction_conditions(psi, dual, shape=shape)

    assert 0.98 * found.frequency_residual < found.distance
    assert found.distance < found.frequency_residual * (1 + 1e-10)


def test_pooling_without_trace_has_no_fit():
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    impulse = torch.ones(1, 1, 1)

    found = reconstruction_conditions(impulse, impulse, swap, torch.eye(2), shape=(2,))

    assert found.alpha == 0
    assert math.isinf(found.pooling_residual)
    assert found.distance == 2


def test_counts_that_forbid(rng):
    found = reconstruction_conditions(
        random(rng, 2, 3, 3), random(rng, 3, 2, 3), shape=(4,), padding="zeros"
    )

    words = "\n".join(found.obstacles)
    assert "channels (2) are fewer than taps times input channels (9)" in words
    assert "channels (2) are fewer than input channels (3)" in words
    assert "coefficients (8) are fewer than entries (12), so nothing reconstructs" in words
    assert found.filter_residual >= 1
    assert found.frequency_residual >= 1
    assert found.distance >= 1


def test_printed_form():
    impulse = torch.tensor([[[1.0, 0.0, 0.0]]])
    text = str(reconstruction_conditions(impulse, impulse / 2, shape=(5,), skip=True))

    assert text.splitlines() == [
        "1 -> 1 channels, r = 3 taps, 5 -> 5 positions, skip with same filters, circular padding",
        "  pooling  Phi~ Phi^T = alpha I, alpha = 1     missed by 0",
        "           the same in the mean over the taps  missed by 0",
        "  filters  r (alpha + 1) Psi Psi~^T = I        missed by 2",
        "           (alpha + 1) F(psi~) F(psi)^H = I    missed by 0",
        "  layer    D E^T + S~ S^T = I                  missed by 0",
        "  obstacle: channels (1) are fewer than taps times input channels (3), so the filter "
        "condition lacks rank",
    ]


def test_printed_form_of_a_network():
    impulse = torch.ones(1, 1, 1)
    network = EncoderDecoder.of_filters((4,), [impulse, 2 * impulse], [impulse, impulse])

    lines = str(network_conditions(network)).splitlines()

    assert lines[0].startswith("layer 1: 1 -> 1 channels, r = 1 taps")
    assert lines[-1] == "network: B~ B^T = I missed by 1"


def test_dual_by_its_definition(rng):
    psi = random(rng, 13, 2, 2, 3)
    dual = reconstructing_filters(psi, 0.3)
    stacked = torch.stack([psi[j].flatten() for j in range(13)], 1)
    other = torch.stack([torch.cat([dual[a, k].flatten() for a in range(2)]) for k in range(13)], 1)

    expected = torch.eye(12, dtype=torch.float64) / (6 * 0.3)

    torch.testing.assert_close(stacked @ other.mT, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gain", [0.0, math.inf, math.nan])
def test_refuses_gains_that_no_filters_undo(gain):
    with pytest.raises(ValueError, match="gain must be finite and not 0"):
        reconstructing_filters(torch.eye(2).reshape(2, 1, 2), gain)


def test_zeros_beyond_the_ends_are_an_obstacle_to_the_filter_condition_alone(rng):
    # Filters of the filter condition lose taps at the ends; padded impulses, of the condition at
    # each frequency alone, have none to lose.
    psi = random(rng, 3, 1, 3)
    check = partial(reconstruction_conditions, shape=(8,), padding="zeros", origin="center")
    impulse = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64)

    by_filters, by_frequency = check(psi, reconstructing_filters(psi, 1.0)), check(impulse, impulse)

    assert by_filters.filter_residual < 1e-12 < 0.1 < by_filters.distance
    assert by_frequency.distance < 1e-12 < 0.1 < by_frequency.filter_residual
    for found in (by_filters, by_frequency):
        assert "the filter condition make the layer I in the interior" in found.obstacles[-1]


def test_refuses_filters_without_a_dual(rng):
    with pytest.raises(ValueError, match="must span all 6 taps, got rank 5"):
        reconstructing_filters(random(rng, 5, 2, 3), 1.0)


def test_refuses_other_layers():
    impulse, other = torch.ones(1, 1, 1), torch.ones(2, 1, 1)
    with pytest.raises(ValueError, match=r"must make the channels that it takes .* got 2 from 1"):
        reconstruction_conditions(impulse, other, shape=(4,))
    with pytest.raises(ValueError, match=r"at most 1024 positions, got \(33, 32\)"):
        reconstruction_conditions(impulse[..., None], impulse[..., None], shape=(33, 32))
    two = EncoderDecoder([EncoderDecoderLayer(Branch(), (Branch(), Branch()))], (4,))
    with pytest.raises(ValueError, match="at most one skip, without pooling"):
        network_conditions(two)
