"""Frame and compressed sensing: linear forms that replay, against solvers written differently."""

import dataclasses

import pytest
import torch
from stripes import NOISE_STD, noisy_image, row_at, striped_images

from framelets.core import Identity
from framelets.machines import FittedSparseFrameMachine, FrameMachine, SparseFrameMachine
from framelets.machines.frame_atoms import atom_norms, atoms_at, frame_of, frame_reach
from framelets.machines.training_side import TrainingSide
from framelets.solvers import framelet_shrinkage
from framelets.testing import assert_adjoint


def fit_frame(**settings):
    settings = {"num_crops": 8, "crop_size": (16, 16)} | settings
    return FrameMachine(**settings).fit(striped_images(), NOISE_STD)


def sparse_machine(factor=1.0, **settings):
    settings = {"tolerance": 1e-14, "max_iterations": 20000} | settings
    return FittedSparseFrameMachine("haar", 1, factor, NOISE_STD, **settings)


@pytest.mark.parametrize(("wavelet", "levels"), [("haar", 2), ("db2", 1)])
def test_atoms_at_a_pixel_are_rows_of_the_analysis(wavelet, levels):
    frame = frame_of((16, 16), wavelet, levels)
    image = noisy_image()

    atoms, subbands = atoms_at(frame, (3, 7))

    coefficients = frame(image).flatten(1)
    matrix = frame.to_matrix((16, 16)).reshape(len(coefficients), 256, 256)
    found = 0
    for subband in range(len(coefficients)):
        touching = matrix[subband][matrix[subband][:, 3 * 16 + 7].abs() > 1e-15]
        own = atoms[subbands == subband].flatten(1)
        # The same rows, in the order of their positions.
        torch.testing.assert_close(own, touching)
        found += len(own)
    assert found == len(atoms)
    assert atom_norms(wavelet, levels).square().sum() == pytest.approx(1)  # T* T = I
    reaches = atoms.nonzero()[:, 1:] - torch.tensor([3, 7])
    wrapped = (reaches + 8) % 16 - 8
    assert int(wrapped.abs().max()) <= frame_reach(wavelet, levels)


def test_frame_machine_is_one_linear_map():
    machine, image = fit_frame(), noisy_image()
    other = noisy_image(seed=6)

    replayed = machine.linear_map(other)(image)

    torch.testing.assert_close(machine.apply(image), replayed, rtol=1e-12, atol=1e-12)
    assert machine.num_representations(torch.stack([image, other])) == 1
    assert machine.num_parameters == 7
    assert machine.apply_counting(image)[1] == 0
    assert machine.switches(image[None]).shape == (1, 0)


def test_frame_machine_replays_each_pixel():
    machine, image = fit_frame(wavelet="db2", num_levels=1), noisy_image()

    basis = machine.basis_at(image, (0, 9))

    assert basis.value == pytest.approx(float(machine.apply(image)[0, 9]), abs=1e-12)
    torch.testing.assert_close(basis.filter, row_at(machine, image, (0, 9)))


def test_frame_weights_are_those_of_least_squares():
    machine = fit_frame(num_levels=1)
    side = TrainingSide([image.double() for image in striped_images()], NOISE_STD)
    noisy, clean = side.draw(8, (16, 16), torch.Generator().manual_seed(0))

    def error_with(weights):
        moved = dataclasses.replace(machine, weights=weights)
        return float((moved.apply(noisy) - clean).square().sum())

    least = error_with(machine.weights)

    assert len(machine.weights) == 4
    for step in 1e-3 * torch.cat([torch.eye(4), -torch.eye(4)]).double():
        assert error_with(machine.weights + step) > least
    assert least < 0.5 * float((noisy - clean).square().sum())


