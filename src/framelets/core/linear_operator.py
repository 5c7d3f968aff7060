"""Linear operators: the one class that every measurement, frame and linearized network is.

An operator A has a `forward` map and its exact `adjoint`,

    <A x, y> = <x, A* y>        with <u, v> = sum conj(u) v, the plain sum over all entries;

the base class supplies the algebra. Complex-linear is the rule. An operator on complex tensors
that is only real-linear (conjugation, a network between two channel conversions) sets
`real_linear`; then the inner product is Re<u, v>.

Real input with complex output is the second case of a real inner product: an operator A of complex
tensors, restricted to real ones, is A E, where E embeds the real tensors in the complex ones and
E* takes the real part. `A @ RealInput()` is that operator. Asked for a real `dtype`, the dense
matrix, the export to SciPy and the spectral tools restrict A in just this way, so that the Fourier
transform of real images needs no class of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Complex, Real
from typing import TYPE_CHECKING, overload

import torch
from jaxtyping import Complex as ComplexArray
from jaxtyping import Float, Inexact
from torch import Tensor, nn

from ._coordinates import Coordinates

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator


class LinearOperator(nn.Module, ABC):
    """A linear map with its exact adjoint; subclasses write `forward` and `adjoint`.

    Leading batch axes pass through, device and dtype follow the input, and nothing that a caller
    can see changes after construction. `A @ x` applies to a tensor, `A @ B` composes, `A.H` is the
    adjoint, `2 * A + B` is the sum. What the algebra builds holds its parts as submodules: `.to`
    on a sum moves its terms too.

    Attributes:
        real_linear: True if A (c x) = c (A x) holds for real c only.
        input_shape: Shape of one input without batch axes, or None if any shape is taken.
        output_shape: Shape of one output without batch axes, or None if it follows the input.
    """

    real_linear: bool = False
    input_shape: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    __array_ufunc__ = None  # a NumPy scalar on the left leaves the product to __rmul__

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor:
            """Apply the operator."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the exact adjoint for the plain inner product."""

    @property
    def H(self) -> "LinearOperator":
        """The adjoint as an operator; its own adjoint is this very object."""
        return _Adjoint(self)

    @property
    def gram(self) -> "LinearOperator":
        """A* A, the operator of the normal equations."""
        return _Composition(self.H, self)

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: "LinearOperator") -> "LinearOperator": ...
    def __matmul__(self, other: "Tensor | LinearOperator") -> "Tensor | LinearOperator":
        """Apply to a tensor, or compose with an operator that acts first."""
        if isinstance(other, LinearOperator):
            return _Composition(self, other)
        if not isinstance(other, Tensor):
            return NotImplemented
        shape = self.input_shape
        if shape is not None and tuple(other.shape[other.ndim - len(shape) :]) != shape:
            raise ValueError(
                f"x must end in the operator's input shape {shape}, got {tuple(other.shape)}"
            )
        return self(other)

    def __add__(self, other: "LinearOperator") -> "LinearOperator":
        """Return A + B."""
        return _Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: "LinearOperator") -> "LinearOperator":
        """Return A - B."""
        return _Sum(self, -other) if isinstance(other, LinearOperator) else NotImplemented

    def __neg__(self) -> "LinearOperator":
        """Return -A."""
        return _Scaled(-1, self)

    def __mul__(self, factor: complex | Complex) -> "LinearOperator":
        """Return c A for a real or complex number c."""
        if not isinstance(factor, Complex):
            return NotImplemented
        return _Scaled(factor, self)

    __rmul__ = __mul__

    def norm(
        self,
        shape: Sequence[int] | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
        relative_gap: float = 0.01,
        probability: float = 0.99,
    ) -> float:
        """Estimate the operator norm, the largest singular value, from below.

        The lower bound of `spectral.norm_bounds`: never above the norm (up to rounding), and with
        the given probability within the relative gap of it. A step size that must not be too
        long needs the upper bound instead.

        Args:
            shape: Shape of one input; may be left out where `input_shape` is known.
            dtype: Of the inputs; a real one restricts the operator to real tensors. Default: the
                one that the operator takes, if it takes one only, else single precision.
            device: Of the inputs; default: where the operator's buffers are.
            generator: Random start; default: seed 0.
            relative_gap: Largest share of the norm by which the estimate may fall short.
            probability: With which it does not.
        """
        from .spectral import norm_bounds

        return norm_bounds(
            self,
            shape=shape,
            dtype=dtype or self._only_dtype(torch.float32),
            device=device,
            generator=generator,
            relative_gap=relative_gap,
            probability=probability,
        ).lower

    def to_matrix(
        self,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        *,
        max_bytes: int = 2**30,
    ) -> Inexact[Tensor, "rows columns"]:
        """Write the operator as a dense matrix; tensors are flattened in row-major order.

        Where the inner product is real but tensors are complex (`real_linear`, or a real `dtype`
        with complex output), the matrix is real and acts on interleaved pairs (re, im, re, im...).

        Args:
            shape: Shape of one input; may be left out where `input_shape` is known.
            dtype: Of the inputs; a real one restricts the operator to real tensors. Default: the
                one that the operator takes, if it takes one only, else double precision.
            device: Of the inputs; default: where the operator's buffers are.
            max_bytes: Largest matrix to make, in bytes.

        Raises:
            ValueError: If the shape is unknown, or the matrix would exceed `max_bytes`.

        Example:
            >>> (2 * Identity()).to_matrix((2,)).tolist()
            [[2.0, 0.0], [0.0, 2.0]]
        """
        flat = Coordinates(self, shape, dtype or self._only_dtype(torch.float64), device)
        rows, columns = flat.output.size, flat.input.size
        num_bytes = rows * columns * flat.dtype.itemsize
        if num_bytes > max_bytes:
            raise ValueError(
                f"a dense {rows} x {columns} matrix takes {num_bytes} bytes, more than "
                f"max_bytes={max_bytes}; raise max_bytes, or use to_scipy or core.spectral"
            )
        matrix = torch.empty(rows, columns, dtype=flat.dtype, device=flat.device)
        chunk = 64  # inputs at a time: bounds the memory that the operator needs inside
        for start in range(0, columns, chunk):
            count = min(chunk, columns - start)
            units = torch.zeros(count, columns, dtype=flat.dtype, device=flat.device)
            units.diagonal(start).fill_(1)
            matrix[:, start : start + count] = flat.forward(units).mT
        return matrix

    def to_scipy(
        self,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> "ScipyOperator":
        """Export to a `scipy.sparse.linalg.LinearOperator`, for `svds`, `lsmr`, PyLops and others.

        Vectors are flattened as in `to_matrix`, real pairs included. Gradients do not pass.

        Args:
            shape: Shape of one input; may be left out where `input_shape` is known.
            dtype: Of the inputs; a real one restricts the operator to real tensors. Default: as for
                `to_matrix`.
            device: Where the products are made; default: where the operator's buffers are.
        """
        dtype = dtype or self._only_dtype(torch.float64)
        return Coordinates(self, shape, dtype, device).to_scipy()

    def _only_dtype(self, otherwise: torch.dtype) -> torch.dtype:
        found: torch.dtype = getattr(self, "input_dtype", otherwise)
        return found

    def extra_repr(self) -> str:
        """Say the shapes where they are known."""
        known = {"input_shape": self.input_shape, "output_shape": self.output_shape}
        return ", ".join(f"{name}={shape}" for name, shape in known.items() if shape is not None)


class Identity(LinearOperator):
    """The identity I: `A.gram + 0.1 * Identity()` is the operator of a ridge regression."""

    def forward(self, x: Inexact[Tensor, "*batch"]) -> Inexact[Tensor, "*batch"]:
        """Return the input."""
        return x

    def adjoint(self, y: Inexact[Tensor, "*batch"]) -> Inexact[Tensor, "*batch"]:
        """Return the input."""
        return y


class RealInput(LinearOperator):
    """The embedding E of real tensors in complex ones; E* takes the real part.

    E* E = I, and E E* is the projection onto real tensors; the inner product is Re<u, v>.
    """

    real_linear = True

    def forward(self, x: Float[Tensor, "*batch"]) -> ComplexArray[Tensor, "*batch"]:
        """Embed a real tensor."""
        return x.to(x.dtype.to_complex())

    def adjoint(self, y: ComplexArray[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Take the real part."""
        return y.real


class _Adjoint(LinearOperator):
    def __init__(self, operator: LinearOperator) -> None:
        super().__init__()
        self.operator = operator
        self.real_linear = operator.real_linear
        self.input_shape, self.output_shape = operator.output_shape, operator.input_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator(y)

    @property
    def H(self) -> LinearOperator:
        return self.operator


class _Composition(LinearOperator):
    def __init__(self, outer: LinearOperator, inner: LinearOperator) -> None:
        super().__init__()
        _refuse_unequal("A @ B", "input of A", outer.input_shape, "output of B", inner.output_shape)
        self.outer, self.inner = outer, inner
        self.real_linear = outer.real_linear or inner.real_linear
        self.input_shape, self.output_shape = inner.input_shape, outer.output_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))


class _Sum(LinearOperator):
    def __init__(self, first: LinearOperator, second: LinearOperator) -> None:
        super().__init__()
        ours, theirs = first.input_shape, second.input_shape
        _refuse_unequal("A + B", "input of A", ours, "input of B", theirs)
        self.input_shape = theirs if ours is None else ours
        ours, theirs = first.output_shape, second.output_shape
        _refuse_unequal("A + B", "output of A", ours, "output of B", theirs)
        self.output_shape = theirs if ours is None else ours
        self.first, self.second = first, second
        self.real_linear = first.real_linear or second.real_linear

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.second(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.first.adjoint(y) + self.second.adjoint(y)


class _Scaled(LinearOperator):
    def __init__(self, factor: complex | Complex, operator: LinearOperator) -> None:
        super().__init__()
        if operator.real_linear and not isinstance(factor, Real):
            raise ValueError(
                f"factor of a real_linear operator must be real, got {factor}: c A x and A c x "
                "differ; compose with an operator that multiplies on the side you mean"
            )
        self.factor = float(factor) if isinstance(factor, Real) else complex(factor)
        self.operator = operator
        self.real_linear = operator.real_linear
        self.input_shape, self.output_shape = operator.input_shape, operator.output_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(self.factor.conjugate() * y)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


def _refuse_unequal(
    formula: str,
    first_name: str,
    first: tuple[int, ...] | None,
    second_name: str,
    second: tuple[int, ...] | None,
) -> None:
    if first is not None and second is not None and first != second:
        raise ValueError(
            f"{formula} needs equal shapes: {first_name} {first}, {second_name} {second}"
        )
