"""Rules of products: linear in one factor, with the other one constant or frozen.

Of a product of two tensors that both depend on the image the gate is frozen; without a gate there
is no frozen step, and the network is refused if it uses the product linearly.
"""

import torch
from torch import Tensor

from framelets.geometry._linear_rules import (
    Rule,
    bind,
    bound,
    emit_linear,
    linear,
    names_in,
    smooth,
)
from framelets.geometry._recording import Call, replace_tensors
from framelets.geometry._steps import ChannelScale, Derivative, Operation, Scale, Step

CONSTANT = 5
"""Rank of a tensor that does not change within a linear region: a sign, a rounded value."""

_PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, int]]] = {
    **dict.fromkeys(names_in("mul mm bmm mv dot vdot linear matmul outer"), ((), (0, 1))),
    "addmm": ((0,), (1, 2)),
    "addmv": ((0,), (1, 2)),
    "baddbmm": ((0,), (1, 2)),
    "addcmul": ((0,), (1, 2)),
    "_sparse_mm": ((), (0, 1)),
}
"""Operations that are linear in each of two factors: positions of summands, and of the factors."""


def product(call: Call) -> None:
    """Emit a product: linear in one factor, the other constant or frozen."""
    summands, (left, right) = _PRODUCTS[call.name]
    u, v = call.args[left], call.args[right]
    i, j = call.node(u), call.node(v)
    if i is None or j is None:
        data = right if i is None else left
        kept = call.args[data]
        if call.name == "mul" and (call.result.shape, call.result.dtype) == (
            kept.shape,
            kept.dtype,
        ):
            other = call.args[left if i is None else right]
            emit_linear(call, call.result, [kept], scale_by(other, call.result))
            return
        linear(call, (*summands, data))
        return
    recording = call.recorder.recording
    ranks = recording.factors.get(i, 0), recording.factors.get(j, 0)
    inputs = call.inputs()
    points = [value.clone() for value in inputs]
    tangent = Derivative(bound(call, inputs), points)
    if i == j and call.name == "mul":
        frozen = Scale(u.clone())
        call.emit(
            call.result, [u], frozen, tangent, tangent_inputs=inputs, energy=True, factor=max(ranks)
        )
        return
    if max(ranks) == 0:
        reason = (
            f"{call.where} multiplies two tensors that both depend on the image, and neither is a "
            "gate (sigmoid, softmax, tanh) or a scale (standard deviation, norm)"
        )
        call.emit(call.result, inputs, None, tangent, refusal=reason)
        return
    gate, data = (v, left) if ranks[1] >= ranks[0] else (u, right)
    kept = call.args[data]
    frozen_inputs = call.inputs([kept, *(call.args[p] for p in summands)])
    step = Operation(
        bind(
            call, call.function, replace_tensors(call.args, {id(gate): gate.clone()}), frozen_inputs
        ),
        [tuple(value.shape) for value in frozen_inputs],
        [value.dtype for value in frozen_inputs],
        call.result.device,
    )
    if max(ranks) == CONSTANT:
        call.emit(call.result, frozen_inputs, step)
        return
    call.emit(
        call.result,
        frozen_inputs,
        step,
        tangent,
        tangent_inputs=inputs,
        factor=min(ranks),
        energy=call.node(kept) in recording.energies,
    )


def quotient(call: Call) -> None:
    """Emit u / v: linear in u, with v constant or a scale that is frozen."""
    u, v = call.args[0], call.args[1]
    if call.kwargs.get("rounding_mode") is not None:
        smooth(call, refusal=f"{call.where} rounds")
        return
    i, j = call.node(u), call.node(v)
    if j is None:
        if (call.result.shape, call.result.dtype) == (u.shape, u.dtype):
            inverse = 1 / v if isinstance(v, Tensor) else 1 / torch.tensor(v, dtype=torch.float64)
            emit_linear(call, call.result, [u], scale_by(inverse, call.result))
        else:
            linear(call, (0,))
        return
    rank = call.recorder.recording.factors.get(j, 0)
    if i is None or rank == 0:
        reason = f"{call.where} divides by a tensor that depends on the image and is not a scale"
        smooth(call, refusal=reason, factor=rank)
        return
    inputs = call.inputs()
    tangent = Derivative(bound(call, inputs), [value.clone() for value in inputs])
    held = 1 / v
    step: Step
    if (call.result.shape, call.result.dtype) == (u.shape, u.dtype):
        step = Scale(held)
    else:
        step = Operation(lambda x: x * held, [tuple(u.shape)], [u.dtype], u.device)
    if i == j:
        reason = f"{call.where} divides a tensor by itself"
        call.emit(call.result, inputs, None, tangent, refusal=reason)
        return
    call.emit(call.result, [u], step, tangent, tangent_inputs=inputs)


def scale_by(factor: object, result: Tensor) -> Scale:
    """Return the multiplication by a constant; one that varies by channel only can be folded."""
    if not isinstance(factor, Tensor):
        return Scale(torch.tensor(factor, dtype=result.dtype, device=result.device))
    factor = factor.detach().to(result.dtype if factor.dtype.is_floating_point else factor.dtype)
    channelwise = (
        result.ndim >= 3
        and factor.numel() == result.shape[1]
        and factor.ndim >= result.ndim - 1
        and factor.shape[1 - result.ndim] == factor.numel()
    )
    return (ChannelScale if channelwise else Scale)(factor.clone())


PRODUCT_RULES: dict[str, Rule] = {
    **dict.fromkeys(_PRODUCTS, product),
    "div": quotient,
    "true_divide": quotient,
}
"""From an operation's name to its rule."""
