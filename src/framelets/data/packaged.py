"""Real images that come inside installed packages: no file is downloaded at run time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

WATER_ATTENUATION = 0.0192
"""Attenuation of water in 1/mm near 70 keV, the mean energy of a 120 kVp scanner beam."""

NATURAL_IMAGES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Files in the scikit-image wheel, each in the public domain, CC0 or without known restrictions."""


@dataclass(frozen=True)
class Volume:
    """A stack of axial slices.

    Attributes:
        voxels: The values. Of a CT, slices go from feet to head; row 0 is anterior, column 0 the
            patient's right.
        spacing_zyx_mm: Distance between slices, rows and columns; None where unknown.
        unit: "HU", "1/mm", or "" where unknown.
        source: Where the values come from.
    """

    voxels: Float[Tensor, "slice height width"]
    spacing_zyx_mm: tuple[float, float, float] | None
    unit: str
    source: str


def hounsfield_to_attenuation(
    hounsfield: Real[Tensor, "*shape"], water: float = WATER_ATTENUATION
) -> Float[Tensor, "*shape"]:
    """Convert Hounsfield units to attenuation: mu = water (1 + HU / 1000), at least 0.

    Values below -1000 HU, such as the padding outside a scanner's field of view, become 0: nothing
    attenuates less than vacuum.

    Args:
        hounsfield: Values in HU.
        water: Attenuation of water in 1/mm.

    Returns:
        The attenuation in 1/mm.

    Example:
        >>> hounsfield_to_attenuation(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.019200000911951065, 0.03840000182390213]
    """
    return (water * (1 + hounsfield.float() / 1000)).clamp(min=0)


def chest_ct() -> Volume:
    """Return the attenuation of the chest CT inside the `slicerio` package (MIT license).

    One adult from the kidneys to the shoulders, with the couch: 34 slices, 10 mm apart, of
    128 x 128 pixels of 3.05 mm. Clinical scans have 512 x 512 pixels, so its pictures are coarse.

    Returns:
        The volume in 1/mm.
    """
    import nrrd
    import slicerio

    path = Path(slicerio.__file__).parent / "data" / "CTChest4.nrrd"
    stored, header = nrrd.read(str(path))
    # Stored as [x, y, z] with x from the patient's left to right and y from back to front.
    hounsfield = np.ascontiguousarray(stored.transpose(2, 1, 0)[:, ::-1, ::-1])
    spacing = np.abs(np.diag(header["space directions"]))
    return Volume(
        voxels=hounsfield_to_attenuation(torch.from_numpy(hounsfield)),
        spacing_zyx_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        unit="1/mm",
        source="CTChest4.nrrd of the slicerio package",
    )


def natural_images() -> dict[str, Float[Tensor, "_ _"]]:
    """Return the photographs and micrographs inside the scikit-image wheel, by name.

    Returns:
        Grayscale images in [0, 1], of different sizes, in the order of `NATURAL_IMAGES`.
    """
    import skimage
    from PIL import Image as PillowImage

    folder = Path(skimage.__file__).parent / "data"
    images = {}
    for name in NATURAL_IMAGES:
        with PillowImage.open(folder / name) as image:
            gray = np.asarray(image.convert("L"), dtype=np.float32) / 255
        images[Path(name).stem] = torch.from_numpy(gray)
    return images
