"""Orthogonal and undecimated wavelet transforms of PyWavelets as operators.

References:
    [1] S. Mallat, "A wavelet tour of signal processing", 3rd edition, 2009: sections 7.7 and 5.2.
    [2] R. R. Coifman and D. L. Donoho, "Translation-invariant de-noising", in Wavelets and
        Statistics, 1995: what the undecimated transform does is the average over all shifts.
"""

from collections.abc import Sequence

import numpy as np
import pywt
import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from framelets.core.linear_function import apply_linear
from framelets.core.linear_operator import LinearOperator

_WRAP = "periodization"


class WaveletFrame(LinearOperator):
    """A wavelet transform T of images whose borders wrap around, with T* T = I.

    Decimated, T is orthonormal: `*batch 1 height width`, with the coefficients of every level in
    the corner where they have their size, the coarse image first. Undecimated, it is a Parseval
    frame of full-sized maps `*batch 3*levels+1 height width`: the coarse image, then horizontal,
    vertical and diagonal details from the coarsest level to the finest.

    Args:
        shape: Height and width, both divisible by 2^num_levels.
        name: Of an orthogonal wavelet of PyWavelets.
        num_levels: Times that the image is halved, or the filters are doubled.
        undecimated: False for the orthonormal transform.

    Attributes:
        levels: Of each coefficient, broadcast to all: 1 for the finest details, `num_levels` for
            the coarsest, 0 for the coarse image, which is not to be shrunk.

    Raises:
        ValueError: If the shape is not divisible, or the wavelet unknown or not orthogonal.

    Example:
        >>> haar = WaveletFrame((4, 4), "haar", num_levels=1, undecimated=False)
        >>> haar(torch.ones(4, 4))[0, :2, :2].round(decimals=3)
        tensor([[2., 2.],
                [2., 2.]])
    """

    levels: Float[Tensor, "map _ _"]
    input_shape: tuple[int, int]
    output_shape: tuple[int, int, int]

    def __init__(
        self,
        shape: Sequence[int],
        name: str = "db4",
        num_levels: int = 4,
        *,
        undecimated: bool = True,
    ) -> None:
        """Lay out the coefficients."""
        super().__init__()
        height, width = shape
        if num_levels < 1 or height % 2**num_levels or width % 2**num_levels:
            raise ValueError(
                f"shape must be divisible by 2^num_levels, got {(height, width)} and "
                f"{num_levels} levels; crop or pad the image, or take fewer levels"
            )
        if name not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(name).orthogonal:
            raise ValueError(
                f"name must be that of an orthogonal wavelet of PyWavelets, got {name!r}; take "
                "haar, or dbN, symN or coifN with a number N"
            )
        self.name, self.num_levels, self.undecimated = name, num_levels, undecimated
        self.input_shape = (height, width)
        details = [level for level in range(num_levels, 0, -1) for _ in range(3)]
        if undecimated:
            levels = torch.tensor([0, *details], dtype=torch.float64)[:, None, None]
        else:
            levels = torch.ones(1, height, width, dtype=torch.float64)
            for level in range(1, num_levels + 1):
                inner = level + 1 if level < num_levels else 0
                levels[0, : height >> level, : width >> level] = inner
        self.output_shape = (len(levels), height, width)
        self.register_buffer("levels", levels, persistent=False)

    def forward(
        self, x: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch map height width"]:
        """Analyze images."""
        return apply_linear(self._checked("x", x, self.input_shape), self._transform)

    def adjoint(
        self, y: Inexact[Tensor, "*batch map height width"]
    ) -> Inexact[Tensor, "*batch height width"]:
        """Synthesize images; inverts `forward`."""
        return apply_linear(self._checked("y", y, self.output_shape), self._transform, adjoint=True)

    def extra_repr(self) -> str:
        """Say which wavelet."""
        return f"{self.name!r}, num_levels={self.num_levels}, undecimated={self.undecimated}"

    def _transform(self, x: Tensor, adjoint: bool) -> Tensor:
        values = x.detach().cpu().numpy()
        if self.undecimated:
            result = self._lower_maps(values) if adjoint else self._lift_maps(values)
        else:
            result = self._merge(values) if adjoint else self._split(values)
        return torch.from_numpy(np.ascontiguousarray(result)).to(x)

    def _lift_maps(self, image: np.ndarray) -> np.ndarray:
        coarse, *details = pywt.swt2(
            image, self.name, self.num_levels, trim_approx=True, norm=True, axes=(-2, -1)
        )
        return np.stack([coarse, *(one for level in details for one in level)], axis=-3)

    def _lower_maps(self, maps: np.ndarray) -> np.ndarray:
        coarse, *details = np.moveaxis(maps, -3, 0)
        levels = [tuple(details[i : i + 3]) for i in range(0, len(details), 3)]
        image: np.ndarray = pywt.iswt2([coarse, *levels], self.name, norm=True, axes=(-2, -1))
        return image

    # Level by level: PyWavelets' own loop warns where filters are longer than the coarse image.

    def _split(self, image: np.ndarray) -> np.ndarray:
        result = np.empty_like(image)
        for _ in range(self.num_levels):
            rows, columns = image.shape[-2] // 2, image.shape[-1] // 2
            image, (horizontal, vertical, diagonal) = pywt.dwt2(image, self.name, _WRAP)
            result[..., rows : 2 * rows, :columns] = horizontal
            result[..., :rows, columns : 2 * columns] = vertical
            result[..., rows : 2 * rows, columns : 2 * columns] = diagonal
        result[..., :rows, :columns] = image
        return result[..., None, :, :]

    def _merge(self, maps: np.ndarray) -> np.ndarray:
        (height, width), maps = self.input_shape, maps[..., 0, :, :]
        image = maps[..., : height >> self.num_levels, : width >> self.num_levels]
        for level in range(self.num_levels, 0, -1):
            rows, columns = height >> level, width >> level
            details = (
                maps[..., rows : 2 * rows, :columns],
                maps[..., :rows, columns : 2 * columns],
                maps[..., rows : 2 * rows, columns : 2 * columns],
            )
            image = pywt.idwt2((image, details), self.name, _WRAP)
        return image

    def _checked(self, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if tuple(x.shape[-len(shape) :]) != shape:
            raise ValueError(f"{name} must end in shape {shape}, got {tuple(x.shape)}")
        return x
