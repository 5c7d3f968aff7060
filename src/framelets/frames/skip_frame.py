"""The frame of a pooling layer with a skip beside it, and its canonical dual.

The skip keeps the image, the pooling A adds a coarse copy [1]. With Phi the adjoint of A:

    analysis           F = [I, A],   F x = (x, A x)
    frame operator     S = F* F = I + A* A
    canonical dual     F~ = F S^(-1),   F~* F = I

For every pooling with A A* = c I the inverse of S is I - A* A / (1 + c), and the dual's synthesis
of a skip s and a low-resolution map b is

    F~* (s, b) = s + A* (b - A s) / (1 + c).

Orthonormal average pooling (c = 1) gives s + Phi (b - Phi* s) / 2, mean pooling (c = 1/4) gives
s + N (b - A s) / 5 with nearest-neighbor un-pooling N = 4 A*, the Haar filter bank T gives
(s + T* b) / 2: there [I, T] is tight, S = 2 I.

References:
    [1] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator

from ._maps import from_phases, refuse_odd, to_phases

_PHASES = 4


class SkipFrame(LinearOperator):
    """The analysis [I, A]: an image and, below it, what a pooling A of 2x2 blocks makes of it.

    The coefficients stand at the low resolution: first the skip, its pixels sorted by their place
    in the 2x2 block (a permutation), then the maps of the pooling, one or more.

    Args:
        pooling: From `*batch height width` to `*batch height//2 width//2`, or to several such maps
            stacked before the last two axes, as `HaarFilterBank` gives them.
    """

    def __init__(self, pooling: LinearOperator) -> None:
        """Put a skip beside the pooling."""
        super().__init__()
        self.pooling = pooling
        self.real_linear = pooling.real_linear
        self.input_shape = pooling.input_shape

    def forward(
        self, image: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch coefficients height//2 width//2"]:
        """Analyze an image.

        Args:
            image: Real or complex image whose height and width are even.

        Raises:
            ValueError: If the image has fewer than two axes, or an odd height or width.
        """
        refuse_odd(image)
        return self.join(image, self.pooling(image))

    def adjoint(
        self, coefficients: Inexact[Tensor, "*batch coefficients rows columns"]
    ) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
        """Synthesize with the same frame: s + A* b."""
        skip, pooled = self.split(coefficients)
        return skip + self.pooling.adjoint(pooled)

    def join(
        self,
        skip: Inexact[Tensor, "*batch height width"],
        pooled: Inexact[Tensor, "*pooled height//2 width//2"],
    ) -> Inexact[Tensor, "*batch coefficients height//2 width//2"]:
        """Write a skip and the pooling's maps as one tensor of coefficients."""
        if pooled.ndim == skip.ndim:
            pooled = pooled.unsqueeze(-3)
        return torch.cat([to_phases(skip), pooled], dim=-3)

    def split(
        self, coefficients: Inexact[Tensor, "*batch coefficients rows columns"]
    ) -> tuple[Inexact[Tensor, "*batch 2*rows 2*columns"], Inexact[Tensor, "*pooled rows columns"]]:
        """Take the coefficients apart into the skip and the pooling's maps.

        Raises:
            ValueError: If there are fewer than five maps of coefficients.
        """
        if coefficients.ndim < 3 or coefficients.shape[-3] <= _PHASES:
            raise ValueError(
                "coefficients must have shape (*batch, more than 4, rows, columns), "
                f"got {tuple(coefficients.shape)}"
            )
        skip, pooled = coefficients[..., :_PHASES, :, :], coefficients[..., _PHASES:, :, :]
        return from_phases(skip), pooled.squeeze(-3)


class DualFrameSynthesis(LinearOperator):
    """The synthesis of the canonical dual of [I, A]: it inverts `SkipFrame(pooling)`.

    Args:
        pooling: A pooling with A A* = c I, as every pooling of this room has; c is measured.

    Raises:
        ValueError: If A A* is no multiple of the identity.
    """

    def __init__(self, pooling: LinearOperator) -> None:
        """Measure c."""
        super().__init__()
        self.frame = SkipFrame(pooling)
        self.real_linear = pooling.real_linear
        self.output_shape = pooling.input_shape
        self.gain = _gain(pooling)
        """c of A A* = c I."""

    def forward(
        self, coefficients: Inexact[Tensor, "*batch coefficients rows columns"]
    ) -> Inexact[Tensor, "*batch 2*rows 2*columns"]:
        """Synthesize s + A* (b - A s) / (1 + c)."""
        pooling = self.frame.pooling
        skip, pooled = self.frame.split(coefficients)
        return skip + pooling.adjoint(pooled - pooling(skip)) / (1 + self.gain)

    def adjoint(
        self, image: Inexact[Tensor, "*batch height width"]
    ) -> Inexact[Tensor, "*batch coefficients height//2 width//2"]:
        """Analyze with the dual frame: (x - A* A x / (1 + c), A x / (1 + c))."""
        pooling = self.frame.pooling
        pooled = pooling(image) / (1 + self.gain)
        return self.frame.join(image - pooling.adjoint(pooled), pooled)


def _gain(pooling: LinearOperator) -> float:
    # One random b decides, up to chance zero: it is an eigenvector of A A* only if all are.
    generator = torch.Generator().manual_seed(0)
    device = next((buffer.device for buffer in pooling.buffers()), None)
    image = torch.randn(pooling.input_shape or (8, 8), generator=generator, dtype=torch.float64)
    pooled = pooling(image.to(device))
    again = pooling(pooling.adjoint(pooled))
    gain = float(torch.sum(pooled * again) / torch.sum(pooled * pooled))
    deviation = torch.linalg.vector_norm(again - gain * pooled)
    if not deviation <= 1e-10 * torch.linalg.vector_norm(again):
        raise ValueError(
            "pooling must satisfy A A* = c I for its dual to have this closed form, and does not; "
            "solve with core.spectral.conjugate_gradient on SkipFrame(pooling).gram instead"
        )
    return gain
