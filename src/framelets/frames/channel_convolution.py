"""Convolution from channels to channels, as a convolution layer does it, with adjoint and matrix.

    (C z)_j[i] = sum_k sum_t w_jk[t] z_k[i + t - o],

for output channel j, input channel k, taps t, and the tap o that stands at the sample itself: what
deep learning calls a convolution. Beyond the ends z is periodic ("circular") or 0 ("zeros"). The
adjoint is of the same kind, for either padding: filters with the channels exchanged and the taps
flipped, and r - 1 - o for o, r the number of taps.

With circular padding and o = 0 the sum is that of z_k * flip(w_jk), the encoder's layer in [1];
w = flip(psi) and o = r - 1 make it the true convolution z_k * psi_jk of the decoder's.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

import torch
from jaxtyping import Float, Inexact
from torch import Tensor, nn

from framelets.core import LinearOperator, refuse_unknown

PADDINGS = ("circular", "zeros")
"""What a signal is beyond its ends: itself again, or 0."""

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {
    1: nn.functional.conv1d,
    2: nn.functional.conv2d,
    3: nn.functional.conv3d,
}


class ChannelConvolution(LinearOperator):
    """Filters from every input channel to every output channel, with stride 1.

    Args:
        filters: w, real; one to three axes of taps. They are copied.
        origin: The tap that stands at the sample itself, for each axis of taps.
        padding: "circular" or "zeros".

    Raises:
        ValueError: If the filters have no channels and one to three axes of taps, the origin is not
            one of the taps, or the padding is unknown.

    Example:
        >>> step = ChannelConvolution(torch.tensor([[[-1.0, 1.0]]]), (0,))
        >>> step(torch.tensor([[1.0, 4.0, 9.0]])).tolist()
        [[3.0, 5.0, -8.0]]
    """

    _filters: Tensor

    def __init__(
        self,
        filters: Float[Tensor, "out_channels in_channels *taps"],
        origin: Sequence[int],
        padding: str = "circular",
    ) -> None:
        """Copy the filters."""
        super().__init__()
        refuse_wrong_filters("filters", filters)
        refuse_unknown("padding", padding, PADDINGS)
        taps = tuple(filters.shape[2:])
        if len(origin) != len(taps) or not all(
            0 <= o < count for o, count in zip(origin, taps, strict=True)
        ):
            raise ValueError(
                f"origin must be one of the {taps} taps, counted from 0 along each axis, got "
                f"{tuple(origin)}"
            )
        self.origin, self.padding = tuple(origin), padding
        self.register_buffer("_filters", filters.detach().clone(), persistent=False)

    @property
    def taps(self) -> tuple[int, ...]:
        """The taps along each axis."""
        return tuple(self._filters.shape[2:])

    def forward(self, x: Inexact[Tensor, "*signal"]) -> Inexact[Tensor, "*filtered"]:
        """Filter a real or complex signal `*batch in_channels *shape`."""
        return correlate(x, self._filters, self.origin, self.padding)

    def adjoint(self, y: Inexact[Tensor, "*filtered"]) -> Inexact[Tensor, "*signal"]:
        """Filter with the channels exchanged and the taps flipped."""
        filters, origin = flipped(self._filters.transpose(0, 1), self.origin)
        return correlate(y, filters, origin, self.padding)

    def block_matrix(
        self, shape: Sequence[int], *, max_bytes: int = 2**30
    ) -> Float[Tensor, "rows columns"]:
        """Write the matrix on signals of one shape, from the definition, tap by tap.

        Row (j, i) and column (k, p) hold w_jk[t] where p = i + t - o; channels are the outer and
        positions, in row-major order, the inner index.

        Args:
            shape: Positions of the signal.
            max_bytes: Largest matrix to make, in bytes.

        Raises:
            ValueError: If the matrix would exceed `max_bytes`.
        """
        filters = self._filters
        channels_out, channels_in = filters.shape[:2]
        num = prod(shape)
        num_bytes = channels_out * channels_in * num**2 * filters.element_size()
        if num_bytes > max_bytes:
            raise ValueError(
                f"a dense {channels_out * num} x {channels_in * num} matrix takes {num_bytes} "
                f"bytes, more than max_bytes={max_bytes}; raise max_bytes, or use the operator"
            )
        place = torch.arange(num, device=filters.device)
        axes = [torch.arange(size, device=filters.device) for size in shape]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
        sizes = torch.tensor(list(shape), device=filters.device)[:, None]
        matrix = filters.new_zeros(channels_out, num, channels_in, num)
        for number, tap in enumerate(product(*(range(count) for count in self.taps))):
            offset = [t - o for t, o in zip(tap, self.origin, strict=True)]
            source = grid + torch.tensor(offset, device=filters.device)[:, None]
            inside = ((source >= 0) & (source < sizes)).all(0)
            if self.padding == "circular":
                source, inside = source % sizes, torch.ones_like(inside)
            column = torch.zeros_like(place)
            for size, coordinate in zip(shape, source, strict=True):
                column = column * size + coordinate
            weights = filters.flatten(2)[..., number]
            matrix[:, place[inside], :, column[inside]] += weights
        return matrix.reshape(channels_out * num, channels_in * num)

    def extra_repr(self) -> str:
        """Say the filters' shape and where they stand."""
        return f"{tuple(self._filters.shape)}, origin={self.origin}, padding={self.padding!r}"


