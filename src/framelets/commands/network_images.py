"""An image from a file as a network takes it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from framelets.commands.explain import cropped
from framelets.commands.scan_files import is_scan
from framelets.commands.task_scans import as_network_input
from framelets.commands.user_networks import LoadedNetwork
from framelets.data import read_image


@dataclass(frozen=True)
class ImageOptions:
    """How an image is read and given to a network.

    Attributes:
        channels: Repeat the image in so many channels.
        slice_index: Slice of a volume.
        key: Array of an npz archive.
        crop: Cut the middle, so many pixels square.
        scale: Multiply the image of a `module:callable` by this.
    """

    channels: int = 1
    slice_index: int | None = None
    key: str | None = None
    crop: int | None = None
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class NetworkImage:
    """One image as a network takes it.

    Attributes:
        sample: The image.
        words: What was read and done, in words.
        file_shape: Rows and columns in the file, before a crop.
        spacing_mm: Distance between rows and between columns, where the file says it.
    """

    sample: Float[Tensor, "channel height width"]
    words: str
    file_shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None


def read_network_image(
    path: Path, loaded: LoadedNetwork, options: ImageOptions | None = None
) -> NetworkImage:
    """Read an image file as a network takes it.

    Args:
        path: The file.
        loaded: The network; those of the package take attenuation over its 99th percentile.
        options: How to read it.

    Raises:
        ValueError: If the file holds no image, or an option does not go with the network.
        OSError: If the file cannot be opened.
    """
    options = options or ImageOptions()
    if is_scan(path):
        raise ValueError(f"{path} is a scan, not an image; reconstruct it first")
    found = read_image(path, key=options.key, slice_index=options.slice_index)
    rows, columns = found.pixels.shape
    pixels = cropped(found.pixels, options.crop)
    text = f"{path.name}, {pixels.shape[0]} x {pixels.shape[1]} pixels"
    if not loaded.task:
        sample = (options.scale * pixels).expand(options.channels, -1, -1)
        return NetworkImage(sample, text, (rows, columns), found.spacing_mm)
    if options.channels != 1 or options.scale != 1:
        raise ValueError("--channels and --scale are for module:callable")
    sample, done = as_network_input(dataclasses.replace(found, pixels=pixels))
    return NetworkImage(sample, f"{text}, {done}", (rows, columns), found.spacing_mm)
