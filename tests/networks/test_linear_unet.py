"""The U-Net made linear: its matrix is I + P, the identity, or what the depth makes of it."""

from functools import partial

import pytest
import torch
from torch import nn

from framelets.frames import AveragePooling
from framelets.networks import linear_unet

assert_close = partial(torch.testing.assert_close, rtol=1e-14, atol=1e-14)

IDENTITY = torch.eye(32, dtype=torch.float64)


def matrix_of(network):
    columns = network(IDENTITY.reshape(32, 1, 4, 8)).detach()
    return columns.reshape(32, 32).mT


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("normalization", "gain"), [("orthonormal", 1), ("mean", 1 / 4)])
def test_matrix_of_the_plain_network(normalization, gain, depth):
    # R_1 = I + c P_1 and R_2 = I + A* R_1 A = I + c P_1 + c^2 P_2, for the projections P_i onto
    # images that are constant on blocks of 2^i x 2^i pixels.
    once = AveragePooling()
    expected = IDENTITY + gain * once.gram.to_matrix((4, 8))
    if depth == 2:
        expected = expected + gain**2 * (once @ once).gram.to_matrix((4, 8))

    network = linear_unet("average", depth, normalization, dtype=torch.float64)

    assert_close(matrix_of(network), expected)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("normalization", ["orthonormal", "mean"])
@pytest.mark.parametrize("pooling", ["dual-frame", "tight-frame"])
def test_matrix_of_the_repaired_networks(pooling, normalization, depth):
    network = linear_unet(pooling, depth, normalization, dtype=torch.float64)

    assert_close(matrix_of(network), IDENTITY)


def test_has_neither_activations_nor_additive_terms():
    network = linear_unet("max", depth=2)

    assert not any(isinstance(module, nn.ReLU) for module in network.modules())
    assert {parameter.ndim for parameter in network.parameters()} == {4}


def test_refuses_wrong_choices():
    with pytest.raises(ValueError, match="pooling must be one of"):
        linear_unet("mean")
    with pytest.raises(ValueError, match="depth must be at least 1"):
        linear_unet("average", 0)
