"""Reading images: every format round trips, and hostile files are one clear line."""

import gzip
import pickle
import struct
import zipfile
import zlib

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from pydicom.dataset import FileMetaDataset

from framelets.data import READABLE_FORMATS, read_image, read_volume
from framelets.testing import real_data_folder


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 3000, size=(12, 15)).astype(np.int16)


def write_dicom(path, pixels, position=None, series="1.2.3", **tags):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta[0x00020002].value, meta[0x00020003].value
    data.SeriesInstanceUID, data.Modality = series, "CT"
    *_, data.Rows, data.Columns = pixels.shape
    if pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = 1
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    data.PixelSpacing = [0.5, 0.75]
    if position is not None:
        data.ImagePositionPatient = position
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)


def write_nifti(path, array, affine=None, kind=nibabel.Nifti1Image):
    image = kind(array, np.diag([1, 1, 1, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


WRITERS = {
    "npy": lambda path, pixels: np.save(path, pixels, allow_pickle=False),
    "npz": lambda path, pixels: np.savez_compressed(path, image=pixels),
    "png": lambda path, pixels: PillowImage.fromarray(pixels.astype(np.uint16)).save(path, "png"),
    "tiff": tifffile.imwrite,
    "dicom": write_dicom,
    "nifti": write_nifti,
    "nii.gz": write_nifti,
}


@pytest.fixture(params=WRITERS)
def file(request, tmp_path, pixels):
    path = tmp_path / f"image.{request.param}"
    WRITERS[request.param](path, pixels)
    return path


def test_formats_are_listed():
    assert set(READABLE_FORMATS) == set(WRITERS) - {"nii.gz"}


def test_round_trip_by_content(file, pixels):
    nameless = file.rename(file.with_name("scan.001"))
    scale, offset, expected = 1, 0, pixels
    if file.suffix == ".dicom":
        scale, offset = 2, -1024
    if file.suffix in (".nifti", ".gz"):
        expected = pixels.T[::-1, ::-1]  # stored as (x, y), right and anterior growing
    if file.suffix == ".png":
        scale = 1 / 65535

    image = read_image(nameless)

    assert image.pixels.dtype == torch.float32
    np.testing.assert_allclose(image.pixels, expected * scale + offset, rtol=1e-6)
    assert image.source == str(nameless)
    unit = {".dicom": "HU", ".png": "fraction of white"}
    assert image.unit == unit.get(file.suffix, "")
    spacing = {".dicom": (0.5, 0.75), ".nifti": (1, 1), ".gz": (1, 1)}
    assert image.spacing_mm == spacing.get(file.suffix)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_refuses_files_cut_short(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(ValueError, match=r"damaged|cut|none of the readable") as caught:
        read_image(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_empty_missing_and_unknown_files(tmp_path):
    path = tmp_path / "image.png"
    path.touch()
    with pytest.raises(ValueError, match=r"image.png is empty"):
        read_image(path)
    path.write_text("hello, world")
    with pytest.raises(ValueError, match=r"none of the readable formats npy, .* b'hello, w'"):
        read_image(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_image(tmp_path / "absent.npy")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_image(tmp_path)
    path.write_bytes(gzip.compress(b"no image in here"))
    with pytest.raises(ValueError, match="compressed, but no NIfTI"):
        read_image(path)


class Bomb:
    """Something that runs code when it is unpickled."""

    def __reduce__(self):
        """Ask for code to be run."""
        return (exec, ("raise SystemExit('pickle was run')",))


def test_refuses_pickles_without_running_them(tmp_path):
    path = tmp_path / "image.npy"
    objects = np.array([Bomb()], dtype=object)
    np.save(path, objects, allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickled Python objects.*np.save\(file, np.asarray"):
        read_image(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="pickled Python objects"):
        read_image(path)
    np.savez(tmp_path / "image.npz", image=objects)
    with pytest.raises(ValueError, match="pickled Python objects"):
        read_image(tmp_path / "image.npz")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1.0, np.nan]]), "1 values that are NaN"),
        (np.array([[1.0, -np.inf]]), "NaN, infinite or beyond float32"),
        (np.array([[1e300, 0]]), "beyond float32"),
        (np.zeros((0, 4)), r"no values: its shape is \(0, 4\)"),
        (np.zeros(4), r"must hold an image .*got shape \(4,\)"),
        (np.zeros((1, 2, 3, 4)), r"got shape \(1, 2, 3, 4\)"),
        (np.zeros((3, 3), complex), "complex values; save magnitude"),
        (np.array([["a", "b"]]), "must hold numbers, got dtype <U1"),
        (np.zeros((5, 4, 5)), "holds 5 slices of 4 x 5; choose one .*--slice.* from 0 to 4$"),
        (
            np.zeros((9, 9, 3)),
            r"9 slices of 9 x 3; .* channels, save numpy\.moveaxis\(array, -1, 0",
        ),
    ],
    ids=range(10),
)
def test_refuses_arrays_that_are_no_image(tmp_path, array, message):
    np.save(tmp_path / "image.npy", array)
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / "image.npy")


def test_refuses_declared_sizes_that_are_bombs(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"
    path = tmp_path / "image.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    with pytest.raises(ValueError, match=r"declares shape \(1000000, 1000000\)"):
        read_image(path)

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    path = tmp_path / "image.png"
    size = struct.pack(">IIBBBBB", 100000, 100000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match="declares 100000 x 100000 pixels"):
        read_image(path)

    path = tmp_path / "image.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
        archive.writestr("image.npy", entry + bytes(100))
    with pytest.raises(ValueError, match=r"damaged, cut short|too large"):
        read_image(path)

    path = tmp_path / "image.nii"
    nifti = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    nifti.header.set_data_shape((30000, 30000, 30000))
    path.write_bytes(nifti.header.binaryblock + bytes(100))
    with pytest.raises(ValueError, match=r"declares shape \(30000, 30000, 30000\)"):
        read_image(path)


def test_npz_keys(tmp_path, pixels):
    path = tmp_path / "scan.npz"
    np.savez(path, hu=pixels, spacing_mm=[0.5, 0.6], name="head")
    image = read_image(path)
    assert (image.unit, image.spacing_mm) == ("HU", (0.5, 0.6))

    np.savez(path, attenuation=np.stack([pixels, pixels + 1]), other=pixels)
    image = read_image(path, key="attenuation", slice_index=1)
    np.testing.assert_array_equal(image.pixels, pixels + 1)
    assert image.unit == "1/mm"


def test_npz_refuses_unclear_keys(tmp_path, pixels):
    path = tmp_path / "scan.npz"
    np.savez(path, first=pixels, second=pixels)
    with pytest.raises(ValueError, match="holds 2 images among its keys first, second; choose one"):
        read_image(path)
    with pytest.raises(ValueError, match=r"got 'frist'; did you mean 'first'"):
        read_image(path, key="frist")
    np.savez(path, image=pixels, spacing_mm=[0.5, -1])
    with pytest.raises(ValueError, match="positive spacings"):
        read_image(path)
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(ValueError, match="key is for npz archives, got 'a' for the npy file"):
        read_image(tmp_path / "a.npy", key="a")


@pytest.mark.parametrize("index", [-1, 2])
def test_refuses_slices_that_are_not_there(tmp_path, pixels, index):
    np.save(tmp_path / "a.npy", np.stack([pixels, pixels]))
    with pytest.raises(ValueError, match=r"slice_index \(--slice\) must be 0 to 1"):
        read_image(tmp_path / "a.npy", slice_index=index)
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(ValueError, match=r"\(--slice\) is for volumes"):
        read_image(tmp_path / "a.npy", slice_index=index)


def test_png_modes(tmp_path):
    path = tmp_path / "image.png"
    gray = PillowImage.fromarray(np.array([[0, 51, 255]], np.uint8))
    expected = [[0.0, 0.2, 1.0]]
    palette = gray.convert("P")
    for image in (gray, palette, gray.convert("RGB"), gray.convert("RGBA"), gray.convert("LA")):
        image.save(path)
        np.testing.assert_allclose(read_image(path).pixels, expected, atol=1e-6)
    gray.convert("1", dither=PillowImage.Dither.NONE).save(path)
    assert read_image(path).pixels.tolist() == [[0, 0, 1]]
    PillowImage.new("RGB", (1, 1), (255, 0, 0)).save(path)
    assert read_image(path).pixels.item() == pytest.approx(0.299)


def test_png_refuses_what_would_be_lost(tmp_path):
    path = tmp_path / "image.png"
    PillowImage.new("RGBA", (2, 2), (255, 0, 0, 128)).save(path)
    with pytest.raises(ValueError, match="transparent pixels; flatten"):
        read_image(path)
    PillowImage.new("L", (2, 2)).save(path, transparency=0)
    with pytest.raises(ValueError, match="transparent pixels; flatten"):
        read_image(path)
    content = bytearray(path.read_bytes())
    content[24:26] = 16, 2
    path.write_bytes(content)
    with pytest.raises(ValueError, match="16-bit color PNG"):
        read_image(path)


def test_tiff_pages_colors_and_types(tmp_path, pixels):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.stack([pixels, -pixels]), photometric="minisblack")
    np.testing.assert_array_equal(read_image(path, slice_index=1).pixels, -pixels)
    tifffile.imwrite(path, pixels.astype(np.float64), bigtiff=True, compression="zlib")
    np.testing.assert_array_equal(read_image(path).pixels, pixels)
    color = np.stack([pixels, pixels, pixels], axis=-1).astype(np.uint16)
    tifffile.imwrite(path, color, photometric="rgb")
    np.testing.assert_allclose(read_image(path).pixels, pixels, rtol=1e-5)


def test_nifti_orientation_and_units(tmp_path):
    # Stored with axes left, posterior, superior and 2 micrometers between slices.
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = tmp_path / "a.nii"
    image = nibabel.Nifti2Image(array, np.diag([-1, -1, 2, 1.0]))
    image.header.set_xyzt_units("micron")
    path.write_bytes(image.to_bytes())

    volume = read_volume(path)

    np.testing.assert_array_equal(volume.voxels, array.transpose(2, 1, 0))
    assert volume.spacing_zyx_mm == pytest.approx((0.002, 0.001, 0.001))
    np.testing.assert_array_equal(read_image(path, slice_index=3).pixels, array[:, :, 3].T)


def test_nifti_is_rescaled(tmp_path, pixels):
    image = nibabel.Nifti1Image(pixels, np.diag([-1, -1, 1, 1.0]))
    image.header.set_slope_inter(2, -1000)
    (tmp_path / "a.nii").write_bytes(image.to_bytes())

    stored = read_image(tmp_path / "a.nii").pixels

    np.testing.assert_array_equal(stored, 2 * pixels.T.astype(np.float32) - 1000)


def test_nifti_refuses_time_series(tmp_path):
    write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2, 5), np.int16))
    with pytest.raises(ValueError, match=r"one image or volume, got shape \(2, 2, 2, 5\)"):
        read_image(tmp_path / "a.nii")


