"""Certified bounds of the rows of a recorded linear map, operation by operation.

For the linear map J from the image to a tensor, |row_i J| is how fast entry i can move. With bounds
r_k of the rows of J and N of |J| itself, a further operation A has

    |row_i(A J)| <= min( sum_k |A_ik| r_k,  |row_i A| N ).

An operation whose entries are not known has no bound: its rows get infinity.

References:
    [1] M. Riesz, "Eine trigonometrische Interpolationsformel und einige Ungleichungen fuer
        Polynome", 1914.
    [2] H. Sedghi, V. Gupta and P. M. Long, "The singular values of convolutional layers", ICLR
        2019.
"""

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

_NEVER_NEGATIVE = frozenset(
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
        clone amax amin max min maximum minimum"""
    )
)
"""Operations whose matrix has no negative entry, so that it is its own absolute value."""


class StepNorms:
    """Bounds of rows and norms, from the image through one operation after the other.

    Attributes:
        rows: For each tensor, a bound of the norm of each of its rows.
    """

    def __init__(self, nodes: list[Node], image: Tensor) -> None:
        """Start with the identity."""
        self._nodes = nodes
        self.rows = {0: torch.ones_like(image)}
        self._norms = {0: 1.0}

    def pass_through(self, link: Link) -> None:
        """Bound rows and norm of what an operation returns."""
        rows = [self.rows[i] for i in link.inputs]
        norms = [self._norms[i] for i in link.inputs]
        step = link.step
        if isinstance(step, Convolution) and not step.weight.is_complex():
            bounds, norm = _through_convolution(step, rows[0], norms[0])
        elif isinstance(step, Scale):
            factor = step.factor.to(rows[0].dtype).abs()
            bounds, norm = rows[0] * factor, norms[0] * float(factor.max())
        elif isinstance(step, Addition):
            weight = abs(step.alpha)
            bounds, norm = rows[0] + weight * rows[1], norms[0] + weight * norms[1]
        elif isinstance(step, Concatenation):
            bounds, norm = step.forward(*rows), sqrt(sum(n**2 for n in norms))
        elif isinstance(step, BlockMean | BlockCopy | Selection) or link.name in _NEVER_NEGATIVE:
            bounds, norm = _through_positive(step, rows, norms)
        elif link.name in ("neg", "sub", "rsub", "add") and len(rows) == 1:
            bounds, norm = step.forward(rows[0]).abs(), norms[0]
        elif len(rows) == 1 and rows[0].numel() * prod(self._nodes[link.output].shape) < _DENSE:
            bounds, norm = _through_dense(step, rows[0], norms[0])
        else:
            shape = self._nodes[link.output].shape
            bounds, norm = rows[0].new_full(shape, inf), inf
        self.rows[link.output] = bounds
        # The Frobenius norm bounds the norm too.
        self._norms[link.output] = min(norm, float(torch.linalg.vector_norm(bounds)))


def _through_convolution(step: Convolution, rows: Tensor, norm: float) -> tuple[Tensor, float]:
    shape = tuple(rows.shape)
    absolute = Convolution(shape, step.weight.abs(), None, step.options)
    squared = Convolution(shape, step.weight.square(), None, step.options)
    bounds = absolute.forward(rows)
    if norm < inf:
        alive = (rows > 0).to(rows.dtype)
        bounds = torch.minimum(bounds, squared.forward(alive).sqrt() * norm)
    return bounds, norm * convolution_norm_bound(step)


def _through_dense(step: Step, rows: Tensor, norm: float) -> tuple[Tensor, float]:
    units = torch.eye(rows.numel(), dtype=rows.dtype, device=rows.device)
    columns = torch.vmap(step.forward)(units.reshape(-1, *rows.shape))
    matrix = columns.flatten(1).T
    bounds = matrix.abs() @ rows.flatten()
    if norm < inf:
        alive = (rows > 0).to(rows.dtype).flatten()
        bounds = torch.minimum(bounds, (matrix.square() @ alive).sqrt() * norm)
    gain = float(torch.linalg.matrix_norm(matrix, 2))
    return bounds.reshape(columns.shape[1:]), norm * gain


def convolution_norm_bound(step: Convolution, num_frequencies: int = 16) -> float:
    """Bound the norm of a convolution on images of any size and with any padding by zeros.

    It is a part of the convolution on the whole grid, whose norm is the maximum of |W(w)|_2 over
    all frequencies w [2]; striding only leaves out rows, and transposing keeps the norm. For unit
    vectors u and v, u* W(w) v is up to a phase a trigonometric polynomial of degree d = (taps - 1)
    / 2 along each axis (half degrees count too). It is largest somewhere, falls from there no
    faster than cos(d distance) [1], and so exceeds its maximum over n equidistant frequencies at
    most by 1 / cos(pi d / n) an axis.
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
    transfer = torch.fft.fftn(grouped, s=sizes, dim=tuple(range(-axes, 0)))
    matrices = transfer.flatten(3).movedim(-1, 0)
    largest = float(torch.linalg.matrix_norm(matrices, 2).max())
    return largest / prod(cos(pi * (tap - 1) / 2 / n) for tap, n in zip(taps, sizes, strict=True))


def _through_positive(step: Step, rows: list[Tensor], norms: list[float]) -> tuple[Tensor, float]:
    """Bound what a matrix without negative entries makes: |A| <= sqrt(|A|_1 |A|_inf)."""
    bounds = step.forward(*rows)
    ones = [torch.ones_like(row) for row in rows]
    row_sums = step.forward(*ones)
    column_sums = step.adjoint(torch.ones_like(row_sums))
    largest = max((float(sums.max()) for sums in column_sums if sums.numel()), default=0.0)
    size = prod(row_sums.shape)
    norm = sqrt(largest * float(row_sums.max())) if size else 0.0
    return bounds, norm * sqrt(sum(n**2 for n in norms))
