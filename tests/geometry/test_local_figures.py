"""The figures of a network at an image: by hand, and against dense Jacobians."""

import math

import pytest
import torch
from torch import nn

from framelets.geometry import linearize, local_figures
from framelets.networks import UNet


def test_by_hand():
    # f(x) = 3 relu(x) + 4 at (1, -2): L = diag(3, 0), b = (4, 4), f = (7, 4).
    image = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    found = local_figures(linearize(lambda x: 3 * torch.relu(x) + 4, image))

    assert found.replay_error == 0
    assert found.input_norm == pytest.approx(math.sqrt(5))
    assert found.output_norm == pytest.approx(math.sqrt(65))
    assert found.linear_norm == pytest.approx(3)
    assert found.offset_norm == pytest.approx(math.sqrt(32))
    assert found.offset_share == pytest.approx(math.sqrt(32 / 65))
    assert found.lipschitz_lower == pytest.approx(3)
    assert found.lipschitz_upper >= 3 * (1 - 1e-12)
    assert (found.num_units, found.num_active, found.active_share) == (2, 1, 0.5)
    assert found.piecewise_linear


def test_against_the_dense_jacobian():
    torch.manual_seed(0)
    network = (
        UNet(width=3, depth=2, normalization="none")
        .double()
        .eval()
        .requires_grad_(requires_grad=False)
    )
    image = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    switched = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *given: switched.append(given[2] > 0))
    network(image)
    on = torch.cat([mask.flatten() for mask in switched]).double().mean()
    jacobian = torch.func.jacrev(network)(image).reshape(256, 256)
    output = network(image)[0]

    found = local_figures(linearize(network, image), num_probes=400)

    largest = float(torch.linalg.matrix_norm(jacobian, 2))
    assert found.lipschitz_lower <= largest * (1 + 1e-12)
    assert largest <= found.lipschitz_upper <= 1.011 * found.lipschitz_lower
    offset = output.flatten() - jacobian @ image.flatten()
    assert found.offset_norm == pytest.approx(float(offset.norm()), rel=1e-10)
    assert found.offset_share == pytest.approx(float(offset.norm() / output.norm()), rel=1e-10)
    assert found.active_share == pytest.approx(float(on))
    # The mean square of |J z| / |z| is |J|_F^2 / n; 400 probes know its root to a few percent.
    assert found.noise_gain == pytest.approx(float(jacobian.norm()) / 16, rel=0.03)


def test_nothing_to_divide_by():
    found = local_figures(linearize(lambda x: 0 * x, torch.ones(1, 1, 2, 2)))

    assert found.offset_share is None
    assert found.active_share is None
    assert found.lipschitz_lower == 0


def test_another_seed_is_another_estimate():
    torch.manual_seed(0)
    local = linearize(nn.Conv2d(1, 2, 3), torch.rand(1, 1, 6, 6))
    first, again, other = (local_figures(local, seed=seed) for seed in (0, 0, 1))

    assert first == again
    assert first.noise_gain != other.noise_gain
    assert first.offset_share == other.offset_share
