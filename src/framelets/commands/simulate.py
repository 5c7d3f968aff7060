"""Scan an image: a fan or parallel beam, simulated on a finer grid, with photon noise."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.commands.stages import Stages, silent
from framelets.commands.task_scans import scan_words
from framelets.core import Result, load_config
from framelets.data import (
    CTMeasurement,
    Image,
    Volume,
    chest_ct,
    hounsfield_to_attenuation,
    read_image,
    write_ct_scan,
)
from framelets.physics import FanBeamScan, ImageGrid, ParallelBeamScan, Scan, pixel_average
from framelets.tasks import SparseViewCT

DEMO_SLICE = 20
"""A slice of the chest CT through heart and lungs."""


@dataclass(frozen=True)
class SimulateConfig:
    """Settings of a simulated scan.

    Attributes:
        beam: "fan" (flat detector) or "parallel".
        num_views: Views over a whole turn (fan) or half a turn (parallel).
        photons_per_ray: Photons that reach an element without an object; 0: no noise.
        image_size: Rows and columns of the reconstruction that the scan is made for.
        refinement: Pixels of the object along each side of a reconstructed one.
        detector_pitch: Distance of elements at the rotation axis, in reconstructed pixels.
        source_to_isocenter_mm: From source to axis, fan beam.
        source_to_detector_mm: From source to detector, fan beam.
    """

    beam: Literal["fan", "parallel"] = "fan"
    num_views: int = 60
    photons_per_ray: float = 1e5
    image_size: int = 256
    refinement: int = 2
    detector_pitch: float = 0.75
    source_to_isocenter_mm: float = 600.0
    source_to_detector_mm: float = 1100.0

    def __post_init__(self) -> None:
        """Refuse what no scan has."""
        for name in ("num_views", "image_size", "refinement"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.detector_pitch < math.inf:
            raise ValueError(f"detector_pitch must be positive, got {self.detector_pitch}")
        if not 0 <= self.photons_per_ray < math.inf:
            raise ValueError(f"photons_per_ray must not be negative, got {self.photons_per_ray}")


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated scan and what it is a scan of.

    Attributes:
        measurement: The sinogram and its scan.
        reference: Pixel average of the object, in 1/mm.
        grid: Its pixels.
    """

    measurement: CTMeasurement
    reference: Float[Tensor, "height width"]
    grid: ImageGrid


def simulate(
    config: Path | None,
    output: Path,
    *,
    at: Path | None = None,
    slice_index: int | None = None,
    key: str | None = None,
    spacing_mm: float | None = None,
    scale: float | None = None,
    seed: int = 0,
    stages: Stages = silent,
) -> Result:
    """Scan an image and write the scan, with the reference, as an npz archive.

    Args:
        config: TOML file with `SimulateConfig`, or None for the defaults.
        output: Archive to write.
        at: Image in Hounsfield units or 1/mm; a slice of the chest CT by default.
        slice_index: Slice of a volume.
        key: Array of an npz archive.
        spacing_mm: Pixel size, if the file does not say.
        scale: What a pixel value of 1 is in 1/mm, for an image that is no attenuation.
        seed: Seed of the noise.
        stages: Told how far it is.

    Raises:
        ValueError: If the image's unit or pixel size is unknown, or the scan cannot be.
        OSError: If a file cannot be read or written.
    """
    settings = load_config(SimulateConfig, config)
    if at is None:
        if (key, spacing_mm, scale) != (None, None, None):
            raise ValueError("--key, --spacing-mm and --scale are for an image; name one with --at")
        image, pixel_mm, source = chest_slice(slice_index)
    else:
        found = read_image(at, slice_index=slice_index, key=key)
        pixel_mm = _spacing(found, spacing_mm)
        image, source = _attenuation(found, scale)
    progress = stages("projecting")
    progress(0.0)
    made = simulate_scan(settings, image, pixel_mm, seed)
    progress(1.0)
    pixel = made.grid.pixel_spacing_mm
    write_ct_scan(
        output,
        made.measurement,
        reference=made.reference.numpy(),
        reference_spacing_mm=torch.tensor(pixel, dtype=torch.float64).numpy(),
    )
    data = {
        "output": str(output),
        "scan": scan_words(made.measurement),
        "photons_per_ray": settings.photons_per_ray,
        "source": source,
        "seed": seed,
        "reference_spacing_mm": pixel,
    }
    rows = [[key, value] for key, value in data.items() if key != "output"]
    radius = made.grid.width / 2 * pixel - pixel
    note = (
        f"Outside the disk of {radius:.4g} mm around its middle, which every view sees whole, the "
        "image was set to zero."
    )
    return Result(
        "simulation", data, tables=[("", ["", ""], rows)], notes=[note], files={"scan": output}
    )


