"""Non-local bases of a layer of convolution framelets: what goes down, around and back up.

A non-local basis analyzes every channel by itself into coefficients that go on to the next layer
and coefficients that go around it. Its synthesis takes both back, up to one constant,

    synthesis(analysis(x)) = gain x,

the alpha of Phi~ Phi^T = alpha I [1]. With P = Phi Phi^T for orthonormal average pooling Phi^T:

    identity            x goes on; gain 1
    haar                the LL subband goes on, the three high ones around; gain 1
    haar-packet         all four subbands go on, as channels; gain 1
    average-high-pass   Phi^T x goes on, (I - P) x around; synthesis Phi b + (I - P) h; gain 1
    dual-frame          Phi^T x goes on, x around; synthesis s + Phi (b - Phi^T s) / 2; gain 1 [2]
    an operator T       with T* T = alpha I: T x goes on, synthesis T*; gain alpha
    a basis Phi         of positions in row-major order, from coefficients: T = Phi*

and a skip takes x around beside any of the others, which makes the gain alpha + 1.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
    [2] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import isqrt, prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core import Identity, LinearOperator, choose
from framelets.frames import AveragePooling, DualFrameSynthesis, HaarFilterBank

Way = tuple[LinearOperator | None, LinearOperator | None]
"""Pooling and un-pooling of one branch; None: no pooling, or the adjoint as un-pooling."""

Features = Float[Tensor, "batch channel height width"]
Maps = tuple[Tensor, ...]


class NonlocalBasis(nn.Module, ABC):
    """One non-local basis.

    Attributes:
        gain: alpha of synthesis(analysis(x)) = alpha x.
        widening: Channels that go on for each channel of the features.
        num_around: Tensors that go around.
        size_divisor: Height and width of the features must be multiples of it.
        example_shape: Height and width of features that a basis of one size takes; else None.
    """

    gain: float = 1.0
    widening: int = 1
    num_around: int = 0
    size_divisor: int = 1
    example_shape: tuple[int, ...] | None = None

    @abstractmethod
    def analysis(self, features: Features) -> tuple[Tensor, Maps]:
        """Return what goes on and what goes around."""

    @abstractmethod
    def synthesis(self, low: Tensor, around: Maps) -> Features:
        """Take both back."""

    @abstractmethod
    def ways(self) -> list[Way]:
        """List pooling and un-pooling of what goes on, then of all that goes around."""


class OperatorBasis(NonlocalBasis):
    """All coefficients of an operator with T* T = alpha I go on; several maps become channels."""

    def __init__(self, operator: LinearOperator) -> None:
        super().__init__()
        self.operator = operator
        self.example_shape = operator.input_shape
        if isinstance(operator, _OnPositions):
            self.example_shape = operator.some_shape
        before = self.example_shape or (8, 8)
        self.gain, after = _measure(operator, before)
        self._stacked = len(after) == 3
        self.widening = after[0] if self._stacked else 1
        self.size_divisor = max(1, *(n // m for n, m in zip(before, after[-2:], strict=True)))

    def analysis(self, features: Features) -> tuple[Tensor, Maps]:
        """Return T x."""
        coefficients = self.operator @ features
        # Channel-major: the subbands of a channel stand together.
        return coefficients.flatten(1, 2) if self._stacked else coefficients, ()

    def synthesis(self, low: Tensor, around: Maps) -> Features:  # noqa: ARG002
        """Return T* c."""
        return self.operator.adjoint(
            low.unflatten(1, (-1, self.widening)) if self._stacked else low
        )

    def ways(self) -> list[Way]:
        """Give the operator."""
        return [(self.operator, None)]


class _OnPositions(LinearOperator):
    """Phi* on the positions of a map, in row-major order; as many coefficients as positions."""

    def __init__(self, basis: LinearOperator) -> None:
        super().__init__()
        self.basis = basis
        if basis.input_shape != basis.output_shape:
            raise ValueError(
                "nonlocal_basis must have as many coefficients as positions, for they are the "
                f"pixels of the next layer, got {basis.input_shape} and {basis.output_shape}"
            )
        count = prod(basis.input_shape or ())
        height = next(n for n in range(isqrt(count), 0, -1) if count % n == 0)
        self.some_shape = (height, count // height)

    def forward(self, image: Tensor) -> Tensor:
        positions = image.flatten(-2)
        if positions.shape[-1:] != self.basis.output_shape:
            raise ValueError(
                f"nonlocal_basis has {self.basis.output_shape} positions, the features have "
                f"{tuple(image.shape[-2:])}; build it for this size"
            )
        return self.basis.adjoint(positions).reshape(image.shape)

    def adjoint(self, coefficients: Tensor) -> Tensor:
        return self.basis(coefficients.flatten(-2)).reshape(coefficients.shape)


class HaarBasis(NonlocalBasis):
    """The LL subband goes on, the high ones go around."""

    num_around = 3
    size_divisor = 2

    def __init__(self) -> None:
        super().__init__()
        self.bank = HaarFilterBank()

    def analysis(self, features: Features) -> tuple[Tensor, Maps]:
        """Split the subbands."""
        low, *high = (subband(features) for subband in self.bank.subbands)
        return low, tuple(high)

    def synthesis(self, low: Tensor, around: Maps) -> Features:
        """Sum the subbands, each brought back by its adjoint."""
        return self.bank.adjoint(torch.stack([low, *around], dim=-3))

    def ways(self) -> list[Way]:
        """Give the subbands."""
        return [(subband, None) for subband in self.bank.subbands]


class AverageHighPassBasis(NonlocalBasis):
    """The average goes on, what it leaves out goes around: a tight frame, P + (I - P)^2 = I."""

    num_around = 1
    size_divisor = 2

    def __init__(self) -> None:
        super().__init__()
        self.pooling = AveragePooling()

    def analysis(self, features: Features) -> tuple[Tensor, Maps]:
        """Return Phi^T x and (I - P) x."""
        low = self.pooling(features)
        return low, (features - self.pooling.adjoint(low),)

    def synthesis(self, low: Tensor, around: Maps) -> Features:
        """Return Phi b + (I - P) h."""
        (high,) = around
        return high + self.pooling.adjoint(low - self.pooling(high))

    def ways(self) -> list[Way]:
        """Give Phi^T and the projection I - P, its own adjoint."""
        return [(self.pooling, None), (Identity() - self.pooling.gram, None)]


class DualFrameBasis(NonlocalBasis):
    """The average goes on and the features around; synthesis by the canonical dual frame."""

    num_around = 1
    size_divisor = 2

    def __init__(self) -> None:
        super().__init__()
        self.pooling = AveragePooling()
        self.weight = 1 / (1 + DualFrameSynthesis(self.pooling).gain)

    def analysis(self, features: Features) -> tuple[Tensor, Maps]:
        """Return Phi^T x and x."""
        return self.pooling(features), (features,)

    def synthesis(self, low: Tensor, around: Maps) -> Features:
        """Return s + Phi (b - Phi^T s) / 2."""
        (skip,) = around
        return skip + self.weight * self.pooling.adjoint(low - self.pooling(skip))

    def ways(self) -> list[Way]:
        """Give Phi^T with Phi / 2, and I with I - P / 2."""
        weighted = self.weight * self.pooling
        return [(self.pooling, weighted.H), (None, Identity() - self.weight * self.pooling.gram)]


class SkipBasis(NonlocalBasis):
    """Another basis with a skip beside it; the synthesis adds both."""

    def __init__(self, basis: NonlocalBasis) -> None:
        super().__init__()
        self.basis = basis
        self.gain = basis.gain + 1
        self.widening, self.size_divisor = basis.widening, basis.size_divisor
        self.num_around, self.example_shape = basis.num_around + 1, basis.example_shape

    def analysis(self, features: Features) -> tuple[Tensor, Maps]:
        """Return the other's coefficients, and first around it the features."""
        low, around = self.basis.analysis(features)
        return low, (features, *around)

    def synthesis(self, low: Tensor, around: Maps) -> Features:
        """Add the skip to the other's synthesis."""
        skip, *others = around
        return skip + self.basis.synthesis(low, tuple(others))

    def ways(self) -> list[Way]:
        """Give the other's, and the skip before those that go around."""
        first, *others = self.basis.ways()
        return [first, (None, None), *others]


