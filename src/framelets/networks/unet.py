"""One U-Net, whose poolings are frames: plain, dual-frame and tight-frame.

A level of the U-Net analyzes its features x with [I, Phi^T]: a skip beside average pooling. Used as
synthesis too, that frame counts the low frequencies twice: x + P x with P = Phi Phi^T, frame bounds
1 and 2. Two repairs are known [1]:

    dual frame     x = s + Phi (b - Phi^T s) / 2, for the skip s and the low-resolution result b
    tight frame    [I, T] with the four Haar subbands T, T* T = I, frame bounds 2 and 2

Both are written here as published [1, Fig. 4]: every stage is a pair of 3x3 convolutions, each with
a normalization and ReLU, and a 1x1 convolution ends the network. The factors of the frame (1/2) are
left to the filters. With c_i = width * 2^i and d = depth - 1 the stages have these channels:

    encoder i    c_(i-1) -> c_i -> c_i             (in_channels for c_(-1))
    bottom       c_d -> c_(d+1) -> c_d
    decoder i    (1 + branches) c_i -> c_i -> c_(i-1)    (c_0 for c_(-1))

with one branch from below beside the skip, or four for the tight frame: each Haar subband is
brought back by itself and concatenated, the high ones straight from the encoder. With `skip=False`
nothing but what comes from below enters a decoder stage: `branches * c_i` channels.

References:
    [1] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
    [2] S. Mohan, Z. Kadkhodaie, E. P. Simoncelli and C. Fernandez-Granda, "Robust and interpretable
        blind image denoising via bias-free convolutional neural networks", ICLR 2020.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core import LinearOperator, choose, refuse_unknown
from framelets.frames import SkipFrame

from ._identity_start import silence, start_as_identity
from ._levels import POOLINGS
from ._normalization import NORMALIZATIONS, group_size

INITIALIZATIONS = ("random", "identity")
"""Known starts of the weights."""

_WITHOUT_SKIP = ("average", "max")


@dataclass(frozen=True)
class FrameLevel:
    """The frame of one level of a network.

    Attributes:
        name: Path of the pooling in the network.
        analysis_operator: What the level does to each map of its features before the filters act:
            the skip and the pooled map.
        description: The level in words.
    """

    name: str
    analysis_operator: LinearOperator
    description: str


class UNet(nn.Module):
    """The U-Net of [1], for images of any size.

    Submodules: `encoders.i`, `poolings.i`, `unpoolings.i`, `decoders.i` for level i (0 is the
    finest), `bottom` and `last`. Parameters are laid out channels-last, which is the fastest on
    CPUs, and so are the features that they make.

    An image whose height or width is no multiple of 2^depth is extended to the next one by
    repeating its last row and column; the output is cropped to the size of the image.

    With `bias_free` no layer adds a constant: convolutions have no bias, normalizations divide by
    the standard deviation only [2], and f(x) = L(x) x. With batch normalization (in evaluation) or
    none, then also f(c x) = c f(x) for every c >= 0. Group and instance normalization divide by a
    scale taken from the image itself, so that net(c x) = net(x) up to their epsilon.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        width: Channels of the finest level; each level below has twice as many. The published
            networks have 64.
        depth: Number of poolings; the published networks have 4.
        pooling: "average"; "dual-frame", which subtracts what went down before un-pooling;
            "tight-frame", which keeps the four Haar subbands; or "max", un-pooled by copying each
            value to its block (nearest neighbor): unlike un-pooling by the adjoint of the
            selection it needs no switches from the encoder and leaves no holes, and max pooling
            undoes it exactly.
        skip: Concatenate each encoder's features with what comes from below; without, all that a
            level keeps goes down, and its frame is the pooling alone. Only for the poolings
            "average" and "max"; the other two hand features across by themselves.
        residual: Give input - net(input), as published for streak removal, instead of net(input).
        bias_free: Leave out every additive constant.
        normalization: "batch", "group" (of as many channels as the greatest common divisor of 8
            and the number of channels), "instance" or "none".
        pooling_normalization: Of the pooling "average" and "dual-frame"; un-pooling is the adjoint
            in either case. "mean" as published, with frame bounds 1 and 1.25; "orthonormal", with
            1 and 2.
        init: "random", after He et al. (2015); or "identity", the same but for a few filters that
            make the untrained network give its input back: without `residual` those of a signed
            pair on the finest skip, which a normalization would rescale; with `residual` those of
            the last layer, which are zero. The first training step reaches these filters alone
            (of the pair, or of the last layer), later ones reach all.

    Raises:
        ValueError: If a choice is unknown, a count is not positive, skips are left out of a pooling
            that has its own, `residual` or the start as identity is asked for with unequal
            channels, or the identity with a normalization, without skips or with too small a width.

    Example:
        >>> network = UNet(width=64, depth=4, pooling="tight-frame")
        >>> sum(parameter.numel() for parameter in network.parameters())
        31386689
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 64,
        depth: int = 4,
        pooling: str = "average",
        residual: bool = False,
        bias_free: bool = False,
        normalization: str = "batch",
        pooling_normalization: str = "mean",
        init: str = "random",
        skip: bool = True,
    ) -> None:
        """Build the stages."""
        super().__init__()
        counts = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": width,
            "depth": depth,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if residual and in_channels != out_channels:
            raise ValueError(
                f"residual=True needs equal in_channels and out_channels, got {in_channels} and "
                f"{out_channels}; set residual=False"
            )
        refuse_unknown("pooling_normalization", pooling_normalization, ("mean", "orthonormal"))
        refuse_unknown("normalization", normalization, NORMALIZATIONS)
        refuse_unknown("init", init, INITIALIZATIONS)
        if init == "identity" and not residual:
            _refuse_no_identity(in_channels, out_channels, width, normalization, skip)
        make_level = choose("pooling", pooling, POOLINGS)
        if not skip and pooling not in _WITHOUT_SKIP:
            raise ValueError(
                f"skip=False needs a pooling of {', '.join(_WITHOUT_SKIP)}, got {pooling!r}, which "
                "hands features across by itself"
            )
        self.in_channels, self.depth, self.residual = in_channels, depth, residual
        self.pooling, self.normalization, self.bias_free = pooling, normalization, bias_free
        self.skip = skip

        def stage(*channels: int) -> nn.Sequential:
            return _stage(channels, normalization, bias_free)

        levels = [make_level(pooling_normalization) for _ in range(depth)]
        c = [width * 2**i for i in range(depth + 1)]
        self._channels_per_scale = group_size(normalization, c[depth - 1])
        branches = levels[0].num_branches
        self.encoders = nn.ModuleList(
            stage(c[i - 1] if i else in_channels, c[i], c[i]) for i in range(depth)
        )
        self.poolings = nn.ModuleList(level.pooling for level in levels)
        self.bottom = stage(c[depth - 1], c[depth], c[depth - 1])
        self.unpoolings = nn.ModuleList(level.unpooling for level in levels)
        self.decoders = nn.ModuleList(
            stage((skip + branches) * c[i], c[i], c[max(i - 1, 0)]) for i in range(depth)
        )
        self.last = nn.Conv2d(width, out_channels, 1, bias=not bias_free)
        self._frames = [
            (level.frame, level.description if skip else f"{pooling} pooling without a skip")
            for level in levels
        ]
        if init == "identity" and residual:
            silence(self.last)
        elif init == "identity":
            start_as_identity((self.encoders[0], self.decoders[0]), self.last, in_channels)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self, image: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Apply the network.

        Args:
            image: Images of any height and width.

        Raises:
            ValueError: If the image has other axes than `batch channel height width`, other
                channels than the network, or is so small that a normalization would see one value.
        """
        self._refuse_wrong(image)
        height, width = image.shape[-2:]
        block = 2**self.depth
        margins = (0, -width % block, 0, -height % block)
        features = nn.functional.pad(image, margins, mode="replicate") if any(margins) else image

        skips = []
        for encoder, pooling in zip(self.encoders, self.poolings, strict=True):
            features = encoder(features)
            pooled = pooling(features)
            skips.append((features, pooled))
            features = pooled[0]
        features = self.bottom(features)
        for i in reversed(range(self.depth)):
            skip, pooled = skips.pop()
            branches = self.unpoolings[i](features, pooled)
            features = self.decoders[i](
                torch.cat([skip, *branches] if self.skip else branches, dim=1)
            )
        output: Tensor = self.last(features)

        if any(margins):
            output = output[..., :height, :width]
        return image - output if self.residual else output

    def frame_levels(self) -> list[FrameLevel]:
        """List the frame of every level, the finest first.

        The operators act on one map of the features, `*batch height width` with even sizes; hand
        them to `frames.frame_bounds`.
        """
        return [
            FrameLevel(f"poolings.{i}", SkipFrame(frame) if self.skip else frame, description)
            for i, (frame, description) in enumerate(self._frames)
        ]

    def _refuse_wrong(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[1] != self.in_channels or 0 in image.shape:
            raise ValueError(
                f"image must have shape (batch, {self.in_channels}, height, width), "
                f"got {tuple(image.shape)}"
            )
        sees_one = max(image.shape[-2:]) <= 2**self.depth and self._channels_per_scale == 1
        if sees_one and self.normalization in ("group", "instance"):
            raise ValueError(
                f"image must be larger than {2**self.depth} pixels along one axis, for "
                f"{self.normalization} normalization to see two values at the lowest resolution, "
                f"got {tuple(image.shape)}; choose a smaller depth or another normalization"
            )


def _refuse_no_identity(
    in_channels: int, out_channels: int, width: int, normalization: str, skip: bool
) -> None:
    if not skip:
        raise ValueError("init='identity' needs skip=True, or set residual=True")
    if normalization != "none":
        raise ValueError(
            f"init='identity' needs normalization='none', got {normalization!r}, which rescales "
            "what passes; or set residual=True"
        )
    if in_channels != out_channels:
        raise ValueError(
            f"init='identity' needs equal in_channels and out_channels, got {in_channels} and "
            f"{out_channels}; set init='random'"
        )
    if width < 2 * in_channels:
        raise ValueError(
            f"init='identity' needs a width of at least {2 * in_channels}, two channels for each "
            f"of the input, got {width}; widen the network or set residual=True"
        )


def _stage(channels: tuple[int, ...], normalization: str, bias_free: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(pairwise(channels)):
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=not bias_free)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        layers[f"convolution_{i}"] = convolution
        layers[f"normalization_{i}"] = NORMALIZATIONS[normalization](after, bias_free)
        layers[f"activation_{i}"] = nn.ReLU()
    return nn.Sequential(layers)
