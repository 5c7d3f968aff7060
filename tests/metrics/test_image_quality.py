"""Image quality: hand values, scikit-image as second implementation, batches, masks, refusals."""

import math

import pytest
import skimage.metrics
import torch

from framelets.metrics import nmse, psnr, ssim


@pytest.fixture
def pair():
    rng = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 3, 24, 31, generator=rng, dtype=torch.float64)
    return reference + 0.1 * torch.randn(2, 3, 24, 31, generator=rng).double(), reference


def per_sample(function, reconstruction, reference):
    pairs = zip(reconstruction.flatten(0, 1), reference.flatten(0, 1), strict=True)
    values = [float(function(true.numpy(), made.numpy())) for made, true in pairs]
    return torch.tensor(values, dtype=reference.dtype).reshape(2, 3)


def test_psnr_equals_scikit_image(pair):
    expected = per_sample(
        lambda a, b: skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1.7), *pair
    )
    torch.testing.assert_close(psnr(*pair, peak=1.7), expected, rtol=1e-6, atol=0)


def test_ssim_equals_scikit_image(pair):
    expected = per_sample(
        lambda a, b: skimage.metrics.structural_similarity(
            a, b, data_range=1.7, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
        *pair,
    )
    torch.testing.assert_close(ssim(*pair, peak=1.7), expected, rtol=1e-5, atol=0)


def test_nmse_is_squared(pair):
    reconstruction, reference = pair
    expected = per_sample(
        lambda a, b: skimage.metrics.normalized_root_mse(a, b, normalization="euclidean") ** 2,
        *pair,
    )
    torch.testing.assert_close(nmse(reconstruction, reference), expected)


def test_values_by_hand():
    reference = torch.full((16, 16), 2.0)
    # Twice the peak for ten times the error: 20 log10(2 / 0.2) = 20 dB.
    assert psnr(reference + 0.2, reference, peak=2.0).item() == pytest.approx(20, abs=1e-4)
    assert nmse(reference * 1.1, reference).item() == pytest.approx(0.01, rel=1e-4)
    # Without variance only the means count: (2 a b + c) / (a^2 + b^2 + c), c = (0.01 peak)^2.
    constant = (0.01 * 2) ** 2
    expected = (2 * 2 * 1 + constant) / (4 + 1 + constant)
    assert ssim(reference / 2, reference, peak=2.0).item() == pytest.approx(expected, rel=1e-4)


def test_equal_images():
    reference = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    assert psnr(reference, reference, peak=1.0).item() == math.inf
    assert ssim(reference, reference, peak=1.0).item() == pytest.approx(1)
    assert nmse(reference, reference).item() == 0


def test_mask_hides_what_is_outside(pair):
    reconstruction, reference = pair
    mask = torch.zeros(24, 31, dtype=torch.bool)
    mask[12:18, 14:24] = True
    inside = torch.where(mask, reconstruction, reference)
    wild = torch.where(mask, reconstruction, 100.0)

    part = (reconstruction - reference)[..., 12:18, 14:24].square().mean((-2, -1))
    torch.testing.assert_close(
        psnr(wild, reference, peak=1.0, mask=mask), -10 * part.log10(), rtol=1e-6, atol=0
    )
    energy = reference[..., 12:18, 14:24].square().sum((-2, -1))
    torch.testing.assert_close(nmse(wild, reference, mask=mask), part * 60 / energy)
    # Windows centered far from the change see nothing of it.
    far = torch.zeros(24, 31, dtype=torch.bool)
    far[:6, :7] = True
    torch.testing.assert_close(
        ssim(inside, reference, peak=1.0, mask=far), torch.ones(2, 3, dtype=torch.float64)
    )
    assert (ssim(inside, reference, peak=1.0, mask=mask) < 0.99).all()


def test_full_mask_is_no_mask(pair):
    mask = torch.ones(24, 31, dtype=torch.bool)
    for metric in (psnr, ssim):
        torch.testing.assert_close(metric(*pair, peak=1.0, mask=mask), metric(*pair, peak=1.0))
    torch.testing.assert_close(nmse(*pair, mask=mask), nmse(*pair))


def test_one_peak_and_mask_a_sample(pair):
    peaks = torch.tensor([1.0, 2.0, 4.0])
    masks = torch.rand(2, 3, 24, 31, generator=torch.Generator().manual_seed(1)) > 0.5
    for metric in (psnr, ssim):
        values = metric(*pair, peak=peaks, mask=masks)
        made, true = pair[0][1, 2], pair[1][1, 2]
        torch.testing.assert_close(values[1, 2], metric(made, true, peak=4.0, mask=masks[1, 2]))


def test_float32_and_single_images(pair):
    reconstruction, reference = (image[0, 0].float() for image in pair)
    for value in (
        psnr(reconstruction, reference, peak=1.0),
        ssim(reconstruction, reference, peak=1.0),
        nmse(reconstruction, reference),
    ):
        assert value.shape == ()
        assert value.dtype == torch.float32


METRICS = [
    pytest.param(lambda a, b, **more: psnr(a, b, peak=1.0, **more), id="psnr"),
    pytest.param(lambda a, b, **more: ssim(a, b, peak=1.0, **more), id="ssim"),
    pytest.param(nmse, id="nmse"),
]


@pytest.mark.parametrize("metric", METRICS)
def test_refuses_what_cannot_be_compared(metric):
    image = torch.ones(12, 12)
    with pytest.raises(ValueError, match=r"same shape .* got \(12, 12\) and \(1, 12, 12\)"):
        metric(image, image[None])
    with pytest.raises(ValueError, match="reconstruction must be finite, got NaN"):
        metric(image * torch.nan, image)
    with pytest.raises(ValueError, match="reference must be finite"):
        metric(image, image / 0)
    with pytest.raises(TypeError, match=r"must be real and floating point, got torch.complex64"):
        metric(image + 0j, image)
    with pytest.raises(ValueError, match="mask must be boolean"):
        metric(image, image, mask=image)
    with pytest.raises(ValueError, match=r"mask must be boolean of shape \(\*batch, 12, 12\)"):
        metric(image, image, mask=torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="keep at least one pixel"):
        metric(image, image, mask=torch.zeros(12, 12, dtype=torch.bool))


@pytest.mark.parametrize("peak", [0.0, -1.0, math.nan, math.inf, torch.tensor([1.0, 0.0])])
def test_refuses_a_peak_that_is_none(peak):
    image = torch.ones(2, 12, 12)
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match="peak must be positive"):
            metric(image, image, peak=peak)


def test_refuses_small_and_empty_images():
    with pytest.raises(ValueError, match=r"at least 11 rows and columns, got \(10, 12\)"):
        ssim(torch.ones(10, 12), torch.ones(10, 12), peak=1.0)
    border = torch.zeros(12, 12, dtype=torch.bool)
    border[:4] = True
    with pytest.raises(ValueError, match="at least 5 pixels inside"):
        ssim(torch.ones(12, 12), torch.ones(12, 12), peak=1.0, mask=border)
    with pytest.raises(ValueError, match="reference must not be zero"):
        nmse(torch.ones(4, 4), torch.zeros(4, 4))
