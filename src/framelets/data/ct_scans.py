"""CT measurements on disk: sinograms with the placement of source and detector."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core.run_folder import read_arrays, write_atomically
from framelets.data._formats import recognize

SCAN_KEYS = {
    "sinogram": "line integrals of attenuation, -log of the transmission (view, detector)",
    "projections, flat, dark": "instead: raw counts (view, row, detector), (shot, row, detector)",
    "view_angles": "gantry angles in radians, counterclockwise (view)",
    "angles_deg, theta_deg": "instead: the same in degrees",
    "detector_spacing_mm, pixel_mm": "distance between detector elements in mm",
    "source_to_isocenter_mm, source_origin_mm": "source to rotation axis in mm; fan beam only",
    "source_to_detector_mm, source_detector_mm": "source to detector in mm; fan beam only",
    "detector_offset_mm": "where the detector's middle lies on its own axis in mm (0)",
    "axis_offset_mm": "where the rotation axis lies on the detector's axis in mm; fan beam (0)",
    "photons_per_ray": "photons that reach an element without an object, 0 for noise-free "
    "(unknown)",
}
"""Keys of the npz archives that `read_ct_scan` reads; a second name on a line does as well."""

# The scanner of the Helsinki Tomography Challenge 2022: elements and distances. Edges seen by
# conjugate rays of its turns, p(b, u) = p(b + pi - 2 atan(u / SDD), -u), agree best with this
# offset: the mean over nine scans, which range from 0.031 to 0.048 mm.
_HTC_SCANNER = (560, 0.2, 410.66, 553.74)
_HTC_OFFSET_MM = 0.04
_MOST_TURNS = 4


@dataclass(frozen=True)
class CTMeasurement:
    """A measured or simulated scan.

    The gantry turns counterclockwise with the view angle, and element k of K has its center at
    (k - (K - 1) / 2) detector_spacing_mm + detector_offset_mm.

    Attributes:
        sinogram: Line integrals of attenuation: -log of the transmission.
        view_angles: Gantry angles in radians, float64.
        detector_spacing_mm: Distance between detector elements.
        source_to_isocenter_mm: From the source to the rotation axis; None for parallel rays.
        source_to_detector_mm: From the source to the detector; None for parallel rays.
        detector_offset_mm: Where the middle of the detector lies on its own axis.
        axis_offset_mm: Where the rotation axis lies on the detector's axis; for a fan beam.
        photons_per_ray: Photons that reach an element if nothing is in the way; 0 says that there
            is no noise, None that the number is unknown.
    """

    sinogram: Float[Tensor, "*batch view detector"]
    view_angles: Float[Tensor, " view"]
    detector_spacing_mm: float
    source_to_isocenter_mm: float | None = None
    source_to_detector_mm: float | None = None
    detector_offset_mm: float = 0.0
    axis_offset_mm: float = 0.0
    photons_per_ray: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no scanner measures."""
        _refuse_bad_angles(self.view_angles)
        _refuse_bad_sinogram(self.sinogram, len(self.view_angles))
        if not 0 < self.detector_spacing_mm < math.inf:
            raise ValueError(
                f"detector_spacing_mm must be positive, got {self.detector_spacing_mm}"
            )
        near, far = self.source_to_isocenter_mm, self.source_to_detector_mm
        if (near is None) != (far is None):
            raise ValueError(
                "source_to_isocenter_mm and source_to_detector_mm must be given together, "
                f"got {near} and {far}"
            )
        if near is not None and far is not None and not 0 < near <= far < math.inf:
            raise ValueError(
                "source_to_isocenter_mm must be positive and at most source_to_detector_mm, "
                f"got {near} and {far}"
            )
        for name in ("detector_offset_mm", "axis_offset_mm"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        photons = self.photons_per_ray
        if photons is not None and not 0 <= photons < math.inf:
            raise ValueError(f"photons_per_ray must be finite and not negative, got {photons}")

    @property
    def kind(self) -> Literal["parallel", "fan"]:
        """Whether the rays are parallel or leave one point."""
        return "parallel" if self.source_to_isocenter_mm is None else "fan"


def read_ct_scan(
    path: str | os.PathLike[str],
    *,
    detector_spacing_mm: float | None = None,
    rotation_axis: float | None = None,
    keep_repeated_view: bool = False,
) -> CTMeasurement:
    """Read a scan from an npz archive with the keys of `SCAN_KEYS`.

    Raw counts become line integrals, -log((counts - dark) / (flat - dark)), with flats and darks
    averaged; detector rows become a leading axis. Angles in degrees that run from 0 to 360
    inclusive, as in the Helsinki Tomography Challenge 2022, measure one view twice: the last is
    dropped, so that the views are evenly spaced over one turn. That challenge's scanner, recognized
    by its distances, gets the detector offset of 0.04 mm that its files do not mention.

    Args:
        path: The archive.
        detector_spacing_mm: Distance between detector elements, if the file does not say.
        rotation_axis: Detector index, with fractions, on which the rotation axis projects, if the
            file does not give the detector offset; the middle by default.
        keep_repeated_view: Keep the last view of a turn in degrees that returns to the first.

    Returns:
        The scan.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If keys are missing or values cannot be a scan.
    """
    path = Path(path)
    try:
        arrays = read_arrays(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no scan {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"scan {path} is a folder; name one npz file in it") from None
    except ValueError:
        _refuse_an_image(path)
        raise
    try:
        return _from_arrays(arrays, detector_spacing_mm, rotation_axis, keep_repeated_view)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def write_ct_scan(
    path: str | os.PathLike[str], measurement: CTMeasurement, **extra: np.ndarray
) -> None:
    """Write a scan as an npz archive that `read_ct_scan` reads back equal; whole or not at all.

    Args:
        path: The archive.
        measurement: The scan.
        **extra: Further arrays to keep with it, such as `reference`.

    Raises:
        ValueError: If an extra array takes the name of a part of the scan.
        OSError: If the file cannot be written.
    """
    arrays = {name: value for name, value in vars(measurement).items() if value is not None}
    taken = sorted(set(arrays) & set(extra))
    if taken:
        raise ValueError(f"extra arrays must have other names than the scan's, got {taken}")
    plain = {name: np.asarray(value) for name, value in (arrays | extra).items()}
    write_atomically(path, lambda stream: np.savez_compressed(stream, allow_pickle=False, **plain))


def _from_arrays(
    arrays: dict[str, np.ndarray],
    detector_spacing_mm: float | None,
    rotation_axis: float | None,
    keep_repeated_view: bool,
) -> CTMeasurement:
    sinogram = _sinogram(arrays)
    angles = _find(arrays, "view_angles")
    degrees = _find(arrays, "angles_deg", "theta_deg")
    if angles is None and degrees is None:
        raise ValueError(f"no view_angles or angles_deg among the keys {', '.join(arrays)}")
    if angles is None and degrees is not None:
        angles = np.deg2rad(degrees.astype(np.float64))
        repeated = len(angles) > 2 and abs(abs(angles[-1] - angles[0]) - 2 * math.pi) < 1e-6
        if repeated and not keep_repeated_view and len(angles) == sinogram.shape[-2]:
            angles, sinogram = angles[:-1], sinogram[..., :-1, :]
    stored = _scalar(arrays, "detector_spacing_mm", "pixel_mm")
    spacing = stored if detector_spacing_mm is None else detector_spacing_mm
    if spacing is None:
        raise ValueError("the file does not say the detector spacing; give detector_spacing_mm")
    near = _scalar(arrays, "source_to_isocenter_mm", "source_origin_mm")
    far = _scalar(arrays, "source_to_detector_mm", "source_detector_mm")
    num_detectors = sinogram.shape[-1]
    offset = _scalar(arrays, "detector_offset_mm")
    if rotation_axis is not None:
        if offset is not None:
            raise ValueError("rotation_axis was given, but the file says detector_offset_mm")
        offset = ((num_detectors - 1) / 2 - rotation_axis) * spacing
    elif offset is None:
        scanner = np.array([num_detectors, spacing, near or 0, far or 0])
        offset = _HTC_OFFSET_MM if np.allclose(scanner, _HTC_SCANNER) else 0.0
    return CTMeasurement(
        sinogram=torch.from_numpy(np.array(sinogram, dtype=np.float32, order="C")),
        view_angles=torch.from_numpy(np.array(angles, dtype=np.float64)),
        detector_spacing_mm=spacing,
        source_to_isocenter_mm=near,
        source_to_detector_mm=far,
        detector_offset_mm=offset,
        axis_offset_mm=_scalar(arrays, "axis_offset_mm") or 0.0,
        photons_per_ray=_scalar(arrays, "photons_per_ray"),
    )


def _refuse_an_image(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(132)
    try:
        kind = recognize(path, start)
    except ValueError:
        return
    if kind != "npz":
        raise ValueError(
            f"{path} is an image ({kind}), not a scan; make a scan of it with framelets simulate"
        ) from None


def _find(arrays: dict[str, np.ndarray], *names: str) -> np.ndarray | None:
    for name in names:
        if name in arrays:
            if arrays[name].dtype.kind not in "uif":
                raise ValueError(f"{name} must hold real numbers, got {arrays[name].dtype}")
            return arrays[name]
    return None


def _scalar(arrays: dict[str, np.ndarray], *names: str) -> float | None:
    value = _find(arrays, *names)
    if value is None:
        return None
    if value.size != 1:
        raise ValueError(f"{names[0]} must be one number, got shape {value.shape}")
    # Through text, so that 0.2 kept in single precision is 0.2 again.
    return float(str(value.reshape(())[()]))


def _sinogram(arrays: dict[str, np.ndarray]) -> np.ndarray:
    sinogram = _find(arrays, "sinogram")
    if sinogram is not None:
        return sinogram
    counts, flat, dark = (_find(arrays, name) for name in ("projections", "flat", "dark"))
    if counts is None or flat is None or dark is None:
        raise ValueError(
            f"no sinogram, nor projections with flat and dark, among the keys {', '.join(arrays)}"
        )
    if counts.ndim != 3 or any(shots.shape[1:] != counts.shape[1:] for shots in (flat, dark)):
        raise ValueError(
            "projections, flat and dark must be (view, row, detector), (shot, row, detector) "
            f"twice, got {counts.shape}, {flat.shape}, {dark.shape}"
        )
    black = dark.mean(axis=0, dtype=np.float64)
    transmission = (counts - black) / (flat.mean(axis=0, dtype=np.float64) - black)
    unusable = int((~(transmission > 0) | np.isinf(transmission)).sum())
    if unusable:
        raise ValueError(
            f"{unusable} rays have no counts above the dark, or no flat above it; repair them first"
        )
    return np.asarray(-np.log(transmission).transpose(1, 0, 2))


def _refuse_bad_angles(angles: Tensor) -> None:
    if angles.ndim != 1 or len(angles) == 0:
        raise ValueError(f"view_angles must be one axis of views, got {tuple(angles.shape)}")
    if not angles.isfinite().all():
        raise ValueError("view_angles must be finite, got NaN or infinity")
    span = float(angles.max() - angles.min())
    if span > _MOST_TURNS * 2 * math.pi:
        raise ValueError(
            f"view_angles must be in radians, but they span {span:.4g}; "
            "if they are degrees, call the key angles_deg"
        )


def _refuse_bad_sinogram(sinogram: Tensor, num_views: int) -> None:
    shape = tuple(sinogram.shape)
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"sinogram must be (*batch, view, detector), got shape {shape}")
    if shape[-2] != num_views:
        turned = "; it is transposed" if shape[-1] == num_views else ""
        raise ValueError(f"sinogram must have {num_views} views, got shape {shape}{turned}")
    if not sinogram.isfinite().all():
        raise ValueError("sinogram must be finite, got NaN or infinity; was log taken of zero?")
    largest, mean = float(sinogram.max()), float(sinogram.mean())
    if largest > 50:
        raise ValueError(
            f"sinogram must hold line integrals, got values up to {largest:.4g}, which no ray "
            "survives; are these counts? take -log(counts / counts without object)"
        )
    if mean < 0:
        raise ValueError(
            f"sinogram must hold line integrals, got a negative mean of {mean:.4g}; "
            "was the minus of -log(transmission) left out?"
        )
