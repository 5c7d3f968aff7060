"""The Laplacian of a graph whose nodes are the windows of a signal, or any other points.

Windows that look alike are joined, wherever they stand: this is what makes a basis non-local [1].
With symmetric weights w_ij and degrees d_i = sum_j w_ij,

    (L u)_i = d_i u_i - sum_j w_ij u_j,      <u, L u> = sum_{i<j} w_ij |u_i - u_j|^2.

The eigenvectors of small eigenvalues vary little between windows that look alike. A penalty
sum_j <H(f) psi_j, L H(f) psi_j> needs products with L alone, and no eigenvectors.

References:
    [1] R. Yin, T. Gao, Y. M. Lu and I. Daubechies, "A tale of two bases: local-nonlocal
        regularization on image patches with convolution framelets", SIAM J. Imaging Sciences 10(2),
        2017.
"""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Inexact
from scipy import sparse
from scipy.sparse.linalg import eigsh
from scipy.spatial import cKDTree
from torch import Tensor

from framelets.core import LinearOperator
from framelets.core.linear_function import apply_linear

_MAX_DENSE = 2048  # nodes up to which the eigenvectors are those of the dense matrix


class LaplacianModes(NamedTuple):
    """Eigenvalues of a Laplacian, ascending, and its orthonormal eigenvectors."""

    values: Float[Tensor, " mode"]
    vectors: Float[Tensor, "node mode"]


