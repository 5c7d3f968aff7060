"""One door for linear operators of other packages, by what they can do and not by what they are.

No such package is imported. What comes in keeps its own adjoint, taken at its word: whether it is
exact is for `framelets.testing.assert_adjoint` to say.
"""
# ruff: noqa: ANN401  # a foreign object has no type of ours

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from ._coordinates import device_of
from ._deepinv import DeepinvPhysics, to_deepinv
from .linear_function import apply_linear
from .linear_operator import LinearOperator

__all__ = ["DeepinvPhysics", "as_operator", "to_deepinv"]

Shape = tuple[int, ...]
Map = Callable[[Tensor], Tensor]
ArrayMap = Callable[[np.ndarray], np.ndarray]


def as_operator(
    foreign: Any,
    input_shape: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
) -> LinearOperator:
    """Take in a linear operator of another package.

    Known are, looked for in this order:

    - our own `LinearOperator`, returned as it is;
    - `A` and `A_adjoint` (deepinv), on one batch axis;
    - `domain`, `range` and an operator `adjoint` (ODL); the constant weights of its inner products
      are divided out, since our adjoint is the one of the plain sum;
    - `matvec`, `rmatvec` and `shape` (SciPy, and PyLops with its `dims` and `dimsd`);
    - a callable with a method `adjoint` (mrpro and other torch operators; tuples of one tensor are
      unpacked), whose leading batch axes pass through;
    - `apply` and an operator `H`, on one sample at a time (sigpy on arrays, with its `ishape` and
      `oshape`; bartorch on tensors).

    Torch operators keep their gradients and move by `.to` if they are modules. The others work on
    NumPy arrays: tensors go through the CPU, and gradients through the adjoint.

    Args:
        foreign: The operator.
        input_shape: Shape of one input without batch axes, where the operator does not tell it.
        output_shape: Shape of one output without batch axes, where the operator does not tell it;
            deepinv's is found by one product with zeros.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a shape is missing, or differs from what the operator tells.
    """
    if isinstance(foreign, LinearOperator):
        return foreign
    shapes = (
        None if input_shape is None else tuple(input_shape),
        None if output_shape is None else tuple(output_shape),
    )
    if _has_methods(foreign, "A", "A_adjoint"):
        return _from_deepinv(foreign, *shapes)
    if all(hasattr(foreign, name) for name in ("domain", "range", "adjoint")):
        return _from_odl(foreign, *shapes)
    if _has_methods(foreign, "matvec", "rmatvec") and hasattr(foreign, "shape"):
        return _from_scipy(foreign, *shapes)
    if callable(foreign) and _has_methods(foreign, "adjoint"):
        return _Foreign(
            foreign, partial(_unpacked, foreign), partial(_unpacked, foreign.adjoint), *shapes
        )
    if _has_methods(foreign, "apply") and hasattr(foreign, "H"):
        return _from_sigpy(foreign, *shapes)
    raise TypeError(
        "foreign must be a linear operator with A and A_adjoint, matvec and rmatvec, apply and H, "
        f"or forward and adjoint, got {type(foreign).__name__}; a matrix comes in by "
        "scipy.sparse.linalg.aslinearoperator(matrix)"
    )


class _Foreign(LinearOperator):
    """Two maps of another package; where they take one batch axis, all are flattened to one."""

    def __init__(
        self,
        foreign: object,
        forward: Map,
        adjoint: Map,
        input_shape: Shape | None,
        output_shape: Shape | None,
        *,
        one_batch_axis: bool = False,
    ) -> None:
        super().__init__()
        self.foreign = foreign  # a module becomes a submodule
        self._forward, self._adjoint = forward, adjoint
        self.input_shape, self.output_shape = input_shape, output_shape
        self._one_batch_axis = one_batch_axis

    def forward(self, x: Inexact[Tensor, "*axes"]) -> Inexact[Tensor, "*other"]:
        return self._apply_to_batch(self._forward, x, "x", self.input_shape)

    def adjoint(self, y: Inexact[Tensor, "*axes"]) -> Inexact[Tensor, "*other"]:
        return self._apply_to_batch(self._adjoint, y, "y", self.output_shape)

    def _apply_to_batch(self, function: Map, x: Tensor, name: str, shape: Shape | None) -> Tensor:
        if shape is None:
            return function(x)
        num_batch_axes = x.ndim - len(shape)
        if num_batch_axes < 0 or tuple(x.shape[num_batch_axes:]) != shape:
            raise ValueError(f"{name} must end in shape {shape}, got {tuple(x.shape)}")
        if not self._one_batch_axis:
            return function(x)
        batch = x.shape[:num_batch_axes]
        result = function(x.reshape(-1, *shape))
        return result.reshape(*batch, *result.shape[1:])


def _from_deepinv(
    foreign: Any, input_shape: Shape | None, output_shape: Shape | None
) -> LinearOperator:
    if input_shape is None:
        told = getattr(foreign, "img_size", None)
        if told is None:
            raise ValueError("input_shape must be given: the physics has no img_size")
        input_shape = tuple(told)
    operator = partial(_Foreign, foreign, foreign.A, foreign.A_adjoint, one_batch_axis=True)
    if output_shape is None:
        device = device_of(foreign) if isinstance(foreign, nn.Module) else torch.device("cpu")
        with torch.no_grad():
            probe = _unpacked(foreign.A, torch.zeros((1, *input_shape), device=device))
        output_shape = tuple(probe.shape[1:])
    return operator(input_shape, output_shape)


