"""Scans on disk: round trips, foreign keys and units, raw counts, and what no scanner measures."""

import math

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from framelets.data import CTMeasurement, read_ct_scan, write_ct_scan
from framelets.testing import real_data_folder

ANGLES = torch.linspace(0, 3, 5, dtype=torch.float64)


@pytest.fixture
def sinogram():
    return torch.rand(5, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scan.npz"


def assert_equal(found, expected):
    torch.testing.assert_close(found.sinogram, expected.sinogram, rtol=0, atol=0)
    torch.testing.assert_close(found.view_angles, expected.view_angles, rtol=0, atol=0)
    scalars = [name for name in vars(expected) if name not in ("sinogram", "view_angles")]
    assert {n: getattr(found, n) for n in scalars} == {n: getattr(expected, n) for n in scalars}


def test_round_trip(path, sinogram):
    parallel = CTMeasurement(sinogram, ANGLES, 0.1, detector_offset_mm=1 / 3)
    fan = CTMeasurement(torch.stack([sinogram, sinogram]), ANGLES, 0.1, 410.66, 553.74, -0.05, 0.2)
    for scan, kind in ((parallel, "parallel"), (fan, "fan")):
        write_ct_scan(path, scan, reference=np.eye(3))

        found = read_ct_scan(path)

        assert_equal(found, scan)
        assert found.kind == kind
        with np.load(path) as archive:
            np.testing.assert_array_equal(archive["reference"], np.eye(3))


def test_photons_are_kept_and_older_files_know_none(path, sinogram):
    for photons in (None, 0.0, 2.5e4):
        write_ct_scan(path, CTMeasurement(sinogram, ANGLES, 0.1, photons_per_ray=photons))
        with np.load(path) as archive:
            assert ("photons_per_ray" in archive) is (photons is not None)

        assert read_ct_scan(path).photons_per_ray == photons


def test_a_whole_turn_of_ours_keeps_its_last_view(path, sinogram):
    angles = torch.linspace(0, 2 * math.pi, 5, dtype=torch.float64)
    write_ct_scan(path, CTMeasurement(sinogram, angles, 0.1))

    assert len(read_ct_scan(path).view_angles) == 5


def test_a_turn_in_degrees_drops_its_repeated_view(path, sinogram):
    degrees = np.linspace(0, 360, 5, dtype=np.float32)
    np.savez(
        path,
        sinogram=sinogram,
        angles_deg=degrees,
        source_origin_mm=np.float32(410.66),
        source_detector_mm=np.float32(553.74),
        pixel_mm=np.float32(0.2),
    )

    scan = read_ct_scan(path)

    torch.testing.assert_close(scan.view_angles, torch.arange(4.0).double() * math.pi / 2)
    torch.testing.assert_close(scan.sinogram, sinogram[:4])
    assert (scan.detector_spacing_mm, scan.source_to_detector_mm) == (0.2, 553.74)
    assert scan.detector_offset_mm == 0  # 8 elements are not the challenge's scanner
    assert len(read_ct_scan(path, keep_repeated_view=True).view_angles) == 5


def test_rotation_axis_and_spacing_of_the_user(path, sinogram):
    np.savez(path, sinogram=sinogram, theta_deg=np.arange(5.0))

    scan = read_ct_scan(path, detector_spacing_mm=0.5, rotation_axis=3.0)

    # The axis projects on index 3, half an element before the middle 3.5.
    assert scan.detector_offset_mm == pytest.approx(0.25)


def test_raw_counts_by_hand(path):
    # Dark 10, flat 110: 60 counts are half of the light, 35 a quarter.
    counts = np.array([[[60.0, 35.0, 110.0]]])
    flat = np.array([[[100.0, 110, 110]], [[120.0, 110, 110]]])
    dark = np.full((2, 1, 3), 10.0)
    np.savez(path, projections=counts, flat=flat, dark=dark, theta_deg=[0.0])

    sinogram = read_ct_scan(path, detector_spacing_mm=1.0).sinogram

    expected = torch.tensor([[[math.log(2), math.log(4), 0.0]]])
    torch.testing.assert_close(sinogram, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"view_angles": ANGLES * 180}, r"in radians, but they span 540; .* key angles_deg"),
        ({"view_angles": ANGLES * torch.nan}, "view_angles must be finite"),
        ({"view_angles": ANGLES[:0]}, "view_angles must be one axis of views"),
        ({"sinogram": torch.rand(8, 5)}, r"5 views, got shape \(8, 5\); it is transposed"),
        ({"sinogram": torch.rand(6, 8)}, r"must have 5 views, got shape \(6, 8\)$"),
        ({"sinogram": torch.rand(5)}, r"must be \(\*batch, view, detector\), got shape \(5,\)"),
        ({"sinogram": torch.full((5, 8), torch.nan)}, "finite, got NaN .* log taken of zero"),
        ({"sinogram": -torch.rand(5, 8)}, "negative mean .* minus of -log"),
        ({"sinogram": torch.rand(5, 8) * 3e4}, r"up to .* are these counts\? take -log"),
        ({"detector_spacing_mm": -0.2}, "detector_spacing_mm must be positive, got -0.2"),
        ({"detector_spacing_mm": np.nan}, "detector_spacing_mm must be positive, got nan"),
        ({"source_to_isocenter_mm": 3.0}, "must be given together, got 3.0 and None"),
        ({"detector_offset_mm": np.inf}, "detector_offset_mm must be finite, got inf"),
        ({"photons_per_ray": -1.0}, "photons_per_ray must be finite and not negative, got -1.0"),
        ({"photons_per_ray": np.inf}, "photons_per_ray must be finite and not negative, got inf"),
        (
            {"source_to_isocenter_mm": 9.0, "source_to_detector_mm": 3.0},
            "at most source_to_detector_mm, got 9.0 and 3.0",
        ),
        ({"sinogram": np.array(["a"])}, "sinogram must hold real numbers"),
        ({"detector_spacing_mm": np.ones(2)}, r"must be one number, got shape \(2,\)"),
    ],
)
def test_refuses_what_no_scanner_measures(path, sinogram, changed, message):
    arrays = {"sinogram": sinogram, "view_angles": ANGLES, "detector_spacing_mm": 0.2}
    np.savez(path, **(arrays | changed))

    with pytest.raises(ValueError, match=message) as caught:
        read_ct_scan(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_refuses_incomplete_files(path, tmp_path, sinogram):
    np.savez(path, angles_deg=ANGLES)
    with pytest.raises(ValueError, match=r"no sinogram, nor projections .* keys angles_deg"):
        read_ct_scan(path)
    np.savez(path, sinogram=sinogram)
    with pytest.raises(ValueError, match="no view_angles or angles_deg among the keys sinogram"):
        read_ct_scan(path)
    np.savez(path, sinogram=sinogram, view_angles=ANGLES)
    with pytest.raises(ValueError, match="does not say the detector spacing"):
        read_ct_scan(path)
    with pytest.raises(FileNotFoundError, match="there is no scan"):
        read_ct_scan(tmp_path / "absent.npz")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_ct_scan(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="damaged, cut short or no npz archive"):
        read_ct_scan(path)


def test_refuses_an_image(tmp_path):
    path = tmp_path / "chest.npz"  # named as a scan is
    PillowImage.fromarray(np.eye(9, dtype=np.uint8)).save(path, format="PNG")
    with pytest.raises(ValueError, match=r"an image \(png\), not a scan; .* framelets simulate"):
        read_ct_scan(path)


def test_refuses_dead_rays_and_wrong_flats(path):
    counts, dark = np.full((2, 1, 3), 5.0), np.full((1, 1, 3), 10.0)
    np.savez(path, projections=counts, flat=dark * 2, dark=dark, theta_deg=[0.0, 1.0])
    with pytest.raises(ValueError, match="6 rays have no counts above the dark"):
        read_ct_scan(path, detector_spacing_mm=1.0)
    np.savez(path, projections=counts, flat=dark[..., :2], dark=dark, theta_deg=[0.0, 1.0])
    with pytest.raises(ValueError, match="projections, flat and dark must be"):
        read_ct_scan(path, detector_spacing_mm=1.0)


def test_refuses_two_places_of_the_axis(path, sinogram):
    scan = CTMeasurement(sinogram, ANGLES, 0.1)
    write_ct_scan(path, scan)
    with pytest.raises(ValueError, match="rotation_axis was given, but the file says"):
        read_ct_scan(path, rotation_axis=3.0)
    with pytest.raises(ValueError, match=r"other names than the scan's, got \['sinogram'\]"):
        write_ct_scan(path, scan, sinogram=np.eye(2))


@pytest.mark.real_data
def test_tooth_axis_by_opposite_views():
    scan = read_ct_scan(
        real_data_folder() / "ct_parallel_tooth_raw.npz",
        detector_spacing_mm=1.0,
        rotation_axis=296.0,
    )
    assert scan.sinogram.shape == (2, 181, 640)

    # The line of u at the first view is nearly that of -u at the last, half a turn later.
    first, last = scan.sinogram[0, 0], scan.sinogram[0, -1]

    def disagreement(axis):
        seen = slice(2 * axis - 560, 560)
        return (first[seen] - last[seen].flip(0)).square().mean().item()

    middle = round(319.5 - scan.detector_offset_mm)
    assert disagreement(middle) < 0.2 * min(disagreement(middle - 10), disagreement(middle + 10))
