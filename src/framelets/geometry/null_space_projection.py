"""Split an image into what a measurement sees and what it does not.

The singular values of a CT scan fall without a gap, so "null space" needs a threshold. With
ridge = (threshold |A|)^2, Tikhonov's filter splits every component along a singular vector,

    A^+ = (A* A + ridge)^-1 A*,    P_R = A^+ A,    P_N = I - P_R = ridge (A* A + ridge)^-1,

which gives the share s^2 / (s^2 + ridge) of it to the range: nearly all where s is well above
threshold |A|, nearly nothing where it is well below. As the threshold goes to zero these become
the pseudo-inverse and the orthogonal projections onto range(A*) and null(A). At any threshold

    |A P_N v| <= threshold |A| |v| / 2,    0 <= 2 Re <P_R v, P_N v>.

The last is the energy of v that neither part owns, zero for orthogonal projections: what is
undecided at this threshold. Conjugate gradients that leave a residual r are wrong by an e with
(A* A + ridge) e = r, so that |e| <= |r| / ridge: a certified bound, up to rounding.

References:
    [1] A. N. Tikhonov, "Solution of incorrectly formulated problems and the regularization method",
        Soviet Mathematics Doklady 4, 1963.
    [2] H. H. Barrett and K. J. Myers, "Foundations of image science", 2004: measurement and null
        components of an object.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from framelets.core import Identity, LinearOperator
from framelets.core.spectral import conjugate_gradient


@dataclass(frozen=True)
class RegularizedSolution:
    """Solutions of (A* A + ridge) x = b, with a certified bound of their error.

    Attributes:
        image: x, one for each right-hand side.
        error: Certified bound of the norm of each one's error, up to rounding.
        converged: True if every error is within the tolerance, relative to the solution's norm.
        num_iterations: Steps of conjugate gradients.
    """

    image: Inexact[Tensor, "*stack_and_shape"]
    error: Float[Tensor, "*stack"]
    converged: bool
    num_iterations: int


class NullSpaceProjection(LinearOperator):
    """P_N of a measurement operator, with P_R = I - P_N and A^+ beside it.

    Solves in double precision, whatever the input, because small differences are what counts. P_N
    is self-adjoint; what conjugate gradients make of it, up to the tolerance.

    Attributes:
        norm_of_operator: |A|, within 1 % with probability 0.99; never above (up to rounding).
        ridge: (threshold norm_of_operator)^2.

    Example:
        >>> import torch
        >>> from framelets.core import Identity
        >>> sees_all = NullSpaceProjection(2 * Identity(), (1, 2, 2), threshold=1e-4)
        >>> round(float(sees_all(torch.ones(1, 2, 2)).norm()), 6)
        0.0
    """

    def __init__(
        self,
        operator: LinearOperator,
        shape: Sequence[int],
        *,
        threshold: float = 1e-2,
        tolerance: float = 1e-3,
        num_iterations: int = 2000,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Find the norm of the operator.

        Args:
            operator: A, from images of this shape, or of its last axes, to measurements. For real
                images with complex measurements, compose it with `core.RealInput`.
            shape: Of one image, channels and all.
            threshold: Singular values count as zero if well below this share of |A|. With white
                noise and images of a known spread, noise / (|A| spread) makes A^+ y the linear
                estimate of least mean squared error, and P_N keeps what the noise hides.
            tolerance: Largest certified error of a solution, relative to its norm.
            num_iterations: Stop unconverged after so many.
            dtype: Of the images: float64 or complex128.
            device: Of the images; default: where the operator's buffers are.
            generator: Start of the search for the norm.

        Raises:
            ValueError: If the threshold or the tolerance is out of range, the shapes do not fit,
                or the operator is zero.
            TypeError: If the dtype is not one of double precision.
        """
        super().__init__()
        for name, value in (("threshold", threshold), ("tolerance", tolerance)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")
        if dtype not in (torch.float64, torch.complex128):
            raise TypeError(f"dtype must be float64 or complex128, got {dtype}")
        known = operator.input_shape
        shape = tuple(shape)
        if known is not None and shape[len(shape) - len(known) :] != known:
            raise ValueError(f"shape must end in the operator's input shape {known}, got {shape}")
        self.operator = operator
        self.real_linear = operator.real_linear
        self._shape = self.input_shape = self.output_shape = shape
        self.threshold, self.tolerance, self.num_iterations = threshold, tolerance, num_iterations
        self.dtype = dtype
        self.norm_of_operator = operator.norm(
            known or shape, dtype=dtype, device=device, generator=generator
        )
        if self.norm_of_operator == 0:
            raise ValueError("operator must not be zero: it measures nothing")
        self.ridge = (threshold * self.norm_of_operator) ** 2

    def forward(self, image: Inexact[Tensor, "*batch"]) -> Inexact[Tensor, "*batch"]:
        """Keep what the measurement does not see; `solve` says how exactly.

        Raises:
            TypeError: If image and `dtype` are not both real or both complex, or the operator makes
                complex images of real ones.
        """
        if image.is_complex() != self.dtype.is_complex:
            raise TypeError(
                f"image must be {'complex' if self.dtype.is_complex else 'real'} as the dtype "
                f"{self.dtype} of this projection, got {image.dtype}; build one of the other dtype"
            )
        precise = image.to(self.dtype)
        rhs = self.operator.adjoint(self.operator(precise))
        if rhs.dtype != self.dtype:
            raise TypeError(
                f"operator must take {self.dtype} images to such images by A* A, got {rhs.dtype}; "
                "compose it with RealInput, for real images and complex measurements"
            )
        return (precise - self.solve(rhs).image).to(image.dtype)

    def adjoint(self, image: Inexact[Tensor, "*batch"]) -> Inexact[Tensor, "*batch"]:
        """Apply the projection: it is self-adjoint, as computed up to the tolerance."""
        return self.forward(image)

    @torch.no_grad()
    def solve(self, rhs: Inexact[Tensor, "*stack_and_shape"]) -> RegularizedSolution:
        """Solve (A* A + ridge) x = b: for b = A* y, x = A^+ y; for b = A* A v, x = P_R v.

        Args:
            rhs: b, in double precision, with any leading axes.

        Returns:
            The solutions, with certified bounds of their errors.
        """
        # |b| <= (|A|^2 + ridge) |x|, so this residual keeps |e| <= |r| / ridge <= tolerance |x|;
        # the margin is for a norm found from below.
        relative = 0.9 * self.tolerance * self.threshold**2 / (1 + self.threshold**2)
        image, info = conjugate_gradient(
            self.operator.gram + self.ridge * Identity(),
            rhs,
            shape=self._shape,
            tolerance=relative,
            num_iterations=self.num_iterations,
        )
        axes = tuple(range(rhs.ndim - len(self._shape), rhs.ndim))
        norms = torch.linalg.vector_norm(image, dim=axes)
        error = info.residual * torch.linalg.vector_norm(rhs, dim=axes) / self.ridge
        converged = bool((error <= self.tolerance * norms).all())
        return RegularizedSolution(image, error, converged, info.num_iterations)
