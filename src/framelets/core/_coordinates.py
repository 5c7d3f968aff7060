"""An operator between flat coordinate vectors: the view that matrices and Krylov methods need.

Vectors are rows of a matrix `count size`, so that a block of them is one stacked batch of tensors.
The coordinates are real wherever the inner product is: complex tensors are then seen as real pairs.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Inexact
from torch import Tensor, nn

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

    from .linear_operator import LinearOperator


@dataclass(frozen=True)
class Space:
    """Tensors of one shape and dtype, and their coordinate vectors."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    as_pairs: bool

    @property
    def size(self) -> int:
        """Length of a coordinate vector."""
        return prod(self.shape) * (2 if self.as_pairs else 1)

    def to_rows(self, tensors: Inexact[Tensor, " count *shape"]) -> Inexact[Tensor, "count size"]:
        """Flatten a stack of tensors; complex ones given to a real space lose the imaginary part.

        That loss is the adjoint of embedding the real space in the complex one.
        """
        if tensors.is_complex() and not self.dtype.is_complex:
            tensors = tensors.real
        tensors = tensors.to(self.dtype).resolve_conj().resolve_neg()
        if self.as_pairs:
            tensors = torch.view_as_real(tensors)
        return tensors.reshape(len(tensors), self.size)

    def to_tensors(self, rows: Inexact[Tensor, "count size"]) -> Inexact[Tensor, " count *shape"]:
        """Undo `to_rows`."""
        if self.as_pairs:
            pairs = rows.reshape(len(rows), *self.shape, 2).contiguous()
            return torch.view_as_complex(pairs)
        return rows.reshape(len(rows), *self.shape)


class Coordinates:
    """A linear operator in coordinates, on one shape, dtype and device; gradients do not pass.

    Attributes:
        input, output: The two spaces.
        dtype: Of the coordinates.
        device: Of the coordinates.
        num_products: Applications to one vector so far, forward and adjoint together, without the
            one at the start that finds the shape of the output.
    """

    def __init__(
        self,
        operator: "LinearOperator",
        shape: Sequence[int] | None,
        dtype: torch.dtype,
        device: torch.device | str | None,
    ) -> None:
        if not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"dtype must be floating-point or complex, got {dtype}")
        shape = _input_shape(operator, shape)
        self.device = device_of(operator) if device is None else torch.device(device)
        self.operator = operator
        self.num_products = 0
        self._removed: Inexact[Tensor, "removed inputs"] | None = None
        with torch.no_grad():
            probe = operator(torch.zeros((1, *shape), dtype=dtype, device=self.device))
        if probe.ndim == 0 or len(probe) != 1:
            raise ValueError(
                "operator must pass leading batch axes through, but took "
                f"{(1, *shape)} to {tuple(probe.shape)}"
            )
        is_complex = dtype.is_complex, probe.is_complex()
        is_real_field = operator.real_linear or is_complex[0] != is_complex[1]
        real, complex_ = dtype.to_real(), dtype.to_complex()
        self.dtype = real if is_real_field or not is_complex[0] else complex_
        self.input, self.output = (
            Space(tuple(s), complex_ if c else real, c and is_real_field)
            for s, c in zip((shape, probe.shape[1:]), is_complex, strict=True)
        )

    @torch.no_grad()
    def forward(self, rows: Inexact[Tensor, "count inputs"]) -> Inexact[Tensor, "count outputs"]:
        """Apply the operator to a block of vectors at once."""
        self.num_products += len(rows)
        return self.output.to_rows(self.operator(self.input.to_tensors(self._project(rows))))

    @torch.no_grad()
    def adjoint(self, rows: Inexact[Tensor, "count outputs"]) -> Inexact[Tensor, "count inputs"]:
        """Apply the adjoint to a block of vectors at once."""
        self.num_products += len(rows)
        return self._project(
            self.input.to_rows(self.operator.adjoint(self.output.to_tensors(rows)))
        )

    def without(self, rows: Inexact[Tensor, "count inputs"]) -> "Coordinates":
        """Return A (I - V V*) for orthonormal rows V, with a count of products of its own."""
        other = copy(self)
        other._removed, other.num_products = rows, 0
        return other

    def random_rows(
        self, count: int, size: int, generator: torch.Generator
    ) -> Inexact[Tensor, "count size"]:
        """Draw standard normal vectors; drawn where the generator lives, then moved."""
        shape = (count, size)
        rows = torch.randn(shape, dtype=self.dtype, device=generator.device, generator=generator)
        return rows.to(self.device)

    def _project(self, rows: Inexact[Tensor, "count inputs"]) -> Inexact[Tensor, "count inputs"]:
        if self._removed is None:
            return rows
        return rows - (rows @ self._removed.mH) @ self._removed

    def to_scipy(self) -> "ScipyOperator":
        """Export to SciPy, on columns as SciPy has them."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def apply(direction: str, columns: np.ndarray) -> np.ndarray:
            if np.iscomplexobj(columns) and not self.dtype.is_complex:
                return apply(direction, columns.real) + 1j * apply(direction, columns.imag)
            block = torch.as_tensor(np.ascontiguousarray(columns.T), device=self.device)
            result = getattr(self, direction)(block.to(self.dtype))
            return np.asarray(result.cpu().numpy().T)

        def apply_one(direction: str, vector: np.ndarray) -> np.ndarray:
            return apply(direction, vector.reshape(-1, 1)).reshape(-1)

        return ScipyOperator(
            shape=(self.output.size, self.input.size),
            dtype=torch.empty(0, dtype=self.dtype).numpy().dtype,
            matvec=lambda x: apply_one("forward", x),
            rmatvec=lambda y: apply_one("adjoint", y),
            matmat=lambda x: apply("forward", x),
            rmatmat=lambda y: apply("adjoint", y),
        )


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """Return the generator, or a new one with seed 0."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def _input_shape(operator: "LinearOperator", shape: Sequence[int] | None) -> tuple[int, ...]:
    known = operator.input_shape
    if shape is None and known is None:
        raise ValueError("shape must be given: the operator takes inputs of any shape")
    if shape is not None and known is not None and tuple(shape) != known:
        raise ValueError(f"shape must be the operator's input shape {known}, got {tuple(shape)}")
    return known if shape is None else tuple(shape)  # type: ignore[return-value]  # not both None


def device_of(operator: nn.Module) -> torch.device:
    """Return where the parameters or buffers of an operator are."""
    for group in (operator.parameters(), operator.buffers()):
        for tensor in group:
            return tensor.device
    return torch.device("cpu")
