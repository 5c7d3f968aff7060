"""What the measurement supports: against dense projections, by hand, and on the task's networks."""

import math

import pytest
import torch
from torch import nn

from framelets.core import LinearOperator, RealInput
from framelets.geometry import NullSpaceProjection, linearize, null_space
from framelets.physics import CTProjector, FanBeamScan, ImageGrid, ParallelBeamScan
from framelets.tasks import SparseViewCT, SparseViewCTConfig
from framelets.tasks.ct_simulation import SimulationConfig
from framelets.tasks.sparse_view_ct import NetworkConfig
from framelets.testing import assert_adjoint

F64, C128 = torch.float64, torch.complex128


class Matrix(LinearOperator):
    """A matrix on flattened images, real or complex."""

    def __init__(self, matrix, shape):
        super().__init__()
        self.matrix, self.input_shape = matrix, tuple(shape)
        self.output_shape = (len(matrix),)

    def forward(self, x):
        return x.flatten(-len(self.input_shape)) @ self.matrix.mT

    def adjoint(self, y):
        return (y @ self.matrix.conj()).unflatten(-1, self.input_shape)


class MaskedFourier(LinearOperator):
    """Some samples of the orthonormal Fourier transform of a complex image."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, x):
        return torch.fft.fft2(x, norm="ortho")[..., self.mask]

    def adjoint(self, y):
        spectrum = y.new_zeros(*y.shape[:-1], *self.mask.shape)
        spectrum[..., self.mask] = y
        return torch.fft.ifft2(spectrum, norm="ortho")


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(rng, *sizes, dtype=F64):
    return torch.randn(*sizes, dtype=dtype, generator=rng)


def small_ct(size=12, num_views=7):
    angles = torch.arange(num_views, dtype=F64) * math.pi / num_views
    return CTProjector(ParallelBeamScan(angles, 2 * size, 0.8), ImageGrid(size, size, 1.0))


def operators(rng):
    """Give operators with their shapes and types of images."""
    mask = torch.rand(6, 5, generator=rng) < 0.4
    return {
        "random": (Matrix(random(rng, 14, 30), (1, 6, 5)), (1, 6, 5), F64),
        "complex": (Matrix(random(rng, 9, 30, dtype=C128), (6, 5)), (6, 5), C128),
        "fourier": (MaskedFourier(mask), (1, 6, 5), C128),
        "real image": (MaskedFourier(mask) @ RealInput(), (1, 6, 5), F64),
        "ct": (small_ct(), (1, 12, 12), F64),
        "two channels": (small_ct(), (2, 12, 12), F64),
    }


NAMES = ("random", "complex", "fourier", "real image", "ct", "two channels")


def dense_null_space(operator, shape, dtype, ridge):
    """Give the dense P_N with Tikhonov's filter, the singular values and right vectors of A."""
    matrix = operator.to_matrix(operator.input_shape or shape, dtype=dtype)
    if operator.input_shape is not None and operator.input_shape != shape:
        matrix = torch.block_diag(*[matrix] * shape[0])
    _, values, right = torch.linalg.svd(matrix, full_matrices=True)
    values = torch.cat([values, values.new_zeros(len(right) - len(values))])
    shares = (ridge / (values**2 + ridge)).to(right.dtype)
    return right.mH @ (shares[:, None] * right), values, right


@pytest.mark.parametrize("name", NAMES)
def test_the_projection_is_the_dense_one_within_its_certified_error(name, rng):
    operator, shape, dtype = operators(rng)[name]
    images = random(rng, 3, *shape, dtype=dtype)
    loose, tight = (
        NullSpaceProjection(operator, shape, dtype=dtype, tolerance=tolerance)
        for tolerance in (0.1, 1e-7)
    )
    expected, *_ = dense_null_space(operator, shape, dtype, loose.ridge)
    expected = (images.flatten(1) @ expected.mT).reshape(images.shape)

    torch.testing.assert_close(tight(images), expected, rtol=0, atol=1e-6)
    for projection in (loose, tight):
        found = projection.solve(operator.adjoint(operator(images)))
        error = torch.linalg.vector_norm((images - found.image - expected).flatten(1), dim=1)
        assert found.converged
        assert (error <= found.error + 1e-12).all()
        assert (found.error <= projection.tolerance * found.image.flatten(1).norm(dim=1)).all()
    assert_adjoint(tight, shape, dtype=dtype, tolerance=1e-6)


