"""Rules of operations that choose or bend: slopes, gates, smooth functions, maxima, statistics."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from framelets.geometry._linear_rules import Rule, bound, names_in, smooth
from framelets.geometry._product_rules import CONSTANT
from framelets.geometry._recording import Call
from framelets.geometry._steps import Derivative, Operation, Scale, Selection, Tangentline

GATE, SCALE = 2, 4
"""Ranks of tensors that a product may freeze: tanh and gated units 1, sigmoid 2, softmax 3, a
statistic 4, what is constant within a region 5."""


def _slope(call: Call, active: Tensor, slope: Tensor | float, kind: str) -> None:
    """Emit y = slope * x where active, and a constant (or a second slope) elsewhere."""
    image = call.args[0]
    recording = call.recorder.recording
    factor = recording.factors.get(call.node(image) or 0, 0) if kind == "clamp" else 0
    if isinstance(slope, float) and slope == 0.0:
        rest = torch.where(active, torch.zeros_like(call.result), call.result)
        constant = rest if bool((rest != 0).any()) else None
        step = Scale(_mask(active, image.dtype), constant)
    else:
        step = Scale(torch.where(active, torch.ones_like(image), slope))
    call.switch(kind, active)
    call.emit(call.result, [image], step, factor=factor)


def _mask(active: Tensor, dtype: torch.dtype) -> Tensor:
    # Multiplying by booleans is slow on CPU; the 16-bit type holds 0 and 1 exactly and is fast.
    layout = torch.channels_last if active.ndim == 4 else torch.contiguous_format
    kept = torch.bfloat16 if dtype == torch.float32 else dtype
    if dtype in (torch.float64, torch.complex64, torch.complex128):
        kept = torch.bool
    return active.to(kept).contiguous(memory_format=layout)


def relu(call: Call) -> None:
    """Emit max(x, 0)."""
    _slope(call, call.args[0] > 0, 0.0, "relu")


def leaky_relu(call: Call) -> None:
    """Emit x where positive, a fraction of x elsewhere."""
    image = call.args[0]
    slope = call.args[1] if len(call.args) > 1 else 0.01
    if isinstance(slope, Tensor):
        slope = slope.detach().clone()
    else:
        slope = image.new_full((), float(slope))
    _slope(call, image > 0, slope, "leaky_relu")


def clamp(call: Call) -> None:
    """Emit a value held between two bounds."""
    image = call.args[0]
    if call.node(image) is None or len(call.inputs()) > 1:
        smooth(call, refusal=f"{call.where} takes its bounds from the image")
        return
    low, high = clamp_bounds(call)
    active = torch.ones_like(image, dtype=torch.bool)
    if low is not None:
        active &= image > low if call.name == "hardtanh" else image >= low
    if high is not None:
        active &= image < high if call.name == "hardtanh" else image <= high
    _slope(call, active, 0.0, "clamp")


def clamp_bounds(call: Call) -> tuple[Any, Any]:
    """Return the lower and the upper bound of a clamp, None where there is none."""
    bounds = list(call.args[1:])
    if call.name == "clamp_max":
        bounds = [None, *bounds]
    low, high = [*bounds, None, None][:2]
    low = call.kwargs.get("min", low)
    high = call.kwargs.get("max", high)
    return (-1.0, 1.0) if call.name == "hardtanh" and low is None else (low, high)


def threshold(call: Call) -> None:
    """Emit x above a threshold, a constant elsewhere."""
    _slope(call, call.args[0] > call.args[1], 0.0, "threshold")


def shrink(call: Call) -> None:
    """Emit hard or soft shrinkage: nothing near zero."""
    image = call.args[0]
    width = call.args[1] if len(call.args) > 1 else 0.5
    active = image.abs() > width
    constant = None
    if call.name == "softshrink":
        constant = torch.where(active, -width * image.sign(), torch.zeros_like(image))
    call.switch(call.name, active)
    call.emit(call.result, [image], Scale(_mask(active, image.dtype), constant))


def absolute(call: Call) -> None:
    """Emit |x|: a sign for real x, Re(conj(phase) x) for complex x."""
    image = call.args[0]
    if not image.is_complex():
        call.switch("abs", image > 0)
        call.emit(call.result, [image], Scale(image.sign()))
        return
    phase = torch.sgn(image).conj().resolve_conj()
    step = Operation(
        lambda z: torch.real(phase * z),
        [tuple(image.shape)],
        [image.dtype],
        image.device,
        complex_linear=False,
    )
    call.emit(call.result, [image], step, factor=SCALE, smooth=True)


def gated_linear_unit(call: Call) -> None:
    """Emit a * sigmoid(b), for the two halves a and b of the input."""
    image = call.args[0]
    axis = call.args[1] if len(call.args) > 1 else -1
    gate = torch.sigmoid(image.chunk(2, axis)[1])
    step = Operation(
        lambda x: x.chunk(2, axis)[0] * gate, [tuple(image.shape)], [image.dtype], image.device
    )
    call.emit(call.result, [image], step, Derivative(bound(call, [image]), [image.clone()]))


def piecewise_constant(call: Call) -> None:
    """Emit a function whose derivative is zero: sign, floor, round."""
    image = call.args[0]
    if image.is_complex():
        smooth(call, refusal=f"{call.where} is a phase, used as a signal", factor=SCALE)
        return
    call.switch(call.name, call.result.clone())
    step = Scale(image.new_zeros(()), call.result.clone())
    call.emit(call.result, [image], step, factor=CONSTANT)


def _gated(gate: Callable[[Call], Tensor]) -> Rule:
    def rule(call: Call) -> None:
        image = call.args[0]
        derivative = Derivative(bound(call, [image]), [image.clone()])
        call.emit(call.result, [image], Scale(gate(call)), derivative, factor=1)

    return rule


def _gelu_gate(call: Call) -> Tensor:
    image = call.args[0]
    if call.kwargs.get("approximate", "none") == "tanh":
        inner = (2 / torch.pi) ** 0.5 * (image + 0.044715 * image**3)
        return 0.5 * (1 + torch.tanh(inner))
    return 0.5 * (1 + torch.erf(image / 2**0.5))


def _bent(rank: int) -> Rule:
    """Return the rule of a smooth function: its tangent and the offset that makes it exact."""

    def rule(call: Call) -> None:
        inputs = call.inputs()
        recording = call.recorder.recording
        if any(call.node(value) in recording.energies for value in inputs) or any(
            call.node(value) not in recording.frozen
            and recording.factors.get(call.node(value) or 0, 0)
            for value in inputs
        ):
            smooth(call, refusal=f"{call.where} reads a statistic of the image", factor=SCALE)
            return
        points = [value.clone() for value in inputs]
        result = call.result if isinstance(call.result, Tensor) else call.result[0]
        step = Tangentline(bound(call, inputs, result is not call.result), points, result)
        inherited = min(recording.factors.get(call.node(value) or 0, 0) for value in inputs)
        call.emit(result, inputs, step, factor=rank or inherited, smooth=True)

    return rule


def power(call: Call) -> None:
    """Emit x^p: a sum of squares in the making for p = 2, a root for p = 1/2, else a bend."""
    image = call.args[0]
    exponent = call.args[1] if len(call.args) > 1 else 2
    if isinstance(exponent, Tensor) or call.node(image) is None:
        _bent(0)(call)
    elif exponent == 1:
        call.alias(call.result, image)
    elif exponent == 2 and not image.is_complex():
        derivative = Derivative(bound(call, [image]), [image.clone()])
        call.emit(call.result, [image], Scale(image.clone()), derivative, energy=True, factor=SCALE)
    elif exponent == 0.5:
        square_root(call)
    else:
        _bent(0)(call)


def square_root(call: Call) -> None:
    """Emit the root of a sum of squares as that sum divided by the root: exact, and linear."""
    image = call.args[0]
    recording = call.recorder.recording
    if call.node(image) not in recording.energies:
        if recording.factors.get(call.node(image) or 0, 0):
            smooth(call, refusal=f"{call.where} is a statistic of the image", factor=SCALE)
        else:
            _bent(0)(call)
        return
    inverse = torch.where(call.result > 0, 1 / call.result, torch.zeros_like(call.result))
    call.emit(call.result, [image], Scale(inverse), Scale(inverse / 2), factor=SCALE, root=True)


def statistic(call: Call) -> None:
    """Emit a variance or a standard deviation: a scale, never a signal."""
    reason = f"{call.where} is a statistic of the image, used as a signal and not as a scale"
    if isinstance(call.result, Tensor):
        smooth(call, refusal=reason, factor=SCALE)
        return
    image = call.args[0]
    spread, mean = call.result
    whole = bound(call, [image])
    derivative = Derivative(lambda x: whole(x)[0], [image.clone()])
    call.emit(spread, [image], None, derivative, refusal=reason, factor=SCALE)
    average = Operation(lambda x: whole(x)[1], [tuple(image.shape)], [image.dtype], image.device)
    call.emit(mean, [image], average)


def norm(call: Call) -> None:
    """Emit a Euclidean norm as the inner product with the normalized image."""
    image = call.args[0]
    order = call.args[1] if len(call.args) > 1 else 2
    if order not in (2, 2.0, None) or image.is_complex():
        smooth(call, refusal=f"{call.where} is a norm other than the Euclidean", factor=SCALE)
        return
    axes = call.args[2] if len(call.args) > 2 else None
    keep = bool(call.args[3]) if len(call.args) > 3 else False
    axes = tuple(range(image.ndim)) if axes is None else tuple(axes)
    length = image.square().sum(axes, keepdim=True).sqrt()
    direction = image / torch.where(length > 0, length, torch.ones_like(length))
    step = Operation(
        lambda x: (direction * x).sum(axes, keepdim=keep),
        [tuple(image.shape)],
        [image.dtype],
        image.device,
    )
    call.emit(call.result, [image], step, factor=SCALE, smooth=True)


def max_pool(call: Call) -> None:
    """Emit max pooling as the selection of its maxima."""
    image = call.args[0]
    result, indices = call.result
    axes = {"1": 1, "2": 2, "3": 3}[next(c for c in call.name if c.isdigit())]
    call.switch("max_pool", indices)
    call.emit(result, [image], Selection(tuple(image.shape), indices, axes))


def extremum(call: Call) -> None:
    """Emit the largest or smallest value along axes; ties share evenly."""
    image = call.args[0]
    result = call.result if isinstance(call.result, Tensor) else call.result[0]
    axes = call.args[1] if len(call.args) > 1 else []
    keep = bool(call.args[2]) if len(call.args) > 2 else False
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    axes = axes or tuple(range(image.ndim))
    whole = result
    if not keep:
        for axis in sorted(a % image.ndim for a in axes):
            whole = whole.unsqueeze(axis)
    chosen = (image == whole).to(image.dtype)
    weights = chosen / chosen.sum(axes, keepdim=True)
    call.switch("max", chosen > 0)
    step = Operation(
        lambda x: (weights * x).sum(axes, keepdim=keep),
        [tuple(image.shape)],
        [image.dtype],
        image.device,
    )
    call.emit(result, [image], step, factor=SCALE)


def larger_of(call: Call) -> None:
    """Emit the larger or smaller of two tensors; ties share evenly."""
    u, v = call.args[:2]
    difference = u - v if call.name == "maximum" else v - u
    first = torch.heaviside(difference, difference.new_full((), 0.5))
    call.switch(call.name, first > 0.5)
    inputs = call.inputs()
    both = len(inputs) == 2
    constant = None
    if not both:
        constant = first * u if call.node(u) is None else (1 - first) * v
    weights = [first, 1 - first] if both else [first if call.node(u) is not None else 1 - first]

    def select(*values: Tensor) -> Tensor:
        parts = [w * value for w, value in zip(weights, values, strict=True)]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    step = Operation(
        select,
        [tuple(value.shape) for value in inputs],
        [value.dtype for value in inputs],
        u.device,
        constant=constant,
    )
    call.emit(call.result, inputs, step)


SLOPE_RULES: dict[str, Rule] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "_prelu_kernel": leaky_relu,
    "hardtanh": clamp,
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp,
    "threshold": threshold,
    "hardshrink": shrink,
    "softshrink": shrink,
    "abs": absolute,
    **dict.fromkeys(names_in("sign sgn floor ceil round trunc heaviside"), piecewise_constant),
    "silu": _gated(lambda call: torch.sigmoid(call.args[0])),
    "gelu": _gated(_gelu_gate),
    "mish": _gated(lambda call: torch.tanh(functional.softplus(call.args[0]))),
    "hardswish": _gated(lambda call: functional.relu6(call.args[0] + 3) / 6),
    "glu": gated_linear_unit,
    "sigmoid": _bent(GATE),
    "hardsigmoid": _bent(GATE),
    "tanh": _bent(1),
    "_softmax": _bent(3),
    "_safe_softmax": _bent(3),
    **dict.fromkeys(
        names_in(
            """elu celu selu softplus log_sigmoid_forward _log_softmax logsumexp exp expm1
                log log1p log2 log10 sin cos atan erf rsqrt reciprocal"""
        ),
        _bent(0),
    ),
    "pow": power,
    "square": power,
    "sqrt": square_root,
    **dict.fromkeys(names_in("var std var_mean std_mean"), statistic),
    "linalg_vector_norm": norm,
    **dict.fromkeys(
        names_in(
            """max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
            adaptive_max_pool2d adaptive_max_pool3d"""
        ),
        max_pool,
    ),
    **dict.fromkeys(names_in("amax amin max min"), extremum),
    "maximum": larger_of,
    "minimum": larger_of,
}
"""From an operation's name to its rule."""
