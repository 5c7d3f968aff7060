"""What the Hankel calculus is made of: cut out all windows, add them back, transform.

Signals stand here as `*batch channel *shape`, with one to three axes in the shape; a lifted matrix
has one row a position and one column a tap, channel-major. `lift` takes the windows that lie inside
the signal; the wrap-around lifting is that of the signal as `extend` continues it.

Real signals take real Fourier transforms. They are neither centered nor orthonormal here: they only
make convolutions, whose result does not show it.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Inexact
from torch import Tensor

Transform = Callable[[Tensor], Tensor]


def transforms(shape: tuple[int, ...], *tensors: Tensor) -> tuple[Transform, Transform]:
    """Return the Fourier transform that pads the last axes with zeros to a shape, and its inverse.

    A real transform if all tensors are real; the identity if the shape has no axes.
    """
    if not shape:
        return torch.clone, torch.clone
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
