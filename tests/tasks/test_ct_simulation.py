"""Simulated scans: physics, normalization, noise; batches depend on seed and step alone."""

import math
from dataclasses import replace

import pytest
import torch

from framelets.data import TrainingImages
from framelets.physics import CTProjector, FanBeamScan, ImageGrid, ParallelBeamScan
from framelets.tasks.ct_simulation import (
    SimulationConfig,
    TrainingScans,
    attenuation_scale,
    draw_scan,
    fixed_scan,
    measurement_of,
    scan_of,
    simulate_scan,
)

SMALL = SimulationConfig(image_size=32, min_views=20, max_views=40, images_per_scan=2)


def images(seed):
    return TrainingImages(64, 64, torch.Generator().manual_seed(seed))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in ("fbp", "reference"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


def test_sinogram_holds_the_line_integrals_of_the_reference():
    # The scan was simulated on the finer grid; projecting the pixel average must nearly agree, far
    # better than the coarse grid's streaks, but not exactly: that would be the inverse crime.
    scan = simulate_scan(replace(SMALL, noise_free_fraction=1.0), images(0))

    again = CTProjector(scan.scan, scan.grid)(scan.reference)

    error = (again - scan.sinogram).norm() / scan.sinogram.norm()
    assert 1e-4 < error < 0.05


def test_filtered_back_projection_of_many_views_is_near_the_reference():
    config = replace(SMALL, min_views=400, max_views=400, noise_free_fraction=1.0)
    scan = simulate_scan(config, images(1))

    error = (scan.fbp - scan.reference).norm() / scan.reference.norm()

    assert error < 0.25  # edges within a pixel; with 8 views it is above 0.5


def test_everything_is_divided_by_the_scale_of_its_own_image():
    scan = simulate_scan(SMALL, images(2))

    torch.testing.assert_close(attenuation_scale(scan.fbp), torch.ones(2))
    assert scan.scale.shape == (2,)
    assert 0 < float(scan.scale.min()) < float(scan.scale.max()) < 0.1


def test_scale_follows_the_unit():
    fbp = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(attenuation_scale(7 * fbp), 7 * attenuation_scale(fbp))


def test_noise_falls_with_the_number_of_photons():
    spreads = []
    for photons in (1e3, 1e5):
        noisy = replace(
            SMALL,
            min_photons_per_ray=photons,
            max_photons_per_ray=photons,
            noise_free_fraction=0.0,
        )
        clean = simulate_scan(replace(noisy, noise_free_fraction=1.0), images(3))
        scan = simulate_scan(noisy, images(3))
        difference = scan.sinogram * scan.scale[:, None, None]
        difference = difference - clean.sinogram * clean.scale[:, None, None]
        spreads.append(float(difference.std()))

    assert spreads[0] > 3 * spreads[1] > 0


def test_drawn_scans_see_the_whole_circle_and_vary():
    generator = torch.Generator().manual_seed(0)
    config = SimulationConfig()
    grid = ImageGrid(256, 256, 0.5)

    scans = [draw_scan(config, grid, generator) for _ in range(60)]

    assert {type(scan) for scan in scans} == {FanBeamScan, ParallelBeamScan}
    assert all(scan.field_of_view_radius_mm >= 128 * 0.5 for scan in scans)
    views = [scan.num_views for scan in scans]
    assert min(views) >= config.min_views
    assert max(views) <= config.max_views
    assert sum(v < math.sqrt(28 * 250) for v in views) in range(18, 43)  # log-uniform


def test_fixed_scan_is_fixed():
    first, second = (fixed_scan(6, 1, seed=5) for _ in range(2))

    assert first.scan.num_views == 6
    torch.testing.assert_close(first.sinogram, second.sinogram, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [ParallelBeamScan, FanBeamScan])
def test_measurement_keeps_the_scan(kind):
    generator = torch.Generator().manual_seed(1)
    scans = (draw_scan(SMALL, ImageGrid(32, 32, 1.0), generator) for _ in range(40))
    scan = next(scan for scan in scans if isinstance(scan, kind))

    back = scan_of(measurement_of(torch.zeros(scan.shape), scan))

    assert type(back) is kind
    torch.testing.assert_close(back.projection_matrices(), scan.projection_matrices())


def test_batches_depend_on_seed_and_step_alone():
    in_order, at_once = (TrainingScans(SMALL, pool_size=2, steps_per_scan=2) for _ in range(2))

    batches = [in_order.crops(step, 3, 16, seed=0) for step in range(5)]

    assert_same(batches[4], at_once.crops(4, 3, 16, seed=0))
    assert batches[0]["fbp"].shape == (3, 1, 16, 16)
    assert not torch.equal(batches[0]["fbp"], batches[1]["fbp"])
    assert not torch.equal(batches[4]["fbp"], at_once.crops(4, 3, 16, seed=1)["fbp"])


def test_crops_are_cut_from_both_images_alike():
    scans = TrainingScans(SMALL, pool_size=2, steps_per_scan=2)
    wholes = [(s.fbp, s.reference) for s in scans.pool(0, seed=0)]

    batch = scans.crops(0, 4, 32, seed=0)  # as large as the image: only turned and mirrored

    for fbp, reference in zip(batch["fbp"][:, 0], batch["reference"][:, 0], strict=True):
        orientations = [
            (f.flip(1) if mirror else f, r.flip(1) if mirror else r)
            for fs, rs in wholes
            for one_f, one_r in zip(fs, rs, strict=True)
            for turns in range(4)
            for mirror in (False, True)
            for f, r in [(one_f.rot90(turns), one_r.rot90(turns))]
        ]
        assert sum(torch.equal(fbp, f) and torch.equal(reference, r) for f, r in orientations) == 1


def test_whole_scans_come_with_their_operators():
    batch = TrainingScans(SMALL, pool_size=2, steps_per_scan=2).whole(3, 2, seed=0)

    assert batch["sinogram"].shape[2:] == batch["projector"].scan.shape
    assert (
        batch["backward_map"](batch["sinogram"]).shape == batch["reference"].shape == (2, 1, 32, 32)
    )


def test_no_scan_comes_twice_and_old_ones_are_forgotten():
    scans = TrainingScans(SMALL, pool_size=2, steps_per_scan=1)
    seen = [scans.pool(step, seed=0)[-1].sinogram for step in range(3)]

    assert len({float(sinogram.sum()) for sinogram in seen}) == 3
    assert len(scans._kept) == 2


def test_scale_refuses_an_empty_image():
    with pytest.raises(ValueError, match="must show an object"):
        attenuation_scale(torch.zeros(1, 8, 8))