def test_dicom_refuses_colors_and_missing_pixels(tmp_path, pixels):
    path = tmp_path / "a.dcm"
    write_dicom(path, pixels, SamplesPerPixel=3)
    with pytest.raises(ValueError, match="color DICOM"):
        read_image(path)
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(ValueError, match="without an image"):
        read_image(path)


def test_dicom_series_is_sorted_by_position(tmp_path, pixels):
    for name, height in (("a", 5.0), ("b", 0.0), ("c", 2.5)):
        write_dicom(tmp_path / name, pixels + int(2 * height), [0, 0, height])
    (tmp_path / "notes.txt").write_text("not a slice")

    volume = read_volume(tmp_path)

    assert (volume.unit, volume.spacing_zyx_mm) == ("HU", (2.5, 0.5, 0.75))
    for index, added in enumerate((0, 5, 10)):
        np.testing.assert_array_equal(volume.voxels[index], 2.0 * (pixels + added) - 1024)


def test_dicom_multiframe(tmp_path, pixels):
    write_dicom(tmp_path / "a.dcm", np.stack([pixels, pixels + 1]))

    assert read_volume(tmp_path / "a.dcm").voxels.shape == (2, 12, 15)
    assert read_image(tmp_path / "a.dcm", slice_index=1).spacing_mm == (0.5, 0.75)


