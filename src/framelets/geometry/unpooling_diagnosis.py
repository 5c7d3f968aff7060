"""Checkerboards: what an un-pooling makes of an image without detail.

A transposed convolution of stride s gives each of the s^d places in a block, its phases, a part of
the kernel of its own. Put in what is constant in space, and phase p gives the sum w_p of its part,
a matrix from channels to channels. Unequal sums are a pattern of the period s in what should be
constant: a checkerboard [1]. Its strength is that of the pattern against the whole,

    sqrt(mean_p |w_p - mean_q w_q|^2 / mean_p |w_p|^2)

with Frobenius norms, from 0 (none) to 1 (nothing but pattern). A kernel whose length is no multiple
of the stride overlaps unevenly: even equal weights give a checkerboard, for ones of 3x3 and stride
2 the sums 4, 2, 2 and 1 and the strength sqrt(0.19). With even overlap it is left to the weights:
independent random ones have about sqrt(1 - 1/s^d), 0.87 for stride 2 in two dimensions. Copying
and interpolation have none. A pixel shuffle counts with the convolution before it and the averaging
behind it.

References:
    [1] A. Odena, V. Dumoulin and C. Olah, "Deconvolution and checkerboard artifacts", Distill,
        2016.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator
from framelets.geometry._level_maps import Resampling
from framelets.geometry._steps import Convolution
from framelets.geometry.linearize import LocalMap
from framelets.geometry.pooling_diagnosis import operation_words


@dataclass(frozen=True)
class UnpoolingDiagnosis:
    """One place where a network raises the resolution.

    Attributes:
        name: Path of the module.
        operation: The un-pooling in words.
        checkerboard: Strength of the pattern that it lays over a constant; None if the map is too
            small to tell.
        uneven_overlap: True for a transposed convolution whose kernel length is no multiple of its
            stride along some axis.
    """

    name: str
    operation: str
    checkerboard: float | None
    uneven_overlap: bool


def diagnose_unpoolings(local: LocalMap) -> list[UnpoolingDiagnosis]:
    """Diagnose every un-pooling of a network at an image.

    Subbands that go straight from an encoder to its decoder are no un-pooling of what comes from
    below and are left out.

    Args:
        local: A network at an image; record it in float64.

    Example:
        >>> from framelets.geometry import linearize
        >>> layer = torch.nn.ConvTranspose2d(1, 1, 3, stride=2, bias=False).double()
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> local = linearize(layer, torch.ones(1, 1, 8, 8, dtype=torch.float64))
        >>> (found,) = diagnose_unpoolings(local)
        >>> found.uneven_overlap, round(found.checkerboard**2, 6)
        (True, 0.19)
    """
    return [_diagnose(*rise) for rise in local.rises()]


def _diagnose(rise: Resampling, before: Convolution | None) -> UnpoolingDiagnosis:
    step = rise.step
    if isinstance(step, Convolution):
        stride, kernel = step.options[0], step.weight.shape[2:]
        uneven = any(k % s for k, s in zip(kernel, stride, strict=True))
        sums: Tensor | None = _sums_of_kernel(step)
    else:
        uneven = False
        shuffles = math.prod(rise.before) == math.prod(rise.after)
        sums = _sums_at_middle(rise, before if shuffles else None)
    interpolates = "upsample" in rise.name  # the weights of every phase add up to one
    small = 0.0 if interpolates else None
    strength = small if sums is None else _strength(sums)
    return UnpoolingDiagnosis(rise.place, operation_words(rise), strength, uneven)


def _strength(sums: Inexact[Tensor, "phase input output"]) -> float:
    pattern = sums - sums.mean(0)
    whole = float(torch.linalg.vector_norm(sums))
    return float(torch.linalg.vector_norm(pattern)) / whole if whole > 0 else 0.0


def _sums_of_kernel(convolution: Convolution) -> Inexact[Tensor, "phase input output"]:
    """Add up the taps of each phase; taps lie `dilation` apart."""
    stride, _, dilation = convolution.options[:3]
    sums = convolution.weight
    for axis, (s, d) in enumerate(zip(stride, dilation, strict=True), start=2):
        taps = d * torch.arange(sums.shape[axis], device=sums.device) % s
        chosen = torch.nn.functional.one_hot(taps, s).to(sums)
        sums = torch.movedim(torch.movedim(sums, axis, -1) @ chosen, -1, axis)
    return sums.flatten(2).movedim(-1, 0)


def _sums_at_middle(
    rise: Resampling, before: Convolution | None
) -> Inexact[Tensor, "phase input output"] | None:
    """Apply an operation to constants and read the block in the middle."""
    channels, *space = rise.before
    if min(space) < 3:
        return None
    constants = torch.eye(channels, dtype=_dtype(rise.operator))
    if before is not None and not before.transposed and before.groups == 1:
        constants = before.weight.flatten(2).sum(-1).mT.contiguous()
    maps = constants.reshape(-1, channels, *[1] * len(space)).expand(-1, -1, *space)
    result = rise.operator(maps.flatten(1)).reshape(-1, *rise.after)
    for axis, (n, m) in enumerate(zip(space, rise.after[1:], strict=True), start=2):
        factor = round(m / n)
        result = result.narrow(axis, factor * (n // 2), factor)
    return result.flatten(2).movedim(-1, 0)


def _dtype(operator: LinearOperator) -> torch.dtype:
    found = getattr(operator, "input_dtype", torch.float64)
    return found if isinstance(found, torch.dtype) else torch.float64
