"""Networks as machines: their linear form replays, they learn, and their switches are counted."""

import pytest
import torch
from stripes import NOISE_STD, noisy_image, row_at, striped_images

from framelets.core import RunFolder
from framelets.geometry import partition_segment
from framelets.machines import (
    FittedNetwork,
    NetworkMachine,
    RandomPerceptronMachine,
    deep_framelet_machine,
    encoder_decoder_machine,
    perceptron_machine,
)
from framelets.machines.perceptron import PerceptronNetwork

MACHINES = {
    "perceptron": perceptron_machine(6, (3, 5), num_steps=20),
    "framelets": deep_framelet_machine(2, num_steps=20),
    "encoder-decoder": encoder_decoder_machine(3, depth=1, num_steps=20),
}


def untrained(name):
    machine = MACHINES[name]
    torch.manual_seed(0)
    network = machine.build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # away from the symmetries of the start
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.05 * noise.to(parameter))
    return FittedNetwork(network.eval(), machine.margin)


@pytest.mark.parametrize("name", MACHINES)
def test_linear_form_replays_every_pixel(name):
    machine, image = untrained(name), noisy_image((16, 16))
    made = machine.apply(image)

    for pixel in [(8, 7), (0, 15)]:
        basis = machine.basis_at(image, pixel)
        assert basis.value == pytest.approx(float(made[pixel]), abs=1e-10)
        torch.testing.assert_close(
            basis.filter, row_at(machine, image, pixel), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("name", MACHINES)
def test_linear_map_is_the_derivative(name):
    machine, image = untrained(name), noisy_image((16, 16))
    direction = noisy_image((16, 16), seed=7)

    _, slope = torch.autograd.functional.jvp(
        lambda x: machine._double(x[None, None])[0, 0], image, direction
    )

    torch.testing.assert_close(machine.linear_map(image)(direction), slope)


@pytest.mark.parametrize("name", MACHINES)
def test_no_pixel_sees_beyond_the_margin(name):
    machine, margin = untrained(name), MACHINES[name].margin
    size = 4 * ((2 * margin + 5 + 3) // 4)
    images = [noisy_image((size, size), seed=seed) for seed in range(3)]
    places = [(size // 2 + i, size // 2 + j) for i in range(2) for j in range(2)]

    for image in images:
        for place in places:
            reached = row_at(machine, image, place).nonzero() - torch.tensor(place)
            assert int(reached.abs().max()) <= margin


def test_one_hyperplane_a_unit_and_pixel():
    # max(x - 1/2, 0) at every pixel: a unit is on where the pixel is above one half.
    network = PerceptronNetwork(1, (1, 1)).double()
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (1.0, -0.5, 1.0, 0.0), strict=True):
            parameter.fill_(value)
    machine = FittedNetwork(network, 0)
    image = torch.tensor([[0.2, 0.7], [0.9, 0.4]], dtype=torch.float64)

    assert machine.switches(image[None]).tolist() == [[False, True, True, False]]
    assert machine.num_representations(image[None]) == 2  # slopes 0 and 1
    assert machine.num_parameters == 4


@pytest.mark.parametrize("name", ["perceptron", "encoder-decoder"])
def test_switches_along_a_path_are_the_boundaries_that_are_solved_for(name):
    machine, start = untrained(name), noisy_image((8, 8))
    direction = noisy_image((8, 8), seed=11) - start
    shares = torch.linspace(0, 1, 1025, dtype=torch.float64)[:, None, None]

    on = machine.switches(start + shares * direction)
    exact = partition_segment(machine._double, start[None, None], direction[None, None])

    assert exact.num_boundaries > 5
    assert int((on[1:] != on[:-1]).sum()) == exact.num_boundaries


@pytest.mark.parametrize("name", MACHINES)
def test_it_learns_and_resumes(name, tmp_path):
    steps = {"perceptron": 200, "framelets": 60, "encoder-decoder": 60}[name]
    kind = MACHINES[name]
    machine = NetworkMachine(
        kind.build, kind.margin, steps, kind.learning_rate, batch_size=8, crop_size=(8, 8)
    )
    folder = RunFolder(tmp_path)
    fitted = machine.fit(striped_images(), NOISE_STD, folder=folder)
    again = machine.fit(striped_images(), NOISE_STD, folder=folder)  # from its checkpoint
    (clean,) = striped_images(1, (24, 24), seed=9)
    generator = torch.Generator().manual_seed(1)
    noisy = clean + NOISE_STD * torch.randn(clean.shape, generator=generator)

    error = float((fitted.apply(noisy) - clean).square().mean())

    assert error < 0.5 * NOISE_STD**2
    assert torch.equal(again.apply(noisy), fitted.apply(noisy))
    assert folder.has("weights.safetensors")


def test_random_hidden_layer_stays_and_its_output_solves_a_ridge_regression():
    kind = RandomPerceptronMachine(20, (3, 3), num_patches=2000, ridges=(0.01, 0.1))
    fitted = kind.fit(striped_images(), NOISE_STD)
    other = kind.fit(striped_images(seed=3), NOISE_STD)
    (clean,) = striped_images(1, (24, 24), seed=9)
    generator = torch.Generator().manual_seed(1)
    noisy = clean + NOISE_STD * torch.randn(clean.shape, generator=generator)

    assert torch.equal(fitted.network.hidden.weight, other.network.hidden.weight)
    assert torch.equal(fitted.network.hidden.bias, other.network.hidden.bias)
    assert not torch.equal(fitted.network.output.weight, other.network.output.weight)
    assert fitted.num_parameters == 22
    assert set(fitted.settings) == {"ridge"}
    error = float((fitted.apply(noisy) - clean).square().mean())
    assert error < 0.5 * NOISE_STD**2
    image = noisy_image((10, 10))
    basis = fitted.basis_at(image, (4, 4))
    assert basis.value == pytest.approx(float(fitted.apply(image)[4, 4]), abs=1e-10)


def test_machines_refuses_sizes():
    with pytest.raises(ValueError, match=r"at least 1, got 0 and \(3, 3\)"):
        PerceptronNetwork(0, (3, 3))
    with pytest.raises(ValueError, match=r"num_layers must be at least 1, got 0"):
        deep_framelet_machine(0)
