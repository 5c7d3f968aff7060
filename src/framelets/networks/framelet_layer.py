"""One layer of deep convolutional framelets: its description, and the filters and poolings."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core import LinearOperator
from framelets.frames import Branch, EncoderDecoderLayer
from framelets.frames.channel_convolution import correlate, flipped

from ._framelet_nonlocal import Maps, NonlocalBasis


@dataclass(frozen=True, eq=False)
class FrameletLayer:
    """What a layer of `DeepConvolutionFramelets` is made of.

    Attributes:
        window: Taps of the filters along height and width; their product is r.
        local_basis: "dct" or "haar" (sizes that are powers of two) on each channel by itself; "pca"
            of the examples, over all channels together; "random", orthonormal over all channels; or
            the filters themselves as columns, with one row for each tap of one channel or of all
            channels, channel-major.
        nonlocal_basis: "identity"; "haar", of which the LL subband goes on to the next layer and
            the others around it; "haar-packet", all subbands go on as channels;
            "average-high-pass", the orthonormal average goes on and what it leaves out around;
            "dual-frame", the average goes on and everything around, put together by the canonical
            dual; or an operator T on `*batch height width` with T* T = alpha I.
        num_channels: q, the channels that the filters make (before "haar-packet" multiplies them).
            With ReLU they come in pairs. Default by name: what perfect reconstruction needs, r
            times the channels that come in, and with ReLU twice that in the first layer, where
            they do not come in pairs yet; of given filters all, with ReLU in pairs. With fewer the
            layer projects, see `_framelet_filters`.
        skip: Take what the filters made around the layer too.
        dual_local_basis: Psi~ with Psi Psi~^T = I, for given filters; default: the canonical dual.
    """

    window: tuple[int, int] = (2, 2)
    local_basis: str | Tensor = "dct"
    nonlocal_basis: str | LinearOperator = "identity"
    num_channels: int | None = None
    skip: bool = False
    dual_local_basis: Tensor | None = None


class FrameletConvolution(nn.Module):
    """Filters and non-local basis of a layer; both ways down and up are linear.

    Attributes:
        analysis_filters: psi, in the layout of `torch.nn.functional.conv2d`.
        synthesis_filters: psi~, in that of `torch.nn.functional.conv_transpose2d`, which is the
            same.
        nonlocal_basis: Pooling, skip and un-pooling.
    """

    def __init__(
        self,
        analysis_filters: Float[Tensor, "out_channels in_channels rows columns"],
        synthesis_filters: Float[Tensor, "out_channels in_channels rows columns"],
        nonlocal_basis: NonlocalBasis,
    ) -> None:
        """Take the filters as the first values of parameters."""
        super().__init__()
        self.analysis_filters = nn.Parameter(analysis_filters)
        self.synthesis_filters = nn.Parameter(synthesis_filters)
        self.nonlocal_basis = nonlocal_basis

    def analysis(
        self, features: Float[Tensor, "batch in_channels height width"]
    ) -> tuple[Tensor, Maps]:
        """Correlate with the filters, H(z) Psi, and split by the non-local basis.

        Returns:
            What goes on to the next layer, and what goes around it.
        """
        coefficients = correlate(features, self.analysis_filters, (0, 0), "circular")
        return self.nonlocal_basis.analysis(coefficients)

    def synthesis(
        self, low: Tensor, around: Maps
    ) -> Float[Tensor, "batch in_channels height width"]:
        """Put together by the non-local basis, and convolve with the dual filters."""
        filters, origin = flipped(self.synthesis_filters.transpose(0, 1), (0, 0))
        coefficients = self.nonlocal_basis.synthesis(low, around)
        return correlate(coefficients, filters, origin, "circular")

    def as_encoder_decoder_layer(self, relu: bool, last: bool) -> EncoderDecoderLayer:
        """Write the layer as branches of an `EncoderDecoder`, all with these filters."""
        psi = self.analysis_filters.detach()
        dual = self.synthesis_filters.detach().transpose(0, 1)
        main, *skips = (
            Branch(psi, dual, pooling, unpooling, relu=relu)
            for pooling, unpooling in self.nonlocal_basis.ways()
        )
        return EncoderDecoderLayer(main, tuple(skips), relu=relu and not last)


def with_opposite_phases(
    filters: Float[Tensor, "out_channels in_channels rows columns"], paired_input: bool
) -> Float[Tensor, "_ _ rows columns"]:
    """Make pairs (w, -w) of filters, that act on pairs of channels too if these come in pairs.

    The first half of the channels is one of the pair, the second half the other.
    """
    if paired_input:
        filters = torch.cat([filters, -filters], dim=1)
    return torch.cat([filters, -filters], dim=0)
