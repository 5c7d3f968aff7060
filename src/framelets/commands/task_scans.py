"""Scans and images as the networks of a task take them."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.commands.explanation import Chain, Subject
from framelets.commands.user_networks import LoadedNetwork
from framelets.core import read_arrays
from framelets.data import CTMeasurement, Image, hounsfield_to_attenuation, read_ct_scan
from framelets.physics import CTProjector, ImageGrid
from framelets.solvers import FilteredBackProjection
from framelets.tasks import SparseViewCT
from framelets.tasks.ct_simulation import FILTER, attenuation_scale, scan_of


def read_scan(path: Path, num_views: int | None = None) -> CTMeasurement:
    """Read a scan, and keep evenly spaced views of it.

    Args:
        path: The file.
        num_views: How many views to keep; all by default.

    Raises:
        ValueError: If the file holds no scan, or fewer views.
    """
    measurement = read_ct_scan(path)
    return measurement if num_views is None else keep_views(measurement, num_views)


def keep_views(measurement: CTMeasurement, num_views: int) -> CTMeasurement:
    """Keep evenly spaced views of a scan; the first always.

    Raises:
        ValueError: If the scan has fewer views.

    Example:
        >>> angles = torch.arange(6, dtype=torch.float64)
        >>> scan = CTMeasurement(torch.zeros(6, 4), angles, detector_spacing_mm=1.0)
        >>> keep_views(scan, 4).view_angles.tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    found = len(measurement.view_angles)
    if not 1 <= num_views <= found:
        raise ValueError(f"views must be at most the {found} that the scan has, got {num_views}")
    kept = torch.tensor([math.floor(i * found / num_views) for i in range(num_views)])
    return dataclasses.replace(
        measurement,
        sinogram=measurement.sinogram[..., kept, :],
        view_angles=measurement.view_angles[kept],
    )


def grid_of(
    path: Path, task: SparseViewCT, measurement: CTMeasurement, size: int | None = None
) -> tuple[ImageGrid, Float[Tensor, "*batch height width"] | None]:
    """Choose the pixels of a reconstruction: those of the reference in the file, if there is one.

    Args:
        path: The scan; a simulated one brings `reference` and `reference_spacing_mm` along.
        task: The task, whose default is taken otherwise.
        measurement: What was read from it.
        size: Rows and columns to choose in place of the default.

    Returns:
        The grid, and the reference on this grid, or None.

    Raises:
        ValueError: If the reference does not fit the scan.
    """
    arrays = read_arrays(path)
    reference = None
    if "reference" in arrays and "reference_spacing_mm" in arrays:
        reference = torch.from_numpy(np.asarray(arrays["reference"], dtype=np.float32))
        spacing = float(arrays["reference_spacing_mm"])
        fits = reference.ndim >= 2 and reference.shape[:-2] == measurement.sinogram.shape[:-2]
        if not fits or not 0 < spacing < math.inf:
            raise ValueError(f"the reference in {path} does not fit its scan; leave it out")
        grid = ImageGrid(reference.shape[-2], reference.shape[-1], spacing)
    else:
        grid = task.default_grid(measurement)
    if size is None or size == grid.width:
        return grid, reference
    return ImageGrid(size, size, grid.width * grid.pixel_spacing_mm / size), None


def scan_words(measurement: CTMeasurement) -> str:
    """Describe a scan in words."""
    beam = "fan beam" if measurement.kind == "fan" else "parallel beam"
    views, detectors = measurement.sinogram.shape[-2:]
    words = f"{beam}, {views} views, {detectors} detector elements"
    photons = measurement.photons_per_ray
    if photons is None:
        return words
    return f"{words}, {f'{photons:,.0f} photons per ray' if photons else 'noise-free'}"


def scan_facts(measurement: CTMeasurement) -> dict[str, str]:
    """Tell where source and detector stood, one fact a line, with units."""
    m = measurement
    first, last = (math.degrees(float(angle)) for angle in m.view_angles[[0, -1]])
    photons = "not stated" if m.photons_per_ray is None else f"{m.photons_per_ray:,.0f}"
    facts = {
        "beam": "fan, flat detector" if m.kind == "fan" else "parallel",
        "views": f"{len(m.view_angles)}, from {first:.4g} to {last:.4g} degrees",
        "detector": f"{m.sinogram.shape[-1]} elements of {m.detector_spacing_mm:.4g} mm, "
        f"offset {m.detector_offset_mm:.4g} mm",
        "photons per ray": "noise-free" if m.photons_per_ray == 0 else photons,
    }
    if m.source_to_isocenter_mm is not None:
        facts["source to rotation axis"] = f"{m.source_to_isocenter_mm:.5g} mm"
        facts["source to detector"] = f"{m.source_to_detector_mm:.5g} mm"
    if m.axis_offset_mm:
        facts["rotation axis off by"] = f"{m.axis_offset_mm:.4g} mm"
    return facts


def subject_at_scan(
    network: LoadedNetwork, task: SparseViewCT, measurement: CTMeasurement, grid: ImageGrid
) -> Subject:
    """Give a network of a task what it is given when this scan is reconstructed."""
    problem = task.network_problem(measurement, grid, network.method)
    input_is_scan = tuple(problem.input.shape[-2:]) != grid.shape
    sinogram = measurement.sinogram.reshape(-1, *measurement.sinogram.shape[-2:])[0]
    scaled = sinogram[None] / problem.scale.reshape(-1)[0]
    return Subject(network, problem.input[0], problem.forward, input_is_scan, scaled)


def chain_of(measurement: CTMeasurement, grid: ImageGrid) -> Chain:
    """Return projector and filtered back-projection of a scan."""
    scan = scan_of(measurement)
    return Chain("fbp", CTProjector(scan, grid), FilteredBackProjection(scan, grid, FILTER))


def scan_projector(
    measurement: CTMeasurement, shape: tuple[int, int], spacing_mm: float
) -> CTProjector:
    """Return the projector of a scan for an image of this shape, its middle on the axis."""
    return CTProjector(scan_of(measurement), ImageGrid(*shape, spacing_mm))


def as_network_input(image: Image) -> tuple[Float[Tensor, "1 height width"], str]:
    """Scale an image as the networks of sparse-view CT take it: attenuation over its own scale.

    Hounsfield units are converted; values without a unit are taken as attenuation up to a factor,
    which the scale takes away.

    Returns:
        The input, and in words what was done.

    Raises:
        ValueError: If the image shows no object.
    """
    pixels, words = image.pixels, "taken as attenuation"
    if image.unit == "HU":
        pixels, words = hounsfield_to_attenuation(pixels), "converted to attenuation"
    scale = attenuation_scale(pixels)
    return (pixels / scale).unsqueeze(0), f"{words}, divided by its 99th percentile"