def test_sparse_solution_is_that_of_another_solver():
    machine, image = sparse_machine(), noisy_image((12, 12))
    relative = machine.thresholds / machine.factor

    made = machine.apply(image)
    other = framelet_shrinkage(
        image,
        Identity(),
        machine.factor,
        frame_of((12, 12), "haar", 1),
        relative_weights=relative,
        num_iterations=5000,
        tolerance=1e-9,
    )

    assert other.converged
    assert float((made - other.image).norm() / image.norm()) < 1e-7


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_sparse_machine_replays_its_output(factor):
    machine, image = sparse_machine(factor), noisy_image((12, 12))
    made = machine.apply(image)

    for pixel in [(5, 6), (0, 11)]:
        basis = machine.basis_at(image, pixel)
        assert basis.value == pytest.approx(float(made[pixel]), abs=1e-6)
        torch.testing.assert_close(basis.filter, row_at(machine, image, pixel), rtol=0, atol=1e-6)


def test_sparse_map_is_the_projection_that_the_selected_atoms_leave():
    machine, image = sparse_machine(1.5), noisy_image((12, 12))
    frame = frame_of((12, 12), "haar", 1)
    projection = machine.linear_map(image)
    dual = machine.dual_solution(image)[0]
    selected = dual.abs() >= machine.thresholds
    # The dense projector onto the null space of the rows that are not selected.
    rows = frame.to_matrix((12, 12))[~selected.flatten()]
    expected = torch.eye(144, dtype=torch.float64) - torch.linalg.pinv(rows) @ rows

    matrix = projection.to_matrix((12, 12))
    offset = projection(frame.adjoint(dual * selected))
    replayed = expected @ image.flatten() - offset.flatten()

    torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-6)
    assert_adjoint(projection, (12, 12), tolerance=1e-6)
    error = replayed - machine.apply(image).flatten()
    assert float(error.norm() / image.norm()) < 1e-6
    idle = frame(machine.apply(image))[~selected]
    assert 20 < len(idle) < selected.numel()
    assert float(idle.abs().max()) < 1e-6


def test_sparse_map_is_the_derivative():
    machine, image = sparse_machine(), noisy_image((12, 12))
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(12, 12, dtype=torch.float64, generator=generator)
    step = 1e-6

    moved = machine.apply(image + step * direction) - machine.apply(image)

    assert torch.equal(machine.switches(image[None]), machine.switches((image + step)[None]))
    error = moved / step - machine.linear_map(image)(direction)
    assert float(error.norm() / direction.norm()) < 1e-4


def test_a_threshold_of_zero_keeps_the_image_and_a_huge_one_its_mean():
    image = noisy_image((8, 8))
    keep, flatten = sparse_machine(1e-9), sparse_machine(1e4)

    torch.testing.assert_close(keep.apply(image), image, rtol=0, atol=1e-7)
    flat = flatten.apply(image)
    torch.testing.assert_close(flat, image.mean().expand(8, 8), rtol=0, atol=1e-4)
    assert flatten.apply_counting(image)[1] > 0


def test_sparse_machine_learns_its_factor():
    machine = SparseFrameMachine(
        num_levels=1, factors=(0.1, 1.0, 10.0), num_crops=4, crop_size=(12, 12)
    ).fit(striped_images(), NOISE_STD)
    (clean,) = striped_images(1, (24, 24), seed=9)
    generator = torch.Generator().manual_seed(1)
    noisy = clean + NOISE_STD * torch.randn(clean.shape, generator=generator)

    error = (machine.apply(noisy) - clean).square().mean()

    assert machine.settings == {"factor": 1.0}
    assert float(error) < 0.6 * NOISE_STD**2


def test_frame_machines_refuses_sizes_and_pixels():
    machine = fit_frame()
    with pytest.raises(ValueError, match="divisible by 2"):
        machine.apply(torch.zeros(10, 16))
    with pytest.raises(ValueError, match=r"pixel must lie inside \(16, 16\), got \(16, 0\)"):
        machine.basis_at(noisy_image(), (16, 0))
    frame = frame_of((16, 16), "haar", 1)
    with pytest.raises(ValueError, match=r"no chosen atom touches pixel \(2, 2\)"):
        atoms_at(frame, (2, 2), torch.zeros(frame.output_shape, dtype=torch.bool))
