"""Certified bounds of the norm of a recorded operation.

References:
    [1] M. Riesz, "Eine trigonometrische Interpolationsformel und einige Ungleichungen fuer
        Polynome", 1914.
    [2] H. Sedghi, V. Gupta and P. M. Long, "The singular values of convolutional layers", ICLR
        2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, inf, pi, prod, sqrt

import torch
from torch import Tensor

from framelets.geometry._linear_rules import names_in
from framelets.geometry._replay import Link, Node
from framelets.geometry._steps import (
    Addition,
    BlockCopy,
    BlockMean,
    Concatenation,
    Convolution,
    Scale,
    Selection,
    Step,
)

_DENSE = 2**24
"""Entries of an unknown operation's matrix that may be formed."""

_AT_ONCE = 2**22
"""Entries of a convolution's matrices at several frequencies that are held at once."""

_ONE_SIGN = frozenset(
    names_in(
        """view _unsafe_view reshape expand permute transpose t squeeze unsqueeze slice
        select narrow diagonal unfold flip roll rot90 repeat tile movedim swapaxes
        flatten unflatten sum mean reflection_pad1d reflection_pad2d reflection_pad3d
        replication_pad1d replication_pad2d replication_pad3d constant_pad_nd avg_pool1d
        avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d
        upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
        _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d
        upsample_bilinear2d upsample_trilinear3d _upsample_bilinear2d_aa pixel_shuffle
        pixel_unshuffle channel_shuffle im2col col2im split split_with_sizes unbind
        chunk stack cat as_strided copy index index_select gather where masked_fill
        clone amax amin max min maximum minimum neg add sub rsub"""
    )
)
"""Operations whose matrix has, for each input, entries of one sign only."""


@dataclass(frozen=True)
class Gain:
    """How much an operation can amplify: |A(u_1, u_2, ...)| <= value sqrt(|u_1|^2 + |u_2|^2 ...).

    Attributes:
        value: The bound.
        weights: If given, the bound is sum_k weights_k |u_k| instead: that of a sum.
    """

    value: float
    weights: tuple[float, ...] = ()

    def of(self, norms: Sequence[float]) -> float:
        """Bound the norm of what comes out, given bounds of what goes in."""
        if self.weights:
            return sum(w * norm for w, norm in zip(self.weights, norms, strict=True))
        size = sqrt(sum(norm**2 for norm in norms))
        return self.value * size if size else 0.0


class StepGains:
    """The gains of recorded operations with all switches held, each computed once.

    Args:
        nodes: All tensors of the recording.
        image: The image, for type and device.
        num_frequencies: As for `convolution_norm_bound`.
    """

    def __init__(self, nodes: Sequence[Node], image: Tensor, num_frequencies: int = 16) -> None:
        """Know nothing yet."""
        self._nodes, self._image, self._num_frequencies = nodes, image, num_frequencies
        self._known: dict[int, Gain] = {}

    def of(self, link: Link) -> Gain:
        """Return the gain of an operation; infinite if its entries are not known."""
        if link.output not in self._known:
            self._known[link.output] = self._compute(link)
        return self._known[link.output]

    def _compute(self, link: Link) -> Gain:
        step = link.step
        if isinstance(step, Convolution) and not step.weight.is_complex():
            return Gain(convolution_norm_bound(step, self._num_frequencies))
        if isinstance(step, Scale):
            return Gain(float(step.factor.to(self._image.dtype).abs().max()))
        if isinstance(step, Addition):
            return Gain(inf, (1.0, abs(step.alpha)))
        if isinstance(step, Concatenation):
            return Gain(1.0)
        inputs = [self._image.new_ones(self._nodes[i].shape) for i in link.inputs]
        if has_one_sign(link):
            return Gain(_by_sums(step, inputs))
        if is_small(link, self._nodes):
            return Gain(float(torch.linalg.matrix_norm(dense_matrix(step, inputs[0]), 2)))
        return Gain(inf)


def has_one_sign(link: Link) -> bool:
    """Tell whether the matrix of an operation has entries of one sign, for each input."""
    return isinstance(link.step, BlockMean | BlockCopy | Selection) or link.name in _ONE_SIGN


