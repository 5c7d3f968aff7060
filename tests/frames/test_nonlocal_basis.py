"""Non-local bases: functions of the position, singular vectors, and graphs of windows."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.fft import dctn
from scipy.spatial.distance import cdist

from framelets.frames import (
    GraphLaplacian,
    HankelLifting,
    SeparableBasis,
    dct_nonlocal_basis,
    haar_nonlocal_basis,
    svd_nonlocal_basis,
)
from framelets.testing import assert_adjoint, assert_isometry, assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@each_dtype
@pytest.mark.parametrize(("name", "shape"), [("dct", (5, 6)), ("haar", (8,)), ("haar", (4, 1, 2))])
def test_separable_bases_are_orthonormal(name, shape, dtype, rng):
    basis = SeparableBasis(name, shape)

    assert_adjoint(basis, dtype=dtype, generator=rng)
    assert_isometry(basis, dtype=dtype, generator=rng)
    assert_isometry(basis.H, dtype=dtype, generator=rng)
    matrix = basis.to_matrix()
    assert_close(basis.leading(3), matrix[:, :3])


def test_separable_basis_on_the_grid_of_positions(rng):
    lifting = HankelLifting((8, 7), (3, 3), boundary="valid")
    values = torch.randn(lifting.num_rows, dtype=torch.float64, generator=rng)
    frequencies = [(i / 6) ** 2 + (j / 5) ** 2 for i in range(6) for j in range(5)]
    order = sorted(range(30), key=frequencies.__getitem__)

    coefficients = dct_nonlocal_basis(lifting).adjoint(values)

    expected = torch.from_numpy(dctn(values.reshape(6, 5).numpy(), norm="ortho"))
    assert_close(coefficients, expected.flatten()[order])
    assert haar_nonlocal_basis(HankelLifting((4, 8), (3, 3))).output_shape == (32,)


@each_dtype
def test_left_singular_vectors(dtype, rng):
    lifting = HankelLifting((6, 5), (2, 3))
    signal = torch.randn(6, 5, dtype=dtype, generator=rng)
    matrix = lifting(signal)
    values = torch.linalg.svdvals(matrix)

    few, full = svd_nonlocal_basis(lifting, signal, 4), svd_nonlocal_basis(lifting, signal)

    assert_close(full.mH @ full, torch.eye(30, dtype=dtype))
    assert_close(torch.linalg.vector_norm(full.mH @ matrix, dim=1)[:6], values)
    assert_close(few.mH @ few, torch.eye(4, dtype=dtype))
    assert_close(torch.linalg.vector_norm(few.mH @ matrix, dim=1), values[:4])
    right = lifting.matrix(signal).right_singular_vectors(4)
    assert_close(few * values[:4], matrix @ right)  # u_j s_j = H v_j, phase included


def test_left_singular_vectors_of_no_singular_value_are_orthonormal_too():
    constant = torch.ones(8, dtype=torch.float64)

    vectors = svd_nonlocal_basis(HankelLifting((8,), (3,)), constant, 3)

    assert_close(vectors.mT @ vectors, torch.eye(3, dtype=torch.float64))


def graph(rng, num_points=60):
    points = torch.randn(num_points, 4, dtype=torch.float64, generator=rng)
    return points, GraphLaplacian.of_points(points, num_neighbors=5, bandwidth=0.8)


def test_laplacian_by_hand():
    # A path of three nodes, weights 1 and 2: degrees 1, 3, 2.
    laplacian = GraphLaplacian(sparse.csr_array([[5.0, 1, 0], [1, 0, 2], [0, 2, 0]]))

    expected = torch.tensor([[1.0, -1, 0], [-1, 3, -2], [0, -2, 2]], dtype=torch.float64)
    assert torch.equal(laplacian.to_matrix(), expected)
    assert np.array_equal(laplacian.sparse.toarray(), expected.numpy())


def test_graph_of_points_by_another_search(rng):
    points, laplacian = graph(rng)
    squares = cdist(points.numpy(), points.numpy(), "sqeuclidean")
    nearest = np.argsort(squares, axis=1)[:, 1:6]
    joined = np.zeros_like(squares, dtype=bool)
    joined[np.arange(60)[:, None], nearest] = True
    weights = np.where(joined | joined.T, np.exp(-squares / (2 * 0.8**2)), 0)

    expected = np.diag(weights.sum(1)) - weights

    np.testing.assert_allclose(laplacian.sparse.toarray(), expected, rtol=1e-10, atol=1e-12)


@each_dtype
def test_laplacian_is_a_positive_operator(dtype, rng):
    _, laplacian = graph(rng)
    assert_adjoint(laplacian, dtype=dtype, generator=rng)
    values = torch.randn(60, dtype=dtype, generator=rng)
    dense = laplacian.sparse.toarray()

    energy = torch.vdot(values, laplacian(values)).real

    differences = np.abs(values.numpy()[:, None] - values.numpy()) ** 2
    assert_close(energy, torch.tensor(-(np.tril(dense, -1) * differences).sum()))
    assert_close(laplacian(torch.ones(60, dtype=dtype)), torch.zeros(60, dtype=dtype))


def test_laplacian_passes_gradients(rng):
    _, laplacian = graph(rng, 20)
    assert_same_derivatives(laplacian, None, torch.randn(20, dtype=torch.float64, generator=rng))


def test_default_bandwidth_is_the_mean_distance_of_neighbors():
    # Neighbors at the distances 1, 1 and 2, whose root mean square is 2 ** 0.5.
    points = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)

    laplacian = GraphLaplacian.of_points(points, num_neighbors=1)

    near, far = np.exp(-1 / 4), np.exp(-4 / 4)
    weights = -laplacian.sparse.toarray()[[0, 1, 0], [1, 2, 2]]
    np.testing.assert_allclose(weights, [near, far, 0], rtol=1e-12)


def test_equal_and_complex_points(rng):
    equal = GraphLaplacian.of_points(torch.ones(5, 2), num_neighbors=2)
    assert set(equal.sparse.data) <= {-1.0, 0.0, *map(float, range(2, 5))}

    points = torch.randn(30, 3, dtype=torch.complex128, generator=rng)
    pairs = torch.cat([points.real, points.imag], dim=1)
    complex_graph, real_graph = (GraphLaplacian.of_points(p).sparse for p in (points, pairs))
    np.testing.assert_allclose(complex_graph.toarray(), real_graph.toarray(), rtol=1e-12)


def test_modes(rng):
    _, laplacian = graph(rng)
    values, vectors = laplacian.modes()

    assert_close(vectors.mT @ vectors, torch.eye(60, dtype=torch.float64))
    assert_close(laplacian(vectors.mT).mT, vectors * values)
    assert_close(laplacian.modes(7).values, values[:7])


def test_leading_modes_of_a_large_graph():
    # A path of n nodes: eigenvalues 2 - 2 cos(pi k / n), eigenvectors the cosines of the DCT-II.
    size = 2500
    weights = sparse.diags_array([np.ones(size - 1)] * 2, offsets=[-1, 1])

    values, vectors = GraphLaplacian(weights).modes(4)

    expected = 2 - 2 * torch.cos(torch.pi * torch.arange(4, dtype=torch.float64) / size)
    assert_close(values, expected)
    cosines = SeparableBasis("dct", (size,)).leading(4)
    assert_close((cosines.mT @ vectors).abs(), torch.eye(4, dtype=torch.float64), atol=1e-6)


def test_modes_of_a_large_graph_without_edges():
    laplacian = GraphLaplacian(sparse.csr_array((2100, 2100)))

    values, vectors = laplacian.modes(3)

    assert torch.equal(values, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(vectors.mT @ vectors, torch.eye(3, dtype=torch.float64))
    assert torch.equal(laplacian(vectors.mT), torch.zeros(3, 2100, dtype=torch.float64))


def test_refuses_graphs_that_are_none():
    with pytest.raises(
        ValueError, match=r"symmetric matrix, got one of shape \(2, 2\) that is not"
    ):
        GraphLaplacian(sparse.csr_array([[0.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"symmetric matrix, got one of shape \(1, 2\)"):
        GraphLaplacian(sparse.csr_array([[0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"weights must not be negative, got -1\.0"):
        GraphLaplacian(sparse.csr_array([[0.0, -1.0], [-1.0, 0.0]]))
    with pytest.raises(ValueError, match="num_neighbors must be 1 to 2 with 3 points, got 3"):
        GraphLaplacian.of_points(torch.zeros(3, 2), num_neighbors=3)
    with pytest.raises(ValueError, match=r"bandwidth must be positive, got 0\.0"):
        GraphLaplacian.of_points(torch.zeros(3, 2), num_neighbors=1, bandwidth=0.0)


def test_refuses_numbers_out_of_range(rng):
    _, laplacian = graph(rng, 10)
    with pytest.raises(ValueError, match="num must be 1 to 10, got 11"):
        laplacian.modes(11)
    with pytest.raises(ValueError, match=r"at most half of the 3000 nodes .* got None"):
        GraphLaplacian(sparse.csr_array((3000, 3000))).modes()
    with pytest.raises(ValueError, match="num must be 1 to 4, got 0"):
        SeparableBasis("dct", (4,)).leading(0)
    with pytest.raises(
        ValueError, match="num must be 1 to 3, the number of singular values, got 4"
    ):
        svd_nonlocal_basis(HankelLifting((8,), (3,)), torch.ones(8), 4)
    with pytest.raises(ValueError, match="basis must be one of dct, haar, got 'har'; did you mean"):
        SeparableBasis("har", (4,))
