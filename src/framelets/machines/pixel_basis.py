"""The atoms that a machine uses for one pixel of one input.

Every machine here makes a pixel p as a sum over atoms (Ye and Sung [1] for networks),

    y[p] = sum_i c_i w_i + b,      c_i = <b_i, x>,   w_i = b~_i[p],

with analysis atoms b_i, synthesis atoms b~_i and an offset b. For a kernel machine c_i = k(x_i, x)
is no inner product; its atoms are the training patches x_i, placed at the pixel.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PixelBasis:
    """How one pixel is made of one input.

    Attributes:
        pixel: Row and column.
        analysis: Atoms b_i that measure the input.
        synthesis: Atoms b~_i that the coefficients are laid on.
        coefficients: c_i.
        offset: b.
        linear: True if c_i = <b_i, x>.
    """

    pixel: tuple[int, int]
    analysis: Float[Tensor, "atom height width"]
    synthesis: Float[Tensor, "atom height width"]
    coefficients: Float[Tensor, " atom"]
    offset: float
    linear: bool = True

    @property
    def weights(self) -> Float[Tensor, " atom"]:
        """What each atom's coefficient counts in this pixel, w_i."""
        row, column = self.pixel
        values: Tensor = self.synthesis[:, row, column]
        return values

    @property
    def value(self) -> float:
        """The pixel, sum_i c_i w_i + b."""
        return float(self.coefficients @ self.weights) + self.offset

    @property
    def strengths(self) -> Float[Tensor, " atom"]:
        """How much each atom does: |w_i| |b_i|, or |w_i c_i| if the machine is not linear."""
        if self.linear:
            linear: Tensor = self.weights.abs() * torch.linalg.vector_norm(
                self.analysis.flatten(1), dim=1
            )
            return linear
        return (self.weights * self.coefficients).abs()

    @property
    def filter(self) -> Float[Tensor, "height width"]:
        """The equivalent filter sum_i w_i b_i of a linear expansion.

        Raises:
            ValueError: If the coefficients are no inner products.
        """
        if not self.linear:
            raise ValueError(
                "a filter needs coefficients that are inner products, got those of a kernel; "
                "take the row of the machine's tangent instead"
            )
        made: Tensor = torch.einsum("i,ihw->hw", self.weights, self.analysis)
        return made


def atom_change(first: PixelBasis, second: PixelBasis) -> float:
    """Measure how far two sets of atoms differ, from 0 (the same) to 1 (orthogonal).

    Atoms have no order, sign or length that counts. Each is matched to the one of the other set
    that is most like it, with m_i the largest |cos(b_i, b_j)| |cos(b~_i, b~_j)|, and

        change = sqrt( sum_i s_i^2 (1 - m_i^2) / sum_i s_i^2 ),

    with the strengths s_i; the two directions are averaged. The measure is ours.

    Args:
        first: Atoms of one pixel.
        second: Atoms of another pixel, input or machine, in an image of the same size. For
            different pixels, crop the images so that the pixel stands in the same place.

    Raises:
        ValueError: If the images differ in size.
    """
    if first.analysis.shape[1:] != second.analysis.shape[1:]:
        raise ValueError(
            "atoms must have the same image size, got "
            f"{tuple(first.analysis.shape[1:])} and {tuple(second.analysis.shape[1:])}"
        )
    likeness = _cosines(first.analysis, second.analysis) * _cosines(
        first.synthesis, second.synthesis
    )
    changes = []
    for strengths, matched in (
        (first.strengths, likeness.amax(1)),
        (second.strengths, likeness.amax(0)),
    ):
        energy = strengths.square()
        missed = (energy * (1 - matched.square()).clamp(min=0)).sum() / energy.sum()
        changes.append(float(missed.sqrt()))
    return sum(changes) / 2


def filter_change(first: Tensor, second: Tensor) -> float:
    """Measure how far two filters differ: |r - s| over their root mean square norm.

    Args:
        first: r.
        second: s, of the same shape.

    Example:
        >>> filter_change(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        1.4142135381698608
    """
    scale = ((first.square().sum() + second.square().sum()) / 2).sqrt()
    return float((first - second).norm() / scale)


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    first, second = (
        torch.nn.functional.normalize(atoms.flatten(1), dim=1) for atoms in (first, second)
    )
    return (first @ second.mT).abs()