def _from_scipy(
    foreign: Any, input_shape: Shape | None, output_shape: Shape | None
) -> LinearOperator:
    rows, columns = foreign.shape
    if input_shape is None:
        input_shape = tuple(getattr(foreign, "dims", (columns,)))
    if output_shape is None:
        output_shape = tuple(getattr(foreign, "dimsd", (rows,)))
    for name, shape, size in (
        ("input_shape", input_shape, columns),
        ("output_shape", output_shape, rows),
    ):
        if prod(shape) != size:
            raise ValueError(f"{name} must have {size} entries, got {shape}")
    many = _has_methods(foreign, "matmat", "rmatmat")
    forward = foreign.matmat if many else foreign.matvec
    adjoint = foreign.rmatmat if many else foreign.rmatvec
    through = _columns if many else _vectors
    return _on_arrays(
        foreign,
        partial(through, forward, output_shape),
        partial(through, adjoint, input_shape),
        input_shape,
        output_shape,
    )


def _from_sigpy(
    foreign: Any, input_shape: Shape | None, output_shape: Shape | None
) -> LinearOperator:
    input_shape = _agreed("input_shape", input_shape, getattr(foreign, "ishape", None))
    output_shape = _agreed("output_shape", output_shape, getattr(foreign, "oshape", None))
    if _takes_tensors(foreign.apply, input_shape):
        return _Foreign(
            foreign,
            partial(_tensor_samples, foreign.apply),
            partial(_tensor_samples, foreign.H.apply),
            input_shape,
            output_shape,
            one_batch_axis=True,
        )
    maps = partial(_samples, foreign.apply), partial(_samples, foreign.H.apply)
    return _on_arrays(foreign, *maps, input_shape, output_shape)


def _from_odl(
    foreign: Any, input_shape: Shape | None, output_shape: Shape | None
) -> LinearOperator:
    input_shape = _agreed("input_shape", input_shape, foreign.domain.shape)
    output_shape = _agreed("output_shape", output_shape, foreign.range.shape)
    # <A x, y> w_range = <x, A* y> w_domain, in plain sums.
    ratio = _weight(foreign.domain) / _weight(foreign.range)
    return _on_arrays(
        foreign,
        partial(_samples, foreign),
        partial(_scaled_samples, ratio, foreign.adjoint),
        input_shape,
        output_shape,
    )


def _on_arrays(
    foreign: object, forward: ArrayMap, adjoint: ArrayMap, input_shape: Shape, output_shape: Shape
) -> LinearOperator:
    apply = partial(_through_numpy, forward, adjoint)
    return _Foreign(
        foreign,
        partial(apply_linear, apply=apply),
        partial(apply_linear, apply=apply, adjoint=True),
        input_shape,
        output_shape,
        one_batch_axis=True,
    )


def _through_numpy(
    forward: ArrayMap, backward: ArrayMap, stack: Tensor, adjoint: bool = False
) -> Tensor:
    function = backward if adjoint else forward
    array = function(stack.detach().resolve_conj().resolve_neg().cpu().numpy())
    result = torch.from_numpy(np.ascontiguousarray(array))
    dtype = stack.dtype.to_complex() if result.is_complex() else stack.dtype.to_real()
    return result.to(stack.device, dtype)


def _columns(function: ArrayMap, shape: Shape, stack: np.ndarray) -> np.ndarray:
    return np.asarray(function(stack.reshape(len(stack), -1).T)).T.reshape(-1, *shape)


def _vectors(function: ArrayMap, shape: Shape, stack: np.ndarray) -> np.ndarray:
    vectors = [np.asarray(function(sample.reshape(-1))).reshape(shape) for sample in stack]
    return np.stack(vectors)


def _samples(function: ArrayMap, stack: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(function(sample)) for sample in stack])


def _scaled_samples(factor: float, function: ArrayMap, stack: np.ndarray) -> np.ndarray:
    return factor * _samples(function, stack)


def _tensor_samples(function: Map, stack: Tensor) -> Tensor:
    return torch.stack([function(sample) for sample in stack])


def _unpacked(function: Callable[[Tensor], Tensor | tuple[Tensor, ...]], x: Tensor) -> Tensor:
    result = function(x)
    if isinstance(result, tuple) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor):
        raise TypeError(f"foreign must return one tensor, got {type(result).__name__}")
    return result


def _has_methods(foreign: object, *names: str) -> bool:
    return all(callable(getattr(foreign, name, None)) for name in names)


def _agreed(name: str, given: Shape | None, told: Sequence[int] | None) -> Shape:
    if told is None and given is None:
        raise ValueError(f"{name} must be given: the operator does not tell it")
    if told is None or given is None:
        return tuple(told if given is None else given)  # type: ignore[arg-type]  # not both None
    if tuple(told) != given:
        raise ValueError(f"{name} must be {tuple(told)} as the operator tells, got {given}")
    return given


def _takes_tensors(function: Any, shape: Shape) -> bool:
    try:
        with torch.no_grad():
            return isinstance(function(torch.zeros(shape, dtype=torch.complex64)), Tensor)
    except Exception:  # whatever it raises, it does not take tensors
        return False


def _weight(space: Any) -> float:
    weighting = getattr(space, "weighting", None)
    if weighting is None:
        return 1.0
    if not hasattr(weighting, "const"):
        raise ValueError("foreign must have constant weights in its inner products")
    return float(weighting.const)
