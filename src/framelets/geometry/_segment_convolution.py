"""Convolutions in double precision, where torch has no fast ones.

In double precision torch copies every patch of the image into a matrix first, which takes most of
the time. Here a tap of the filter is one product of its weights with the zero-padded image, read
from an offset: rows of the image follow each other in memory, so a shift by (i, j) is a shift of
the start, and what wraps around at the end of a row falls into columns that are cut off.

A filter bank that maps blocks without overlap, channel by channel (pooling, Haar subbands and their
adjoints), is a sum of scaled copies of every second pixel.
"""

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from framelets.geometry._segment_workers import Workers
from framelets.geometry._steps import Convolution

_SMALL = 2**14  # entries of an image for which calls cost more than copies
_STACKED = 256  # of such images at once
_COLUMNS = 2048  # of a product, a thread: result and part of the image stay in the cache


def convolve(
    step: Convolution,
    values: Sequence[Tensor],
    workers: Workers | None = None,
    *,
    constant: bool = True,
) -> list[Tensor]:
    """Apply a convolution, with its constant or without, to every value `sample channel *shape`."""
    first = values[0]
    if step.constant is not None and not constant:
        step = Convolution(tuple(first.shape), step.weight, None, step.options)
    if len(first) != 1:  # samples that the network made of one, as by a reshape
        return [_plain(step, value) for value in values]
    if first.numel() < _SMALL:
        return _stacked(step, values)
    apply: Callable[[Tensor], Tensor] = lambda value: _plain(step, value)  # noqa: E731
    if first.dtype == torch.float64 and first.device.type == "cpu" and step.weight.ndim == 4:
        stride, _, _, transposed, _, groups = step.options
        if groups == 1 and not transposed and all(s == 1 for s in stride):
            apply = _Products(step, first)
        elif _is_blockwise(step):
            apply = _Blocks(step)
    return (workers or Workers()).each(apply, values)


def _plain(step: Convolution, value: Tensor) -> Tensor:
    result = step.forward(value)
    return result if step.constant is None else result + step.constant


def _stacked(step: Convolution, values: Sequence[Tensor]) -> list[Tensor]:
    results: list[Tensor] = []
    for start in range(0, len(values), _STACKED):
        stack = torch.cat(list(values[start : start + _STACKED]))
        results += torch.split(_plain(step, stack), 1)
    return results


class _Products:
    """A convolution without stride as products of its taps with the shifted image."""

    def __init__(self, step: Convolution, like: Tensor) -> None:
        _, self._padding, self._apart, *_ = step.options
        self._taps = step.weight.permute(2, 3, 0, 1).contiguous()
        self._constant = like.new_zeros(()) if step.constant is None else step.constant
        self._channels, self._height, self._width = like.shape[1:]
        self._pitch = self._width + 2 * self._padding[1]
        num_rows, num_columns, self._num_out, _ = self._taps.shape
        self._rows = self._height + 2 * self._padding[0] - self._apart[0] * (num_rows - 1)
        self._columns = self._pitch - self._apart[1] * (num_columns - 1)
        self._memory = threading.local()

    def __call__(self, value: Tensor) -> Tensor:
        padded, wide = self._buffers(value)
        top, left = self._padding
        padded[:, top : top + self._height, left : left + self._width].copy_(value[0])
        flat = padded.flatten(1)
        block = max(1, torch.get_num_threads() * _COLUMNS // self._pitch) * self._pitch
        for start in range(0, self._rows * self._pitch, block):
            part = wide[:, start : start + block]
            for i in range(self._taps.shape[0]):
                for j in range(self._taps.shape[1]):
                    first = start + i * self._apart[0] * self._pitch + j * self._apart[1]
                    shifted = flat[:, first : first + part.shape[1]]
                    torch.addmm(part, self._taps[i, j], shifted, beta=min(i + j, 1), out=part)
        result = wide.reshape(1, self._num_out, self._rows, self._pitch)[..., : self._columns]
        finished = torch.empty(result.shape, dtype=result.dtype)
        return torch.add(result, self._constant, out=finished)

    def _buffers(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the padded image and the result with its waste: one of each for every thread."""
        if not hasattr(self._memory, "buffers"):
            # One row more, for the last products to read what is cut off.
            height = self._height + 2 * self._padding[0] + 1
            self._memory.buffers = (
                value.new_zeros(self._channels, height, self._pitch),
                value.new_empty(self._num_out, self._rows * self._pitch),
            )
        buffers: tuple[Tensor, Tensor] = self._memory.buffers
        return buffers


def _is_blockwise(step: Convolution) -> bool:
    """Tell whether blocks do not overlap and each channel goes to one of its own."""
    stride, padding, dilation, _, output_padding, groups = step.options
    plain = dilation == [1, 1] and output_padding == [0, 0] and not any(padding)
    return plain and tuple(step.weight.shape) == (groups, 1, *stride)


class _Blocks:
    """A convolution, or its adjoint, that weighs the pixels of each block by themselves."""

    def __init__(self, step: Convolution) -> None:
        self._step = step

    def __call__(self, value: Tensor) -> Tensor:
        step = self._step
        rows, columns = step.options[0]
        height, width = value.shape[-2:]
        if step.transposed:
            result = value.new_empty(*value.shape[:2], rows * height, columns * width)
        else:
            height, width = height // rows, width // columns
            result = value.new_zeros(*value.shape[:2], height, width)
        for i in range(rows):
            for j in range(columns):
                places = (..., slice(i, rows * height, rows), slice(j, columns * width, columns))
                weight = step.weight[None, :, :, i, j, None]
                if step.transposed:
                    torch.mul(value, weight, out=result[places])
                else:
                    result.addcmul_(value[places], weight)
        return result if step.constant is None else result.add_(step.constant)