def correlate(
    signal: Inexact[Tensor, "*signal"],
    filters: Float[Tensor, "out_channels in_channels *taps"],
    origin: Sequence[int],
    padding: str,
) -> Inexact[Tensor, "*filtered"]:
    """Apply the filters, differentiably in both; see the module."""
    if signal.is_complex():
        parts = (correlate(part, filters, origin, padding) for part in (signal.real, signal.imag))
        return torch.complex(*parts)
    num_axes = filters.ndim - 2
    *batch, channels = signal.shape[: signal.ndim - num_axes]
    shape = signal.shape[signal.ndim - num_axes :]
    filters = filters.to(signal)
    origin = tuple(origin)
    if padding == "circular":
        filters, origin = wrapped(filters, origin, tuple(shape))
    margins: list[int] = []  # nn.functional.pad starts at the last axis
    for taps, o in zip(reversed(filters.shape[2:]), reversed(origin), strict=True):
        margins += [o, taps - 1 - o]
    maps = signal.reshape(prod(batch), channels, *shape)
    if any(margins):
        mode = "circular" if padding == "circular" else "constant"
        maps = nn.functional.pad(maps, margins, mode=mode)
    filtered = _CONVOLUTIONS[num_axes](maps, filters)
    return filtered.reshape(*batch, *filtered.shape[1:])


def flipped(filters: Tensor, origin: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Turn the taps around, and with them the tap that stands at the sample."""
    taps = filters.shape[2:]
    turned = filters.flip(*range(2, filters.ndim))
    return turned, tuple(count - 1 - o for count, o in zip(taps, origin, strict=True))


def origin_of(taps: Sequence[int], origin: str) -> tuple[int, ...]:
    """Say which tap stands at the sample: the first, or the center, as in "same" padding."""
    refuse_unknown("origin", origin, ("center", "first"))
    return tuple((count - 1) // 2 if origin == "center" else 0 for count in taps)


def refuse_wrong_filters(name: str, filters: Tensor) -> None:
    """Raise unless a tensor can be the filters of a convolution."""
    if not (3 <= filters.ndim <= 5 and filters.is_floating_point() and filters.numel()):
        raise ValueError(
            f"{name} must be real with shape (out_channels, in_channels, *taps) and one to three "
            f"axes of taps, got {filters.dtype} of shape {tuple(filters.shape)}"
        )


def wrapped(
    filters: Tensor, origin: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...]]:
    """Add up the taps of a filter longer than the signal: they meet the same sample."""
    for axis, size in enumerate(shape):
        taps = filters.shape[2 + axis]
        if taps > size:
            place = (torch.arange(taps, device=filters.device) - origin[axis]) % size
            new = list(filters.shape)
            new[2 + axis] = size
            filters = filters.new_zeros(new).index_add(2 + axis, place, filters)
            origin = (*origin[:axis], 0, *origin[axis + 1 :])
    return filters, origin
