"""The undecimated wavelet frames of images, and their atoms that touch a pixel."""

from functools import lru_cache

import pywt
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from framelets.solvers import WaveletFrame


@lru_cache(maxsize=16)
def frame_of(shape: tuple[int, int], wavelet: str, num_levels: int) -> WaveletFrame:
    """Return the Parseval frame T, T* T = I, of images of a shape."""
    return WaveletFrame(shape, wavelet, num_levels)


def frame_reach(wavelet: str, num_levels: int) -> int:
    """Return how far an atom reaches at most along each axis, in pixels."""
    return int((pywt.Wavelet(wavelet).dec_len - 1) * (2**num_levels - 1))


@lru_cache(maxsize=16)
def atom_norms(wavelet: str, num_levels: int) -> Float[Tensor, " subband"]:
    """Return the norm of the atoms of each subband: what white noise of variance 1 has there.

    They are those on an image that no atom wraps around.
    """
    block = 2**num_levels
    size = block * (1 + 2 * frame_reach(wavelet, num_levels) // block)
    unit = torch.zeros(size, size, dtype=torch.float64)
    unit[0, 0] = 1
    norms: Tensor = frame_of((size, size), wavelet, num_levels)(unit).flatten(1).norm(dim=1)
    return norms


def atoms_at(
    frame: WaveletFrame,
    pixel: tuple[int, int],
    chosen: Bool[Tensor, "subband height width"] | None = None,
) -> tuple[Float[Tensor, "atom height width"], Int64[Tensor, " atom"]]:
    """Return the atoms of an undecimated frame that are not zero at a pixel.

    Args:
        frame: The frame, whose atoms are shifted copies of one in each subband.
        pixel: Row and column.
        chosen: True for the atoms to return; all by default.

    Returns:
        The atoms as images, and the subband of each.

    Raises:
        ValueError: If the pixel lies outside, or no atom is left.
    """
    shape = frame.input_shape
    if any(not 0 <= at < size for at, size in zip(pixel, shape, strict=True)):
        raise ValueError(f"pixel must lie inside {shape}, got {pixel}")
    unit = torch.zeros(shape, dtype=torch.float64)
    unit[pixel] = 1
    touches = frame(unit).abs() > torch.finfo(torch.float64).eps
    if chosen is not None:
        touches &= chosen
    places = touches.nonzero()
    if not len(places):
        raise ValueError(f"no chosen atom touches pixel {pixel}")
    num_subbands = frame.output_shape[0]
    corners = torch.zeros(num_subbands, *frame.output_shape, dtype=torch.float64)
    corners[torch.arange(num_subbands), torch.arange(num_subbands), 0, 0] = 1
    templates = frame.adjoint(corners)
    atoms = [
        templates[subband].roll((row, column), (0, 1)) for subband, row, column in places.tolist()
    ]
    return torch.stack(atoms), places[:, 0]
