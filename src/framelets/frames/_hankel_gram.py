"""The Gram matrix H* H of a lifted signal, from correlations of its channels: H is not formed.

Over all positions of a signal that wraps, the entry of the taps i of channel a and j of channel b
is the correlation R_ab[j - i] with R_ab[l] = sum_t conj(f_a[t]) f_b[t + l]: one Fourier transform
for each pair of channels, whatever the window is. Over the positions whose windows wrap along some
axes it is the same along the other axes, for each pair of taps along the former. The positions
inside follow by inclusion and exclusion: all, without those that wrap along the first axis, without
those that wrap along the second, and again with those that wrap along both.
"""

from itertools import combinations
from math import prod

import torch
from jaxtyping import Inexact, Int
from torch import Tensor

from ._hankel import transforms


def gram(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...], *, wraps: bool
) -> Inexact[Tensor, "*batch column column"]:
    """Return H* H of the lifting of `*batch channel *shape`, in double precision."""
    batch = signal.shape[: signal.ndim - 1 - len(window)]
    if 0 in batch:  # torch transforms no empty batch
        size = signal.shape[len(batch)] * prod(window)
        dtype = torch.complex128 if signal.is_complex() else torch.float64
        return signal.new_zeros(*batch, size, size, dtype=dtype)
    long_axes = [axis for axis, taps in enumerate(window) if taps > 1]
    total = signal.new_zeros(())
    for count in range(1 if wraps else len(long_axes) + 1):
        for edges in combinations(long_axes, count):
            total = total + (-1) ** count * _gram_of_rows(signal, window, edges)
    return total


def _gram_of_rows(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...], edges: tuple[int, ...]
) -> Inexact[Tensor, "*batch column column"]:
    """Sum over the positions whose windows wrap along all axes in `edges`."""
    num_axes = len(window)
    others = tuple(axis for axis in range(num_axes) if axis not in edges)
    dtype = torch.complex128 if signal.is_complex() else torch.float64
    lines = _ends(signal, window, edges).to(dtype)
    lines = lines.movedim([axis - num_axes for axis in others], [*range(-len(others), 0)])
    sizes = tuple(lines.shape[lines.ndim - len(others) :])
    forward, inverse = transforms(sizes, lines)
    lines = forward(lines)
    frequencies = lines.shape[lines.ndim - len(others) :]
    lead = lines.shape[: lines.ndim - num_axes]
    for place, axis in enumerate(edges, start=len(lead)):
        lines = lines.unfold(place, window[axis], 1)
    edge_taps, other_taps = (tuple(window[axis] for axis in axes) for axes in (edges, others))
    num_positions = prod(taps - 1 for taps in edge_taps)
    lines = lines.reshape(*lead, num_positions, prod(frequencies), prod(edge_taps))
    # Each channel: `*batch frequency position tap`, positions and taps along the edges.
    channels = lines.transpose(-3, -2).unbind(len(lead) - 1)
    lags = _lags(sizes, other_taps).to(signal.device)

    def block(left: Tensor, right: Tensor) -> Inexact[Tensor, "*batch tap tap"]:
        product = (left.mT @ right if edges else left * right).movedim(-3, -1)
        correlations = inverse(product.reshape(*product.shape[:-1], *frequencies))
        entries = correlations.reshape(*product.shape[:-1], prod(sizes))[..., lags]
        return _in_order_of_axes(entries, window, edges)

    sizes_of_blocks = len(channels), prod(window), len(channels), prod(window)
    blocks = torch.zeros(*lead[:-1], *sizes_of_blocks, dtype=dtype, device=signal.device)
    for row, channel in enumerate(channels):
        conjugate = channel.conj_physical()
        for column in range(row, len(channels)):
            entries = block(conjugate, channels[column])
            blocks[..., row, :, column, :] = entries
            blocks[..., column, :, row, :] = entries.mH
    return blocks.flatten(-2).flatten(-3, -2)


def _ends(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...], edges: tuple[int, ...]
) -> Inexact[Tensor, "*ends"]:
    """Cut out the samples that the windows hold that wrap along some axes: the last, the first."""
    for axis in edges:
        place, count = axis - len(window), window[axis] - 1
        size = signal.shape[place]
        parts = signal.narrow(place, size - count, count), signal.narrow(place, 0, count)
        signal = torch.cat(parts, dim=place)
    return signal


def _lags(shape: tuple[int, ...], window: tuple[int, ...]) -> Int[Tensor, "tap tap"]:
    """Return, for taps i and j, the place of the lag j - i in a flattened signal that wraps."""
    place = torch.zeros(1, 1, dtype=torch.long)
    for size, taps in zip(shape, window, strict=True):
        tap = torch.arange(taps)
        lag = (tap - tap[:, None]) % size
        place = place[:, None, :, None] * size + lag[:, None, :]
        place = place.reshape(place.shape[0] * taps, -1)
    return place


def _in_order_of_axes(
    entries: Inexact[Tensor, "*batch edge edge other other"],
    window: tuple[int, ...],
    edges: tuple[int, ...],
) -> Inexact[Tensor, "*batch tap tap"]:
    """Sort pairs of taps, those along the edges first, into rows and columns of all taps."""
    others = tuple(axis for axis in range(len(window)) if axis not in edges)
    axes = [*edges, *edges, *others, *others]
    rows = [axes.index(axis) for axis in range(len(window))]
    columns = [row + len(edges if axis in edges else others) for axis, row in enumerate(rows)]
    batch = entries.shape[:-4]
    order = [*range(len(batch)), *(len(batch) + place for place in (*rows, *columns))]
    pairs = entries.reshape(*batch, *(window[axis] for axis in axes)).permute(order)
    return pairs.reshape(*batch, prod(window), prod(window))
