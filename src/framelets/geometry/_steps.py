"""Linear steps: what one recorded operation does to a signal once its switches are held.

A step knows its linear part, the exact adjoint of that part for the inner product Re<u, v>, and the
constant that the operation adds. Steps never look at the image again: all they need of it was
reduced to masks, indices, scales and gates while it was recorded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from framelets.core.linear_function import Apply, apply_linear

aten = torch.ops.aten


class Step(ABC):
    """One linear map of one or more nodes to one node.

    Attributes:
        constant: What the operation adds to the linear part, or None.
        allocates: True if `forward` returns memory that nothing else holds.
        adjoint_allocates: The same of every cotangent that `adjoint` returns.
        complex_linear: False if the step is only real-linear on complex values.
    """

    constant: Tensor | None = None
    allocates = False
    adjoint_allocates = False
    complex_linear = True

    @abstractmethod
    def forward(self, *values: Tensor) -> Tensor:
        """Apply the linear part."""

    @abstractmethod
    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        """Apply its adjoint: one cotangent for each input."""


def _pull_back(
    function: Callable[..., Tensor], points: Sequence[Tensor], cotangent: Tensor
) -> tuple[Tensor, ...]:
    pullback = torch.func.vjp(function, *points)[1]
    return tuple(pullback(cotangent))


class Operation(Step):
    """Any operation that is linear in the chosen arguments, its adjoint by reverse mode.

    A linear map has the same derivative everywhere, so reverse mode at zero is the exact adjoint.
    """

    adjoint_allocates = False  # a view's adjoint may be a view

    def __init__(
        self,
        function: Callable[..., Tensor],
        shapes: Sequence[tuple[int, ...]],
        dtypes: Sequence[torch.dtype],
        device: torch.device,
        *,
        constant: Tensor | None = None,
        allocates: bool = False,
        complex_linear: bool = True,
    ) -> None:
        self._function = function
        self._inputs = list(zip(shapes, dtypes, strict=True))
        self._device = device
        self.constant = constant
        self.allocates = allocates
        self.complex_linear = complex_linear

    def forward(self, *values: Tensor) -> Tensor:
        return self._function(*values)

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        zeros = [torch.zeros(s, dtype=d, device=self._device) for s, d in self._inputs]
        return _pull_back(self._function, zeros, cotangent)


class MatchedMap(Step):
    """A linear map that brings its own adjoint: a projector, a non-uniform Fourier transform."""

    def __init__(self, apply: Apply, adjoint: bool) -> None:
        self._apply = apply
        self._adjoint = adjoint

    def forward(self, *values: Tensor) -> Tensor:
        return apply_linear(values[0], self._apply, adjoint=self._adjoint)

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        return (apply_linear(cotangent, self._apply, adjoint=not self._adjoint),)


class Derivative(Step):
    """The derivative of a smooth operation at recorded inputs, by forward and reverse mode."""

    complex_linear = False

    def __init__(
        self,
        function: Callable[..., Tensor],
        points: Sequence[Tensor],
    ) -> None:
        self._function = function
        self._points = tuple(points)

    def forward(self, *values: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(self._function, self._points, tuple(values))[1]
        return tangent

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        return _pull_back(self._function, self._points, cotangent)


class Tangentline(Derivative):
    """The derivative J of y = g(x) at x0, with the offset g(x0) - J x0 that completes it."""

    def __init__(
        self, function: Callable[..., Tensor], points: Sequence[Tensor], value: Tensor
    ) -> None:
        super().__init__(function, points)
        self._value = value.clone()

    @property
    def constant(self) -> Tensor:  # type: ignore[override]
        return self._value - self.forward(*self._points)


class Scale(Step):
    """Multiply every entry by a number that the image fixed: a mask, a slope, a gate, a 1/sigma.

    A mask of zeros and ones is kept in one or two bytes an entry and applied in place where the
    replay knows that nobody else reads the value.
    """

    allocates = True
    adjoint_allocates = True

    def __init__(self, factor: Tensor, constant: Tensor | None = None) -> None:
        self.factor = factor
        self.constant = constant

    def forward(self, *values: Tensor, in_place: bool = False) -> Tensor:
        (value,) = values
        return value.mul_(self.factor) if in_place else value * self.factor

    def adjoint(self, cotangent: Tensor, in_place: bool = False) -> tuple[Tensor, ...]:
        factor = self.factor.conj() if self.factor.is_complex() else self.factor
        return (cotangent.mul_(factor) if in_place else cotangent * factor,)


class ChannelScale(Scale):
    """A `Scale` whose factor varies along the channel axis only, ready to be folded."""


class Centering(Step):
    """A normalization with its scale frozen: subtract the mean of each group, then scale.

    v -> s (v - mean v). With `normalized`, the derivative of the whole normalization instead,
    v -> s (v - mean v - n mean(n v)), where n is the normalized image (a zero mean in each group).
    """

    allocates = True
    adjoint_allocates = True

    def __init__(
        self,
        grouped_shape: tuple[int, ...],
        axes: tuple[int, ...],
        scale: Tensor,
        constant: Tensor | None,
        normalized: Tensor | None = None,
    ) -> None:
        self._grouped_shape = grouped_shape
        self._axes = axes
        self._scale = scale
        self._normalized = normalized
        self.constant = constant

    def _project(self, value: Tensor) -> Tensor:
        grouped = value.reshape(self._grouped_shape)
        centered = grouped - grouped.mean(self._axes, keepdim=True)
        if self._normalized is not None:
            n = self._normalized
            centered = centered - n * (n * grouped).mean(self._axes, keepdim=True)
        return centered.reshape(value.shape)

    def forward(self, *values: Tensor) -> Tensor:
        return self._project(values[0]) * self._scale

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        return (self._project(cotangent * self._scale),)


class Addition(Step):
    """u + alpha v."""

    allocates = True

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def forward(self, *values: Tensor) -> Tensor:
        return torch.add(values[0], values[1], alpha=self.alpha)

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        return cotangent, cotangent if self.alpha == 1 else cotangent * self.alpha


class BlockMean(Step):
    """Sums over blocks of pixels without overlap, over a divisor: 2-D average pooling."""

    allocates = True
    adjoint_allocates = True

    def __init__(self, shape: tuple[int, ...], block: tuple[int, int], divisor: int) -> None:
        self._size = list(shape[2:])
        self._block = list(block)
        self._divisor = divisor

    def forward(self, *values: Tensor) -> Tensor:
        options = ([0, 0], False, True, self._divisor)
        result: Tensor = aten.avg_pool2d(values[0], self._block, self._block, *options)
        return result

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        spread = aten.upsample_nearest2d(cotangent, self._size)
        return (spread.mul_(1 / self._divisor),)


class BlockCopy(Step):
    """Every pixel copied to a block: nearest-neighbor upsampling by whole factors."""

    allocates = True
    adjoint_allocates = True

    def __init__(self, output_shape: tuple[int, ...], block: tuple[int, int]) -> None:
        self._size = list(output_shape[2:])
        self._block = list(block)

    def forward(self, *values: Tensor) -> Tensor:
        result: Tensor = aten.upsample_nearest2d(values[0], self._size)
        return result

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        options = ([0, 0], False, True, 1)  # a divisor of one: sums, not means
        return (aten.avg_pool2d(cotangent, self._block, self._block, *options),)


class Concatenation(Step):
    """Nodes side by side along one axis."""

    allocates = True

    def __init__(self, sizes: Sequence[int], axis: int) -> None:
        self._sizes = list(sizes)
        self._axis = axis

    def forward(self, *values: Tensor) -> Tensor:
        return torch.cat(values, self._axis)

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        return torch.split(cotangent, self._sizes, self._axis)


class Selection(Step):
    """Pick entries of the flattened trailing axes: max pooling with its switches held."""

    allocates = True
    adjoint_allocates = True

    def __init__(self, shape: tuple[int, ...], indices: Tensor, num_axes: int) -> None:
        self._shape = shape
        self._indices = indices
        self._num_axes = num_axes

    def forward(self, *values: Tensor) -> Tensor:
        flat = values[0].flatten(-self._num_axes)
        picked = flat.gather(-1, self._indices.flatten(-self._num_axes))
        return torch.unflatten(picked, -1, self._indices.shape[-self._num_axes :])

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        flat = cotangent.flatten(-self._num_axes)
        zeros = flat.new_zeros(self._shape).flatten(-self._num_axes)
        indices = self._indices.flatten(-self._num_axes)
        scattered = zeros.scatter_add(-1, indices, flat)
        return (torch.unflatten(scattered, -1, self._shape[-self._num_axes :]),)


class Convolution(Step):
    """A convolution or transposed convolution with constant weights, in any dimension.

    The adjoint of a convolution is the transposed convolution with the same weights, and the other
    way round. Where stride and groups are one it is computed as a convolution with the flipped
    filters, which runs as fast as the forward one.
    """

    allocates = True
    adjoint_allocates = True

    def __init__(
        self,
        shape: tuple[int, ...],
        weight: Tensor,
        constant: Tensor | None,
        options: tuple[list[int], list[int], list[int], bool, list[int], int],
    ) -> None:
        self._shape = shape
        self.weight = weight
        self.constant = constant
        self.options = options
        self._flipped: Tensor | None = None

    @property
    def transposed(self) -> bool:
        return self.options[3]

    @property
    def groups(self) -> int:
        return self.options[5]

    def scaled(self, scale: Tensor, constant: Tensor | None) -> "Convolution":
        """The same convolution followed by a factor for every output channel."""
        per_channel = scale.flatten().to(self.weight.dtype)
        if not self.transposed:
            weight = self.weight * per_channel.reshape(-1, *[1] * (self.weight.ndim - 1))
        else:
            inputs, outputs = self.weight.shape[:2]
            grouped = self.weight.reshape(self.groups, inputs // self.groups, outputs, -1)
            weight = (grouped * per_channel.reshape(self.groups, 1, outputs, 1)).reshape(
                self.weight.shape
            )
        if weight.ndim == 4:
            weight = weight.contiguous(memory_format=torch.channels_last)
        if self.constant is not None:
            moved = self.constant * scale
            constant = moved if constant is None else constant + moved
        return Convolution(self._shape, weight, constant, self.options)

    def forward(self, *values: Tensor) -> Tensor:
        result: Tensor = aten.convolution(values[0], self.weight, None, *self.options)
        return result

    def adjoint(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        stride, padding, dilation, transposed, _, groups = self.options
        size = self._shape[-len(stride) :]
        kernel = self.weight.shape[2:]
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if not transposed and groups == 1 and all(s == 1 for s in stride):
            mirrored = [r - p for r, p in zip(reach, padding, strict=True)]
            if all(p >= 0 for p in mirrored):
                weight = self._flipped_weight()
                arguments = (stride, mirrored, dilation, False, [0] * len(size), 1)
                return (aten.convolution(cotangent, weight, None, *arguments),)
        if transposed:
            arguments = (stride, padding, dilation, False, [0] * len(size), groups)
        else:
            covered = [
                (n - 1) * s - 2 * p + r + 1
                for n, s, p, r in zip(
                    cotangent.shape[-len(size) :], stride, padding, reach, strict=True
                )
            ]
            rest = [n - c for n, c in zip(size, covered, strict=True)]
            arguments = (stride, padding, dilation, True, rest, groups)
        weight = self.weight.conj().resolve_conj() if self.weight.is_complex() else self.weight
        result = aten.convolution(cotangent, weight, None, *arguments)
        for axis, n in enumerate(size, start=result.ndim - len(size)):
            result = result.narrow(axis, 0, n)
        return (result,)

    def _flipped_weight(self) -> Tensor:
        if self._flipped is None:
            axes = tuple(range(2, self.weight.ndim))
            self._flipped = self.weight.conj().transpose(0, 1).flip(axes).resolve_conj()
            if self._flipped.ndim == 4:
                self._flipped = self._flipped.contiguous(memory_format=torch.channels_last)
        return self._flipped
