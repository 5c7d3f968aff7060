"""Counting linear representations where their number is known by hand."""

import pytest
import torch

from framelets.core import LinearOperator
from framelets.geometry import count_distinct, filter_keys
from framelets.machines import FittedNetwork
from framelets.machines.perceptron import PerceptronNetwork


def perceptron_through_the_origin(num_hidden, window, seed=0):
    """Build a perceptron without constants: all hyperplanes pass through zero."""
    network = PerceptronNetwork(num_hidden, window).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
        network.hidden.bias.zero_()
    return FittedNetwork(network, max(window) // 2)


def white_noise(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("num_hidden", [1, 2, 5])
def test_lines_through_the_origin_cut_the_plane_into_twice_their_number(num_hidden):
    machine = perceptron_through_the_origin(num_hidden, (1, 2))

    # One unit: one half plane is zero, the other not.
    assert machine.num_representations(white_noise(1, 70, 70)) == 2 * num_hidden


def test_planes_through_the_origin_of_space():
    # 2 (C(3, 0) + C(3, 1) + C(3, 2)) = 14 regions of four planes.
    machine = perceptron_through_the_origin(4, (1, 3))
    normals = torch.cat([torch.eye(3), torch.ones(1, 3)])  # no three of them in one plane
    with torch.no_grad():
        machine._double.hidden.weight[:, 0, 0] = normals.double()

    assert machine.num_representations(white_noise(1, 70, 70)) == 14


def test_a_unit_that_nobody_reads_is_not_counted():
    machine = perceptron_through_the_origin(5, (1, 2))
    with torch.no_grad():
        machine._double.output.weight[:, 0] = 0
    images = white_noise(1, 70, 70)

    assert machine.num_representations(images) == 2 * 4
    patterns = machine.switches(images).reshape(5, 70, 70).flatten(1).mT
    assert len(torch.unique(patterns, dim=0)) == 2 * 5


def test_shifted_copies_of_a_filter_have_one_key():
    class Shift(LinearOperator):
        def forward(self, x):
            return 0.5 * x.roll((1, -2), (-2, -1)) + 0.25 * x

        def adjoint(self, y):
            return 0.5 * y.roll((-1, 2), (-2, -1)) + 0.25 * y

    class Uneven(Shift):
        def forward(self, x):
            made = super().forward(x)
            made[..., 5, 5] *= 1 + 1e-6
            return made

    image = white_noise(12, 12)
    inner = (slice(2, -2), slice(2, -2))
    keys = filter_keys(Shift(), image)[inner].flatten(0, 1)
    others = filter_keys(Uneven(), image)[inner].flatten(0, 1)

    assert keys.shape == (64, 4)
    assert count_distinct(keys) == 1
    assert count_distinct(others) == 2
    assert count_distinct(filter_keys(Uneven(), image, 1e-4)[inner].flatten(0, 1)) == 1


def test_representations_refuses_wrong_margins():
    machine = perceptron_through_the_origin(2, (1, 3))
    with pytest.raises(ValueError, match=r"margin must be at least 1, got 0"):
        machine.representations(white_noise(1, 8, 8), 0)
    with pytest.raises(ValueError, match=r"leave a pixel of images \(8, 8\), got 4"):
        machine.num_representations(white_noise(1, 8, 8), 4)
