"""What the Hankel calculus is made of: cut out all windows, add them back, make the Gram matrix.

Signals stand here as `*batch channel *shape`, with one to three axes in the shape; a lifted matrix
has one row a position and one column a tap, channel-major. `lift` takes the windows that lie inside
the signal; the wrap-around lifting is that of the signal as `extend` continues it.

Real signals take real Fourier transforms. They are neither centered nor orthonormal here: they only
make convolutions, whose result does not show it.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import torch
from jaxtyping import Inexact, Int
from torch import Tensor

_MAX_ENTRIES = 2**19  # of the rows that a dense product holds at a time

Transform = Callable[[Tensor], Tensor]


def transforms(shape: tuple[int, ...], *tensors: Tensor) -> tuple[Transform, Transform]:
    """Return the Fourier transform that pads with zeros to a shape, and its inverse."""
    axes = tuple(range(-len(shape), 0))
    pair: tuple[Callable[..., Tensor], ...] = (torch.fft.rfftn, torch.fft.irfftn)
    if any(tensor.is_complex() for tensor in tensors):
        pair = (torch.fft.fftn, torch.fft.ifftn)
    forward, inverse = (partial(function, s=shape, dim=axes) for function in pair)
    return forward, inverse


def extend(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...]
) -> Inexact[Tensor, "*extended"]:
    """Continue a signal periodically behind each axis, by one sample less than the window."""
    for axis, taps in enumerate(window, start=-len(window)):
        signal = torch.cat([signal, signal.narrow(axis, 0, taps - 1)], dim=axis)
    return signal


def extend_adjoint(
    extended: Inexact[Tensor, "*extended"], window: tuple[int, ...]
) -> Inexact[Tensor, "*signal"]:
    """Add the continuation to the samples that it repeats."""
    for axis, taps in enumerate(window, start=-len(window)):
        size = extended.shape[axis] - (taps - 1)
        signal = extended.narrow(axis, 0, size).clone()
        signal.narrow(axis, 0, taps - 1).add_(extended.narrow(axis, size, taps - 1))
        extended = signal
    return extended


def lift(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...]
) -> Inexact[Tensor, "*batch row column"]:
    """Write every window inside the signal as one row."""
    num_axes = len(window)
    for taps in window:
        signal = signal.unfold(-num_axes, taps, 1)
    patches = signal.movedim(-2 * num_axes - 1, -num_axes - 1)
    return patches.flatten(-num_axes - 1).flatten(-num_axes - 1, -2)


def lift_adjoint(
    matrix: Inexact[Tensor, "*batch row column"],
    window: tuple[int, ...],
    positions: tuple[int, ...],
) -> Inexact[Tensor, "*signal"]:
    """Add up, for every sample, the entries at which it stands in the matrix."""
    num_axes = len(window)
    sums: Tensor = matrix.unflatten(-1, (-1, *window)).unflatten(-num_axes - 2, positions)
    sums = sums.movedim(-num_axes - 1, -2 * num_axes - 1)
    first = sums.ndim - 2 * num_axes
    for axis, taps in enumerate(window, start=first):
        parts = sums.unbind(first + num_axes)  # the first of the tap axes that are left
        shape = list(parts[0].shape)
        num_positions, shape[axis] = shape[axis], shape[axis] + taps - 1
        sums = matrix.new_zeros(shape)
        for tap, part in enumerate(parts):
            sums.narrow(axis, tap, num_positions).add_(part)
    return sums


def wrap_gram(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...]
) -> Inexact[Tensor, "*batch column column"]:
    """Return H* H of the wrap-around lifting: the correlations of all pairs of channels.

    With R_ab[l] = sum_t conj(f_a[t]) f_b[t + l] the entry (a, i), (b, j) is R_ab[j - i]: one
    Fourier transform for each pair, whatever the window is.
    """
    num_axes = len(window)
    shape = tuple(signal.shape[-num_axes:])
    lags = _lags(shape, window).to(signal.device)
    forward, inverse = transforms(shape, signal)
    spectra = forward(signal).unbind(-num_axes - 1)
    upper = [  # of every channel with itself and those after it
        [
            inverse(spectrum.conj() * later).flatten(-num_axes)[..., lags]
            for later in spectra[channel:]
        ]
        for channel, spectrum in enumerate(spectra)
    ]
    rows = [
        torch.cat([*(upper[before][row - before].mH for before in range(row)), *blocks], dim=-1)
        for row, blocks in enumerate(upper)
    ]
    return torch.cat(rows, dim=-2)


def valid_gram(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...]
) -> Inexact[Tensor, "*batch column column"]:
    """Return H* H of the valid lifting: that of the wrap-around one without the rows that wrap.

    Where most rows wrap, the others are multiplied out instead.
    """
    shape = tuple(signal.shape[-len(window) :])
    inside = tuple(size - taps + 1 for size, taps in zip(shape, window, strict=True))
    if 2 * prod(inside) < prod(shape):
        return _rows_gram(signal, window, inside)
    gram = wrap_gram(signal, window)
    # The rows that wrap form one slab an axis: inside along the axes before it, anywhere behind.
    slab = extend(signal, window)
    for axis, taps in enumerate(window):
        if taps > 1:
            place = axis - len(window)
            beyond = slab.narrow(place, inside[axis], 2 * (taps - 1))
            lengths = (*inside[:axis], taps - 1, *shape[axis + 1 :])
            gram = gram - _rows_gram(beyond, window, lengths)
            slab = slab.narrow(place, 0, shape[axis])
    return gram


def _rows_gram(
    signal: Inexact[Tensor, "*signal"], window: tuple[int, ...], positions: tuple[int, ...]
) -> Inexact[Tensor, "*batch column column"]:
    num_axes, taps = len(window), window[0]
    num_channels = signal.shape[-num_axes - 1]
    row_entries = prod(positions[1:]) * prod(window) * num_channels
    step = max(1, _MAX_ENTRIES // row_entries)
    gram = signal.new_zeros(())
    for start in range(0, positions[0], step):
        count = min(step, positions[0] - start)
        rows = lift(signal.narrow(-num_axes, start, count + taps - 1), window)
        gram = gram + rows.mH @ rows
    return gram


def _lags(shape: tuple[int, ...], window: tuple[int, ...]) -> Int[Tensor, "tap tap"]:
    """Return, for taps i and j, the place of the lag j - i in a flattened signal that wraps."""
    place = torch.zeros(1, 1, dtype=torch.long)
    for size, taps in zip(shape, window, strict=True):
        tap = torch.arange(taps)
        lag = (tap - tap[:, None]) % size
        place = place[:, None, :, None] * size + lag[:, None, :]
        place = place.reshape(place.shape[0] * taps, -1)
    return place
