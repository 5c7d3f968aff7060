"""What every combination of pooling, un-pooling and skip does to an image.

The analysis is F = [I, A] with a skip, A without one. The frame bounds are the extreme eigenvalues
of its frame operator S = F* F. With the synthesis G of the combination, the level made linear gives
R x = G F x; only the identity reconstructs perfectly. The un-poolings are

    adjoint    G = F*: s + A* b, or A* b without a skip
    nearest    each value copied to its block, N = 2 Phi: s + N b, or N b
    dual       the canonical dual: s + A* (b - A s) / (1 + c), or the pseudo-inverse A* b / c
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import LinearOperator

from .average_pooling import AveragePooling
from .frame_bounds import FrameBounds, frame_bounds
from .haar_filter_bank import HaarFilterBank
from .max_pooling import MaxPooling
from .skip_frame import DualFrameSynthesis, SkipFrame
from .strided_pooling import StridedPooling


@dataclass(frozen=True)
class PoolingLevel:
    """One combination of pooling, un-pooling and skip, made linear.

    Attributes:
        pooling: "average (orthonormal)", "average (mean)", "strided", "max" or "haar".
        unpooling: "adjoint", "nearest" or "dual".
        skip: Whether the skip stands beside the pooling.
        analysis: F.
        synthesis: G.
        bounds: Frame bounds of F.
        reconstruction_error: Norm of G F - I: the largest error relative to the image.
    """

    pooling: str
    unpooling: str
    skip: bool
    analysis: LinearOperator
    synthesis: LinearOperator
    bounds: FrameBounds
    reconstruction_error: float


def pooling_levels(image: Float[Tensor, "height width"]) -> list[PoolingLevel]:
    """Compute the frame bounds and the reconstruction error of every combination.

    Everything is done with dense matrices in float64: take a small image.

    Args:
        image: Where max pooling is taken, with even height and width; the others depend on its
            size alone.

    Raises:
        ValueError: If the image does not have two even axes.

    Example:
        >>> import torch
        >>> plain, dual = (
        ...     level
        ...     for level in pooling_levels(torch.zeros(4, 4))
        ...     if level.pooling == "strided" and level.skip and level.unpooling != "nearest"
        ... )
        >>> plain.reconstruction_error, dual.reconstruction_error
        (1.0, 0.0)
    """
    if image.ndim != 2:
        raise ValueError(f"image must have shape (height, width), got {tuple(image.shape)}")
    poolings = {
        "average (orthonormal)": AveragePooling("orthonormal"),
        "average (mean)": AveragePooling("mean"),
        "strided": StridedPooling(),
        "max": MaxPooling(image),
        "haar": HaarFilterBank(),
    }
    shape = tuple(image.shape)
    identity = torch.eye(image.numel(), dtype=torch.float64)
    levels = []
    for name, pooling in poolings.items():
        for skip in (False, True):
            analysis = SkipFrame(pooling) if skip else pooling
            bounds = frame_bounds(analysis, shape)
            matrix = analysis.to_matrix(shape)
            for unpooling, synthesis in _syntheses(pooling, skip):
                reconstruction = synthesis.H.to_matrix(shape).mT @ matrix
                error = float(torch.linalg.matrix_norm(reconstruction - identity, ord=2))
                levels.append(
                    PoolingLevel(name, unpooling, skip, analysis, synthesis, bounds, error)
                )
    return levels


def _syntheses(pooling: LinearOperator, skip: bool) -> Iterator[tuple[str, LinearOperator]]:
    dual = DualFrameSynthesis(pooling)
    nearest = 2 * AveragePooling("orthonormal")
    if skip:
        yield "adjoint", SkipFrame(pooling).H
        if not isinstance(pooling, HaarFilterBank):
            yield "nearest", SkipFrame(nearest).H
        yield "dual", dual
    else:
        yield "adjoint", pooling.H
        if not isinstance(pooling, HaarFilterBank):
            yield "nearest", nearest.H
        yield "dual", (1 / dual.gain) * pooling.H
