"""The poolings and un-poolings of the U-Net: what goes down a level, and what comes back up.

A pooling takes the features of a level and returns a tuple of low-resolution maps, of which the
first goes on to the next level. The matching un-pooling takes the result of the levels below and
that tuple, and returns the full-resolution branches that are concatenated with the skip.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from framelets.core import LinearOperator
from framelets.frames import AveragePooling, HaarFilterBank, StridedPooling

Maps = tuple[Tensor, ...]


class OneBand(nn.Module):
    """Pool by a layer that keeps one map of every channel."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Maps:
        """Return the pooled features alone."""
        return (self.layer(features),)


class AdjointUnpooling(nn.Module):
    """Un-pool by the adjoint of average pooling A."""

    def __init__(self, pooling: AveragePooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, low: Tensor, pooled: Maps) -> Maps:  # noqa: ARG002
        """Return A* b."""
        return (self.pooling.adjoint(low),)


class DualFrameUnpooling(nn.Module):
    """Subtract what went down before un-pooling, as the canonical dual frame does."""

    def __init__(self, pooling: AveragePooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, low: Tensor, pooled: Maps) -> Maps:
        """Return A* (b - A s)."""
        return (self.pooling.adjoint(low - pooled[0]),)


class NearestUnpooling(nn.Module):
    """Copy each value to its block, a right inverse of max pooling that needs no switches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, low: Tensor, pooled: Maps) -> Maps:  # noqa: ARG002
        """Return N b."""
        return (self.layer(low),)


class HaarPooling(nn.Module):
    """Split the features into the four subbands, of which LL goes down."""

    def __init__(self, bank: HaarFilterBank) -> None:
        super().__init__()
        self.bank = bank

    def forward(self, features: Tensor) -> Maps:
        """Return LL, LH, HL and HH."""
        return tuple(subband(features) for subband in self.bank.subbands)


class HaarUnpooling(nn.Module):
    """Bring each subband back to full resolution by itself; they are not summed."""

    def __init__(self, bank: HaarFilterBank) -> None:
        super().__init__()
        self.bank = bank

    def forward(self, low: Tensor, pooled: Maps) -> Maps:
        """Return T_LL* b and the three high bands of the skipped features."""
        bands = (low, *pooled[1:])
        return tuple(
            subband.adjoint(band) for subband, band in zip(self.bank.subbands, bands, strict=True)
        )


@dataclass(frozen=True)
class Level:
    """One level of the U-Net between its encoder and its decoder.

    Attributes:
        pooling: Features to the maps that go down.
        unpooling: What comes up and those maps to the branches beside the skip.
        num_branches: How many branches there are, each as wide as the skip.
        frame: The pooling of one map as a linear operator; for max pooling, one like it.
        description: What happens here, for a reader of the report.
    """

    pooling: nn.Module
    unpooling: nn.Module
    num_branches: int
    frame: LinearOperator
    description: str


def _average(normalization: str) -> Level:
    pooling = AveragePooling(normalization)
    text = f"[I, A]: skip and {normalization} average pooling; adjoint un-pooling"
    return Level(OneBand(pooling), AdjointUnpooling(pooling), 1, pooling, text)


def _dual_frame(normalization: str) -> Level:
    pooling = AveragePooling(normalization)
    text = (
        f"[I, A]: skip and {normalization} average pooling; what went down is subtracted "
        "before the adjoint un-pooling, as in the canonical dual frame"
    )
    return Level(OneBand(pooling), DualFrameUnpooling(pooling), 1, pooling, text)


def _tight_frame(normalization: str) -> Level:  # noqa: ARG001 (Haar is orthonormal)
    bank = HaarFilterBank()
    text = "[I, T]: skip and the four Haar subbands; each is brought back by its own adjoint"
    return Level(HaarPooling(bank), HaarUnpooling(bank), 4, bank, text)


def _max(normalization: str) -> Level:  # noqa: ARG001 (max pooling is only selected)
    text = (
        "[I, M]: skip and the pixel of each 2x2 block that max pooling selects (here the first: "
        "which one depends on the image, the frame bounds do not); nearest-neighbor un-pooling"
    )
    return Level(OneBand(nn.MaxPool2d(2)), NearestUnpooling(), 1, StridedPooling(), text)


POOLINGS: dict[str, Callable[[str], Level]] = {
    "average": _average,
    "dual-frame": _dual_frame,
    "max": _max,
    "tight-frame": _tight_frame,
}
