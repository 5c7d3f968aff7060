"""Regularization by the input's own windows, against the dense system."""

import pytest
import torch
from stripes import NOISE_STD, noisy_image, row_at, striped_images

from framelets.core import Identity
from framelets.machines import ConvolutionFrameletMachine, FittedConvolutionFramelets
from framelets.solvers import ManifoldEnergy, low_dimensional_manifold
from framelets.testing import assert_adjoint

SETTINGS = {"window": (3, 2), "num_neighbors": 5, "num_coordinates": 4, "num_crops": 2}


def machine_of(weight=1.0, tolerance=1e-13, **settings):
    machine = ConvolutionFrameletMachine(**(SETTINGS | {"crop_size": (12, 12)} | settings))
    return FittedConvolutionFramelets(machine, weight, tolerance)


def test_output_solves_the_dense_system():
    machine, image = machine_of(num_updates=1), noisy_image((12, 10))
    energy = ManifoldEnergy(image, (3, 2), num_neighbors=5, num_coordinates=4)
    system = torch.eye(120, dtype=torch.float64) + energy.to_matrix((12, 10))

    expected = torch.linalg.solve(system, image.flatten()).reshape(12, 10)

    torch.testing.assert_close(machine.apply(image), expected, rtol=1e-10, atol=1e-10)
    matrix = machine.linear_map(image).to_matrix((12, 10))
    torch.testing.assert_close(matrix, torch.linalg.inv(system), rtol=1e-9, atol=1e-10)
    assert_adjoint(machine.linear_map(image), (12, 10), tolerance=1e-10)


def test_updates_are_those_of_the_solver():
    machine, image = machine_of(), noisy_image((12, 10))
    solved = low_dimensional_manifold(
        image,
        Identity(),
        1.0,
        image,
        window=(3, 2),
        num_neighbors=5,
        num_coordinates=4,
        num_updates=2,
        tolerance=1e-11,
    )

    torch.testing.assert_close(machine.apply(image), solved.image, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("pixel", [(5, 5), (0, 9)])
def test_it_replays_each_pixel(pixel):
    machine, image = machine_of(), noisy_image((12, 10))

    basis = machine.basis_at(image, pixel)

    assert len(basis.weights) == 6 * 6
    assert basis.value == pytest.approx(float(machine.apply(image)[pixel]), abs=1e-10)
    torch.testing.assert_close(basis.filter, row_at(machine, image, pixel), rtol=1e-9, atol=1e-11)


def test_it_counts_iterations_and_chooses_its_weight():
    fitted = ConvolutionFrameletMachine(weights=(1e-6, 2.0), crop_size=(12, 12), **SETTINGS).fit(
        striped_images(), NOISE_STD
    )

    assert fitted.settings == {"weight": 2.0}
    assert fitted.apply_counting(noisy_image((12, 12)))[1] > 2
    assert fitted.apply(noisy_image((12, 12), dtype=torch.float32)).dtype == torch.float32


def test_machine_refuses_to_hide_that_it_did_not_converge():
    machine, image = machine_of(weight=1e6), noisy_image((12, 10))
    stopped = FittedConvolutionFramelets(machine.machine, 1e6, 1e-12, max_iterations=3)

    with pytest.raises(RuntimeError, match="after 3 iterations; raise max_iterations"):
        stopped.apply(image)
