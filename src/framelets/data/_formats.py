"""Decode image files, each recognized by its first bytes and not by its name.

Every decoder returns the stored values as an array whose last two axes are rows and columns. Files
come from anywhere: sizes are checked before memory is taken, and nothing is unpickled.
"""

import contextlib
import gzip
import math
import os
import struct
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framelets.core.choices import refuse_unknown
from framelets.core.run_folder import read_arrays

MAX_VALUES = 2**29
"""Most values that a file may decode to: 2 GiB as float32, a cube of 812 voxels a side."""

READABLE_FORMATS = {
    "npy": "one array of rank 2 (rows, columns) or 3 (slices, rows, columns)",
    "npz": "arrays as in npy; the key `hu` means Hounsfield units, `attenuation` 1/mm; "
    "`spacing_mm` (rows, columns) or `spacing_zyx_mm` (slices, rows, columns) gives the spacing",
    "png": "gray, palette or color, 1 to 16 bits: luminance as a fraction of white",
    "tiff": "gray or color pages: the stored values, colors as luminance",
    "dicom": "one file, or a folder with one series: rescaled, CT in Hounsfield units",
    "nifti": "NIfTI-1 or -2, .nii or .nii.gz: rescaled, turned to axial slices",
}
"""What `read_image` and `read_volume` read; the last two also know the pixel spacing."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_NPZ_UNITS = {"hu": "HU", "attenuation": "1/mm"}
_NIFTI_MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}


class UnreadableError(ValueError):
    """A file that is refused with a message of our own."""


@dataclass(frozen=True)
class Decoded:
    """Values with what the file says about them; spacing of the last axes, in mm."""

    values: np.ndarray
    spacing_mm: tuple[float, ...] | None = None
    unit: str = ""


def decode(path: Path, key: str | None) -> Decoded:
    """Decode a file of any readable format.

    Args:
        path: The file.
        key: Which array of an npz archive; None if there is only one.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, unknown, damaged, cut short, too large, or not a real
            image of numbers.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder; name one file in it") from None
    if not start:
        raise UnreadableError(f"{path} is empty; was it copied whole?")
    kind = recognize(path, start)
    if key is not None and kind != "npz":
        raise UnreadableError(f"key is for npz archives, got {key!r} for the {kind} file {path}")
    decoder: Callable[[Path], Decoded] = {
        "npy": _decode_npy,
        "npz": lambda file: _decode_npz(file, key),
        "png": _decode_png,
        "tiff": _decode_tiff,
        "dicom": decode_dicom,
        "nifti": _decode_nifti,
    }[kind]
    with one_line_errors(path, kind):
        return _as_numbers(decoder(path), path)


