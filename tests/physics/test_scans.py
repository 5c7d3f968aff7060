"""Directions, positions, subsets and refusals of scans."""

import math

import pytest
import torch

from framelets.physics import FanBeamScan, ParallelBeamScan

ANGLES = torch.tensor([0.0, math.pi / 2, 0.3], dtype=torch.float64)


def parallel(angles=ANGLES, **changes):
    return ParallelBeamScan(
        **{"view_angles": angles, "num_detectors": 4, "detector_spacing_mm": 0.5} | changes
    )


def fan(angles=ANGLES, **changes):
    distances = {"source_to_isocenter_mm": 100.0, "source_to_detector_mm": 150.0}
    sizes = {"view_angles": angles, "num_detectors": 5, "detector_spacing_mm": 2.0}
    return FanBeamScan(**sizes | distances | changes)


def test_parallel_rays_by_hand():
    points, directions = parallel(detector_offset_mm=0.25).rays()

    zero = torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(points[0, 0], zero.new_tensor([-0.5, 0.0]))
    torch.testing.assert_close(directions[0, 0], zero.new_tensor([0.0, 1.0]))
    torch.testing.assert_close(points[1, 3], zero.new_tensor([0.0, 1.0]))
    torch.testing.assert_close(directions[1, 3], zero.new_tensor([-1.0, 0.0]))


def test_fan_rays_by_hand():
    points, directions = fan(detector_offset_mm=1.0, axis_offset_mm=3.0).rays()

    zero = torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(points[0, 0], zero.new_tensor([-3.0, -100.0]))
    torch.testing.assert_close(points[1, 0], zero.new_tensor([100.0, -3.0]))
    at_detector = directions[0, 4] * 150 / directions[0, 4, 1]
    torch.testing.assert_close(at_detector, zero.new_tensor([5.0, 150.0]))


@pytest.mark.parametrize(
    "scan",
    [
        parallel(detector_offset_mm=0.7),
        fan(detector_offset_mm=0.7, axis_offset_mm=-2.0),
        fan(),
    ],
    ids=["parallel", "shifted fan", "fan"],
)
def test_points_on_a_ray_project_on_its_detector(scan):
    points, directions = scan.rays()
    points = points + 7.0 * directions
    matrices = scan.projection_matrices()

    extended = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    projected = torch.einsum("vij,vdj->vdi", matrices, extended)

    index = torch.arange(scan.num_detectors, dtype=torch.float64).expand(scan.shape)
    torch.testing.assert_close(projected[..., 0] / projected[..., 1], index)


def test_depth_is_one_at_the_axis_and_grows_away_from_the_source():
    depth = fan().projection_matrices()[0, 1]

    torch.testing.assert_close(depth, depth.new_tensor([0.0, 0.01, 1.0]))


def test_far_fan_is_parallel():
    far = fan(source_to_isocenter_mm=1e9, source_to_detector_mm=1e9)
    near = parallel(num_detectors=5, detector_spacing_mm=2.0)

    points, directions = far.rays()
    at_axis = points + 1e9 * directions

    torch.testing.assert_close(at_axis, near.rays()[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(directions, near.rays()[1], atol=1e-7, rtol=0)


def test_field_of_view_by_hand():
    assert parallel(detector_offset_mm=0.3).field_of_view_radius_mm == pytest.approx(0.7)
    assert parallel(detector_offset_mm=3.0).field_of_view_radius_mm == 0.0
    assert fan().field_of_view_radius_mm == pytest.approx(100 * 5 / math.hypot(5, 150))


@pytest.mark.parametrize("views", [2, [0, 2], slice(0, None, 2), torch.tensor([0, 2])])
def test_subset_keeps_views_in_order(views):
    assert fan().subset(views).view_angles.tolist() == ANGLES[[0, 2]].tolist()


def test_subset_by_mask():
    assert parallel().subset(torch.tensor([False, True, True])).num_views == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"view_angles": ANGLES * 180 / math.pi}, "must be radians.*torch.deg2rad"),
        ({"view_angles": ANGLES * torch.nan}, "must be finite"),
        ({"view_angles": ANGLES[:0]}, "at least 1 view"),
        ({"num_detectors": 0}, "num_detectors must be at least 1"),
        ({"detector_spacing_mm": 0.0}, "detector_spacing_mm must be"),
        ({"detector_offset_mm": math.nan}, "detector_offset_mm must be finite"),
        ({"source_to_isocenter_mm": 200.0}, "were they swapped"),
        ({"source_to_isocenter_mm": -1.0}, "source_to_isocenter_mm must be"),
        ({"source_to_detector_mm": math.inf}, "source_to_detector_mm must be"),
    ],
)
def test_fan_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        fan(**changes)


@pytest.mark.parametrize("angles", [[0.0, 1.0], torch.tensor([0, 1])])
def test_scan_refuses_angles_that_are_no_floats(angles):
    with pytest.raises(TypeError, match="tensor of floats in radians"):
        parallel(angles)


@pytest.mark.parametrize("views", [0, []])
def test_subset_refuses_to_keep_nothing(views):
    with pytest.raises(ValueError, match="views"):
        parallel().subset(views)
