"""Projector: adjoints, three engines, analytic line integrals, hand values, forks and threads."""

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numba
import pytest
import torch

from framelets.physics import (
    CTProjector,
    FanBeamScan,
    ImageGrid,
    ParallelBeamScan,
    _kernels,
    pixel_average,
)
from framelets.testing import assert_adjoint

ENGINES = ["sparse", "numba", "torch"]
GRID = ImageGrid(height=7, width=10, pixel_spacing_mm=1.3)
TURN = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
SCANS = {
    "parallel": ParallelBeamScan(TURN, 11, 0.9),
    "parallel, shifted": ParallelBeamScan(TURN + 0.1, 8, 1.7, detector_offset_mm=0.6),
    "fan": FanBeamScan(TURN, 9, 2.0, 20.0, 31.0),
    "fan, shifted": FanBeamScan(TURN[:3] + 0.2, 12, 1.5, 15.0, 22.0, -1.1, 0.8),
}


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=SCANS.values(), ids=SCANS)
def scan(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_adjoint(scan, engine, dtype):
    assert_adjoint(CTProjector(scan, GRID, engine), dtype=dtype)


def test_engines_agree(scan, rng):
    image = torch.randn(2, *GRID.shape, dtype=torch.float64, generator=rng)
    sinogram = torch.randn(3, 1, *scan.shape, dtype=torch.float64, generator=rng)
    operators = [CTProjector(scan, GRID, engine) for engine in ENGINES]

    for other in operators[1:]:
        torch.testing.assert_close(other(image), operators[0](image))
        torch.testing.assert_close(other.adjoint(sinogram), operators[0].adjoint(sinogram))


@pytest.mark.parametrize("engine", ENGINES)
def test_sums_over_rows_and_columns(engine):
    # At 0 the rays go up and index 0 is at the left; at 90 degrees they go left, index 0 at the
    # bottom. The image is in 1/mm, the sums times the spacing are dimensionless.
    scan = ParallelBeamScan(torch.tensor([0.0, math.pi / 2], dtype=torch.float64), 3, 0.5)
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])

    sinogram = CTProjector(scan, ImageGrid(3, 3, 0.5), engine)(image)

    torch.testing.assert_close(sinogram, torch.tensor([[6.0, 7.5, 9.0], [12.0, 7.5, 3.0]]))


def test_a_diagonal_ray_by_hand():
    # At 45 degrees the ray through the axis meets one pixel a row and spends sqrt(2) mm between.
    scan = ParallelBeamScan(torch.tensor([math.pi / 4], dtype=torch.float64), 1, 1.0)

    sinogram = CTProjector(scan, ImageGrid(3, 3, 1.0))(torch.eye(3, dtype=torch.float64))

    torch.testing.assert_close(sinogram, sinogram.new_tensor([[3 * math.sqrt(2)]]))


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_a_point_at_the_upper_right_is_seen_on_the_positive_side(kind):
    angles = torch.tensor([0.0, math.pi / 2, math.pi], dtype=torch.float64)
    scan = {
        "parallel": ParallelBeamScan(angles, 41, 1.0),
        "fan": FanBeamScan(angles, 41, 1.0, 1000.0, 1000.0),
    }[kind]
    grid = ImageGrid(21, 21, 1.0)
    image = torch.zeros(grid.shape)
    image[4, 15] = 1.0  # x = 5 mm, y = 6 mm

    peaks = CTProjector(scan, grid)(image).argmax(dim=1) - 20

    assert peaks.tolist() == [5, 6, -5]


def blobs(x, y):
    return [(x - cx, y - cy, s) for cx, cy, s in [(12.0, 15.0, 4.0), (-9.0, 4.0, 3.0)]]


def test_forward_against_analytic_gaussians(scan):
    scan = {
        ParallelBeamScan: ParallelBeamScan(TURN, 101, 0.7, 1.3),
        FanBeamScan: FanBeamScan(TURN, 101, 1.2, 90.0, 150.0, 1.3, scan.detector_offset_mm),
    }[type(scan)]
    grid = ImageGrid(90, 101, 0.6)
    x, y = grid.pixel_centers_mm().unbind(-1)
    image = sum(torch.exp(-(dx**2 + dy**2) / (2 * s**2)) for dx, dy, s in blobs(x, y))
    points, directions = scan.rays()
    expected = sum(
        math.sqrt(2 * math.pi)
        * s
        * torch.exp(-((dx * directions[..., 1] - dy * directions[..., 0]) ** 2) / (2 * s**2))
        for dx, dy, s in blobs(points[..., 0], points[..., 1])
    )

    sinogram = CTProjector(scan, grid)(image)

    # Second order in spacing over width: (0.6 / 3)^2 / 8 is 0.5 %.
    assert torch.linalg.vector_norm(sinogram - expected) < 3e-3 * torch.linalg.vector_norm(expected)