def simulate_scan(
    config: SimulateConfig,
    image: Float[Tensor, "height width"],
    spacing_mm: float,
    seed: int = 0,
) -> Simulation:
    """Scan an image of attenuation, whatever its size, on a grid finer than the reconstruction's.

    The image is put into the middle of a square, resampled to the fine grid, and set to zero
    outside the disk that every view sees whole.

    Args:
        config: Settings of the scan.
        image: Attenuation in 1/mm.
        spacing_mm: Size of its pixels.
        seed: Seed of the noise.
    """
    side_mm = max(image.shape) * spacing_mm
    grid = ImageGrid(config.image_size, config.image_size, side_mm / config.image_size)
    fine_grid = grid.refined(config.refinement)
    fine = _resampled(image, fine_grid.height)
    inside = fine_grid.pixel_centers_mm().norm(dim=-1) <= side_mm / 2 - grid.pixel_spacing_mm
    fine = torch.where(inside, fine, 0.0)
    photons = config.photons_per_ray or None
    measurement = SparseViewCT().simulate(
        fine,
        _scan(config, grid),
        fine_grid,
        photons_per_ray=photons,
        generator=torch.Generator().manual_seed(seed),
    )
    return Simulation(measurement, pixel_average(fine, config.refinement), grid)


def chest_slice(index: int | None = None) -> tuple[Float[Tensor, "height width"], float, str]:
    """Return a slice of the chest CT in the package `slicerio`: image, pixel size, words.

    Raises:
        ValueError: If there is no such slice.
    """
    volume: Volume = chest_ct()
    chosen = DEMO_SLICE if index is None else index
    if not 0 <= chosen < len(volume.voxels):
        raise ValueError(f"slice must be 0 to {len(volume.voxels) - 1}, got {chosen}")
    image = volume.voxels[chosen]
    spacing = (volume.spacing_zyx_mm or (1.0, 1.0, 1.0))[2]
    size = f"{image.shape[0]} x {image.shape[1]} pixels of {spacing:.3g} mm"
    return image, spacing, f"slice {chosen} of a chest CT ({size}: coarse; {volume.source})"


def _spacing(image: Image, spacing_mm: float | None) -> float:
    """Return the pixel size: what the user says, else what the file says."""
    spacing = spacing_mm
    if spacing is None:
        if image.spacing_mm is None:
            raise ValueError(f"{image.source} does not say its pixel size; give --spacing-mm")
        if not math.isclose(*image.spacing_mm, rel_tol=1e-3):
            raise ValueError(f"{image.source} must have square pixels, got {image.spacing_mm} mm")
        spacing = image.spacing_mm[1]
    if not 0 < spacing < math.inf:
        raise ValueError(f"--spacing-mm must be positive, got {spacing}")
    return spacing


def _attenuation(image: Image, scale: float | None) -> tuple[Tensor, str]:
    """Return the attenuation in 1/mm, and in words where it comes from."""
    path, pixels = image.source, image.pixels
    if image.unit in ("HU", "1/mm"):
        if scale is not None:
            raise ValueError(
                f"--scale is for images without attenuation; {path} is in {image.unit}"
            )
        if image.unit == "HU":
            pixels = hounsfield_to_attenuation(pixels)
        return _checked(path, pixels), path
    if scale is not None:
        if not 0 < scale < math.inf:
            raise ValueError(f"--scale must be positive, got {scale}")
        return _checked(path, scale * pixels), f"{path}, a value of 1 taken as {scale:g} 1/mm"
    if image.unit:
        raise ValueError(
            f"{path} holds values in {image.unit}, which is no attenuation; say with --scale what "
            "a value of 1 is in 1/mm, such as --scale 0.02, about that of water"
        )
    return _checked(path, pixels), f"{path}, taken as attenuation in 1/mm"


def _checked(path: str, attenuation: Tensor) -> Tensor:
    low, high = float(attenuation.min()), float(attenuation.max())
    if high > 1 or low < 0:
        raise ValueError(
            f"{path} must hold Hounsfield units (DICOM, or npz with the key hu) or attenuation in "
            f"1/mm from 0 to 1, got {low:.4g} to {high:.4g}; --scale makes attenuation of others"
        )
    return attenuation


def _resampled(image: Tensor, size: int) -> Tensor:
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    margins = (left, side - width - left, top, side - height - top)
    square = nn.functional.pad(image, margins)[None, None]
    mode = "bilinear" if size >= side else "area"
    resampled: Tensor = nn.functional.interpolate(square, (size, size), mode=mode)[0, 0]
    return resampled


def _scan(config: SimulateConfig, grid: ImageGrid) -> Scan:
    radius = grid.width / 2 * grid.pixel_spacing_mm
    pitch = config.detector_pitch * grid.pixel_spacing_mm
    if config.beam == "parallel":
        angles = math.pi * torch.arange(config.num_views, dtype=torch.float64) / config.num_views
        return ParallelBeamScan(angles, 2 * math.ceil(radius / pitch) + 3, pitch)
    near, far = config.source_to_isocenter_mm, config.source_to_detector_mm
    if radius >= near:
        raise ValueError(
            f"source_to_isocenter_mm must exceed the image's radius {radius:.4g} mm, got {near}"
        )
    angles = 2 * math.pi * torch.arange(config.num_views, dtype=torch.float64) / config.num_views
    spacing = pitch * far / near
    half_width = far * math.tan(math.asin(radius / near))
    return FanBeamScan(angles, 2 * math.ceil(half_width / spacing) + 3, spacing, near, far)