def test_series_refuses_what_does_not_fit(tmp_path, pixels):
    with pytest.raises(ValueError, match="holds no DICOM files"):
        read_volume(tmp_path)
    for name, height in (("a", 0.0), ("b", 2.0)):
        write_dicom(tmp_path / name, pixels, [0, 0, height])
    write_dicom(tmp_path / "c", pixels, [0, 0, 6])
    with pytest.raises(ValueError, match=r"distances from 2 to 4 mm; is a file missing"):
        read_volume(tmp_path)
    write_dicom(tmp_path / "c", pixels[:5], [0, 0, 4])
    with pytest.raises(ValueError, match="different sizes"):
        read_volume(tmp_path)
    write_dicom(tmp_path / "c", pixels)
    with pytest.raises(ValueError, match="without its position"):
        read_volume(tmp_path)
    write_dicom(tmp_path / "c", pixels, series="1.2.4")
    with pytest.raises(ValueError, match="one DICOM series, got 2"):
        read_volume(tmp_path)


def test_volume_refuses_one_image(tmp_path, pixels):
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(ValueError, match="must hold a volume"):
        read_volume(tmp_path / "a.npy")


@pytest.mark.real_data
def test_head_ct_slice():
    path = real_data_folder() / "ct_head_108x256x256.npz"

    image = read_image(path, slice_index=80)

    assert (image.unit, image.pixels.shape) == ("HU", (256, 256))
    assert image.spacing_mm == pytest.approx((0.957, 0.957), abs=1e-3)
    assert image.pixels[128, 128].item() == pytest.approx(30, abs=40)  # brain


@pytest.mark.real_data
def test_satellite_bands():
    path = real_data_folder() / "sat_worldview_ms4_300.npz"
    assert read_image(path, slice_index=3).pixels.shape == (300, 300)
