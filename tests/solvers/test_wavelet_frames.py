"""Wavelet frames: isometry, packing, averages over shifts, a value by hand, refusals."""

import itertools

import pytest
import pywt
import torch

from framelets.solvers import WaveletFrame
from framelets.testing import assert_adjoint, assert_isometry, assert_same_derivatives

FRAMES = [
    pytest.param(("haar", 2, False), id="haar"),
    pytest.param(("db4", 2, False), id="db4"),
    pytest.param(("haar", 1, True), id="undecimated haar"),
    pytest.param(("sym4", 2, True), id="undecimated sym4"),
]


def make(spec, shape=(8, 12)):
    name, num_levels, undecimated = spec
    return WaveletFrame(shape, name, num_levels, undecimated=undecimated)


@pytest.fixture
def image():
    return torch.randn(8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("spec", FRAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_adjoint_inverts(spec, dtype):
    frame = make(spec)

    assert_adjoint(frame, dtype=dtype, tolerance=1e-12)
    assert_isometry(frame, dtype=dtype, tolerance=1e-11)


def test_single_precision_stays(image):
    frame = make(("db4", 2, True))

    assert frame(image.float()).dtype == torch.float32
    torch.testing.assert_close(frame(image.float()).double(), frame(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", FRAMES[:2])
def test_decimated_is_a_basis(spec):
    matrix = make(spec).to_matrix()

    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(96, dtype=torch.float64))


@pytest.mark.parametrize("spec", FRAMES[:2])
def test_decimated_is_packed_as_by_pywavelets(spec):
    frame = make(spec, (32, 40))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(32, 40, generator=generator, dtype=torch.float64)

    pairs = pywt.wavedec2(image.numpy(), frame.name, "periodization", 2)
    packed, _ = pywt.coeffs_to_array(pairs)

    torch.testing.assert_close(frame(image)[0], torch.from_numpy(packed))


def test_undecimated_is_the_average_over_all_shifts(image):
    # Coifman and Donoho: transform every shift, keep a level, go back, average.
    undecimated, basis = make(("db2", 2, True)), make(("db2", 2, False))
    for level in (0, 1, 2):
        expected = torch.zeros_like(image)
        for shift in itertools.product(range(4), repeat=2):
            coefficients = basis(image.roll(shift, (0, 1))) * (basis.levels == level)
            back = tuple(-one for one in shift)
            expected += basis.adjoint(coefficients).roll(back, (0, 1)) / 16

        found = undecimated.adjoint(undecimated(image) * (undecimated.levels == level))

        torch.testing.assert_close(found, expected)


def test_haar_of_one_pixel_by_hand():
    image = torch.zeros(4, 4, dtype=torch.float64)
    image[0, 1] = 4.0  # the upper right pixel of its block: -horizontally, +vertically

    coefficients = WaveletFrame((4, 4), "haar", 1, undecimated=False)(image)[0]

    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[0, 0], expected[0, 2], expected[2, 0], expected[2, 2] = 2.0, -2.0, 2.0, -2.0
    torch.testing.assert_close(coefficients, expected)


def test_levels():
    basis = WaveletFrame((8, 8), "haar", 2, undecimated=False)
    maps = WaveletFrame((8, 8), "haar", 2)

    assert basis.levels[0, :2, :2].unique().tolist() == [0.0]
    assert basis.levels[0, 2:4, :4].unique().tolist() == [2.0]
    assert basis.levels[0, 4:].unique().tolist() == [1.0]
    assert maps.levels.flatten().tolist() == [0, 2, 2, 2, 1, 1, 1]
    constant = torch.ones(8, 8, dtype=torch.float64)
    for frame in (basis, maps):
        assert (frame(constant) * (frame.levels > 0)).abs().max() < 1e-14


def test_derivatives(image):
    frame = make(("haar", 1, True))

    assert_same_derivatives(frame, None, image)


def test_wavelet_frame_refuses():
    with pytest.raises(ValueError, match=r"divisible by 2\^num_levels, got \(8, 12\) and 3"):
        WaveletFrame((8, 12), "haar", 3)
    with pytest.raises(ValueError, match="orthogonal wavelet of PyWavelets, got 'bior4"):
        WaveletFrame((8, 8), "bior4.4", 1)
    with pytest.raises(ValueError, match="orthogonal wavelet of PyWavelets, got 'db99'"):
        WaveletFrame((8, 8), "db99", 1)
    with pytest.raises(ValueError, match=r"x must end in shape \(8, 8\), got \(8, 4\)"):
        WaveletFrame((8, 8), "haar", 1)(torch.zeros(8, 4))
    with pytest.raises(ValueError, match=r"y must end in shape \(4, 8, 8\)"):
        WaveletFrame((8, 8), "haar", 1).adjoint(torch.zeros(8, 8))
