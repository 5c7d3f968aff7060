"""Certified bounds of the rows of a recorded map, operation by operation.

For the linear map J from the image to a tensor, |row_i J| is how fast entry i can move. With bounds
r_k of the rows of J and N of |J| itself, a further operation A has

    |row_i(A J)| <= min( sum_k |A_ik| r_k,  |row_i A| N ).

An operation whose entries are not known has no bound: its rows get infinity. With all switches held
the bounds are those of one linear region; with the slopes of some or all units left open they hold
for every region in which only those units differ.
"""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from framelets.geometry._replay import Link, Node
from framelets.geometry._segment_bends import Bend
from framelets.geometry._step_gains import (
    StepGains,
    absolute,
    dense_matrix,
    has_one_sign,
    is_small,
)
from framelets.geometry._steps import Addition, Concatenation, Convolution, Scale


class StepNorms:
    """Bounds of rows and norms, from the image through one operation after the other.

    Attributes:
        rows: For each tensor, a bound of the norm of each of its rows.
        norms: For each tensor, a bound of the norm of the map from the image to it.
    """

    def __init__(
        self, nodes: Sequence[Node], image: Tensor, gains: StepGains | None = None
    ) -> None:
        """Start with the identity."""
        self._nodes = nodes
        self._gains = gains or StepGains(nodes, image)
        self.rows = {0: torch.ones_like(image)}
        self.norms = {0: 1.0}

    def pass_through(
        self, link: Link, bend: Bend | None = None, open_units: Tensor | None = None
    ) -> None:
        """Bound rows and norm of what an operation returns.

        Args:
            link: The operation.
            bend: If given, its units may be on any side.
            open_units: Of the bend's units, in its shape, those whose side is open; default: all.
        """
        rows = [self.rows[i] for i in link.inputs]
        norms = [self.norms[i] for i in link.inputs]
        if bend is not None and (open_units is None or bool(open_units.any())):
            bounds, norm = bend.open_rows(rows), bend.open_gain().of(norms)
            if open_units is not None:
                bounds = torch.where(open_units, bounds, self._through(link, rows, norms))
        else:
            bounds, norm = self._through(link, rows, norms), self._gains.of(link).of(norms)
        self.rows[link.output] = bounds
        # The Frobenius norm bounds the norm too.
        self.norms[link.output] = min(norm, float(torch.linalg.vector_norm(bounds)))

    def _through(self, link: Link, rows: list[Tensor], norms: list[float]) -> Tensor:
        step = link.step
        if isinstance(step, Convolution) and not step.weight.is_complex():
            return _through_convolution(step, rows[0], norms[0])
        if isinstance(step, Scale):
            return rows[0] * step.factor.to(rows[0].dtype).abs()
        if isinstance(step, Addition):
            return rows[0] + abs(step.alpha) * rows[1]
        if isinstance(step, Concatenation):
            return step.forward(*rows)
        if has_one_sign(link):
            return absolute(step, rows)
        if is_small(link, self._nodes):
            matrix = dense_matrix(step, rows[0])
            bounds = _smaller(
                matrix.abs() @ rows[0].flatten(), matrix.square() @ _alive(rows[0]), norms[0]
            )
            return bounds.reshape(self._nodes[link.output].shape)
        return rows[0].new_full(self._nodes[link.output].shape, inf)


def _through_convolution(step: Convolution, rows: Tensor, norm: float) -> Tensor:
    shape = tuple(rows.shape)
    absolute = Convolution(shape, step.weight.abs(), None, step.options)
    squared = Convolution(shape, step.weight.square(), None, step.options)
    alive = _alive(rows).reshape(rows.shape)
    return _smaller(absolute.forward(rows), squared.forward(alive), norm)


def _smaller(by_rows: Tensor, squares: Tensor, norm: float) -> Tensor:
    return torch.minimum(by_rows, squares.sqrt() * norm) if norm < inf else by_rows


def _alive(rows: Tensor) -> Tensor:
    return (rows > 0).to(rows.dtype).flatten()
