"""Unrolled proximal gradient: a reconstruction that looks at its measurement at every step.

    x_{k+1} = R_k(x_k - tau_k B (A x_k - y)),    k = 0 ... num_iterations - 1

A is the measurement operator, y the measurement, R_k a network in the place of the proximal map of
a regularizer, and tau_k > 0 a learned step size [1, 2]. With B = A* the step descends the data
fidelity |A x - y|^2 / 2; a preconditioned B, such as filtered back-projection, whose product B A is
near the identity, needs fewer steps.

References:
    [1] J. Adler and O. Öktem, "Solving ill-posed inverse problems using iterative deep neural
        networks", Inverse Problems 33(12), 2017.
    [2] M. Mardani et al., "Neural proximal gradient descent for compressive imaging",
        NeurIPS 2018.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Inexact
from torch import Tensor, nn

from framelets.core import LinearOperator


class UnrolledNetwork(nn.Module):
    """Learned proximal gradient for any linear measurement, which is passed in with it.

    Args:
        regularizer: From `batch channel height width` to the same shape. One network is shared by
            all iterations; a sequence of `num_iterations` networks gives each its own.
        num_iterations: Number of steps.
        initial_step_size: Of every step before training. 1 suits a B with B A near the identity;
            for B = A* take 1 / |A|^2.

    Raises:
        ValueError: If `num_iterations` or the step size is not positive, or the regularizers are
            not as many as the iterations.

    Example:
        >>> from framelets.core import Identity
        >>> network = UnrolledNetwork(nn.Identity(), num_iterations=3, initial_step_size=0.5)
        >>> network(torch.ones(1, 1, 1, 1), Identity(), start=torch.zeros(1, 1, 1, 1)).item()
        0.875
    """

    def __init__(
        self,
        regularizer: nn.Module | Sequence[nn.Module],
        num_iterations: int,
        initial_step_size: float = 1.0,
    ) -> None:
        """Start with equal step sizes."""
        super().__init__()
        if num_iterations < 1:
            raise ValueError(f"num_iterations must be at least 1, got {num_iterations}")
        if not initial_step_size > 0:
            raise ValueError(f"initial_step_size must be positive, got {initial_step_size}")
        if isinstance(regularizer, Sequence | nn.ModuleList):
            if len(regularizer) != num_iterations:
                raise ValueError(
                    f"regularizer must be one network or {num_iterations} of them, one for every "
                    f"iteration, got {len(regularizer)}"
                )
            self.regularizers = nn.ModuleList(regularizer)
        else:
            self.regularizers = nn.ModuleList([regularizer])
        self.num_iterations = num_iterations
        steps = torch.full((num_iterations,), float(initial_step_size))
        self.log_step_sizes = nn.Parameter(steps.log())

    @property
    def step_sizes(self) -> Float[Tensor, " iteration"]:
        """The step sizes tau_k, positive because their logarithms are learned."""
        return self.log_step_sizes.exp()

    def forward(
        self,
        measurement: Inexact[Tensor, "batch channel *measurement"],
        operator: LinearOperator,
        start: Inexact[Tensor, "batch channel height width"] | None = None,
        backward_map: LinearOperator | None = None,
    ) -> Inexact[Tensor, "batch channel height width"]:
        """Reconstruct an image.

        Args:
            measurement: y.
            operator: A, from `*batch height width`; channels pass through as a batch axis.
            start: x_0; default: tau_0 B y, the first step from zero.
            backward_map: B, from the measurement to `*batch height width`; default: A*.
        """
        backward_map = operator.H if backward_map is None else backward_map
        step_sizes = self.step_sizes
        image = step_sizes[0] * backward_map(measurement) if start is None else start
        for k in range(self.num_iterations):
            regularizer = self.regularizers[k % len(self.regularizers)]
            residual = operator(image) - measurement
            image = regularizer(image - step_sizes[k] * backward_map(residual))
        return image
