"""Counted bounds of the number of linear maps: by the theory's formula, by hand, by brute force."""

import math
from itertools import pairwise, product

import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.frames import EncoderDecoder
from framelets.geometry import arrangement_bound, expressivity_bound, linearize
from framelets.networks import UNet

DTYPE = torch.float64


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def encoder_decoder(rng, channels=(1, 2, 4), size=8, taps=3, skip=False):
    pairs = list(pairwise(channels))
    poolings = [
        torch.eye(size // 2 ** (i + 1), dtype=DTYPE).repeat_interleave(2, 1) / 2
        for i in range(len(pairs))
    ]
    encoder = [torch.randn(b, a, taps, dtype=DTYPE, generator=rng) for a, b in pairs]
    decoder = [torch.randn(a, b, taps, dtype=DTYPE, generator=rng) for a, b in pairs]
    return EncoderDecoder.of_filters((size,), encoder, decoder, poolings, skip=skip)


@pytest.mark.parametrize(("skip", "exponent"), [(False, 24), (True, 56)])
def test_the_theorys_example_has_its_exponents(rng, skip, exponent):
    # Two means of 8 positions with 1, 2, 4 channels: d = (8, 8), s = (16, 16).
    network = encoder_decoder(rng, skip=skip)

    bound = expressivity_bound(network, torch.randn(1, 1, 8, dtype=DTYPE, generator=rng))

    assert bound.log2_maps == bound.num_units == exponent
    assert bound.log2_maps_without_skips == 24
    assert bound.log2_maps_of_skips == exponent - 24
    assert bound.has_bottom
    assert f"at most 2^{exponent} linear maps" in str(bound)


@pytest.mark.parametrize("channels", [(1, 3), (2, 3, 5), (1, 2, 3, 2)])
def test_the_formula_of_layers_and_skips(rng, channels):
    network = encoder_decoder(rng, channels, 16, skip=True)
    depth = len(channels) - 1
    # d_l = m_l q_l and s_l = m_(l-1) q_l, with m_l = 16 / 2^l.
    d = [16 // 2**layer * channels[layer] for layer in range(1, depth + 1)]
    s = [16 // 2 ** (layer - 1) * channels[layer] for layer in range(1, depth + 1)]

    image = torch.randn(1, channels[0], 16, dtype=DTYPE, generator=rng)
    bound = expressivity_bound(network, image)

    assert bound.log2_maps_without_skips == 2 * sum(d) - d[-1]
    assert bound.log2_maps_of_skips == sum(s)
    assert bound.num_units == network.units.total
    plain = expressivity_bound(network.without_skips(), image)
    assert plain.log2_maps == bound.log2_maps_without_skips
    assert plain.log2_maps_of_skips == 0


def test_features_that_are_only_handed_across_add_no_units(rng):
    image = torch.randn(1, 1, 16, 16, generator=rng)
    bounds = [
        expressivity_bound(UNet(width=3, depth=2, normalization="none", skip=skip).eval(), image)
        for skip in (True, False)
    ]

    # Two maps of 3 channels each way, 6 and 6 on the second level but 3 at its end, 12 and 6 below.
    units = 256 * (3 + 3 + 3 + 3) + 64 * (6 + 6 + 6 + 3) + 16 * (12 + 6)
    assert [bound.log2_maps for bound in bounds] == [units, units]
    assert [bound.log2_maps_of_skips for bound in bounds] == [0, 0]


def test_choices_by_hand(rng):
    def network(x):
        pooled = functional.max_pool2d(x, 3, 2, 1)  # windows of 4, 6, 6, 9 entries
        bent = torch.cat([functional.leaky_relu(pooled, 0.1), pooled.abs()], 1)
        return torch.maximum(bent.clamp(-1, 1), bent.amax((2, 3), keepdim=True))

    bound = expressivity_bound(network, torch.randn(1, 1, 4, 4, dtype=DTYPE, generator=rng))

    expected = {
        "max_pool": math.log2(4 * 6 * 6 * 9),
        "leaky_relu": 4,
        "abs": 4,
        "clamp": 8 * math.log2(3),
        "max": 2 * math.log2(4),
        "maximum": 8,
    }
    found = {layer.layer.kind: layer.log2_choices for layer in bound.layers}
    assert found == pytest.approx(expected)
    assert bound.log2_maps == pytest.approx(sum(expected.values()))


def test_units_of_a_pixel_are_those_on_which_it_depends(rng):
    # A pixel of the last map sees 1, then 3 x 3, then 5 x 5 pixels.
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(),
        nn.Conv2d(3, 1, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    image = torch.randn(1, 1, 9, 9, generator=rng)

    inside = expressivity_bound(network, image)
    corner = expressivity_bound(network, image, entry=(0, 0, 0))

    assert [layer.num_units_of_pixel for layer in inside.layers] == [2 * 25, 3 * 9, 1]
    assert [layer.num_units_of_pixel for layer in corner.layers] == [2 * 9, 3 * 4, 1]
    assert inside.log2_maps_of_pixel == inside.num_units_of_pixel == 78
    assert inside.entry == (0, 4, 4)


def test_units_of_a_pixel_through_pooling_and_skip():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(width=2, depth=1, pooling="max", normalization="none").double().eval()
    image = torch.randn(1, 1, 16, 16, dtype=DTYPE, generator=torch.Generator().manual_seed(3))
    recorded = {}
    layers = {name: m for name, m in network.named_modules() if isinstance(m, nn.ReLU)}
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, name=name: recorded.setdefault(name, out))
        for name, layer in layers.items()
    ]
    # All units on: then the pixel depends on every unit that can reach it.
    for layer in layers.values():
        layer.forward = lambda x: functional.leaky_relu(x, 0.5)
    output = network(image)
    for hook in hooks:
        hook.remove()

    bound = expressivity_bound(network, image, entry=(0, 8, 8))

    for layer in bound.layers:
        if layer.layer.kind == "leaky_relu":
            (gradient,) = torch.autograd.grad(
                output[0, 0, 8, 8], recorded[layer.layer.name], retain_graph=True
            )
            if "bottom" in layer.layer.name or "decoders" in layer.layer.name:
                assert layer.num_units_of_pixel == int((gradient != 0).sum())
            else:  # pooling may choose any of its window
                assert layer.num_units_of_pixel >= int((gradient != 0).sum())


@pytest.mark.parametrize("bias", [True, False])
def test_arrangements_by_brute_force(rng, bias):
    weights = torch.randn(6, 3, dtype=DTYPE, generator=rng)
    constants = bias * torch.randn(6, dtype=DTYPE, generator=rng)
    inputs = 5 * torch.randn(400_000, 3, dtype=DTYPE, generator=rng)
    signs = (inputs @ weights.mT + constants > 0).long()

    seen = len(torch.unique((signs * 2 ** torch.arange(6)).sum(1)))

    bound = 2 ** arrangement_bound(6, 3, bias=bias)
    # 1 + 6 + 15 + 20 = 42 and 2 (1 + 5 + 10) = 32.
    assert bound == pytest.approx(42 if bias else 32)
    assert seen <= round(bound)
    assert seen >= 0.9 * bound


def test_arrangements_of_more_inputs_than_units_use_all_signs():
    assert arrangement_bound(5, 9, bias=False) == arrangement_bound(5, 5, bias=True) == 5
    assert arrangement_bound(10_000, 784, bias=True) < 10_000


def test_no_more_maps_than_the_bound():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    network = network.double()
    maps = set()
    for point in product(torch.linspace(-3, 3, 15).tolist(), repeat=2):
        local = linearize(network, torch.tensor([point], dtype=DTYPE))
        maps.add(tuple(local.frozen.to_matrix(dtype=DTYPE).flatten().mul(1e8).round().tolist()))

    bound = expressivity_bound(network, torch.zeros(1, 2, dtype=DTYPE))

    assert bound.log2_maps == 5
    assert 1 < len(maps) <= 2**bound.log2_maps
    assert not bound.has_bottom


def test_bound_refuses_what_it_cannot_count():
    image = torch.randn(1, 2, 8, 8)
    with pytest.raises(ValueError, match="not piecewise linear"):
        expressivity_bound(nn.InstanceNorm2d(2), image)
    with pytest.raises(ValueError, match=r"entry must be an index into the output of shape"):
        expressivity_bound(nn.ReLU(), image, entry=(0, 8, 0))
    with pytest.raises(ValueError, match="num_units must be at least 1, got 0"):
        arrangement_bound(0, 3, bias=True)
