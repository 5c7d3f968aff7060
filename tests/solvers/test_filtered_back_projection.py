"""FBP: amplitude, analytic objects in every kind of scan, orientation, adjoint, measured data."""

import math

import numpy as np
import pytest
import torch

from framelets.physics import CTProjector, FanBeamScan, ImageGrid, ParallelBeamScan
from framelets.solvers import FilteredBackProjection
from framelets.testing import assert_adjoint, real_data_folder

PI = math.pi
BLOBS = [(10.0, 13.0, 3.0), (-8.0, 4.0, 2.5), (2.0, -12.0, 4.0)]  # x, y, width in mm
GRID = ImageGrid(70, 81, 0.6)


def turn(num_views, span, first=0.0):
    return first + torch.arange(num_views, dtype=torch.float64) * span / num_views


def parallel(angles, **changes):
    return ParallelBeamScan(angles, 131, 0.5, **changes)


def fan(angles, **changes):
    return FanBeamScan(angles, 141, 0.9, 90.0, 150.0, **changes)


def gaussians(x, y, weight=1.0):
    return sum(
        weight * torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * s**2)) for cx, cy, s in BLOBS
    )


def line_integrals(scan):
    points, directions = scan.rays()
    result = 0.0
    for cx, cy, s in BLOBS:
        x, y = points[..., 0] - cx, points[..., 1] - cy
        distance = x * directions[..., 1] - y * directions[..., 0]
        result = result + math.sqrt(2 * PI) * s * torch.exp(-(distance**2) / (2 * s**2))
    return result


SCANS = {
    "half turn": parallel(turn(150, PI)),
    "half turn, last view repeated": parallel(torch.linspace(0, PI, 151, dtype=torch.float64)),
    "whole turn, shifted": parallel(turn(181, 2 * PI, 0.2), detector_offset_mm=1.3),
    "golden angles": parallel((turn(200, 200 * PI * (math.sqrt(5) - 1) / 2)).remainder(PI)),
    "fan": fan(turn(240, 2 * PI, 1.0)),
    "fan, last view repeated": fan(torch.linspace(0, 2 * PI, 241, dtype=torch.float64)),
    "fan, detector shifted": fan(turn(240, 2 * PI), detector_offset_mm=2.2),
    "fan, axis shifted": fan(turn(240, 2 * PI), axis_offset_mm=1.7),
    "short fan": fan(turn(200, PI + 2 * 0.42, 2.0)),
    "longer fan, backwards": fan(-turn(240, PI + 1.4, 2.0)),
}


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
def test_gaussians_come_back(scan):
    x, y = GRID.pixel_centers_mm().unbind(-1)
    seen = torch.hypot(x, y) < 24.0
    reference = gaussians(x, y)

    image = FilteredBackProjection(scan, GRID)(line_integrals(scan))

    # The floor is linear interpolation of the filtered data: (0.54 / 2.5)^2 / 12 is 0.4 %.
    error = torch.linalg.vector_norm((image - reference)[seen])
    assert error < 8e-3 * torch.linalg.vector_norm(reference[seen])


@pytest.mark.parametrize("filter_name", ["ram-lak", "hann"])
@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_a_disk_has_amplitude_1(kind, filter_name):
    radius = 20.0
    scan = {"parallel": parallel(turn(180, PI)), "fan": fan(turn(240, 2 * PI))}[kind]
    points, directions = scan.rays()
    distance = points[..., 0] * directions[..., 1] - points[..., 1] * directions[..., 0]
    sinogram = 2 * (radius**2 - distance**2).clamp(min=0).sqrt()

    image = FilteredBackProjection(scan, GRID, filter_name)(sinogram)

    inside = torch.linalg.vector_norm(GRID.pixel_centers_mm(), dim=-1) < 15.0
    assert image[inside].mean().item() == pytest.approx(1.0, abs=5e-3)
    assert image[inside].std().item() < 0.02


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_upper_right_comes_back_at_the_upper_right(kind):
    scan = {"parallel": parallel(turn(40, PI)), "fan": fan(turn(50, 2 * PI))}[kind]
    image = torch.zeros(GRID.shape)
    image[8, 70] = 1.0

    reconstruction = FilteredBackProjection(scan, GRID)(CTProjector(scan, GRID)(image))

    assert divmod(int(reconstruction.argmax()), GRID.width) == (8, 70)


