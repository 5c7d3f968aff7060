"""The energy of an image's windows on their graph: a weighted l2 norm of convolution framelets.

With H(x), the matrix of the windows of d taps of an image, an orthonormal local basis of filters
v_j, and the Laplacian L of a graph that joins windows that look alike, with eigenvalues lambda_i
and eigenvectors phi_i, the coefficients of the convolution framelets are C_ij = <phi_i, H(x) v_j>,
and [1]

    <x, R x> = (1/d) sum_j gamma_j <H(x) v_j, L H(x) v_j> = (1/d) sum_ij lambda_i gamma_j C_ij^2.

It is small if every local feature H(x) v_j varies little along the graph: if windows lie on a
manifold of low dimension, that of [2], for gamma_j = 1. Reweighted [1], with v_j the right singular
vectors of H(x) and s_j the singular values, gamma_j weighs features of little energy more:

    "published"   gamma_j = 1 - s_j / s_1 for the leading fifth of the v_j, 1 for the others
    "inverse"     gamma_j = s_1 / max(s_j, s_1 / 1000)

The first is what the program published with [1] does; the second is ours. Without a graph, L = I,
it would be a step of iteratively reweighted least squares for the nuclear norm of H(x) [3].

References:
    [1] R. Yin, T. Gao, Y. M. Lu and I. Daubechies, "A tale of two bases: local-nonlocal
        regularization on image patches with convolution framelets", SIAM J. Imaging Sciences 10(2),
        2017; program: github.com/trgao10/ConvFramelet, `@LDMM/reconImg.m`.
    [2] S. Osher, Z. Shi and W. Zhu, "Low dimensional manifold model for image processing", SIAM J.
        Imaging Sciences 10(4), 2017.
    [3] K. Mohan and M. Fazel, "Iterative reweighted algorithms for matrix rank minimization",
        J. Machine Learning Research 13, 2012.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core.choices import choose
from framelets.core.linear_operator import LinearOperator
from framelets.frames import GraphLaplacian, HankelLifting

_SMALLEST = 1e-3  # of the singular values that "inverse" divides by, over the largest


def _published(singular_values: Tensor) -> Tensor:
    num_leading = -(-len(singular_values) // 5)
    weights = torch.ones_like(singular_values)
    weights[:num_leading] -= singular_values[:num_leading] / singular_values[0]
    return weights


REWEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": torch.ones_like,
    "published": _published,
    "inverse": lambda s: s[0] / s.clamp(min=_SMALLEST * float(s[0])),
}
"""Rules by name: from the singular values of H(x), descending, to the weights gamma."""


class ManifoldEnergy(LinearOperator):
    """R = (1/d) H* (L (x) V Gamma V*) H, with graph, directions and weights those of one image.

    R is symmetric, hence its own adjoint, and positive semidefinite; windows wrap around.

    Args:
        image: Where the graph, the v_j and the gamma_j are taken from; not zero.
        window: Height and width of the windows.
        reweighting: One of `REWEIGHTINGS`.
        num_neighbors: Of each window in the graph (see `frames.GraphLaplacian.of_points`).
        num_coordinates: Look for neighbors by the leading coordinates of the windows in the v_j,
            so many of them, which is faster and less sensitive to noise; default: by all.

    Attributes:
        lifting: H.
        laplacian: L.
        directions: The v_j as columns, largest singular value first.
        weights: The gamma_j.

    Raises:
        ValueError: If the rule is unknown, the image is zero, or a number or the window does not
            fit the image.
    """

    directions: Float[Tensor, "tap tap"]
    weights: Float[Tensor, " tap"]
    _mixing: Tensor

    def __init__(
        self,
        image: Float[Tensor, "height width"],
        window: Sequence[int] = (8, 8),
        *,
        reweighting: str = "none",
        num_neighbors: int = 10,
        num_coordinates: int | None = None,
    ) -> None:
        """Build the graph and the weights."""
        super().__init__()
        rule = choose("reweighting", reweighting, REWEIGHTINGS)
        self.lifting = HankelLifting(image.shape, window)
        self.input_shape = self.output_shape = tuple(image.shape)
        num_taps = self.lifting.num_columns
        if num_coordinates is not None and not 1 <= num_coordinates <= num_taps:
            raise ValueError(f"num_coordinates must be 1 to {num_taps}, got {num_coordinates}")
        image = image.detach()
        if not image.any():
            raise ValueError("image must not be zero: its windows have no directions")
        squares, directions = torch.linalg.eigh(self.lifting.gram_matrix(image))
        singular_values = squares.flip(-1).clamp(min=0).sqrt()
        directions = directions.flip(-1)
        weights = rule(singular_values)
        windows = self.lifting(image)
        if num_coordinates is not None:
            windows = windows @ directions[:, :num_coordinates].to(windows)
        self.laplacian = GraphLaplacian.of_points(windows, num_neighbors=num_neighbors)
        mixing = (directions * weights) @ directions.mT / num_taps
        self.register_buffer("directions", directions.to(image), persistent=False)
        self.register_buffer("weights", weights.to(image), persistent=False)
        self.register_buffer("_mixing", mixing.to(image), persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Lift, mix the taps, apply the Laplacian to each, and lower."""
        features = self.lifting(x) @ self._mixing.to(x)
        return self.lifting.adjoint(self.laplacian(features.mT).mT)

    def adjoint(
        self, y: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch height width"]:
        """Apply the operator itself."""
        return self(y)

    def extra_repr(self) -> str:
        """Say the sizes."""
        return f"shape={self.input_shape}, window={self.lifting.window}"
