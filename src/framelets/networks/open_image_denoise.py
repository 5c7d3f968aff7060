"""Open Image Denoise: a trained U-Net of the graphics industry, rebuilt in PyTorch.

Intel's Open Image Denoise [1] ships its weights inside its native library, as Tensor Archives
(TZA) among the constants of the core library. The archives are found by their magic number, read
as data (nothing of the library is loaded or run) and told apart by their SHA-256 digests.

The filter is y = decode(U(encode(x))): a transfer function brings linear colors to a perceptually
even scale [0, 1], the U-Net works there, and the inverse brings its output back [1, 2]. The U-Net
has 3x3 convolutions with ReLU, the last one too; 2x2 max pooling after enc_conv1 to enc_conv4;
nearest-neighbor upsampling; and skips from the three pooled maps and from the input itself:

    enc_conv0 enc_conv1 | enc_conv2 | enc_conv3 | enc_conv4 | enc_conv5a enc_conv5b
      | dec_conv4a dec_conv4b | dec_conv3a dec_conv3b | dec_conv2a dec_conv2b
      | dec_conv1a dec_conv1b dec_conv0

The native filter stores half-precision weights and computes in single precision on CPUs; this
module equals it to a few units of single precision. It leaves out the native tiles (above 2160 x
2160 pixels), automatic exposure (`hdr`; here the input scale is 1) and the turning of NaN into 0.

References:
    [1] A. T. Afra, "Intel Open Image Denoise", https://www.openimagedenoise.org, 2.5.1.
    [2] T. O. Aydin, R. Mantiuk and H.-P. Seidel, "Extending quality metrics to full luminance
        range images", Proc. SPIE 6806, 2008 (the PU curve); IEC 61966-2-1 (sRGB).
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core.choices import choose, refuse_unknown

from ._tensor_archive import find_tza, read_tza

_ALIGNMENT = 16


class _Weights(NamedTuple):
    digest: str  # start of the SHA-256 of the archive, from magic number to end of table
    transfer: str


WEIGHTS = {
    "rt_hdr": _Weights("a097e8fe9b1ba71e", "pu"),
    "rt_hdr_small": _Weights("c9171947f2bceb43", "pu"),
    "rt_ldr": _Weights("ad35b8fe765d453a", "srgb"),
    "rt_ldr_small": _Weights("d50ad6ca693ec8f2", "srgb"),
}
"""The networks for color alone; low dynamic range (colors in [0, 1]) or high (colors >= 0)."""


class OpenImageDenoise(nn.Module):
    """The filter decode(core(encode(image))); `core` alone is piecewise linear.

    Attributes:
        core: The U-Net between encoded colors; takes any height and width.
        transfer: "srgb", "pu", or "none" for colors that are already encoded, such as those of a
            PNG file (`srgb = true` in the native filter).
    """

    def __init__(self, tensors: dict[str, Tensor], transfer: str) -> None:
        """Build the filter.

        Args:
            tensors: Weights and biases by their names in the archive.
            transfer: "srgb", "pu" or "none".

        Raises:
            ValueError: If a tensor is missing or misshapen, or the transfer unknown.
        """
        super().__init__()
        refuse_unknown("transfer", transfer, _TRANSFERS)
        self.transfer = transfer
        self.core = _DenoiserCore(tensors)

    def encode(self, image: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Clip colors to the range of the filter and apply the transfer function."""
        return _TRANSFERS[self.transfer].encode(image)

    def decode(self, encoded: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Apply the inverse transfer function and clip as the native filter does."""
        return _TRANSFERS[self.transfer].decode(encoded)

    def forward(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Denoise color images.

        Args:
            image: Red, green, blue; linear colors unless `transfer` is "none".

        Returns:
            The denoised colors, on the scale of the input.

        Raises:
            ValueError: If the image is not a batch of three-channel images.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(
                f"image must have shape (batch, 3, height, width), got {tuple(image.shape)}; "
                "repeat a gray image along its channel axis"
            )
        return self.decode(self.core(self.encode(image)))


class _DenoiserCore(nn.Module):
    """The U-Net of the filter; its layers carry the names of the archive."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        width = {name: len(tensors.get(f"{name}.bias", ())) for name in _LAYERS}
        width["image"] = width["dec_conv0"] = 3
        for name, inputs in _LAYERS.items():
            in_channels = sum(width[source] for source in inputs)
            weight = _take(tensors, f"{name}.weight", (width[name], in_channels, 3, 3))
            bias = _take(tensors, f"{name}.bias", (width[name],))
            layer = nn.Conv2d(in_channels, width[name], 3, padding=1, device="meta")
            layer.load_state_dict({"weight": weight, "bias": bias}, assign=True)
            self.add_module(name, layer)

    def forward(self, encoded: Tensor) -> Tensor:
        height, width = encoded.shape[-2:]
        # Zeros below and to the right, as the native filter pads its only tile.
        image = nn.functional.pad(encoded, (0, -width % _ALIGNMENT, 0, -height % _ALIGNMENT))
        pooled1 = self._convolve_and_pool(image, "enc_conv0", "enc_conv1")
        pooled2 = self._convolve_and_pool(pooled1, "enc_conv2")
        pooled3 = self._convolve_and_pool(pooled2, "enc_conv3")
        pooled4 = self._convolve_and_pool(pooled3, "enc_conv4")
        features = self._convolve(pooled4, "enc_conv5a", "enc_conv5b")
        features = self._upsample_and_convolve(features, skip=pooled3, level=4)
        features = self._upsample_and_convolve(features, skip=pooled2, level=3)
        features = self._upsample_and_convolve(features, skip=pooled1, level=2)
        features = self._upsample_and_convolve(features, skip=image, level=1)
        return self._convolve(features, "dec_conv0")[..., :height, :width]

    def _convolve(self, features: Tensor, *names: str) -> Tensor:
        for name in names:
            features = torch.relu(self.get_submodule(name)(features))
        return features

    def _convolve_and_pool(self, features: Tensor, *names: str) -> Tensor:
        return nn.functional.max_pool2d(self._convolve(features, *names), 2)

    def _upsample_and_convolve(self, features: Tensor, skip: Tensor, level: int) -> Tensor:
        upsampled = nn.functional.interpolate(features, scale_factor=2, mode="nearest")
        joined = torch.cat((upsampled, skip), dim=1)
        return self._convolve(joined, f"dec_conv{level}a", f"dec_conv{level}b")


def _take(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    came = tensors.get(name)
    if came is None or came.shape != shape:
        got = "none" if came is None else tuple(came.shape)
        raise ValueError(
            f"tensors must hold {name} of shape {shape}, got {got}; "
            f"only the networks {', '.join(WEIGHTS)} have this topology"
        )
    return came


_LAYERS = {
    "enc_conv0": ("image",),
    "enc_conv1": ("enc_conv0",),
    "enc_conv2": ("enc_conv1",),
    "enc_conv3": ("enc_conv2",),
    "enc_conv4": ("enc_conv3",),
    "enc_conv5a": ("enc_conv4",),
    "enc_conv5b": ("enc_conv5a",),
    "dec_conv4a": ("enc_conv5b", "enc_conv3"),
    "dec_conv4b": ("dec_conv4a",),
    "dec_conv3a": ("dec_conv4b", "enc_conv2"),
    "dec_conv3b": ("dec_conv3a",),
    "dec_conv2a": ("dec_conv3b", "enc_conv1"),
    "dec_conv2b": ("dec_conv2a",),
    "dec_conv1a": ("dec_conv2b", "image"),
    "dec_conv1b": ("dec_conv1a",),
    "dec_conv0": ("dec_conv1b",),
}
"""Each layer and the layers whose outputs, concatenated, it takes."""


class _Transfer(NamedTuple):
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


def _encode_srgb(linear: Tensor) -> Tensor:
    linear = linear.clamp(0, 1)
    power = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, power)


def _decode_srgb(encoded: Tensor) -> Tensor:
    power = ((encoded.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, power).clamp(max=1)


# The PU2 curve as the filter fits it, normalized at 100 cd/m^2: linear to the first break, a power
# to the second, then a logarithm; the largest half-precision number is brought to 1.
_PU_LINEAR = 1.41283765e3
_PU_POWER = (1.64593172, 4.31384981e-1, -2.94139609e-3)
_PU_LOG = (1.92653254e-1, 6.26026094e-3, 9.98620152e-1)
_PU_BREAKS = (1.57945760e-6, 3.22087631e-2)
_PU_ENCODED_BREAKS = (2.23151711e-3, 3.70974749e-1)
_PU_MAX = _PU_LOG[0] * math.log(65504 + _PU_LOG[1]) + _PU_LOG[2]


def _encode_pu(linear: Tensor) -> Tensor:
    linear = linear.clamp(min=0)
    factor, exponent, offset = _PU_POWER
    scale, shift, top = _PU_LOG
    power = factor * linear.clamp(min=_PU_BREAKS[0]) ** exponent + offset
    upper = torch.where(linear <= _PU_BREAKS[1], power, scale * (linear + shift).log() + top)
    return torch.where(linear <= _PU_BREAKS[0], _PU_LINEAR * linear, upper) / _PU_MAX


def _decode_pu(encoded: Tensor) -> Tensor:
    encoded = encoded * _PU_MAX
    factor, exponent, offset = _PU_POWER
    scale, shift, top = _PU_LOG
    power = ((encoded.clamp(min=_PU_ENCODED_BREAKS[0]) - offset) / factor) ** (1 / exponent)
    exponential = ((encoded - top) / scale).exp() - shift
    upper = torch.where(encoded <= _PU_ENCODED_BREAKS[1], power, exponential)
    return torch.where(encoded <= _PU_ENCODED_BREAKS[0], encoded / _PU_LINEAR, upper)


_TRANSFERS = {
    "none": _Transfer(lambda colors: colors.clamp(0, 1), lambda encoded: encoded.clamp(max=1)),
    "pu": _Transfer(_encode_pu, _decode_pu),
    "srgb": _Transfer(_encode_srgb, _decode_srgb),
}
"""Transfer functions [2] by name; after the last ReLU an encoded color is never negative."""


def open_image_denoise(
    weights: str = "rt_ldr", library: str | Path | None = None, transfer: str | None = None
) -> OpenImageDenoise:
    """Load a trained Open Image Denoise network.

    Args:
        weights: "rt_ldr", "rt_ldr_small", "rt_hdr" or "rt_hdr_small".
        library: The core library of Open Image Denoise 2.5, or a .tza file with one network of
            the kind that `weights` names; by default the library inside the package `pyoidn`.
        transfer: "srgb", "pu" or "none"; by default the one that belongs to the weights.

    Returns:
        The network in evaluation mode, single precision, on the CPU.

    Raises:
        ValueError: If a name is unknown, or the file does not hold these weights.
        OSError: If the file cannot be read.
        ModuleNotFoundError: If no library is given and `pyoidn` is not installed.
    """
    known = choose("weights", weights, WEIGHTS)
    path = _installed_library() if library is None else Path(library)
    data = path.read_bytes()
    archive = data if path.suffix == ".tza" else _find_archive(data, known.digest, weights, path)
    return OpenImageDenoise(read_tza(archive), transfer or known.transfer).eval()


def _find_archive(library: bytes, digest: str, weights: str, path: Path) -> bytes:
    archive = find_tza(library, digest)
    if archive is None:
        raise ValueError(
            f"library must hold the weights {weights!r} of Open Image Denoise 2.5, got {path} "
            "without them; pip install pyoidn==2.5.1.0, or give the weights as a .tza file"
        )
    return archive


def _installed_library() -> Path:
    spec = find_spec("pyoidn")
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).rglob("*OpenImageDenoise_core*")) if folders else []
    if not found:
        raise ModuleNotFoundError(
            "the Open Image Denoise networks are read from the package pyoidn, which is not "
            "installed: pip install pyoidn==2.5.1.0"
        )
    return found[0]