@pytest.mark.parametrize("engine", ["sparse", "numba", "torch"])
@pytest.mark.parametrize("name", ["whole turn, shifted", "fan, axis shifted", "short fan"])
def test_adjoint(name, engine):
    scan = SCANS[name].subset(40)
    grid = ImageGrid(9, 12, 3.0)

    assert_adjoint(FilteredBackProjection(scan, grid, "hamming", 0.8, engine))


def test_derivatives():
    generator = torch.Generator().manual_seed(0)
    scan, grid = SCANS["short fan"].subset(50), ImageGrid(3, 4, 6.0)
    fbp = FilteredBackProjection(scan, grid)
    point = torch.randn(scan.shape, dtype=torch.float64, generator=generator, requires_grad=True)

    assert torch.autograd.gradcheck(fbp, point, check_forward_ad=True, fast_mode=True)


def test_single_precision_follows_double():
    scan = SCANS["fan"].subset(4)
    fbp = FilteredBackProjection(scan, GRID)
    sinogram = line_integrals(scan).expand(2, *scan.shape)

    image = fbp(sinogram.float())

    assert image.dtype == torch.float32
    torch.testing.assert_close(image, fbp(sinogram).float(), rtol=0, atol=1e-5)
    half = fbp(sinogram.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), image, rtol=0, atol=0.1)


@pytest.mark.real_data
def test_measured_fan_beam_disk_has_holes_and_the_noted_offset():
    data = np.load(real_data_folder() / "ct_fanbeam_htc2022_ta.npz")
    sinogram = torch.from_numpy(data["sinogram"])[::6]
    angles = torch.deg2rad(torch.from_numpy(data["angles_deg"]).double())[::6]
    grid = ImageGrid(200, 200, 0.4)
    residuals = {}
    for offset in (-1.0, 0.25, 1.5):  # in detector elements
        scan = FanBeamScan(
            angles,
            num_detectors=560,
            detector_spacing_mm=float(data["pixel_mm"]),
            source_to_isocenter_mm=float(data["source_origin_mm"]),
            source_to_detector_mm=float(data["source_detector_mm"]),
            detector_offset_mm=offset * float(data["pixel_mm"]),
        )
        image = FilteredBackProjection(scan, grid, engine="numba")(sinogram)
        predicted = CTProjector(scan, grid, "numba")(image)
        residuals[offset] = float((predicted - sinogram).norm() / sinogram.norm())
        if offset == 0.25:
            center = image

    # Acrylic weakens by about 0.03/mm, and most of the disk is acrylic; the holes are air.
    x, y = grid.pixel_centers_mm().unbind(-1)
    disk = center[torch.hypot(x, y) < 30.0]
    assert 0.02 < disk.median() < 0.04
    assert 0.05 < (disk < disk.median() / 2).float().mean() < 0.4
    assert residuals[0.25] < 0.08
    assert residuals[0.25] == min(residuals.values())


@pytest.mark.real_data
def test_measured_tooth_is_sharpest_about_its_axis():
    data = np.load(real_data_folder() / "ct_parallel_tooth_raw.npz")
    flat, dark = (data[name].mean(0)[0].astype(float) for name in ("flat", "dark"))
    sinogram = -np.log((data["projections"][:, 0] - dark) / (flat - dark))
    angles = torch.deg2rad(torch.from_numpy(data["theta_deg"]).double())
    grid = ImageGrid(320, 320, 2.0)
    negative = {}
    for axis_column in (290.0, 296.0, 302.0):
        scan = ParallelBeamScan(angles, 640, 1.0, detector_offset_mm=319.5 - axis_column)
        fbp = FilteredBackProjection(scan, grid, engine="numba")
        image = fbp(torch.from_numpy(sinogram))
        negative[axis_column] = float(image.clamp(max=0).square().sum())

    assert negative[296.0] == min(negative.values())
    assert image.max() > 5 * image.std()


def test_fbp_refuses():
    scan = SCANS["fan"]
    with pytest.raises(ValueError, match=r"sinogram must have shape .* \(240, 141\)"):
        FilteredBackProjection(scan, GRID)(torch.zeros(141, 240))
    with pytest.raises(ValueError, match="filter_name must be one of"):
        FilteredBackProjection(scan, GRID, "box")
    with pytest.raises(ValueError, match="source would lie inside"):
        FilteredBackProjection(scan, ImageGrid(512, 512, 1.0))