@pytest.mark.parametrize("name", ["random", "complex", "fourier", "real image"])
def test_where_singular_values_leave_a_gap_it_projects(name, rng):
    operator, shape, dtype = operators(rng)[name]
    images = random(rng, 3, *shape, dtype=dtype)
    projection = NullSpaceProjection(operator, shape, dtype=dtype, threshold=1e-4, tolerance=1e-4)

    null = projection(images)

    _, values, right = dense_null_space(operator, shape, dtype, projection.ridge)
    right = right[values < 1e-10 * values[0]]
    assert len(right) > 0
    hard = (images.flatten(1) @ right.mT @ right.conj()).reshape(images.shape)
    torch.testing.assert_close(null, hard, rtol=0, atol=1e-5)
    torch.testing.assert_close(projection(null), null, rtol=0, atol=1e-5)
    assert float(operator(null).norm()) <= 1e-5 * float(operator(images).norm())


@pytest.mark.parametrize("threshold", [0.1, 0.003])
def test_without_a_gap_what_remains_undecided_is_counted(threshold, rng):
    operator, shape = small_ct(), (1, 12, 12)
    image = random(rng, *shape)
    projection = NullSpaceProjection(operator, shape, threshold=threshold, tolerance=1e-6)
    matrix, values, right = dense_null_space(operator, shape, F64, projection.ridge)
    assert ((values > 1e-3 * values[0]) & (values < 0.1 * values[0])).sum() > 5

    null = projection(image)

    undecided = 2 * float(((image - null) * null).sum())
    share = projection.ridge / (values**2 + projection.ridge)
    components = (right @ image.flatten()) ** 2
    assert undecided == pytest.approx(float((2 * share * (1 - share) * components).sum()), rel=1e-5)
    bound = threshold / 2 * projection.norm_of_operator * float(image.norm())
    assert float(operator(null).norm()) <= bound
    assert float(operator(null).norm()) == pytest.approx(
        float((operator.to_matrix() @ matrix @ image.flatten()).norm()), rel=1e-4
    )


def test_by_hand():
    # A reads the first pixel of four. f(x) = 2 x + p at x = [[5, 1], [0, 0]], y = 5:
    # A^+ y = 5, P_R f = 11, so 6 against the data, in that pixel; P_N L x = [[0, 2], [0, 0]],
    # P_N b = [[0, 2], [3, 4]]; twice their inner product is 8.
    picture = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=F64)
    image = torch.tensor([[[[5.0, 1.0], [0.0, 0.0]]]], dtype=F64)
    operator = Matrix(torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=F64), (2, 2))

    local = linearize(lambda x: 2 * x + picture, image)
    found = null_space(
        local, operator, torch.tensor([[5.0]], dtype=F64), at_zero=picture, threshold=1e-5
    )

    expected = [[5, 0, 0, 0], [6, 0, 0, 0], [0, 2, 0, 0], [0, 2, 3, 4]]
    torch.testing.assert_close(
        found.maps.flatten(1), torch.tensor(expected, dtype=F64), rtol=0, atol=1e-8
    )
    assert found.energies == pytest.approx((25, 36, 4, 29))
    assert (found.cross_term, found.range_cross_term) == pytest.approx((8, 60))
    assert found.energy == pytest.approx(121 + 16 + 9 + 16)
    assert found.null_share == pytest.approx(41 / 162)
    assert (found.misfit, found.misfit_of_determined) == pytest.approx((6 / 5, 0), abs=1e-9)
    assert found.undecided == pytest.approx(0, abs=1e-7)
    assert found.converged
    text = str(found)
    assert "25.3086" not in text
    for number in ("15.4321 %", "22.2222 %", "2.4691 %", "17.9012 %", "4.9383 %", "100.0000 %"):
        assert number in text
    assert "|f(0)|^2 = 18.5 %, |P_N f(0)|^2 = 17.9 %; |b - f(0)| / |b| = 0" in text


