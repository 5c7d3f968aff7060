"""Kernel ridge regression against its normal equations, and its tangent against autograd."""

import pytest
import torch
from stripes import NOISE_STD, noisy_image, row_at, striped_images

from framelets.machines import KERNELS, KernelMachine
from framelets.machines.patches import patch_indices
from framelets.machines.training_side import TrainingSide


def kernel_of(machine, u):
    """Write the kernels a second time, for one input that may need a gradient."""
    x, gamma = machine.patches, machine.gamma
    return {
        "laplacian": lambda: torch.exp(-gamma * (x - u).abs().sum(1)),
        "linear": lambda: x @ u,
        "polynomial": lambda: (gamma * (x @ u) + 1) ** 3,
        "rbf": lambda: torch.exp(-gamma * (x - u).square().sum(1)),
    }[machine.kernel]()


def fit(kernel="rbf", **settings):
    settings = {"num_patches": 80, "window": (3, 5), "num_held_out": 50} | settings
    return KernelMachine(kernel, **settings).fit(striped_images(), NOISE_STD)


@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_solve_the_ridge_regression(kernel):
    machine = fit(kernel, gammas=(0.5,), ridges=(0.1,))
    side = TrainingSide([image.double() for image in striped_images()], NOISE_STD)
    noisy, clean = side.draw(80, (3, 5), torch.Generator().manual_seed(0))
    means = noisy.mean((1, 2))
    gram = torch.stack([kernel_of(machine, patch) for patch in machine.patches])

    targets = gram @ machine.alphas + 0.1 * machine.alphas

    torch.testing.assert_close(machine.patches, (noisy - means[:, None, None]).flatten(1))
    torch.testing.assert_close(targets, clean[:, 1, 2] - means)
    assert machine.settings["ridge"] == 0.1
    assert machine.num_parameters == 80 * 15 + 80 + len(machine.settings)


@pytest.mark.parametrize("kernel", KERNELS)
def test_pixel_is_the_expansion_and_its_gradient_the_tangent(kernel):
    machine, image = fit(kernel), noisy_image((9, 11))
    pixel = (4, 0)  # at the border, where taps are mirrored
    indices = patch_indices((9, 11), (3, 5))[4 * 11]
    leaf = image.clone().requires_grad_()
    patch = leaf.flatten()[indices]
    made = patch.mean() + kernel_of(machine, patch - patch.mean()) @ machine.alphas
    (gradient,) = torch.autograd.grad(made, leaf)
    made = made.detach()

    basis = machine.basis_at(image, pixel)

    torch.testing.assert_close(machine.apply(image)[pixel], made)
    assert basis.value == pytest.approx(float(made), rel=1e-12)
    assert not basis.linear
    torch.testing.assert_close(row_at(machine, image, pixel), gradient)


def test_linear_kernel_is_its_own_tangent():
    machine, image = fit("linear"), noisy_image((9, 11))

    error = machine.apply(image) - machine.linear_map(image)(image)

    assert float(error.norm() / image.norm()) < 1e-10
    images = torch.stack([image, noisy_image((9, 11), seed=8)])
    assert len(torch.unique(machine.representations(images), dim=0)) == 1


def test_one_representation_but_many_tangents():
    machine = fit()
    images = noisy_image((12, 12))[None]

    assert machine.num_representations(images) == 1
    assert len(torch.unique(machine.representations(images), dim=0)) == 8 * 8
    assert not machine.expands_linearly


def test_functions_are_those_of_the_training_set():
    first, second = (noisy_image((9, 9), seed=seed) for seed in (1, 2))
    machine = fit(window=(3, 3))

    a, b = (machine.basis_at(image, (4, 4)) for image in (first, second))

    assert torch.equal(a.analysis, b.analysis)
    assert torch.equal(a.weights, b.weights)
    assert not torch.equal(a.coefficients, b.coefficients)


def test_it_learns():
    machine = fit(num_patches=300, gammas=(0.1, 0.3), ridges=(0.1, 1.0))
    (clean,) = striped_images(1, (24, 24), seed=9)
    generator = torch.Generator().manual_seed(1)
    noisy = clean + NOISE_STD * torch.randn(clean.shape, generator=generator)

    error = (machine.apply(noisy) - clean).square().mean()

    assert float(error) < 0.3 * NOISE_STD**2
    assert machine.apply(noisy).dtype == noisy.dtype


def test_kernel_machine_refuses():
    with pytest.raises(ValueError, match="kernel must be one of laplacian, linear"):
        KernelMachine("gaussian")
    with pytest.raises(ValueError, match="ridges not empty"):
        KernelMachine(ridges=())
