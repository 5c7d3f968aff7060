"""Rules of linear operations, and what all rules share.

Linear operations are listed with the positions of the arguments in which they are linear; constants
there (a bias, a padding value, a second summand) go into the step's offset.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from framelets.geometry._recording import Call
from framelets.geometry._steps import (
    Addition,
    BlockCopy,
    BlockMean,
    Concatenation,
    Convolution,
    Derivative,
    Operation,
    Scale,
    Step,
)

Rule = Callable[[Call], None]


def names_in(text: str) -> list[str]:
    """Split a table of operation names."""
    return text.split()


_FIRST = (0,)


_LINEAR: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        names_in(
            """view _unsafe_view reshape expand permute transpose t squeeze unsqueeze slice select
        narrow diagonal unfold flip roll rot90 repeat tile movedim swapaxes flatten unflatten
        sum mean cumsum trace tril triu neg _neg_view resolve_conj resolve_neg
        reflection_pad1d reflection_pad2d reflection_pad3d
        replication_pad1d replication_pad2d replication_pad3d
        avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d
        _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
        upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
        _upsample_bilinear2d_aa _upsample_bicubic2d_aa
        pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im grid_sampler_2d grid_sampler_3d
        _fft_r2c _fft_c2c _fft_c2r view_as_real view_as_complex real imag _conj conj_physical
        _to_copy index index_select gather _unsafe_index split split_with_sizes
        unbind chunk tensor_split unsafe_split max_unpool2d max_unpool3d"""
        ),
        _FIRST,
    ),
    **dict.fromkeys(names_in("add sub rsub slice_scatter select_scatter complex"), (0, 1)),
    "cat": _FIRST,
    "stack": _FIRST,
    "lerp": (0, 1),
    "constant_pad_nd": (0, 2),
    "where": (1, 2),
    "masked_fill": (0, 2),
    "index_put": (0, 2),
    "_unsafe_index_put": (0, 2),
    "scatter": (0, 3),
    "scatter_add": (0, 3),
    "index_add": (0, 3),
}
"""Operations that are linear, and in which of their arguments."""


_ONLY_REAL_LINEAR = frozenset(names_in("view_as_real real imag _conj conj_physical _fft_c2r"))


_KEEPS_SUMS_OF_SQUARES = frozenset(
    names_in(
        """view _unsafe_view reshape expand permute transpose squeeze unsqueeze slice select
        narrow sum mean add avg_pool2d _adaptive_avg_pool2d mul div _to_copy split unbind
        real flatten"""
    )
)


_KEEPS_FACTORS = _KEEPS_SUMS_OF_SQUARES | frozenset(
    names_in(
        """sub rsub neg cat stack upsample_nearest1d upsample_nearest2d upsample_nearest3d index
        repeat upsample_bilinear2d upsample_trilinear3d"""
    )
)


_AS_REPLAYED: dict[str, Callable[..., Any]] = {
    "view": torch.reshape,
    "_unsafe_view": torch.reshape,
    "view_as_complex": lambda pairs: torch.complex(*pairs.unbind(-1)),
    "view_as_real": lambda value: torch.stack([value.real, value.imag], dim=-1),
    "_neg_view": torch.neg,
    "_conj": torch.conj_physical,
}
"""Operations that ask for a memory layout, in a form that takes any: a replay may have another."""

_SAME_VALUES = frozenset(names_in("clone detach alias lift_fresh contiguous lift"))


_VALUE_FREE = frozenset(
    names_in(
        """zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones
        new_empty new_full new_empty_strided sym_size sym_stride sym_numel is_same_size equal"""
    )
)


def linear(call: Call, positions: Sequence[int]) -> None:
    """Emit an operation that is linear in the arguments at these positions."""
    chosen = [call.args[p] for p in positions if p < len(call.args)]
    inputs = call.inputs(chosen)
    if len(inputs) < len(call.inputs()):
        smooth(call, refusal=f"{call.where} takes an index, size or weight from the image")
        return
    reduces = "reduce" in call.overload or call.overload == "dtype"
    if reduces:
        smooth(call, refusal=f"{call.where} ({call.overload}) has no rule")
        return
    special = _special_step(call, inputs)
    if special is not None:
        emit_linear(call, call.result, inputs, special)
        return
    args = list(call.args)
    constants = False
    for p in positions:
        if p < len(args):
            args[p], found = _without_constants(call, args[p])
            constants = constants or found
    function = _AS_REPLAYED.get(call.name, call.function)
    many = not isinstance(call.result, Tensor)
    for k, output in enumerate(call.result if many else [call.result]):
        constant = None
        if constants:
            constant = call.applied({id(value): torch.zeros_like(value) for value in inputs})
            constant = constant if bool((constant != 0).any()) else None
        step = Operation(
            bind(call, function, args, inputs, k if many else None),
            [tuple(value.shape) for value in inputs],
            [value.dtype for value in inputs],
            output.device,
            constant=constant,
            complex_linear=call.name not in _ONLY_REAL_LINEAR
            and (output.is_complex() or not any(value.is_complex() for value in inputs)),
        )
        emit_linear(call, output, inputs, step)


def emit_linear(call: Call, output: Tensor, inputs: list[Tensor], step: Step) -> None:
    """Emit a linear step, keeping track of gates and of sums of squares."""
    recording = call.recorder.recording
    nodes = [call.node(value) for value in inputs]
    ranks = [recording.factors.get(node, 0) for node in nodes if node is not None]
    factor = min(ranks) if call.name in _KEEPS_FACTORS else 0
    squares = [node in recording.energies for node in nodes]
    energy = all(squares) and call.name in _KEEPS_SUMS_OF_SQUARES
    call.emit(output, inputs, step, factor=factor, energy=energy)


def smooth(call: Call, *, refusal: str, factor: int = 0) -> None:
    """Emit an operation that has a derivative but no frozen step."""
    inputs = call.inputs()
    points = [value.clone() for value in inputs]
    call.emit(
        call.result,
        inputs,
        None,
        Derivative(bound(call, inputs), points),
        refusal=refusal,
        factor=factor,
    )


def bound(
    call: Call, inputs: Sequence[Tensor], first_of_many: bool = False
) -> Callable[..., Tensor]:
    """Return the operation as a function of some of its tensors, all else held."""
    return bind(call, call.function, call.args, inputs, 0 if first_of_many else None)


def convolution(call: Call) -> None:
    """Emit a convolution with constant weights."""
    image, weight, bias = call.args[:3]
    if call.node(image) is None or len(call.inputs()) > 1 or image.ndim != weight.ndim:
        reason = f"{call.where} takes its weights from the image"
        smooth(call, refusal=reason)
        return
    stride, padding, dilation, transposed, output_padding, groups = call.args[3:9]
    axes = weight.ndim - 2
    lists = [list(v) * (axes // len(v)) for v in (stride, padding, dilation, output_padding)]
    constant = None
    if bias is not None:
        constant = bias.detach().clone().reshape(1, -1, *[1] * axes)
    layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    step = Convolution(
        tuple(image.shape),
        weight.detach().clone(memory_format=layout),
        constant,
        (lists[0], lists[1], lists[2], bool(transposed), lists[3], int(groups)),
    )
    emit_linear(call, call.result, [image], step)


def same_values(call: Call) -> None:
    """Let a copy stand for its original; a copy of another type is a linear operation."""
    call.alias(call.result, call.inputs()[0])


def copy(call: Call) -> None:
    """Overwrite a tensor with another one, broadcast and converted to its type."""
    target, source = call.args[:2]
    if call.node(source) is None:
        inputs = [target]
        step: Step = Scale(target.new_zeros(()), call.result.clone())
    else:
        inputs, shape, dtype = [source], tuple(target.shape), target.dtype
        step = Operation(
            lambda x: x.expand(shape).to(dtype),
            [tuple(source.shape)],
            [source.dtype],
            target.device,
        )
    emit_linear(call, call.result, inputs, step)


def overwritten(call: Call) -> None:
    """Fill a tensor with a constant: nothing of the image is left."""
    emit_linear(
        call, call.result, call.inputs(), Scale(call.result.new_zeros(()), call.result.clone())
    )


def as_strided(call: Call) -> None:
    """Read a tensor by memory strides: an index by position."""
    image, output = call.args[0], call.result
    shape = tuple(output.shape)
    labels = torch.arange(image.numel(), device=image.device).reshape(image.shape)
    laid_out = torch.empty_strided(
        image.shape, image.stride(), dtype=torch.long, device=image.device
    ).copy_(labels)
    offset = output.storage_offset() - image.storage_offset()
    positions = laid_out.as_strided(shape, output.stride(), offset).flatten().clone()
    step = Operation(
        lambda x: x.flatten()[positions].reshape(shape),
        [tuple(image.shape)],
        [image.dtype],
        image.device,
    )
    emit_linear(call, output, [image], step)


def number(call: Call) -> None:
    """Refuse a Python number taken from the image."""
    if call.inputs()[0].dtype.is_floating_point or call.inputs()[0].is_complex():
        raise ValueError(
            f"{call.where} takes a Python number from the image (item(), float(), an if), which "
            "hides the rest of the network from the recording; keep it a tensor"
        )


def nothing(call: Call) -> None:
    """Ignore an operation whose result does not depend on values."""


def _special_step(call: Call, inputs: list[Tensor]) -> Step | None:
    """Return a hand-written step for the commonest linear operations."""
    if call.name in ("add", "sub") and len(inputs) == 2:
        u, v = call.args[:2]
        alpha = call.kwargs.get("alpha", 1)
        if isinstance(alpha, complex):
            return None
        if u is inputs[0] and v is inputs[1] and u.shape == v.shape == call.result.shape:
            same = u.dtype == v.dtype == call.result.dtype
            return Addition(float(alpha if call.name == "add" else -alpha)) if same else None
    if call.name in ("avg_pool2d", "upsample_nearest2d"):
        return _block_step(call)
    if call.name == "cat" and len(inputs) == len(call.args[0]):
        axis = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
        axis = axis % call.result.ndim
        if all(t.ndim == call.result.ndim and t.dtype == call.result.dtype for t in inputs):
            return Concatenation([value.shape[axis] for value in inputs], axis)
    return None


def _block_step(call: Call) -> Step | None:
    """Return the step of a pooling or an upsampling whose blocks do not overlap."""
    before, after = tuple(call.args[0].shape), tuple(call.result.shape)
    fine, coarse = (before, after) if call.name == "avg_pool2d" else (after, before)
    if len(fine) != 4 or any(n % m for n, m in zip(fine[2:], coarse[2:], strict=True)):
        return None
    block = (fine[2] // coarse[2], fine[3] // coarse[3])
    if call.name == "upsample_nearest2d":
        scales = [scale for scale in call.args[2:4] if scale is not None]
        exact = not scales or scales == [float(n) for n in block]
        return BlockCopy(after, block) if exact else None
    kernel, *options = call.args[1:]
    defaults: list[Any] = [[], [0, 0], False, True, None]
    stride, padding, ceil, _, divisor = options + defaults[len(options) :]
    sizes = [list(v) * (2 // len(v)) for v in (kernel, stride or kernel, padding)]
    plain = sizes == [list(block), list(block), [0, 0]] and not ceil
    return BlockMean(before, block, divisor or block[0] * block[1]) if plain else None


def _without_constants(call: Call, value: Any) -> tuple[Any, bool]:  # noqa: ANN401
    """Return an argument with its constant parts set to zero, and whether there were any."""
    if isinstance(value, Tensor):
        if call.node(value) is not None:
            return value, False
        return value.new_zeros(()).expand(value.shape), True
    if isinstance(value, (list, tuple)):
        pairs = [_without_constants(call, item) for item in value]
        return type(value)(item for item, _ in pairs), any(found for _, found in pairs)
    if isinstance(value, bool | None):
        return value, False
    return 0, value != 0


class _Slot:
    """Where an input stands among the arguments of an operation."""

    def __init__(self, number: int) -> None:
        self.number = number


def bind(
    call: Call,
    function: Callable[..., Any],
    args: Sequence[Any],
    inputs: Sequence[Tensor],
    pick: int | None = None,
) -> Callable[..., Tensor]:
    """Return a function of `inputs`; it holds copies of all constants, and no activation."""
    slots = {id(value): _Slot(k) for k, value in enumerate(inputs)}

    def own(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Tensor):
            if id(value) in slots:
                return slots[id(value)]
            shared = value.layout != torch.strided or 0 in value.stride()
            return value.detach() if shared else value.detach().clone()
        if isinstance(value, (list, tuple)):
            return type(value)(own(item) for item in value)
        return value

    held_args = own(tuple(args))
    held_kwargs = {key: own(value) for key, value in call.kwargs.items()}

    def fill(value: Any, values: Sequence[Tensor]) -> Any:  # noqa: ANN401
        if isinstance(value, _Slot):
            return values[value.number]
        if isinstance(value, (list, tuple)):
            return type(value)(fill(item, values) for item in value)
        return value

    def apply(*values: Tensor) -> Tensor:
        named = {key: fill(value, values) for key, value in held_kwargs.items()}
        result = function(*fill(held_args, values), **named)
        return result if pick is None else result[pick]  # type: ignore[no-any-return]

    return apply


def _linear_in(positions: Sequence[int]) -> Rule:
    def rule(call: Call) -> None:
        linear(call, positions)

    return rule


LINEAR_RULES: dict[str, Rule] = {
    **{name: _linear_in(positions) for name, positions in _LINEAR.items()},
    **dict.fromkeys(_SAME_VALUES, same_values),
    **dict.fromkeys(_VALUE_FREE, nothing),
    "convolution": convolution,
    "_convolution": convolution,
    "copy": copy,
    "fill": overwritten,
    "zero": overwritten,
    "as_strided": as_strided,
    "_local_scalar_dense": number,
}
"""From an operation's name to its rule."""