def test_a_painted_picture_shows_up_as_its_null_space_part_and_nothing_else(rng):
    operator = small_ct()
    picture = random(rng, 1, 12, 12)
    image = random(rng, 1, 1, 12, 12)
    y = operator(random(rng, 1, 12, 12))
    kernel = random(rng, 1, 1, 3, 3)

    def linear(x):
        return nn.functional.conv2d(x, kernel, padding=1)

    plain = null_space(linearize(linear, image), operator, y)
    painted = null_space(linearize(lambda x: linear(x) + picture, image), operator, y)

    assert plain.energies[3] == plain.cross_term == plain.undecided_offset == 0
    expected = NullSpaceProjection(operator, (1, 12, 12))(picture)
    torch.testing.assert_close(painted.null_offset, expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(painted.null_linear, plain.null_linear, rtol=0, atol=1e-3)
    torch.testing.assert_close(painted.offset, picture)
    assert painted.at_zero is painted.null_at_zero is None
    assert "f(0) not given" in str(painted)


def test_the_minimum_norm_solution_is_wholly_determined(rng):
    operator = Matrix(random(rng, 14, 30), (6, 5))
    y = random(rng, 1, 14)
    first = (torch.linalg.pinv(operator.matrix) @ y[0]).reshape(1, 1, 6, 5)

    found = null_space(linearize(lambda x: x * 1.0, first), operator, y, threshold=1e-4)

    torch.testing.assert_close(found.determined, first[0], rtol=0, atol=1e-5)
    assert sum(found.energies[1:]) < 1e-9
    assert found.misfit < 1e-9


def test_an_unconverged_projection_says_so(rng):
    local = linearize(lambda x: x * 1.0, random(rng, 1, 1, 12, 12))

    found = null_space(local, small_ct(), small_ct()(local.output), num_iterations=3)

    assert not found.converged
    assert "NOT CONVERGED to 1e-03 in 3 iterations" in str(found)
    torch.testing.assert_close(found.maps.sum(0), local.output)


def test_a_complex_network_on_kspace(rng):
    operator, shape, _ = operators(rng)["fourier"]
    image, picture = random(rng, 1, *shape, dtype=C128), random(rng, *shape, dtype=C128)
    y = operator(image[0])

    found = null_space(linearize(lambda x: 2j * x + picture, image), operator, y)

    torch.testing.assert_close(found.maps.sum(0), 2j * image[0] + picture)
    kept = operator.adjoint(operator(image[0]))
    torch.testing.assert_close(found.determined, kept, rtol=0, atol=1e-3)
    torch.testing.assert_close(found.null_linear, 2j * (image[0] - kept), rtol=0, atol=1e-2)
    parts = found.energies
    whole = sum(parts) + found.cross_term + found.range_cross_term + found.undecided
    assert whole == pytest.approx(found.energy, rel=1e-10)


TINY = SparseViewCTConfig(
    simulation=SimulationConfig(image_size=32, min_views=8, max_views=12, images_per_scan=4),
    networks=NetworkConfig(
        width=4, narrow_width=3, depth=2, unrolled_width=3, unrolled_depth=2, unrolled_iterations=2
    ),
)


@pytest.fixture(scope="module")
def scanned():
    """A noisy disk in 12 fan-beam views, on 32 x 32 pixels, and the dense P_N of the scan."""
    grid = ImageGrid(32, 32, 2.0)
    x, y = grid.refined(2).pixel_centers_mm().unbind(-1)
    image = 0.02 * (torch.hypot(x - 4, y) < 20).float()
    angles = torch.arange(12, dtype=F64) * 2 * math.pi / 12
    scan = FanBeamScan(angles, 64, 2.0, 200.0, 300.0)
    generator = torch.Generator().manual_seed(0)
    task = SparseViewCT(TINY)
    measurement = task.simulate(image[None], scan, grid.refined(2), 1e5, generator)
    operator = CTProjector(scan, grid)
    ridge = NullSpaceProjection(operator, (1, 32, 32)).ridge
    dense, *_ = dense_null_space(operator, (1, 32, 32), F64, ridge)
    return task, measurement, operator, dense


@pytest.mark.parametrize("name", SparseViewCT.networks)
def test_the_networks_of_the_task(name, scanned):
    task, measurement, operator, dense = scanned
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = task.network(name).eval()
        for parameter in network.parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        for module in network.modules():
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=0.1)
    problem = task.network_problem(measurement, operator.grid, name)
    local = linearize(network, problem.input, forward=problem.forward)
    with torch.no_grad():
        at_zero = problem.forward(network, torch.zeros_like(problem.input))[0]

    found = null_space(
        local, operator, measurement.sinogram / problem.scale[:, :, None], at_zero=at_zero
    )

    assert found.converged
    torch.testing.assert_close(found.maps.sum(0).float(), local.output, rtol=0, atol=1e-6)
    size = float(local.output.norm())
    linear = local.frozen(local.image)  # of the unrolled network: L y, from the sinogram
    for part, image, bound in (
        (found.null_linear, linear, found.errors[2]),
        (found.null_offset, local.offset, found.errors[3]),
        (found.null_at_zero, at_zero, 1e-3 * float(at_zero.norm()) / size),
    ):
        expected = (dense @ image.double().flatten()).reshape(1, 32, 32)
        assert float((part - expected).norm()) <= (bound + 1e-9) * size
        assert float(expected.norm()) > 10 * bound * size
    assert 0 < found.undecided < 0.05 * found.energy
    assert 0 < found.misfit_of_determined < 0.05


