"""A noise-free measurement that a reconstruction keeps: the images x with A x = y."""

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core.linear_operator import LinearOperator


class KeptMeasurement(LinearOperator):
    """The orthogonal projection P = I - A* A onto the null space of a measurement A.

    It needs A A* A = A, which holds for a mask, for chosen samples of a unitary transform, and
    whenever A A* = I. Then the images with A x = y are A* y + P z, with any z.

    Args:
        operator: A, from images to measurements.
        measurement: y = A x of some image x, without noise.

    Attributes:
        known: A* y, the part of the image that the measurement fixes.

    Raises:
        ValueError: If A A* A is not A, or no image has this measurement.

    Example:
        >>> from framelets.core import Identity
        >>> KeptMeasurement(Identity(), torch.ones(2, 2)).nearest(torch.zeros(2, 2))
        tensor([[1., 1.],
                [1., 1.]])
    """

    known: Float[Tensor, "height width"]

    def __init__(
        self, operator: LinearOperator, measurement: Float[Tensor, "*measurement"]
    ) -> None:
        """Check at a random image that A A* A = A."""
        super().__init__()
        self.operator = operator
        self.input_shape, self.output_shape = operator.input_shape, operator.input_shape
        known = operator.adjoint(measurement)
        self.register_buffer("known", known, persistent=False)
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(known.shape, generator=generator, dtype=torch.float64).to(known)
        tolerance = 100 * torch.finfo(known.dtype).eps
        for found, wanted, message in (
            (operator(self(probe)), operator(probe), "operator must satisfy A A* A = A"),
            (
                operator(known) - measurement,
                measurement,
                "measurement must be that of an image, A A* y = y",
            ),
        ):
            if not torch.linalg.vector_norm(found) <= tolerance * torch.linalg.vector_norm(wanted):
                raise ValueError(
                    f"{message}, for it to be kept exactly, and is not; give a weight instead"
                )

    def forward(
        self, x: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Remove from an image what the measurement sees."""
        return x - self.operator.adjoint(self.operator(x))

    def adjoint(
        self, y: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Apply the projection itself."""
        return self(y)

    def nearest(
        self, image: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Return the nearest image that has the measurement, A* y + P x."""
        return self.known + self(image)