def test_forward_against_an_analytic_ellipse():
    a, b, cx, cy = 30.0, 18.0, 5.0, -8.0
    scan = FanBeamScan(TURN, 181, 1.0, 120.0, 180.0)
    grid = ImageGrid(128, 128, 0.75)
    x, y = grid.refined(4).pixel_centers_mm().unbind(-1)
    image = pixel_average((((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 <= 1).double(), 4)
    points, directions = scan.rays()
    scale = torch.tensor([a, b], dtype=torch.float64)
    p, d = (points - points.new_tensor([cx, cy])) / scale, directions / scale
    squared, mixed = (d * d).sum(-1), (p * d).sum(-1)
    discriminant = mixed**2 - squared * ((p * p).sum(-1) - 1)
    expected = 2 * discriminant.clamp(min=0).sqrt() / squared

    sinogram = CTProjector(scan, grid)(image)

    # The floor is the edge, one pixel wide.
    assert torch.linalg.vector_norm(sinogram - expected) < 1e-2 * torch.linalg.vector_norm(expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("direction", ["forward", "adjoint"])
def test_derivatives(engine, direction, rng):
    scan, grid = SCANS["fan, shifted"].subset([0]), ImageGrid(3, 4, 2.0)
    operator = CTProjector(scan, grid, engine)
    shape = grid.shape if direction == "forward" else scan.shape
    point = torch.randn(shape, dtype=torch.float64, generator=rng, requires_grad=True)
    function = getattr(operator, direction)

    assert torch.autograd.gradcheck(function, point, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: function(x) ** 2, point, fast_mode=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_function_transforms(engine, rng):
    operator = CTProjector(SCANS["fan"], GRID, engine)
    images = torch.randn(3, *GRID.shape, dtype=torch.float64, generator=rng)
    sinograms = operator(images)

    torch.testing.assert_close(torch.func.vmap(operator)(images), sinograms)
    _, tangent = torch.func.jvp(operator, (images[0],), (images[1],))
    torch.testing.assert_close(tangent, sinograms[1])
    _, pull = torch.func.vjp(operator, images[0])
    torch.testing.assert_close(pull(sinograms[1])[0], operator.adjoint(sinograms[1]))
    jacobian = torch.func.jacrev(operator)(images[0])
    torch.testing.assert_close(jacobian.flatten(2) @ images[1].flatten(), sinograms[1])


def test_half_precision_is_computed_in_single(rng):
    operator = CTProjector(SCANS["fan"], GRID)
    image = torch.rand(GRID.shape, generator=rng).bfloat16()

    sinogram = operator(image)

    assert sinogram.dtype == torch.bfloat16
    torch.testing.assert_close(sinogram, operator(image.float()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(operator(image.float()), operator(image.float()))
        assert operator(image.float()).dtype == torch.float32


def test_auto_minds_the_memory_limit():
    scan = SCANS["fan"]

    assert CTProjector(scan, GRID).engine == "sparse"
    assert CTProjector(scan, GRID, memory_limit_bytes=1000).engine == "auto"
    image = torch.rand(GRID.shape, dtype=torch.float64)
    small = CTProjector(scan, GRID, memory_limit_bytes=1000)
    torch.testing.assert_close(small(image), CTProjector(scan, GRID)(image))


def test_copies_leave_the_matrices_behind(rng):
    operator = CTProjector(SCANS["fan"], GRID, "sparse")
    image = torch.randn(GRID.shape, generator=rng)
    sinogram = operator(image)

    for twin in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
        assert not twin._pair._matrices
        torch.testing.assert_close(twin(image), sinogram)


class _Sinograms(torch.utils.data.Dataset):
    def __init__(self, operators, images):
        self.operators, self.images = operators, images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return torch.stack([A.adjoint(A(self.images[i])) for A in self.operators])


def test_forked_workers_and_threads(rng):
    operators = [CTProjector(SCANS["fan"], GRID, engine) for engine in ENGINES]
    images = torch.randn(4, *GRID.shape, generator=rng)
    data = _Sinograms(operators, images)
    expected = torch.stack([data[i] for i in range(4)])  # the parent's threads exist by now

    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=1, multiprocessing_context="fork"
    )
    torch.testing.assert_close(next(iter(loader)), expected)
    with ThreadPoolExecutor(4) as pool:
        torch.testing.assert_close(
            torch.stack(list(pool.map(data.__getitem__, range(4)))), expected
        )


def test_several_threads_share_one_product(rng):
    operator = CTProjector(SCANS["fan"], GRID, "numba")
    image = torch.randn(GRID.shape, dtype=torch.float64, generator=rng)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(operator.adjoint(operator(image)))
    finally:
        torch.set_num_threads(before)

    torch.testing.assert_close(*results)


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch):
    compile_plainly = numba.njit

    def no_locator(kernel, *, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_plainly(kernel, **options)

    monkeypatch.setattr(numba, "njit", no_locator)

    assert _kernels._compile(lambda x: x + 1)(1) == 2


@pytest.mark.parametrize(
    ("scan", "grid", "message"),
    [
        (SCANS["fan"], ImageGrid(40, 40, 1.0), "source would lie inside the image"),
        (ParallelBeamScan(TURN, 4, 0.1, 50.0), GRID, "no ray within .* check that spacings"),
    ],
)
def test_projector_refuses_a_misplaced_scan(scan, grid, message):
    with pytest.raises(ValueError, match=message):
        CTProjector(scan, grid)


def test_projector_refuses_engines():
    with pytest.raises(ValueError, match="did you mean 'sparse'"):
        CTProjector(SCANS["fan"], GRID, "sparce")
    with pytest.raises(ValueError, match=r"more than memory_limit_bytes.*use engine='numba'"):
        CTProjector(SCANS["fan"], GRID, "sparse", memory_limit_bytes=1000)


def test_projector_refuses_other_shapes_and_kinds():
    operator = CTProjector(SCANS["fan"], GRID)
    with pytest.raises(ValueError, match=r"image must have shape .* \(7, 10\), got \(10, 7\)"):
        operator(torch.zeros(10, 7))
    with pytest.raises(ValueError, match=r"sinogram must have shape .* got \(9, 5\)"):
        operator.adjoint(torch.zeros(9, 5))
    with pytest.raises(TypeError, match=r"image must hold real floats, got torch\.int64"):
        operator(torch.zeros(7, 10, dtype=torch.int64))
