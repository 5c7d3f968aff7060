"""Apply a linear map and its adjoint as one differentiable operation, whatever computes them.

Compiled kernels, sparse matrices and foreign libraries are closed to autograd. A linear map needs
nothing of their inside: its derivative is the map itself, and its transpose is the adjoint.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

Apply = Callable[[Tensor, bool], Tensor]
"""A map and its adjoint: called with a tensor of leading batch axes, and True for the adjoint."""

Observer = Callable[[Tensor, Apply, bool], Tensor]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


def apply_linear(x: Tensor, apply: Apply, *, adjoint: bool = False) -> Tensor:
    """Apply a linear map that torch cannot differentiate, with all its derivatives.

    Reverse mode, forward mode, derivatives of derivatives and `torch.vmap` work; one leading batch
    axis is added by vmap.

    Args:
        x: What the map takes.
        apply: The map and its exact adjoint; leading batch axes pass through.
        adjoint: True to apply the adjoint.

    Returns:
        A x, or A* x.
    """
    result: Tensor = _LinearFunction.apply(x, apply, adjoint)  # type: ignore[no-untyped-call]
    return result


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Let `observer` run every linear map that is applied inside this context.

    It gets the tensor, the map and the direction, and returns the result of `run_unobserved`.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def run_unobserved(x: Tensor, apply: Apply, adjoint: bool) -> Tensor:
    """Run a linear map where no dispatch mode sees what it is made of."""
    with _disable_current_modes():
        return apply(x, adjoint)


class _LinearFunction(torch.autograd.Function):
    # y = A x: the derivative is A, its transpose A*, and this same class differentiates both.

    @staticmethod
    def forward(x: Tensor, apply: Apply, adjoint: bool) -> Tensor:
        observer = _observer.get()
        return apply(x, adjoint) if observer is None else observer(x, apply, adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401, ARG004
        _, ctx.map, ctx.direction = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        pulled: Tensor = _LinearFunction.apply(  # type: ignore[no-untyped-call]
            gradient, ctx.map, not ctx.direction
        )
        return pulled, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: object) -> Tensor:  # noqa: ANN401
        result: Tensor = _LinearFunction.apply(  # type: ignore[no-untyped-call]
            tangent, ctx.map, ctx.direction
        )
        return result

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, *constants: Any) -> tuple[Tensor, int]:  # noqa: ANN401, ARG004
        result: Tensor = _LinearFunction.apply(  # type: ignore[no-untyped-call]
            x.movedim(in_dims[0], 0), *constants
        )
        return result, 0
