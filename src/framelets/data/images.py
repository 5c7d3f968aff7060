"""Read one image or one volume from a file of any format that the field uses."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.data._formats import (
    Decoded,
    UnreadableError,
    decode,
    dicom_values,
    one_line_errors,
    read_dicom,
)
from framelets.data.packaged import Volume


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        pixels: The values.
        spacing_mm: Distance between rows and between columns; None where the file does not say.
        unit: "HU", "1/mm", "fraction of white", or "" where the file does not say.
        source: The file it came from.
    """

    pixels: Float[Tensor, "height width"]
    spacing_mm: tuple[float, float] | None
    unit: str
    source: str


def read_image(
    path: str | os.PathLike[str], *, key: str | None = None, slice_index: int | None = None
) -> Image:
    """Read one image; `READABLE_FORMATS` says what each format means.

    The format is found from the content, whatever the file is called. Values are those of the
    file, rescaled as it demands; they are not normalized.

    Args:
        path: An npy, npz, png, tiff, DICOM or NIfTI file.
        key: Which array of an npz archive; may be left out if only one has rows and columns.
        slice_index: Which slice of a volume, page or band, counted from 0.

    Returns:
        The image, in float32.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If the file is empty, damaged, cut short or unknown, holds pickled objects, NaN
            or infinity, or is a volume and no slice is chosen.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "image.npy"
        >>> np.save(path, np.eye(2))
        >>> read_image(path).pixels
        tensor([[1., 0.],
                [0., 1.]])
    """
    path = Path(path)
    decoded = decode(path, key)
    values = decoded.values
    if values.ndim not in (2, 3):
        raise ValueError(
            f"{path} must hold an image (rows, columns) or a volume (slices, rows, columns), "
            f"got shape {values.shape}"
        )
    if values.ndim == 3:
        num_slices = len(values)
        if slice_index is None and num_slices > 1:
            hint = ""
            if values.shape[-1] <= 4 < num_slices:
                hint = "; if the last axis holds channels, save numpy.moveaxis(array, -1, 0)"
            raise ValueError(
                f"{path} holds {num_slices} slices of {values.shape[1]} x {values.shape[2]}; "
                f"choose one with slice_index (--slice) from 0 to {num_slices - 1}{hint}"
            )
        index = slice_index or 0
        if not 0 <= index < num_slices:
            raise ValueError(
                f"slice_index (--slice) must be 0 to {num_slices - 1} in {path}, got {index}"
            )
        values = values[index].copy()
    elif slice_index:
        raise ValueError(
            f"slice_index (--slice) is for volumes, but {path} holds one image {values.shape}"
        )
    spacing = _checked_spacing(decoded, path, 2)
    return Image(
        pixels=torch.from_numpy(values),
        spacing_mm=None if spacing is None else (spacing[-2], spacing[-1]),
        unit=decoded.unit,
        source=str(path),
    )


def read_volume(path: str | os.PathLike[str], *, key: str | None = None) -> Volume:
    """Read a volume: a file that holds slices, or a folder that holds one DICOM series.

    Args:
        path: The file, or the folder.
        key: Which array of an npz archive; may be left out if only one has slices.

    Returns:
        The volume, in float32.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: As `read_image`; or if slices of a series are missing or do not fit together.
    """
    path = Path(path)
    if path.is_dir():
        with one_line_errors(path, "a DICOM series"):
            decoded = _decode_series(path)
    else:
        decoded = decode(path, key)
    if decoded.values.ndim != 3:
        raise ValueError(
            f"{path} must hold a volume (slices, rows, columns), got shape {decoded.values.shape}"
        )
    spacing = _checked_spacing(decoded, path, 3)
    return Volume(
        voxels=torch.from_numpy(decoded.values),
        spacing_zyx_mm=None if spacing is None else (spacing[-3], spacing[-2], spacing[-1]),
        unit=decoded.unit,
        source=str(path),
    )


def _checked_spacing(decoded: Decoded, path: Path, num_axes: int) -> tuple[float, ...] | None:
    spacing = decoded.spacing_mm
    if spacing is None or len(spacing) < num_axes:
        return None
    if not all(0 < size < math.inf for size in spacing):
        raise ValueError(f"{path} must give positive spacings in mm, got {spacing}")
    return spacing


def _decode_series(folder: Path) -> Decoded:
    """Stack the files of one DICOM series along the normal of its slices."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and _is_dicom(file))
    if not files:
        raise UnreadableError(f"folder {folder} holds no DICOM files")
    datasets = [(read_dicom(file), file) for file in files]
    series = sorted({str(dataset.get("SeriesInstanceUID", "")) for dataset, _ in datasets})
    if len(series) > 1:
        raise UnreadableError(
            f"folder {folder} must hold one DICOM series, got {len(series)}; separate them"
        )
    if len(datasets) == 1:
        return dicom_values(*datasets[0])
    try:
        geometry = [
            np.array([*data.ImageOrientationPatient, *data.ImagePositionPatient], dtype=float)
            for data, _ in datasets
        ]
    except AttributeError as error:
        raise UnreadableError(
            f"folder {folder} has a slice without its position: {error}"
        ) from None
    orientation = geometry[0][:6]
    normal = np.cross(orientation[:3], orientation[3:])
    heights = np.array([place[6:] @ normal for place in geometry])
    order = np.argsort(heights)
    slices = [dicom_values(*datasets[index]) for index in order]
    first = slices[0]
    if any(np.abs(place[:6] - orientation).max() > 1e-3 for place in geometry) or any(
        (part.values.shape, part.spacing_mm) != (first.values.shape, first.spacing_mm)
        for part in slices
    ):
        raise UnreadableError(f"folder {folder} has slices of different sizes or orientations")
    gaps = np.diff(heights[order])
    if gaps.min() <= 0 or gaps.max() > 1.01 * gaps.min():
        raise UnreadableError(
            f"folder {folder} must hold evenly spaced slices, got distances from {gaps.min():.3g} "
            f"to {gaps.max():.3g} mm; is a file missing, or twice there?"
        )
    values = np.stack([part.values for part in slices])
    if not np.isfinite(values).all():
        raise UnreadableError(f"folder {folder} has slices with NaN or infinite values")
    spacing = None if first.spacing_mm is None else (float(gaps.mean()), *first.spacing_mm)
    return Decoded(values, spacing, first.unit)


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
