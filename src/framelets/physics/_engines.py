"""Three ways to apply one sparse linear map and its exact adjoint.

sparse: the matrix and its transpose in torch CSR; fastest, above all for batches, while they fit.
numba: compiled loops that compute every weight anew; little memory, CPU only.
torch: gather and scatter in plain torch; any device, slow, the reference.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from framelets.core.choices import refuse_unknown
from framelets.core.linear_function import apply_linear
from framelets.physics import _kernels

_HALVES = (torch.float16, torch.bfloat16)
_CHUNK_ENTRIES = 2**22
ENGINES = ("auto", "numba", "sparse", "torch")


@runtime_checkable
class Interpolation(Protocol):
    """A sparse matrix between tensors of two axes, known by its entries."""

    input_shape: tuple[int, int]
    output_shape: tuple[int, int]
    max_entries: int

    def csr(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Build row pointers, columns and values."""

    def apply(self, x: Tensor, adjoint: bool) -> Tensor:
        """Apply the map or its adjoint to `batch entry` on the CPU, by compiled loops."""

    def entries(self, num_rows: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Give columns and values of num_rows rows at a time, as `row entry`."""


class MatchedPair:
    """An interpolation applied by one engine, differentiable in every way torch knows."""

    def __init__(self, interpolation: Interpolation, engine: str, memory_limit_bytes: int) -> None:
        """Choose the engine; matrices are built when first needed."""
        refuse_unknown("engine", engine, ENGINES)
        num_bytes = 16 * interpolation.max_entries  # two matrices of float32 and int32
        if engine == "sparse" and num_bytes > memory_limit_bytes:
            raise ValueError(
                f"engine 'sparse' may need {num_bytes / 1e9:.2f} GB, more than memory_limit_bytes "
                f"{memory_limit_bytes / 1e9:.2f} GB; raise the limit or use engine='numba'"
            )
        if engine == "auto" and num_bytes <= memory_limit_bytes:
            engine = "sparse"
        self.engine = engine
        self._interpolation = interpolation
        self._matrices: dict[tuple[torch.dtype, torch.device, bool], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the matrices behind when copied or pickled: they are cheaper to build anew."""
        return self.__dict__ | {"_matrices": {}}

    def __call__(self, x: Tensor, *, adjoint: bool) -> Tensor:
        """Apply the map, or its adjoint, to the last two axes; leading axes are a batch."""
        return apply_linear(x, self._apply, adjoint=adjoint)

    def _apply(self, x: Tensor, adjoint: bool) -> Tensor:
        shape = self._interpolation.input_shape if adjoint else self._interpolation.output_shape
        flat = x.reshape(-1, x.shape[-2] * x.shape[-1])
        if x.dtype in _HALVES:
            flat = flat.float()
        result = self._route(flat.device)(flat, adjoint)
        return result.to(x.dtype).reshape(*x.shape[:-2], *shape)

    def _route(self, device: torch.device) -> Callable[[Tensor, bool], Tensor]:
        if self.engine == "sparse":
            return self._multiply
        if device.type == "cpu" and self.engine != "torch":
            return self._interpolation.apply
        if self.engine == "numba":
            raise ValueError(f"engine 'numba' takes CPU tensors, got one on {device}; use 'auto'")
        return self._gather

    def _multiply(self, x: Tensor, adjoint: bool) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return torch.mm(self._matrix(x.dtype, x.device, adjoint), x.T).T.contiguous()

    def _matrix(self, dtype: torch.dtype, device: torch.device, adjoint: bool) -> Tensor:
        key = dtype, device, adjoint
        if key not in self._matrices:
            with _disable_current_modes():  # building is no part of a recording
                self._matrices[key] = self._build(dtype, device, adjoint)
        return self._matrices[key]

    def _build(self, dtype: torch.dtype, device: torch.device, adjoint: bool) -> Tensor:
        size = self._sizes
        if not adjoint:
            parts = self._interpolation.csr(dtype)
        else:
            forward = self._matrix(dtype, torch.device("cpu"), adjoint=False)
            parts = _transposed(forward)
            size = size[::-1]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            matrix = torch.sparse_csr_tensor(*parts, size=size, check_invariants=False)
        return matrix.to(device)

    @property
    def _sizes(self) -> tuple[int, int]:
        rows, columns = self._interpolation.output_shape, self._interpolation.input_shape
        return math.prod(rows), math.prod(columns)

    def _gather(self, x: Tensor, adjoint: bool) -> Tensor:
        num_rows, num_columns = self._sizes
        result = x.new_zeros(len(x), num_columns if adjoint else 0)
        num_entries = self._interpolation.max_entries // num_rows
        rows_at_once = max(1, _CHUNK_ENTRIES // (num_entries * max(1, len(x))))
        parts = []
        for rows, columns, values in self._interpolation.entries(rows_at_once):
            index, weights = columns.to(x.device), values.to(x)
            if adjoint:
                spread = (x[:, rows, None] * weights).flatten(1)
                result = result.index_add(1, index.flatten(), spread)
            else:
                parts.append((x[:, index.flatten()].unflatten(1, index.shape) * weights).sum(-1))
        return result if adjoint else torch.cat(parts, dim=1)


def _transposed(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    crow, columns, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    crow_t = torch.zeros(matrix.shape[1] + 1, dtype=torch.int32)
    columns_t, values_t = torch.empty_like(columns), torch.empty_like(values)
    parts = (crow, columns, values, crow_t, columns_t, values_t)
    arrays: list[np.ndarray] = [part.numpy() for part in parts]
    _kernels.transpose(*arrays)
    return crow_t, columns_t, values_t
