"""Real data for evaluation: what no shipped network was ever trained on."""

import os
from collections.abc import Iterator
from pathlib import Path

from framelets.data.ct_scans import CTMeasurement, read_ct_scan
from framelets.data.images import read_volume
from framelets.data.packaged import Volume, hounsfield_to_attenuation

HTC_SCANS = ("ta", "tb", "tc", "td", "solid_disc", "01a", "02a", "03a", "04a")
"""Disks of the Helsinki Tomography Challenge 2022: training set, blank disk, difficulty 1 to 4."""

_HEAD = "ct_head_108x256x256.npz"
_HTC = {name: f"ct_fanbeam_htc2022_{name}.npz" for name in HTC_SCANS}

EVALUATION_FILES = (_HEAD, *_HTC.values())
"""Files that a folder of evaluation data holds."""


def head_ct(folder: str | os.PathLike[str]) -> Volume:
    """Read the head CT for evaluation as attenuation.

    Slices go from the jaw to the vertex, row 0 is anterior; the file does not tell left from right.

    Args:
        folder: Where `ct_head_108x256x256.npz` lies.

    Returns:
        The volume in 1/mm: 108 slices, 1.5 mm apart, of 256 x 256 pixels of 0.957 mm.

    Raises:
        OSError: If the file is missing.
    """
    volume = read_volume(Path(folder) / _HEAD, key="hu")
    return Volume(
        voxels=hounsfield_to_attenuation(volume.voxels.flip(1)),
        spacing_zyx_mm=volume.spacing_zyx_mm,
        unit="1/mm",
        source=volume.source,
    )


def htc_scans(folder: str | os.PathLike[str]) -> Iterator[tuple[str, CTMeasurement]]:
    """Read the nine measured fan-beam scans of acrylic disks, one after the other.

    Each has 720 views over one turn and 560 detector elements of 0.2 mm.

    Args:
        folder: Where the files `ct_fanbeam_htc2022_NAME.npz` lie.

    Yields:
        The name, one of `HTC_SCANS`, and the scan.

    Raises:
        OSError: If a file is missing.

    References:
        A. Meaney, F. Silva de Moura and S. Siltanen, "Helsinki Tomography Challenge 2022 open
        tomographic dataset", Zenodo, 2022, 10.5281/zenodo.7418878. CC BY 4.0.
    """
    for name, file in _HTC.items():
        yield name, read_ct_scan(Path(folder) / file)
