"""Average pooling of 2x2 blocks, and its adjoint, the un-pooling of the published U-Nets.

With orthonormal columns Phi (1/2 on each pixel of a block) P = Phi Phi^T is the projection onto
images that are constant on every block. The usual mean pooling is A = Phi^T / 2, hence
A A* = I / 4, and nearest-neighbor un-pooling is N = 4 A*, hence N A = P [1].

References:
    [1] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

from jaxtyping import Inexact
from torch import Tensor, nn

from framelets.core import LinearOperator, choose

from ._maps import on_maps, refuse_odd

_DIVISORS = {"mean": 4, "orthonormal": 2}


class AveragePooling(LinearOperator):
    """Sum each 2x2 block of pixels and divide by 2 (orthonormal) or by 4 (mean).

    Args:
        normalization: "orthonormal": pooling followed by un-pooling is the projection P;
            "mean": the pooled value is the mean of the block.

    Raises:
        ValueError: If the normalization is unknown.

    Example:
        >>> import torch
        >>> AveragePooling("mean")(torch.tensor([[1.0, 2.0], [3.0, 6.0]])).tolist()
        [[3.0]]
    """

    def __init__(self, normalization: str = "orthonormal") -> None:
        """Choose the normalization."""
        super().__init__()
        self.normalization = normalization
        self._divisor = choose("normalization", normalization, _DIVISORS)

    def forward(
        self, image: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch height//2 width//2"]:
        """Pool an image.

        Args:
            image: Real or complex image whose height and width are even.

        Raises:
            ValueError: If the image has fewer than two axes, or an odd height or width.
        """
        refuse_odd(image)
        return on_maps(
            lambda maps: nn.functional.avg_pool2d(maps, 2, divisor_override=self._divisor), image
        )

    def adjoint(
        self, pooled: Inexact[Tensor, "*batch rows columns"]
    ) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
        """Un-pool: spread each value, over the divisor, to the four pixels of its block."""
        spread = on_maps(
            lambda maps: nn.functional.interpolate(maps, scale_factor=2, mode="nearest"), pooled
        )
        return spread / self._divisor

    def extra_repr(self) -> str:
        """Say the normalization."""
        return f"normalization={self.normalization!r}"