def is_small(link: Link, nodes: Sequence[Node]) -> bool:
    """Tell whether the matrix of an operation may be formed."""
    if len(link.inputs) != 1:
        return False
    return prod(nodes[link.inputs[0]].shape) * prod(nodes[link.output].shape) < _DENSE


def dense_matrix(step: Step, like: Tensor) -> Tensor:
    """Return the matrix of an operation of one input of the shape of `like`."""
    units = torch.eye(like.numel(), dtype=like.dtype, device=like.device)
    columns = torch.vmap(step.forward)(units.reshape(-1, *like.shape))
    return columns.flatten(1).T


def absolute(step: Step, values: Sequence[Tensor]) -> Tensor:
    """Apply |A| of an operation of one sign to values without negative entries."""
    results = []
    for k in range(len(values)):
        alone = [v if i == k else torch.zeros_like(v) for i, v in enumerate(values)]
        results.append(step.forward(*alone).abs())
    return torch.stack(results).sum(0)


def convolution_norm_bound(step: Convolution, num_frequencies: int = 16) -> float:
    """Bound the norm of a convolution on images of any size and with any padding by zeros.

    It is a part of the convolution on the whole grid, whose norm is the maximum of |W(w)|_2 over
    all frequencies w [2]; striding only leaves out rows, and transposing keeps the norm. For unit
    vectors u and v, u* W(w) v is up to a phase a trigonometric polynomial of degree d = (taps - 1)
    / 2 along each axis (half degrees count too). It is largest somewhere, falls from there no
    faster than cos(d distance) [1], and so exceeds its maximum over n equidistant frequencies at
    most by 1 / cos(pi d / n) an axis.

    Args:
        step: The convolution.
        num_frequencies: The n along each axis, at least; four times the number of taps is taken if
            that is more.
    """
    axes = step.weight.ndim - 2
    taps = step.weight.shape[2:]
    outer, inner = step.weight.shape[:2]
    grouped = step.weight.reshape(step.groups, outer // step.groups, inner, *taps)
    stride, _, dilation, *_ = step.options
    if all(tap <= s and d == 1 for tap, s, d in zip(taps, stride, dilation, strict=True)):
        # Blocks do not overlap: one matrix maps a block to a pixel, or a pixel to a block.
        return float(torch.linalg.matrix_norm(grouped.flatten(2), 2).max())
    sizes = [max(num_frequencies, 4 * tap) for tap in taps]
    # The weights are real: opposite frequencies have equal norms, and half of them suffice.
    halved = [*sizes[:-1], sizes[-1] // 2 + 1]
    turns = [torch.arange(m, dtype=torch.float64) / n for m, n in zip(halved, sizes, strict=True)]
    places = [torch.arange(tap, dtype=torch.float64) for tap in taps]
    angles = 2 * pi * torch.cartesian_prod(*turns).reshape(-1, axes)
    phases = torch.polar(
        torch.ones((), dtype=torch.float64),
        angles @ torch.cartesian_prod(*places).reshape(-1, axes).T,
    ).to(grouped.device)
    flat, largest = grouped.flatten(3).to(phases.dtype), 0.0
    for part in torch.split(phases, max(1, _AT_ONCE // flat[..., 0].numel())):
        matrices = torch.einsum("goit,ft->fgoi", flat, part)
        if matrices.shape[-2] > matrices.shape[-1]:
            matrices = matrices.mH
        squares = torch.linalg.eigvalsh(matrices @ matrices.mH)
        largest = max(largest, sqrt(max(0.0, float(squares.max()))))
    return largest / prod(cos(pi * (tap - 1) / 2 / n) for tap, n in zip(taps, sizes, strict=True))


def _by_sums(step: Step, ones: Sequence[Tensor]) -> float:
    """Bound the norm of an operation of one sign: |A| <= sqrt(|A|_1 |A|_inf)."""
    row_sums = absolute(step, ones)
    if not row_sums.numel():
        return 0.0
    column_sums = step.adjoint(torch.ones_like(row_sums))
    largest = max((float(sums.abs().max()) for sums in column_sums if sums.numel()), default=0.0)
    return sqrt(largest * float(row_sums.max()))
