"""Haar filter bank: a pooling frame that forgets nothing.

Average pooling keeps one number of every four. The Haar filter bank keeps the three high-pass
subbands as well, so that pooling becomes an orthonormal change of basis and unpooling its adjoint:
the perfect-reconstruction condition that plain pooling layers break [1, 2].

The sign of the high-pass filter is [1, -1] / sqrt(2); the published code has [-1, 1] / sqrt(2) [2],
which turns the signs of LH and HL.

References:
    [1] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
    [2] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from framelets.core import LinearOperator, choose

from ._maps import on_maps, refuse_odd

SUBBANDS = ("LL", "LH", "HL", "HH")
"""Order of the subbands: first letter, the filter along height; second, the one along width."""

# Products of [1, 1] and [1, -1] over 2: every floating-point type holds them exactly.
_FILTERS = {
    "LL": [[0.5, 0.5], [0.5, 0.5]],
    "LH": [[0.5, -0.5], [0.5, -0.5]],
    "HL": [[0.5, 0.5], [-0.5, -0.5]],
    "HH": [[0.5, -0.5], [-0.5, 0.5]],
}


class HaarSubband(LinearOperator):
    """One subband of the Haar filter bank: a 2x2 filter, applied to each map with stride 2.

    Orthonormal rows, T T* = I; T* T is the projection onto the subband. T_LL is the orthonormal
    average pooling. A strided convolution of one map at a time keeps channels-last tensors as they
    are, which sorting the pixels by their place in the block does not.

    Args:
        name: One of `SUBBANDS`.

    Raises:
        ValueError: If the name is unknown.
    """

    _filter: Tensor

    def __init__(self, name: str) -> None:
        """Choose the subband."""
        super().__init__()
        self.name = name
        values = torch.tensor([[choose("subband", name, _FILTERS)]])
        self.register_buffer("_filter", values, persistent=False)

    def forward(
        self, image: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch height//2 width//2"]:
        """Analyze an image, real or complex, whose height and width are even."""
        refuse_odd(image)
        return on_maps(lambda maps: self._convolve(nn.functional.conv2d, maps), image)

    def adjoint(
        self, subband: Inexact[Tensor, "*batch rows columns"]
    ) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
        """Synthesize the image of this subband alone."""
        return on_maps(lambda maps: self._convolve(nn.functional.conv_transpose2d, maps), subband)

    def extra_repr(self) -> str:
        """Say which subband."""
        return f"name={self.name!r}"

    def _convolve(self, convolution: Callable[..., Tensor], maps: Tensor) -> Tensor:
        channels = maps.shape[1]
        filters = self._filter.to(maps).expand(channels, 1, 2, 2)
        return convolution(maps, filters, stride=2, groups=channels)


class HaarFilterBank(LinearOperator):
    """One level of the separable 2-D Haar transform, with stride 2 along height and width.

    Every 2x2 block X of the image becomes H X H* with H = [[1, 1], [1, -1]] / sqrt(2). H is
    orthogonal, so this operator T is orthonormal: T* T = I, T T* = I, and both frame bounds are 1.
    Inner products are the plain sums over pixels and over subband coefficients.

    Example:
        >>> HaarFilterBank()(torch.ones(2, 2)).flatten().tolist()
        [2.0, 0.0, 0.0, 0.0]
    """

    def __init__(self) -> None:
        """Make the four subbands."""
        super().__init__()
        self._subbands = nn.ModuleList(HaarSubband(name) for name in SUBBANDS)

    @property
    def subbands(self) -> tuple[HaarSubband, ...]:
        """The operators of the subbands, in the order of `SUBBANDS`."""
        return tuple(cast(HaarSubband, subband) for subband in self._subbands)

    def forward(
        self, image: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch 4 height//2 width//2"]:
        """Analyze an image into its four subbands.

        Args:
            image: Real or complex image whose height and width are even.

        Returns:
            The subbands, in the order of `SUBBANDS`.

        Raises:
            ValueError: If the image has fewer than two axes, or an odd height or width.
        """
        return torch.stack([subband(image) for subband in self.subbands], dim=-3)

    def adjoint(
        self, subbands: Inexact[Tensor, "*batch 4 rows columns"]
    ) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
        """Synthesize the image of four subbands; also the inverse, since T is orthonormal.

        Args:
            subbands: Real or complex subbands, in the order of `SUBBANDS`.

        Returns:
            The image, twice as high and twice as wide as a subband.

        Raises:
            ValueError: If the third axis from the end does not hold four subbands.
        """
        if subbands.ndim < 3 or subbands.shape[-3] != len(SUBBANDS):
            raise ValueError(
                f"subbands must have shape (*batch, {len(SUBBANDS)}, rows, columns), "
                f"got {tuple(subbands.shape)}"
            )
        image, *details = (
            operator.adjoint(coefficients)
            for operator, coefficients in zip(self.subbands, subbands.unbind(-3), strict=True)
        )
        return sum(details, start=image)
