"""Hand an operator to deepinv, whose methods it then has; deepinv is not needed for it."""
# ruff: noqa: N802  # deepinv's names

import warnings

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from ._conjugate_gradient import conjugate_gradient
from ._singular_values import power_iteration
from .linear_operator import Identity, LinearOperator


class DeepinvPhysics(nn.Module):
    """An operator with the methods that deepinv's solvers and trainers call on a `LinearPhysics`.

    Tensors have one leading batch axis, and every sample is a system of its own. What deepinv does
    by setting attributes is refused: an operator here does not change.

    Attributes:
        operator: The operator A.
        noise_model: Applied to A x by calling the physics; the identity unless given.
    """

    def __init__(self, operator: LinearOperator, noise_model: nn.Module | None = None) -> None:
        super().__init__()
        self.operator = operator
        self.noise_model = nn.Identity() if noise_model is None else noise_model

    def forward(self, x: Inexact[Tensor, " batch *axes"]) -> Inexact[Tensor, " batch *other"]:
        """Measure: A x with the noise model."""
        measurement: Tensor = self.noise_model(self.A(x))
        return measurement

    def A(self, x: Inexact[Tensor, " batch *axes"]) -> Inexact[Tensor, " batch *other"]:
        """Return A x."""
        return self.operator(x)

    def A_adjoint(self, y: Inexact[Tensor, " batch *axes"]) -> Inexact[Tensor, " batch *other"]:
        """Return A* y."""
        return self.operator.adjoint(y)

    def A_vjp(
        self,
        x: Inexact[Tensor, " batch *axes"],  # noqa: ARG002  # the Jacobian is A everywhere
        v: Inexact[Tensor, " batch *other"],
    ) -> Inexact[Tensor, " batch *axes"]:
        """Return A* v, the vector-Jacobian product at any x."""
        return self.operator.adjoint(v)

    def A_adjoint_A(self, x: Inexact[Tensor, " batch *axes"]) -> Inexact[Tensor, " batch *axes"]:
        """Return A* A x."""
        return self.operator.adjoint(self.operator(x))

    def A_A_adjoint(self, y: Inexact[Tensor, " batch *axes"]) -> Inexact[Tensor, " batch *axes"]:
        """Return A A* y."""
        return self.operator(self.operator.adjoint(y))

    def A_dagger(
        self,
        y: Inexact[Tensor, " batch *axes"],
        *,
        max_iter: int = 100,
        tol: float = 1e-4,
    ) -> Inexact[Tensor, " batch *other"]:
        """Return the least-squares solution of least norm, by conjugate gradients on A* A x = A* y.

        Args:
            y: Measurement.
            max_iter: Most steps.
            tol: Stop when |A* (y - A x)| <= tol |A* y|.

        Warns:
            UserWarning: If it stopped unconverged.
        """
        return self._solve(self.operator.gram, self.operator.adjoint(y), max_iter, tol)

    def prox_l2(
        self,
        z: Inexact[Tensor, " batch *axes"],
        y: Inexact[Tensor, " batch *other"],
        gamma: float | Tensor,
        *,
        max_iter: int = 100,
        tol: float = 1e-4,
    ) -> Inexact[Tensor, " batch *axes"]:
        """Return the minimizer x of gamma/2 |A x - y|^2 + 1/2 |x - z|^2, by conjugate gradients.

        Warns:
            UserWarning: If it stopped unconverged.
        """
        gamma = float(gamma)
        normal = gamma * self.operator.gram + Identity()
        return self._solve(normal, gamma * self.operator.adjoint(y) + z, max_iter, tol)

    def compute_norm(
        self,
        x0: Inexact[Tensor, "*axes"],
        max_iter: int = 100,
        tol: float = 1e-3,
        verbose: bool = False,  # noqa: ARG002  # deepinv's callers pass it
        squared: bool = True,
    ) -> Inexact[Tensor, ""]:
        """Estimate |A|^2 (deepinv's default), or |A|, from below by power iteration.

        Args:
            x0: Its shape, dtype and device are those of an input; its values are ignored.
            max_iter: Most iterations.
            tol: Stop when the residual of the triplet is so small, relative to the norm.
            verbose: Ignored: nothing is printed.
            squared: Return |A|^2.
        """
        shape = x0.shape if self.operator.input_shape is None else self.operator.input_shape
        norm = power_iteration(
            self.operator,
            shape=shape,
            dtype=x0.dtype,
            device=x0.device,
            tolerance=tol,
            num_iterations=max_iter,
        ).values[0]
        return norm**2 if squared else norm

    def adjointness_test(self, u: Inexact[Tensor, " batch *axes"]) -> Inexact[Tensor, ""]:
        """Return <A u, v> - <u, A* v> for a random v: zero up to rounding."""
        image = self.A(u)
        v = torch.randn(
            image.shape, dtype=image.dtype, generator=torch.Generator().manual_seed(0)
        ).to(image.device)
        return torch.vdot(image.flatten(), v.flatten()) - torch.vdot(
            u.flatten(), self.A_adjoint(v).flatten()
        )

    def update(self, **parameters: object) -> None:
        """Hand parameters to the noise model; the operator has none.

        Raises:
            ValueError: If there is a parameter and no noise model that takes it.
        """
        if not parameters:
            return
        if not hasattr(self.noise_model, "update_parameters"):
            raise ValueError(
                f"update got {', '.join(sorted(parameters))}, but the operator does not change and "
                "the noise model takes no parameters; export a new operator"
            )
        self.noise_model.update_parameters(**parameters)  # type: ignore[operator]

    def _solve(self, normal: LinearOperator, rhs: Tensor, max_iter: int, tol: float) -> Tensor:
        shape = rhs.shape[1:] if normal.input_shape is None else normal.input_shape
        solution, info = conjugate_gradient(
            normal, rhs, shape=shape, tolerance=tol, num_iterations=max_iter
        )
        if not info.converged:
            warnings.warn(
                f"conjugate gradients stopped unconverged after {info.num_iterations} steps with "
                f"relative residual {float(info.residual.max()):.2g} > {tol}; raise max_iter",
                stacklevel=3,
            )
        return solution


def to_deepinv(operator: LinearOperator, noise_model: nn.Module | None = None) -> DeepinvPhysics:
    """Hand an operator to deepinv; deepinv itself is not needed for it.

    Args:
        operator: Any operator; deepinv gives it tensors with one leading batch axis.
        noise_model: Applied when the physics is called, such as `deepinv.physics.GaussianNoise`.
    """
    return DeepinvPhysics(operator, noise_model)
