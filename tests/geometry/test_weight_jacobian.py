"""The Jacobian by the weights: gradient, shifts of the features, what a skip adds."""

import pytest
import torch
from torch import nn

from framelets.frames import EncoderDecoder, HankelLifting
from framelets.geometry import WeightJacobian, landscape_condition
from framelets.networks import UNet
from framelets.testing import assert_adjoint

F64 = torch.float64


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(rng, *sizes):
    return torch.randn(*sizes, dtype=F64, generator=rng)


@pytest.fixture
def unet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(width=2, depth=1).double().eval()


def encoder_decoder(rng, *, skip):
    means = torch.eye(4, dtype=F64).kron(torch.tensor([[0.5, 0.5]], dtype=F64))
    return EncoderDecoder.of_filters(
        (8,),
        [random(rng, 3, 1, 3)],
        [random(rng, 1, 3, 3)],
        poolings=[means],
        skip=skip,
        skip_decoder_filters=[random(rng, 1, 3, 3)] if skip else None,
    )


def dense(network, images, names=None):
    """Return J_W by automatic differentiation of every output."""
    parameters = dict(network.named_parameters())
    chosen = [parameters[name] for name in names or parameters]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(value, chosen, retain_graph=True)])
        for value in network(images).flatten()
    ]
    return torch.stack(rows)


def test_adjoint(unet, rng):
    assert_adjoint(WeightJacobian(unet, random(rng, 2, 1, 4, 4)))


def test_equals_automatic_differentiation(unet, rng):
    images = random(rng, 2, 1, 4, 4)
    operator = WeightJacobian(unet, images)

    matrix = operator.adjoint(torch.eye(32, dtype=F64).reshape(32, 2, 1, 4, 4))

    torch.testing.assert_close(matrix, dense(unet, images), rtol=1e-11, atol=1e-11)


def test_gradient_of_the_loss_is_its_adjoint_of_the_residuals(unet, rng):
    images, wanted = random(rng, 3, 1, 4, 4), random(rng, 3, 1, 4, 4)
    residuals = unet(images) - wanted
    (residuals.square().sum() / 2).backward()
    gradient = torch.cat([value.grad.flatten() for value in unet.parameters()])

    found = WeightJacobian(unet, images).adjoint(residuals.detach())

    torch.testing.assert_close(found, gradient, rtol=1e-11, atol=1e-11)


def test_filters_of_the_last_level_see_shifts_of_the_features(rng):
    # y = sum_k z_k * psi_k, a convolution with taps from index 0: the column of tap j is z_k
    # shifted by j.
    network = encoder_decoder(rng, skip=False)
    signal = random(rng, 1, 1, 8)
    names = [name for name, value in network.named_parameters() if value.shape == (1, 3, 3)]
    layer = network.layers[0].main
    hankel = HankelLifting((8,), (3,), num_channels=1)
    filtered = torch.stack([hankel(signal[0]) @ psi.flatten() for psi in layer.encoder_filters])
    features = layer.pooling.adjoint(layer.pooling(filtered).relu())
    columns = [row.roll(j) for row in features for j in range(3)]

    found = dense(network, signal, names)

    assert names
    torch.testing.assert_close(found, torch.stack(columns, dim=1), rtol=1e-11, atol=1e-11)


def test_a_skip_never_shrinks_a_singular_value(rng):
    with_skip = encoder_decoder(rng, skip=True)
    without = with_skip.without_skips()
    signal = random(rng, 2, 1, 8)
    decoders = {}
    for name, network in (("with", with_skip), ("without", without)):
        decoders[name] = [n for n, value in network.named_parameters() if value.shape == (1, 3, 3)]

    values = {
        name: torch.linalg.svdvals(dense(network, signal, decoders[name]))
        for name, network in (("with", with_skip), ("without", without))
    }
    found = landscape_condition(with_skip, signal, decoders["with"])
    bare = landscape_condition(without, signal, decoders["without"])

    assert len(decoders["with"]) == 2
    assert len(decoders["without"]) == 1
    assert bool((values["with"][: len(values["without"])] >= values["without"] - 1e-12).all())
    assert found.rank > bare.rank
    assert found.smallest >= bare.smallest
    assert (bare.num_weights, found.num_weights) == (9, 18)


def test_a_critical_point_of_full_rank_fits_every_sample():
    # One weight a sample: rank 1 of 1, gradient w x - y = 0 only where the residual is.
    network = nn.Linear(1, 1, bias=False).double()
    images = torch.tensor([[2.0]], dtype=F64)
    with torch.no_grad():
        network.weight.fill_(1.5)

    full = landscape_condition(network, images)
    short = landscape_condition(network, torch.tensor([[2.0], [1.0]], dtype=F64))

    assert (full.holds, full.smallest, full.largest) == (True, 2.0, 2.0)
    # Two samples share it: the least-squares weight is critical, with residuals that are not zero.
    assert (short.holds, short.rank, short.smallest) == (False, 1, 0.0)


def test_a_wider_network_reaches_full_rank(rng):
    images = random(rng, 2, 1, 4, 4)
    found = {}
    for width in (1, 8):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = UNet(width=width, depth=1).double().eval()
        found[width] = landscape_condition(network, images)

    assert found[8].holds
    assert found[8].smallest > found[1].smallest


def test_landscape_condition_refuses_a_large_matrix(unet, rng):
    with pytest.raises(ValueError, match=r"32 x \d+ entries, more than max_entries=10; take fewer"):
        landscape_condition(unet, random(rng, 2, 1, 4, 4), max_entries=10)


def test_weight_jacobian_refuses_unknown_names(unet, rng):
    with pytest.raises(ValueError, match="names must be one of"):
        WeightJacobian(unet, random(rng, 1, 1, 4, 4), ["weights"])
    with pytest.raises(ValueError, match="at least one parameter"):
        WeightJacobian(unet, random(rng, 1, 1, 4, 4), [])