def test_null_space_refuses_what_does_not_fit(rng):
    operator = small_ct()
    local = linearize(lambda x: x * 1.0, random(rng, 1, 1, 12, 12))
    y = operator(local.output)
    with pytest.raises(ValueError, match=r"shape of A f \(1, 7, 24\), got \(7, 24\)"):
        null_space(local, operator, y[0])
    with pytest.raises(ValueError, match="at_zero must be one sample"):
        null_space(local, operator, y, at_zero=local.output[None])
    with pytest.raises(ValueError, match=r"end in the operator's input shape \(11, 11\)"):
        null_space(local, small_ct(11), y)
    fourier = MaskedFourier(torch.ones(12, 12, dtype=torch.bool))
    with pytest.raises(TypeError, match="compose it with RealInput"):
        null_space(local, fourier, fourier(local.output))
    with pytest.raises(ValueError, match="threshold must be between 0 and 1, got 0"):
        null_space(local, operator, y, threshold=0.0)
    with pytest.raises(ValueError, match="operator must not be zero"):
        null_space(local, 0 * operator, y)


def test_null_space_projection_refuses_single_precision():
    with pytest.raises(TypeError, match="dtype must be float64 or complex128"):
        NullSpaceProjection(small_ct(), (12, 12), dtype=torch.float32)


def test_null_space_projection_refuses_images_of_the_other_kind():
    fourier, shape = MaskedFourier(torch.ones(2, 2, dtype=torch.bool)), (2, 2)
    real = NullSpaceProjection(2 * fourier @ RealInput(), shape)
    with pytest.raises(TypeError, match=r"image must be real as the dtype .* got torch\.complex64"):
        real(torch.ones(2, 2, dtype=torch.complex64))
    with pytest.raises(
        TypeError, match=r"image must be complex as the dtype .* got torch\.float64"
    ):
        NullSpaceProjection(fourier, shape, dtype=C128)(torch.ones(2, 2, dtype=F64))
    with pytest.raises(TypeError, match=r"got torch\.complex128; compose it with RealInput"):
        NullSpaceProjection(fourier, shape)(torch.ones(2, 2, dtype=F64))
