"""The task: networks, loss, reconstruction by every method, and a network that learns."""

import dataclasses
import math

import pytest
import torch

from framelets.core.run_folder import RunFolder
from framelets.physics import FanBeamScan, ImageGrid, ParallelBeamScan, pixel_average
from framelets.solvers import FilteredBackProjection
from framelets.tasks import SparseViewCT, SparseViewCTConfig, load_plan
from framelets.tasks.ct_simulation import SimulationConfig
from framelets.tasks.sparse_view_ct import NetworkConfig
from framelets.training import ReconstructionTask, RunConfig, train

TINY = SparseViewCTConfig(
    simulation=SimulationConfig(image_size=32, min_views=8, max_views=12, images_per_scan=4),
    networks=NetworkConfig(
        width=6, narrow_width=4, depth=2, unrolled_width=4, unrolled_depth=2, unrolled_iterations=2
    ),
    crop_size=24,
    pool_size=2,
    steps_per_scan=8,
    validation_images=1,
)


@pytest.fixture(scope="module")
def task():
    return SparseViewCT(TINY)


@pytest.fixture(scope="module")
def disk():
    """Two disks of water scanned by 24 fan-beam views, with the reference."""
    grid = ImageGrid(48, 48, 2.0)
    fine = grid.refined(2)
    x, y = fine.pixel_centers_mm().unbind(-1)
    image = torch.stack([0.02 * (torch.hypot(x - s, y) < 30).float() for s in (0.0, 8.0)])
    angles = torch.arange(24, dtype=torch.float64) * 2 * math.pi / 24
    scan = FanBeamScan(angles, 100, 2.0, 200.0, 300.0)
    generator = torch.Generator().manual_seed(0)
    measurement = SparseViewCT(TINY).simulate(image, scan, fine, 1e5, generator)
    return measurement, grid, pixel_average(image, 2)


def test_it_is_a_task(task):
    assert isinstance(task, ReconstructionTask)


@pytest.mark.parametrize("name", SparseViewCT.networks)
def test_untrained_network_changes_nothing_but_what_it_measures(name, task, disk):
    measurement, grid, _ = disk
    torch.manual_seed(0)
    network = task.network(name).eval()

    image = task.reconstruct(measurement, name, grid, network=network)

    assert image.shape == (2, 48, 48)
    fbp = task.reconstruct(measurement, "fbp", grid)
    assert 0 < float((image - fbp).norm() / fbp.norm()) < 1


@pytest.mark.parametrize("name", SparseViewCT.networks)
def test_reconstruction_follows_the_unit(name, task, disk):
    measurement, grid, _ = disk
    network = task.network(name).eval()
    tripled = dataclasses.replace(measurement, sinogram=3 * measurement.sinogram)

    once = task.reconstruct(measurement, name, grid, network=network)
    thrice = task.reconstruct(tripled, name, grid, network=network)

    assert float((thrice - 3 * once).norm() / once.norm()) < 1e-4


def test_equal_width_and_equal_parameters():
    task = SparseViewCT()
    counts = {n: sum(p.numel() for p in task.network(n).parameters()) for n in task.networks}

    assert counts["unet"] == counts["dual-frame-unet"]
    assert counts["tight-frame-unet"] > 1.3 * counts["unet"]
    assert counts["tight-frame-unet-narrow"] == pytest.approx(counts["unet"], rel=0.06)
    assert 4 * max(counts.values()) < 4e6


def test_classical_methods(task, disk):
    measurement, grid, reference = disk
    scan = FanBeamScan(measurement.view_angles, 100, 2.0, 200.0, 300.0)

    fbp = task.reconstruct(measurement, "fbp", grid)
    tv = task.reconstruct(measurement, "tv", grid)

    torch.testing.assert_close(fbp, FilteredBackProjection(scan, grid)(measurement.sinogram))
    fbp_error, tv_error = ((image - reference).norm() for image in (fbp, tv))
    assert tv_error < 0.4 * fbp_error


def test_network_problem_is_what_reconstruct_solves(task, disk):
    measurement, grid, _ = disk
    for name in ("unet", "unrolled"):
        network = task.network(name).eval()
        problem = task.network_problem(measurement, grid, name)

        image = problem.forward(network, problem.input)[:, 0] * problem.scale[:, :, None]

        whole = task.reconstruct(measurement, name, grid, network=network)
        torch.testing.assert_close(image, whole, rtol=1e-4, atol=1e-7)


def test_default_grid_covers_the_field_of_view(task, disk):
    scan = ParallelBeamScan(torch.linspace(0, 3, 10, dtype=torch.float64), 64, 1.5)
    measurement = dataclasses.replace(
        disk[0],
        sinogram=torch.zeros(10, 64),
        view_angles=scan.view_angles,
        detector_spacing_mm=1.5,
        source_to_isocenter_mm=None,
        source_to_detector_mm=None,
    )

    grid = task.default_grid(measurement)

    assert grid == ImageGrid(32, 32, 3.0)


def test_metrics_of_a_perfect_and_an_empty_image(task):
    reference = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0))

    perfect = task.metrics(reference + 1e-4, reference)
    empty = task.metrics(torch.zeros_like(reference), reference)

    assert float(perfect["psnr"].min()) > 75
    torch.testing.assert_close(empty["nmse"], torch.ones(2))
    assert float(perfect["ssim"].min()) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "crop_size", "num_steps"), [("tight-frame-unet", 24, 100), ("unrolled", 0, 20)]
)
def test_network_learns(name, crop_size, num_steps, tmp_path):
    task = SparseViewCT(dataclasses.replace(TINY, crop_size=crop_size))
    config = RunConfig(
        network=name,
        num_steps=num_steps,
        batch_size=4,
        learning_rate=5e-3,
        warmup_steps=5,
        average_decay=0.9,
        validate_every=num_steps,
        accelerator="cpu",
    )
    unseen = task.training_batch(0, 4, seed=7)
    before = (unseen["fbp"] - unseen["reference"]).square().mean().item()

    task.validate = lambda network: {"psnr": -task.loss(network, unseen).item()}
    result = train(task, config, RunFolder(tmp_path), progress=False)

    assert -result.figures["psnr"] < 0.7 * before


def test_plan_reads_every_shipped_config(tmp_path):
    for name in SparseViewCT.networks:
        plan = load_plan(f"sparse-view-ct/{name}", {"training.num_steps": 7})

        assert plan.training.network == name
        assert plan.training.num_steps == 7
        assert isinstance(plan.make_task(), SparseViewCT)
    (tmp_path / "own.toml").write_text("[sparse_view_ct.networks]\nwidth = 5\n")
    assert load_plan(tmp_path / "own.toml").sparse_view_ct.networks.width == 5


def test_task_refuses_unknown_names(task, disk, tmp_path):
    with pytest.raises(ValueError, match="did you mean 'unet'"):
        task.network("unett")
    with pytest.raises(ValueError, match=r"method must be one of .*tv"):
        task.reconstruct(disk[0], "magic", disk[1])
    with pytest.raises(FileNotFoundError, match=r"missing\.toml"):
        load_plan(tmp_path / "missing.toml")
    (tmp_path / "wrong.toml").write_text("[training]\nlearning_rat = 1e-3\n")
    with pytest.raises(ValueError, match="learning_rate"):
        load_plan(tmp_path / "wrong.toml")