class GraphLaplacian(LinearOperator):
    """L = D - W of a graph: values `*batch node` to values `*batch node`.

    L is symmetric, hence its own adjoint, and positive semidefinite.

    Args:
        weights: W, a sparse matrix of SciPy, symmetric and not negative; the diagonal does not
            matter.

    Attributes:
        sparse: L as a sparse matrix of SciPy, in double precision.

    Raises:
        ValueError: If W is not symmetric or has a negative weight.

    Example:
        >>> weights = sparse.csr_array([[0, 1, 0], [1, 0, 2], [0, 2, 0]])
        >>> GraphLaplacian(weights)(torch.tensor([0.0, 1.0, 3.0])).tolist()
        [-1.0, -3.0, 4.0]
    """

    _matrix: Tensor

    def __init__(self, weights: sparse.sparray | sparse.spmatrix) -> None:
        """Subtract the weights from the degrees."""
        super().__init__()
        weights = sparse.csr_array(weights, dtype=np.float64)
        if weights.shape[0] != weights.shape[1] or (weights != weights.T).nnz:
            raise ValueError(
                f"weights must be a symmetric matrix, got one of shape {weights.shape} that is "
                "not; symmetrize it with weights.maximum(weights.T)"
            )
        if weights.nnz and weights.min() < 0:
            raise ValueError(f"weights must not be negative, got {weights.min()}")
        degrees = sparse.diags_array(weights.sum(axis=1))
        self.sparse = sparse.csr_array(degrees - weights)
        self.input_shape = self.output_shape = (weights.shape[0],)
        starts, columns, values = (
            torch.from_numpy(part)
            for part in (self.sparse.indptr, self.sparse.indices, self.sparse.data)
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            matrix = torch.sparse_csr_tensor(
                starts, columns, values, size=weights.shape, check_invariants=False
            )
        self.register_buffer("_matrix", matrix, persistent=False)

    @classmethod
    def of_points(
        cls,
        points: Inexact[Tensor, "node coordinate"],
        *,
        num_neighbors: int = 10,
        bandwidth: float | None = None,
    ) -> "GraphLaplacian":
        """Join every point with its nearest neighbors, by w = exp(-|p - q|^2 / (2 bandwidth^2)).

        A pair is joined if either point is among the nearest neighbors of the other.

        Args:
            points: For windows as nodes the rows of their Hankel matrix; or fewer coordinates of
                them, such as H(f) times some principal components, which are found faster.
            num_neighbors: Of each point, itself not counted.
            bandwidth: Distance at which the weight has fallen to exp(-1/2); default (a rule of
                ours): the root mean square of the distances to the nearest neighbors.

        Raises:
            ValueError: If there are too few points, or the bandwidth is not positive.
        """
        num_points = len(points)
        if not 1 <= num_neighbors < num_points:
            raise ValueError(
                f"num_neighbors must be 1 to {num_points - 1} with {num_points} points, "
                f"got {num_neighbors}"
            )
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth}")
        coordinates = points.detach().cpu().resolve_conj()
        if coordinates.is_complex():
            coordinates = torch.view_as_real(coordinates).flatten(1)
        distances, neighbors = _nearest(coordinates.double().numpy(), num_neighbors)
        if bandwidth is None:
            bandwidth = float(np.sqrt(np.mean(distances**2))) or 1.0  # all points may be equal
        weights = np.exp(-((distances / bandwidth) ** 2) / 2)
        starts = np.arange(0, weights.size + 1, num_neighbors)
        size = (num_points, num_points)
        directed = sparse.csr_array((weights.ravel(), neighbors.ravel(), starts), shape=size)
        return cls(directed.maximum(directed.T))

    def forward(self, x: Inexact[Tensor, "*batch node"]) -> Inexact[Tensor, "*batch node"]:
        """Subtract from every value, times its degree, the weighted values of the neighbors."""
        return apply_linear(x, self._multiply)  # torch's sparse product has no forward mode

    def adjoint(self, y: Inexact[Tensor, "*batch node"]) -> Inexact[Tensor, "*batch node"]:
        """Apply the operator itself."""
        return self(y)

    def modes(self, num: int | None = None) -> LaplacianModes:
        """Return the eigenvectors of the smallest eigenvalues, in double precision.

        Args:
            num: How many; default: all, which takes the dense matrix.

        Raises:
            ValueError: If the number is out of range, or all are asked of a large graph.
        """
        num_nodes = self.sparse.shape[0]
        device = self._matrix.device
        if num is not None and not 1 <= num <= num_nodes:
            raise ValueError(f"num must be 1 to {num_nodes}, got {num}")
        if num_nodes <= _MAX_DENSE:
            dense = torch.from_numpy(self.sparse.toarray())
            values, vectors = torch.linalg.eigh(dense)
            return LaplacianModes(values[:num].to(device), vectors[:, :num].to(device))
        if num is None or num > num_nodes // 2:
            raise ValueError(
                f"num must be at most half of the {num_nodes} nodes of a graph with more than "
                f"{_MAX_DENSE}, got {num}"
            )
        if not self.sparse.diagonal().any():  # without edges L = 0, and every vector is a mode
            nothing = torch.zeros(num, dtype=torch.float64, device=device)
            return LaplacianModes(
                nothing, torch.eye(num_nodes, num, dtype=torch.float64, device=device)
            )
        # L is singular; the inverse is taken beside its spectrum, near the eigenvalues sought.
        shift = -1e-3 * float(self.sparse.diagonal().mean())
        start = np.random.default_rng(0).standard_normal(num_nodes)
        found = eigsh(self.sparse.tocsc(), k=num, sigma=shift, which="LM", v0=start)
        order = np.argsort(found[0])
        values, vectors = (torch.from_numpy(part[..., order].copy()) for part in found)
        return LaplacianModes(values.to(device), vectors.to(device))

    def _multiply(self, x: Tensor, adjoint: bool) -> Tensor:  # noqa: ARG002 - L is symmetric
        rows = x.reshape(-1, x.shape[-1])
        return torch.mm(self._matrix.to(x), rows.mT).mT.reshape(x.shape)


def _nearest(points: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return distances and indices of the nearest other points, a row a point."""
    distances, neighbors = cKDTree(points).query(points, num + 1, workers=torch.get_num_threads())
    # A point comes before its neighbors, but anywhere among points that equal it, or not at all.
    others = neighbors != np.arange(len(points))[:, None]
    others[others.all(axis=1), -1] = False
    return distances[others].reshape(-1, num), neighbors[others].reshape(-1, num)