NONLOCAL_BASES: dict[str, Callable[[], NonlocalBasis]] = {
    "average-high-pass": AverageHighPassBasis,
    "dual-frame": DualFrameBasis,
    "haar": HaarBasis,
    "haar-packet": lambda: OperatorBasis(HaarFilterBank()),
    "identity": lambda: OperatorBasis(Identity()),
}


def make_nonlocal_basis(basis: str | LinearOperator, skip: bool) -> NonlocalBasis:
    """Build a non-local basis by name, or of an operator, with or without a skip."""
    if isinstance(basis, LinearOperator):
        if basis.input_shape is not None and len(basis.input_shape) > 2:
            raise ValueError(
                "nonlocal_basis must act on `height width` or on positions, channel by channel, "
                f"got an operator on {basis.input_shape}"
            )
        of_positions = basis.output_shape is not None and len(basis.output_shape) == 1
        made: NonlocalBasis = OperatorBasis(_OnPositions(basis) if of_positions else basis)
    else:
        made = choose("nonlocal_basis", basis, NONLOCAL_BASES)()
    if skip and isinstance(made, DualFrameBasis):
        raise ValueError(
            "skip must be False for nonlocal_basis='dual-frame', whose frame has its skip inside"
        )
    return SkipBasis(made) if skip else made


def _measure(operator: LinearOperator, shape: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    """Return alpha of T* T = alpha I, and the shape of the coefficients of an image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(shape, generator=generator, dtype=torch.float64)
    device = next((buffer.device for buffer in operator.buffers()), None)
    image = image.to(device)
    coefficients = operator(image)
    if coefficients.is_complex() or coefficients.ndim not in (2, 3):
        raise ValueError(
            "nonlocal_basis must give real coefficients `[map] row column` of an image, got shape "
            f"{tuple(coefficients.shape)} of {coefficients.dtype}"
        )
    back = operator.adjoint(coefficients)
    gain = float((image * back).sum() / image.square().sum())
    # One random image decides, up to chance zero. A basis kept in float32 passes.
    error = float((back - gain * image).norm() / (gain * image.norm()))
    if not error <= 1e-6:
        raise ValueError(
            "nonlocal_basis must satisfy T* T = alpha I, so that its adjoint inverts it, and is "
            f"off by {error:.1e}; take an orthonormal basis or a tight frame"
        )
    return gain, tuple(coefficients.shape)
