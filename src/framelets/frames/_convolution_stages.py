"""Read the convolutions of a stage of a trained network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .channel_convolution import PADDINGS

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True, eq=False)
class StageConvolution:
    """A convolution of a stage, and whether ReLU follows."""

    weight: Tensor
    bias: Tensor | None
    relu: bool
    padding_mode: str


def convolutions_of(stage: nn.Module) -> list[StageConvolution]:
    """List the convolutions of a stage in the order in which it applies them."""
    found: list[StageConvolution] = []
    last: nn.Module | None = None
    for name, layer in _layers(stage, type(stage).__name__):
        if isinstance(layer, _CONVOLUTIONS) and _is_plain(layer, _CONVOLUTIONS):
            _refuse_other(name, layer)
            bias = None if layer.bias is None else layer.bias.detach()
            found.append(StageConvolution(layer.weight.detach(), bias, False, layer.padding_mode))
        elif (
            isinstance(layer, _NORMALIZATIONS)
            and _is_plain(layer, _NORMALIZATIONS)
            and isinstance(last, _CONVOLUTIONS)
        ):
            if layer.training or last.training:
                raise ValueError(
                    f"{name} is in training mode, in which it is not linear; call eval() first"
                )
            if layer.running_mean is None or layer.running_var is None:
                raise ValueError(
                    f"{name} must have running statistics, got track_running_stats=False: it "
                    "normalizes by each batch, which is not linear"
                )
            fused = fuse_conv_bn_eval(last, layer)
            weight, bias = fused.weight.detach(), cast(Tensor, fused.bias).detach()
            found[-1] = replace(found[-1], weight=weight, bias=bias)
        elif _is_plain(layer, (nn.ReLU,)) and found:
            found[-1] = replace(found[-1], relu=True)
        elif _is_plain(layer, (nn.Identity,)) or (
            _is_plain(layer, _DROPOUTS) and not layer.training
        ):
            continue
        else:
            raise ValueError(
                f"a stage may hold convolutions, batch normalization after them, ReLU and what "
                f"does nothing, got {name} ({type(layer).__name__}); linearize such a network with "
                "framelets.geometry instead"
            )
        last = layer
    return found


def padding_of(convolutions: Sequence[StageConvolution]) -> str:
    """Say the padding that all convolutions have."""
    modes = {part.padding_mode for part in convolutions if max(part.weight.shape[2:]) > 1}
    if len(modes) > 1 or not modes <= set(PADDINGS):
        raise ValueError(
            f"convolutions must all be padded with zeros, or all be circular, got {sorted(modes)}"
        )
    return modes.pop() if modes else "zeros"


def _layers(stage: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if _is_plain(stage, (nn.Sequential,)):
        # named_children() would list a module that stands here twice only once.
        for child_name, child in stage._modules.items():
            if child is not None:
                yield from _layers(child, f"{name}.{child_name}")
    else:
        yield name, stage


def _is_plain(layer: nn.Module, kinds: Sequence[type[nn.Module]]) -> bool:
    """Tell whether a module is of a kind and does what it does: subclasses may not."""
    return any(
        isinstance(layer, kind)
        and all(
            getattr(type(layer), method, None) is getattr(kind, method, None)
            for method in ("forward", "_conv_forward")
        )
        for kind in kinds
    )


def _refuse_other(name: str, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    plain = all(step == 1 for step in (*layer.stride, *layer.dilation, layer.groups))
    keeps = layer.padding == "same" or (
        not isinstance(layer.padding, str)
        and all(
            size == 2 * margin + 1
            for size, margin in zip(layer.kernel_size, layer.padding, strict=True)
        )
    )
    if not (plain and keeps):
        raise ValueError(
            f"{name} must have stride, dilation and groups 1 and keep the size, got {layer}"
        )
    if any(size % 2 == 0 for size in layer.kernel_size):
        raise ValueError(
            f"{name} must have odd kernel sizes, got {layer}: an even one has no center, and its "
            "place changes where the decoder turns it around; pad it by a zero in front"
        )
