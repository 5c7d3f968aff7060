"""Rules of normalizations: only the scale 1/sigma is frozen, the mean subtraction stays linear."""

import torch
from torch import Tensor

from framelets.geometry._linear_rules import Rule, emit_linear
from framelets.geometry._recording import Call
from framelets.geometry._steps import Centering, ChannelScale, Derivative, Scale

_EPSILON_EIGHTH = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")


def batch_norm(call: Call) -> None:
    """Emit a batch norm: evaluated, a scale per channel; with the batch's statistics, a norm."""
    image, weight, bias = call.args[:3]
    evaluated = call.name == "_native_batch_norm_legit_no_training"
    without_statistics = call.name == "_native_batch_norm_legit" and len(call.args) == 6
    mean, variance = (None, None) if without_statistics else call.args[3:5]
    training = False if evaluated else bool(call.args[3 if without_statistics else 5])
    eps = float(call.args[7 if call.name in _EPSILON_EIGHTH else -1])
    channels = (1, -1, *[1] * (image.ndim - 2))
    if training:
        axes = (0, *range(2, image.ndim))
        _normalization(call, tuple(image.shape), axes, weight, bias, channels, eps)
        return
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    step = ChannelScale(
        scale.detach().reshape(channels).to(image.dtype),
        shift.detach().reshape(channels).to(image.dtype),
    )
    emit_linear(call, call.result[0], [image], step)


def layer_norm(call: Call) -> None:
    """Emit a layer norm."""
    image, normalized_shape, weight, bias, eps = call.args[:5]
    axes = tuple(range(image.ndim - len(normalized_shape), image.ndim))
    shape = tuple(normalized_shape)
    _normalization(call, tuple(image.shape), axes, weight, bias, shape, float(eps))


def group_norm(call: Call) -> None:
    """Emit a group norm."""
    image, weight, bias, batch, channels, _, groups, eps = call.args[:8]
    grouped = (batch, groups, channels // groups, *image.shape[2:])
    axes = tuple(range(2, len(grouped)))
    shape = (1, channels, *[1] * (image.ndim - 2))
    _normalization(call, grouped, axes, weight, bias, shape, float(eps))


def _normalization(
    call: Call,
    grouped_shape: tuple[int, ...],
    axes: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    parameter_shape: tuple[int, ...],
    eps: float,
) -> None:
    image = call.args[0]
    # As torch does: the statistics of half-precision images are computed in single precision.
    wide = torch.promote_types(image.dtype, torch.float32)
    grouped = image.to(wide).reshape(grouped_shape)
    centered = grouped - grouped.mean(axes, keepdim=True)
    inverse = (centered.square().mean(axes, keepdim=True) + eps).rsqrt()
    scale = inverse.expand(grouped_shape)
    if weight is None:
        # One number a group is enough: keep the broadcast, not the image-sized tensor.
        keep = [n if a < 2 else 1 for a, n in enumerate(image.shape)]
        narrow = scale.reshape(image.shape)[tuple(slice(0, n) for n in keep)]
        scale = (
            narrow
            if torch.equal(narrow.expand(image.shape), scale.reshape(image.shape))
            else (scale.reshape(image.shape))
        )
    else:
        scale = scale.reshape(image.shape) * weight.detach().reshape(parameter_shape)
    constant = None if bias is None else bias.detach().clone().reshape(parameter_shape)
    scale = scale.clone().to(image.dtype)
    call.emit(
        call.result[0],
        [image],
        Centering(grouped_shape, axes, scale, constant),
        Centering(grouped_shape, axes, scale, constant, (centered * inverse).to(image.dtype)),
    )


def rms_norm(call: Call) -> None:
    """Emit a root-mean-square norm: its scale frozen, nothing subtracted."""
    image, shape, weight, eps = call.args[:4]
    axes = tuple(range(image.ndim - len(shape), image.ndim))
    epsilon = torch.finfo(image.dtype).eps if eps is None else eps
    scale = (image.square().mean(axes, keepdim=True) + epsilon).rsqrt()
    if weight is not None:
        scale = scale * weight.detach()

    def normalize(value: Tensor) -> Tensor:
        root = (value.square().mean(axes, keepdim=True) + epsilon).rsqrt()
        return value * root if weight is None else value * root * weight.detach()

    result = call.result[0] if isinstance(call.result, tuple) else call.result
    call.emit(result, [image], Scale(scale), Derivative(normalize, [image.clone()]))


NORMALIZATION_RULES: dict[str, Rule] = {
    "_native_batch_norm_legit": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    **dict.fromkeys(_EPSILON_EIGHTH, batch_norm),
    "native_layer_norm": layer_norm,
    "native_group_norm": group_norm,
    "_fused_rms_norm": rms_norm,
}
"""From an operation's name to its rule."""
