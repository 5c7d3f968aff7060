"""Framelet shrinkage: thresholding in closed form, projected gradients, a linear program."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from framelets.core import Identity, LinearOperator
from framelets.frames import ConvolutionFramelet, dct_local_basis
from framelets.solvers import WaveletFrame, framelet_shrinkage


class Multiply(LinearOperator):
    """Multiply the pixels."""

    def __init__(self, factors):
        super().__init__()
        self.input_shape = self.output_shape = tuple(factors.shape)
        self.register_buffer("factors", factors)

    def forward(self, x):
        return x * self.factors

    def adjoint(self, y):
        return y * self.factors


class Blur(LinearOperator):
    """Add the pixel to the left, around the border, and scale: not symmetric."""

    def forward(self, x):
        return 3.0 * (x + 0.6 * x.roll(1, -1))

    def adjoint(self, y):
        return 3.0 * (y + 0.6 * y.roll(-1, -1))


@pytest.fixture
def image():
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def cosines():
    return ConvolutionFramelet((6, 8), (3, 2), Identity(), dct_local_basis((3, 2)))


def test_haar_by_hand():
    noisy = torch.tensor([[3.0, 1.0], [1.0, 1.0]], dtype=torch.float64)  # coefficients 3, 1, 1, 1
    haar = WaveletFrame((2, 2), "haar", 1, undecimated=False)

    result = framelet_shrinkage(
        noisy, Identity(), 0.4, haar, relative_weights=(haar.levels > 0).double(), tolerance=1e-9
    )

    expected = torch.tensor([[2.4, 1.2], [1.2, 1.2]], dtype=torch.float64)
    torch.testing.assert_close(result.image, expected, rtol=0, atol=1e-7)
    assert result.converged
    assert result.objective.item() == pytest.approx(3 * 0.4**2 / 2 + 0.4 * 3 * 0.6)


def test_basis_thresholds_softly():
    noisy = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    basis = WaveletFrame((8, 8), "db2", 2, undecimated=False)
    relative = basis.levels**2

    result = framelet_shrinkage(
        noisy, Identity(), 0.2, basis, relative_weights=relative, tolerance=1e-9,
        num_iterations=1000,
    )  # fmt: skip

    coefficients = basis(noisy)
    kept = coefficients.sign() * (coefficients.abs() - 0.2 * relative).clamp(min=0)
    torch.testing.assert_close(result.image, basis.adjoint(kept), rtol=0, atol=1e-7)


@pytest.mark.parametrize("operator", [Identity(), Blur()], ids=["identity", "blur"])
def test_as_by_projected_gradients_on_the_dual(operator, image, cosines):
    # With G = A* A: x = G^-1 (A* y - T* p), p in the box |p| <= weight r / c, of steepest ascent.
    weight = 0.3 if isinstance(operator, Identity) else 3.0
    relative = torch.arange(6, dtype=torch.float64) ** 0.5
    forward = operator.to_matrix((6, 8))
    transform = cosines.to_matrix()
    gram_inverse = torch.linalg.inv(forward.mT @ forward)
    box = (weight / 6 * relative).expand(48, 6).flatten()
    step = 1 / float(torch.linalg.matrix_norm(transform @ gram_inverse @ transform.mT, 2))
    dual = torch.zeros(len(box), dtype=torch.float64)
    back = forward.mT @ operator(image).flatten()
    for _ in range(5000):
        x = gram_inverse @ (back - transform.mT @ dual)
        dual = (dual + step * (transform @ x)).clamp(-box, box)

    result = framelet_shrinkage(
        operator(image), operator, weight, cosines, relative_weights=relative, tolerance=1e-8,
        num_iterations=5000,
    )  # fmt: skip

    torch.testing.assert_close(result.image.flatten(), x, rtol=0, atol=1e-6)
    assert result.converged
    misfit = (forward @ x - operator(image).flatten()).square().sum() / 2
    penalty = (box * (transform @ x).abs()).sum()
    torch.testing.assert_close(result.objective, misfit + penalty, rtol=1e-6, atol=0)


def test_kept_pixels_as_by_linear_programming(image, cosines):
    measured = torch.rand(6, 8, generator=torch.Generator().manual_seed(2)) < 0.6
    relative = 1 + torch.arange(6, dtype=torch.float64)
    mask = Multiply(measured.double())

    result = framelet_shrinkage(
        mask(image), mask, None, cosines, relative_weights=relative, tolerance=1e-4,
        num_iterations=2000,
    )  # fmt: skip

    # min sum r t under -t <= T x <= t and x = y where measured.
    transform = cosines.to_matrix().numpy()
    num_coefficients, num_pixels = transform.shape
    bound = -np.eye(num_coefficients)
    known = np.eye(num_pixels)[measured.flatten().numpy()]
    program = linprog(
        np.concatenate([np.zeros(num_pixels), np.tile(relative.numpy() / 6, 48)]),
        A_ub=np.block([[transform, bound], [-transform, bound]]),
        b_ub=np.zeros(2 * num_coefficients),
        A_eq=np.hstack([known, np.zeros((len(known), num_coefficients))]),
        b_eq=image[measured].numpy(),
        bounds=(None, None),
    )
    assert torch.equal(result.image[measured], image[measured])
    assert result.converged
    assert result.objective.item() == pytest.approx(program.fun, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scale_of_the_image_does_not_matter(scale, image, cosines):
    arguments = {"frame": cosines, "tolerance": 1e-6, "num_iterations": 1000}

    one = framelet_shrinkage(image, Identity(), 0.3, **arguments)
    scaled = framelet_shrinkage(scale * image, Identity(), scale * 0.3, **arguments)

    torch.testing.assert_close(scaled.image / scale, one.image, rtol=0, atol=1e-6)
    assert scaled.num_iterations == one.num_iterations


def test_start_and_progress(image, cosines):
    told = []
    exact = framelet_shrinkage(image, Identity(), 0.3, cosines, tolerance=1e-6)

    again = framelet_shrinkage(
        image, Identity(), 0.3, cosines, start=exact.image, progress=told.append
    )

    torch.testing.assert_close(again.image, exact.image, rtol=0, atol=1e-2)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_says_when_it_did_not_converge(image, cosines):
    result = framelet_shrinkage(image, Identity(), 0.3, cosines, num_iterations=2)

    assert not result.converged
    assert result.num_iterations == 2
    assert result.residual > 1e-3


def test_framelet_shrinkage_refuses(image, cosines):
    with pytest.raises(ValueError, match=r"weight must be positive, or None .* got -1"):
        framelet_shrinkage(image, Identity(), -1.0, cosines)
    with pytest.raises(ValueError, match="num_iterations must be at least 1"):
        framelet_shrinkage(image, Identity(), 1.0, cosines, num_iterations=0)
    with pytest.raises(ValueError, match="measurement must be finite"):
        framelet_shrinkage(image * torch.nan, Identity(), 1.0, cosines)
    with pytest.raises(ValueError, match=r"start must have shape \(6, 8\), got \(8, 6\)"):
        framelet_shrinkage(image, Identity(), 1.0, cosines, start=image.T)
    with pytest.raises(ValueError, match="frame must be tight"):
        framelet_shrinkage(image, Identity(), 1.0, Multiply(image))
    for wrong in (torch.ones(5), -torch.ones(6), torch.ones(2, 48, 6)):
        with pytest.raises(ValueError, match="relative_weights must not be negative and broadcast"):
            framelet_shrinkage(image, Identity(), 1.0, cosines, relative_weights=wrong)
    with pytest.raises(ValueError, match=r"A A\* A = A"):
        framelet_shrinkage(image, Multiply(image), None, cosines)
