"""What a pooling of blocks of two pixels keeps of an image, and what it forgets.

A pooling A of blocks of 2^d pixels with A A* = c I keeps P = A* A / c. What it forgets, I - P, is
split into 2^d - 1 parts T_k* T_k of one number a block, with T_j T_k* = 0 for j != k:

    averages      T_k the high-pass Haar filters of the block
    selections    T_k takes the pixel that stands opposite the selected one along the axes k

so that P + sum_k T_k* T_k = I. The parts are computed with the analysis sqrt(c) T_k and the
synthesis T_k* / sqrt(c): beside the skip and A, the analysis is tight,
I + A* A + c sum_k T_k* T_k = (1 + c) I.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_ARGUMENTS = {
    "avg_pool": ("input", "kernel_size", "stride", "padding", "ceil_mode", "", "divisor_override"),
    "max_pool": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_MAX: dict[int, Callable[..., Any]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_CONVOLUTION: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


class PooledBlocks(ABC):
    """One pooling that was done."""

    def __init__(self, pooled: Tensor) -> None:
        self.pooled = pooled

    @property
    def num_details(self) -> int:
        """How many parts there are of what was forgotten."""
        return int(2 ** (self.pooled.ndim - 2) - 1)

    @abstractmethod
    def kept(self, image: Tensor) -> Tensor:
        """Return P of the image that was pooled."""

    @abstractmethod
    def details(self, image: Tensor) -> list[Tensor]:
        """Return the T_k* T_k of the image that was pooled; P and they add up to it."""


class AveragedBlocks(PooledBlocks):
    """Sums over blocks, over a divisor: c = 2^d / divisor^2."""

    def __init__(self, pooled: Tensor, divisor: int) -> None:
        super().__init__(pooled)
        self._divisor = divisor

    def kept(self, image: Tensor) -> Tensor:
        num_pixels = 2 ** (image.ndim - 2)
        mean = self.pooled * (self._divisor / num_pixels)
        return _extended(functional.interpolate(mean, scale_factor=2, mode="nearest"), image)

    def details(self, image: Tensor) -> list[Tensor]:
        axes = image.ndim - 2
        # For the usual mean both filters hold exact numbers: 1 / 2^d with signs, and signs.
        analysis, synthesis = 1 / self._divisor, self._divisor / 2**axes
        parts = []
        for signs in _high_pass_signs(image):
            options: dict[str, Any] = {"stride": 2, "groups": image.shape[1]}
            filters = signs.expand(image.shape[1], 1, *[2] * axes)
            band = _CONVOLUTION[axes](image, analysis * filters, **options)
            part = _TRANSPOSED[axes](band, synthesis * filters, **options)
            parts.append(_extended(part, image))
        return parts


class SelectedBlocks(PooledBlocks):
    """One pixel of every block: the largest, or the first; c = 1."""

    def __init__(self, pooled: Tensor, largest: bool) -> None:
        super().__init__(pooled)
        self._largest = largest

    def kept(self, image: Tensor) -> Tensor:
        return self._placed(image, self._places(image), self.pooled)

    def details(self, image: Tensor) -> list[Tensor]:
        places, space = self._places(image), image.shape[2:]
        steps = [math.prod(space[axis + 1 :]) for axis in range(len(space))]
        parts = []
        for chosen in _subsets(len(space)):
            opposite = places
            for step, size, is_chosen in zip(steps, space, chosen, strict=True):
                if is_chosen:  # blocks begin at even places
                    opposite = opposite + step * (1 - 2 * (places // step % size % 2))
            values = image.flatten(2).gather(2, opposite.flatten(2)).reshape(self.pooled.shape)
            parts.append(self._placed(image, opposite, values))
        return parts

    def _places(self, image: Tensor) -> Tensor:
        axes = image.ndim - 2
        if self._largest:
            places: Tensor = _MAX[axes](image.detach(), 2, return_indices=True)[1]
            return places
        index = torch.arange(math.prod(image.shape[2:]), device=image.device)
        first = index.reshape(image.shape[2:])[(slice(None, None, 2),) * axes]
        return first.expand(self.pooled.shape)

    def _placed(self, image: Tensor, places: Tensor, values: Tensor) -> Tensor:
        zeros = values.new_zeros(*image.shape[:2], math.prod(image.shape[2:]))
        return zeros.scatter(2, places.flatten(2), values.flatten(2)).reshape(image.shape)


def pooled_blocks(
    name: str,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    result: Any,  # noqa: ANN401
) -> PooledBlocks | str | None:
    """Recognize a pooling by the name and the arguments of a torch function.

    Returns:
        The pooling; why it is not one of these, in words; or None if it is no pooling at all.
    """
    if name == "__getitem__":
        return _of_index(args, result)
    kind = name[:8]
    if kind not in _ARGUMENTS or not isinstance(result, Tensor) or result.ndim not in (3, 4, 5):
        return None
    given = dict(zip(_ARGUMENTS[kind], args, strict=False)) | kwargs
    axes = result.ndim - 2
    kernel = _per_axis(given.get("kernel_size"), axes)
    stride = _per_axis(given.get("stride") or kernel, axes)
    if set(stride) == {1}:
        return None
    plain = set(_per_axis(given.get("padding", 0), axes)) == {0} and not given.get("ceil_mode")
    plain = plain and set(_per_axis(given.get("dilation", 1), axes)) == {1}
    if plain and kernel == stride == (2,) * axes:
        if kind == "max_pool":
            return SelectedBlocks(result, largest=True)
        return AveragedBlocks(result, given.get("divisor_override") or 2**axes)
    even = all(n % 2 == 0 for n in given["input"].shape[2:])
    if plain and even and kernel == (1,) * axes and stride == (2,) * axes:
        return SelectedBlocks(result, largest=False)
    return f"{name} of {kernel} pixels with stride {stride}"


def _of_index(args: Sequence[Any], result: Any) -> PooledBlocks | None:  # noqa: ANN401
    image, index = args
    if not isinstance(result, Tensor) or image.ndim not in (3, 4, 5) or result.ndim != image.ndim:
        return None
    every_second = slice(None, None, 2)
    index = index if isinstance(index, tuple) else (index,)
    tail = [
        slice(None if i.start == 0 else i.start, i.stop, i.step) if isinstance(i, slice) else i
        for i in index
    ]
    axes = image.ndim - 2
    even = all(n % 2 == 0 for n in image.shape[2:])
    head, tail = tail[:-axes], tail[-axes:]
    plain = all(i is Ellipsis or i == slice(None) for i in head)
    whole = Ellipsis in head or len(head) == 2
    if even and plain and whole and tail == [every_second] * axes:
        return SelectedBlocks(result, largest=False)
    return None


def _per_axis(value: Any, axes: int) -> tuple[int, ...]:  # noqa: ANN401
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return values * axes if len(values) == 1 else values


def _subsets(axes: int) -> list[tuple[bool, ...]]:
    """List the non-empty sets of axes."""
    return list(itertools.product((False, True), repeat=axes))[1:]


def _high_pass_signs(like: Tensor) -> list[Tensor]:
    """Return the signs of the Haar filters but the first: odd along the axes of each subset."""
    axes = like.ndim - 2
    found = []
    for chosen in _subsets(axes):
        signs = torch.ones((1, 1, *[2] * axes), dtype=like.dtype, device=like.device)
        for axis, is_chosen in enumerate(chosen, start=2):
            if is_chosen:
                signs = torch.cat([signs.narrow(axis, 0, 1), -signs.narrow(axis, 1, 1)], axis)
        found.append(signs)
    return found


def _extended(part: Tensor, image: Tensor) -> Tensor:
    """Fill with zeros what a pooling left out at the end of odd axes."""
    missing = [n - m for n, m in zip(image.shape[2:], part.shape[2:], strict=True)]
    if not any(missing):
        return part
    return functional.pad(part, [margin for m in reversed(missing) for margin in (0, m)])
