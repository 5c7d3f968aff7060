"""Tell scans from images, by what a file holds and not by what it is called."""

import zipfile
from pathlib import Path

_SCAN_ARRAYS = {"sinogram.npy", "projections.npy"}


def is_scan(path: Path) -> bool:
    """Tell whether a file is an archive that holds a sinogram or projections."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(_SCAN_ARRAYS & set(archive.namelist()))
    except zipfile.BadZipFile:
        return False


def scans_in(path: Path) -> list[Path]:
    """List the scans that a path names: itself, or the scans in a folder, by name.

    Raises:
        FileNotFoundError: If there is nothing there.
        ValueError: If a folder holds no scan.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no scan {path}")
    if not path.is_dir():
        return [path]
    scans = sorted(file for file in path.iterdir() if is_scan(file))
    if not scans:
        raise ValueError(
            f"folder {path} holds no scans, npz archives with a sinogram or projections; "
            "framelets list names the keys"
        )
    return scans