@contextlib.contextmanager
def one_line_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises at a damaged file, an error of any class, into one clear line."""
    try:
        yield
    except UnreadableError:
        raise
    except MemoryError:
        raise UnreadableError(f"{path} is too large for this machine's memory") from None
    except Exception as error:
        reason = textwrap.shorten(str(error), 200) or type(error).__name__
        raise UnreadableError(
            f"{path} cannot be read as {kind}, it is damaged, cut short or of a rare kind: {reason}"
        ) from None


def recognize(path: Path, start: bytes) -> str:
    """Name the format of a file, a key of `READABLE_FORMATS`, from its first 132 bytes.

    Raises:
        ValueError: If it is none of them.
    """
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "npz"
    if start.startswith(b"\x89PNG"):
        return "png"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(b"\x1f\x8b") or _nifti_version(start):
        return "nifti"
    if start.startswith((b"\x80", b"(", b"c")) and path.suffix in (".pkl", ".pickle", ".npy"):
        raise UnreadableError(_pickle_refusal(path))
    raise UnreadableError(
        f"{path} is none of the readable formats {', '.join(READABLE_FORMATS)}: "
        f"it starts with {start[:8]!r}; convert it to npy"
    )


def _nifti_version(header: bytes) -> int:
    if len(header) < 4:
        return 0
    sizes = {struct.unpack("<i", header[:4])[0], struct.unpack(">i", header[:4])[0]}
    return 1 if 348 in sizes else 2 if 540 in sizes else 0


def _as_numbers(decoded: Decoded, path: Path) -> Decoded:
    values = decoded.values
    if values.dtype.kind == "c":
        raise UnreadableError(
            f"{path} holds complex values; save magnitude or real part as an image"
        )
    if values.dtype.kind not in "buif":
        raise UnreadableError(f"{path} must hold numbers, got dtype {values.dtype}")
    if values.size == 0:
        raise UnreadableError(f"{path} holds no values: its shape is {values.shape}")
    with np.errstate(over="ignore"):
        values = np.array(values, dtype=np.float32, order="C")  # a copy in native byte order
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise UnreadableError(
            f"{path} holds {bad} values that are NaN, infinite or beyond float32; "
            "replace or crop them first"
        )
    return Decoded(values, decoded.spacing_mm, decoded.unit)


def _refuse_large(path: Path, shape: tuple[int, ...]) -> None:
    if math.prod(shape) > MAX_VALUES:
        raise UnreadableError(
            f"{path} declares shape {shape}, more than the {MAX_VALUES} values that are read; "
            "crop it first"
        )


def _pickle_refusal(path: Path) -> str:
    return (
        f"{path} holds pickled Python objects, which could run code when read; in the program "
        "that made it, save plain numbers: np.save(file, np.asarray(image, dtype=np.float32))"
    )


def _decode_npy(path: Path) -> Decoded:
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        reader = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(stream)
        if dtype.hasobject:
            raise UnreadableError(_pickle_refusal(path))
        _refuse_large(path, shape)
        wanted = stream.tell() + math.prod(shape) * dtype.itemsize
        found = os.fstat(stream.fileno()).st_size
    if found < wanted:
        raise UnreadableError(f"{path} is cut short: {found} bytes of {wanted}; copy it again")
    return Decoded(np.load(path, allow_pickle=False))


def _decode_npz(path: Path, key: str | None) -> Decoded:
    try:
        arrays = read_arrays(path, max_bytes=8 * MAX_VALUES)
        if key is not None:
            refuse_unknown(f"key of {path}", key, arrays)
    except ValueError as error:
        raise UnreadableError(str(error)) from None
    images = [name for name, array in arrays.items() if array.ndim >= 2]
    if key is None and len(images) != 1:
        raise UnreadableError(
            f"{path} holds {len(images)} images among its keys {', '.join(arrays) or '(none)'}; "
            "choose one with key (--key)"
        )
    name = images[0] if key is None else key
    spacing = arrays.get("spacing_zyx_mm", arrays.get("spacing_mm"))
    return Decoded(
        arrays[name],
        None if spacing is None else tuple(float(value) for value in spacing.reshape(-1)),
        _NPZ_UNITS.get(name, ""),
    )


def _decode_png(path: Path) -> Decoded:
    from PIL import Image as PillowImage

    with path.open("rb") as stream:
        header = stream.read(26)
    if len(header) < 26:
        raise UnreadableError(f"{path} is cut short within its header; copy it again")
    width, height, bits, color = struct.unpack(">IIBB", header[16:26])
    limit = PillowImage.MAX_IMAGE_PIXELS or MAX_VALUES
    if width * height > limit:
        raise UnreadableError(
            f"{path} declares {width} x {height} pixels, at most {limit} are read"
        )
    if bits == 16 and color != 0:
        raise UnreadableError(
            f"{path} is a 16-bit color PNG; save it as 16-bit gray or 8-bit color"
        )
    with PillowImage.open(path) as image:
        if color == 0 and "transparency" not in image.info:
            gray = image.convert("L") if image.mode == "1" else image
            white = np.float32(65535 if bits == 16 else 255)
            return Decoded(np.asarray(gray, np.float32) / white, None, "fraction of white")
        rgba = np.asarray(image.convert("RGBA"), np.float32) / np.float32(255)
    if rgba[..., 3].min() < 1:
        raise UnreadableError(f"{path} has transparent pixels; flatten it onto a background first")
    return Decoded(rgba[..., :3] @ _LUMINANCE, None, "fraction of white")


def _decode_tiff(path: Path) -> Decoded:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        shape, axes = series.shape, series.axes
        size = os.fstat(file.filehandle.fileno()).st_size
        whole = all(
            offset + count <= size
            for page in series.pages
            if page is not None
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        )
        # tifffile would fill what is missing with zeros.
        if not whole:
            raise UnreadableError(f"{path} is cut short: its pixels end early; copy it again")
        _refuse_large(path, shape)
        values = series.asarray()
    if axes.endswith("S"):
        if values.shape[-1] != 3:
            raise UnreadableError(
                f"{path} has {values.shape[-1]} samples a pixel; save gray or RGB"
            )
        values = values.astype(np.float32) @ _LUMINANCE
    return Decoded(np.asarray(values))


def decode_dicom(path: Path) -> Decoded:
    """Decode one DICOM file: rescaled values, and their spacing."""
    return dicom_values(read_dicom(path), path)


def read_dicom(path: Path) -> Any:  # noqa: ANN401
    """Read a DICOM file into a pydicom data set."""
    import pydicom

    return pydicom.dcmread(path)


def dicom_values(dataset: Any, path: Path) -> Decoded:  # noqa: ANN401
    """Return the rescaled values of a pydicom data set."""
    if "PixelData" not in dataset or "Rows" not in dataset or "Columns" not in dataset:
        raise UnreadableError(f"{path} is a DICOM file without an image, or cut short")
    if dataset.get("SamplesPerPixel", 1) != 1:
        raise UnreadableError(f"{path} is a color DICOM image; export it as gray")
    num_frames = int(dataset.get("NumberOfFrames", 1) or 1)
    _refuse_large(path, (num_frames, int(dataset.Rows), int(dataset.Columns)))
    stored = dataset.pixel_array
    slope = float(dataset.get("RescaleSlope", 1) or 1)
    intercept = float(dataset.get("RescaleIntercept", 0) or 0)
    unit = str(dataset.get("RescaleType", "") or "")
    if not unit and dataset.get("Modality") == "CT" and "RescaleIntercept" in dataset:
        unit = "HU"
    spacing = dataset.get("PixelSpacing")
    return Decoded(
        stored.astype(np.float32) * np.float32(slope) + np.float32(intercept),
        None if not spacing else (float(spacing[0]), float(spacing[1])),
        "" if unit == "US" else unit,  # US: unspecified
    )


def _decode_nifti(path: Path) -> Decoded:
    with path.open("rb") as start:
        compressed = start.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as stream:
        header = stream.read(540)
        version = _nifti_version(header)
        if not version:
            raise UnreadableError(f"{path} is compressed, but no NIfTI image; unpack it first")
        stream.seek(0)
        return _decode_nifti_stream(path, stream, version)


def _decode_nifti_stream(path: Path, stream: Any, version: int) -> Decoded:  # noqa: ANN401
    import nibabel

    kind: Any = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    image = kind.from_stream(stream)
    shape = image.shape
    _refuse_large(path, shape)
    if len(shape) < 2 or math.prod(shape[3:]) != 1:
        raise UnreadableError(f"{path} must hold one image or volume, got shape {shape}; split it")
    # Turned to axes right, anterior, superior; then to slices, rows from front to back and columns
    # from the patient's right to left, as radiologists look at them.
    volume = kind(np.asanyarray(image.dataobj).reshape((*shape, 1)[:3]), image.affine)
    canonical = nibabel.as_closest_canonical(volume)  # type: ignore[no-untyped-call]
    values = np.asarray(canonical.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
    millimeters = _NIFTI_MM[image.header.get_xyzt_units()[0]]
    x, y, z = (float(size) * millimeters for size in canonical.header.get_zooms()[:3])
    return Decoded(values, (z, y, x))
