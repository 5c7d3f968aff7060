"""Pixel-driven back-projector: adjoints, engines, hand values, derivatives, refusals."""

import math

import pytest
import torch

from framelets.physics import BackProjector, FanBeamScan, ImageGrid, ParallelBeamScan
from framelets.testing import assert_adjoint

ENGINES = ["sparse", "numba", "torch"]
GRID = ImageGrid(height=7, width=10, pixel_spacing_mm=1.3)
TURN = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
SCANS = {
    "parallel": ParallelBeamScan(TURN + 0.1, 8, 1.7, detector_offset_mm=0.6),
    "fan": FanBeamScan(TURN, 9, 2.0, 20.0, 31.0, -1.1, 0.8),
}


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=SCANS.values(), ids=SCANS)
def scan(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_adjoint(scan, power, engine, dtype):
    assert_adjoint(BackProjector(scan, GRID, power, engine), dtype=dtype)


@pytest.mark.parametrize("power", [0, 1, 2])
def test_engines_agree(scan, power, rng):
    sinogram = torch.randn(2, *scan.shape, dtype=torch.float64, generator=rng)
    image = torch.randn(3, 1, *GRID.shape, dtype=torch.float64, generator=rng)
    operators = [BackProjector(scan, GRID, power, engine) for engine in ENGINES]

    for other in operators[1:]:
        torch.testing.assert_close(other(sinogram), operators[0](sinogram))
        torch.testing.assert_close(other.adjoint(image), operators[0].adjoint(image))


def test_interpolation_by_hand():
    # The pixels at x = -1, 0, 1 mm fall on indices 0.75, 1.25, 1.75 of elements 2 mm apart.
    scan = ParallelBeamScan(torch.tensor([0.0]), 3, 2.0, detector_offset_mm=-0.5)

    image = BackProjector(scan, ImageGrid(1, 3, 1.0))(torch.tensor([[0.0, 4.0, 8.0]]))

    assert image.tolist() == [[3.0, 5.0, 7.0]]


@pytest.mark.parametrize("power", [0, 1, 2])
def test_distance_weight_by_hand(power):
    # The source is 4 mm below the axis, so the pixel 2 mm above it has depth 1.5.
    scan = FanBeamScan(torch.tensor([0.0], dtype=torch.float64), 3, 1.0, 4.0, 6.0)

    image = BackProjector(scan, ImageGrid(5, 1, 1.0), power)(torch.ones(1, 3))

    torch.testing.assert_close(image[0, 0], torch.tensor(1.5**-power))


@pytest.mark.parametrize("engine", ENGINES)
def test_derivatives(engine, rng):
    scan = SCANS["fan"].subset([1])
    operator = BackProjector(scan, ImageGrid(3, 4, 2.0), 2, engine)
    point = torch.randn(scan.shape, dtype=torch.float64, generator=rng, requires_grad=True)

    assert torch.autograd.gradcheck(operator, point, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: operator(x) ** 2, point, fast_mode=True)


def test_back_projector_refuses(scan):
    with pytest.raises(ValueError, match="distance_power must be 0, 1 or 2, got 3"):
        BackProjector(scan, GRID, 3)
    with pytest.raises(ValueError, match="sinogram must have shape"):
        BackProjector(scan, GRID)(torch.zeros(2, 2))
