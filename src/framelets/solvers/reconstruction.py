"""What an iterative solver hands back: the image, and how it ended."""

from dataclasses import dataclass

from jaxtyping import Float, Inexact
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An image and how the iteration that made it ended.

    Attributes:
        image: The last iterate.
        objective: What was minimized, at the image, for each of the batch.
        residual: How far each of the batch is from its optimality conditions, relative; the
            solver's docstring gives the formula.
        num_iterations: Iterations made.
        converged: True if every residual is within the tolerance.
    """

    image: Inexact[Tensor, "*batch height width"]
    objective: Float[Tensor, "*batch"]
    residual: Float[Tensor, "*batch"]
    num_iterations: int
    converged: bool
