"""The ramp filter: hand values, a second implementation, windows and refusals."""

import math

import pytest
import torch

from framelets.solvers import FILTERS, ramp_response


def test_ramp_near_zero_and_at_the_highest_frequency():
    response = ramp_response(1024, spacing_mm=0.5)

    # |nu| in 1/mm but for the mean, which a kernel of finite length does not quite remove: its
    # tail beyond n = 512 sums to 2 / (2 pi^2 512 spacing).
    assert response[-1].item() == pytest.approx(1.0, rel=1e-3)
    assert response[256].item() == pytest.approx(0.5, rel=1e-3)
    assert response[0].item() == pytest.approx(1 / (math.pi**2 * 512 * 0.5), rel=1e-2)


def test_response_is_that_of_the_kernel():
    spacing, n = 0.7, torch.arange(-31, 33, dtype=torch.float64)
    kernel = torch.zeros(64, dtype=torch.float64)
    for i, offset in enumerate(n.tolist()):
        if offset == 0:
            kernel[i] = 1 / (4 * spacing**2)
        elif offset % 2:
            kernel[i] = -1 / (math.pi * offset * spacing) ** 2
    nu = torch.fft.rfftfreq(64, dtype=torch.float64)
    expected = (torch.cos(2 * math.pi * nu[:, None] * n) * kernel).sum(1) * spacing

    torch.testing.assert_close(ramp_response(64, spacing), expected)


@pytest.mark.parametrize(
    ("name", "at_half", "at_end"),
    [
        ("ram-lak", 1, 1),
        ("shepp-logan", math.sin(math.pi / 4) / (math.pi / 4), 2 / math.pi),
        ("cosine", math.cos(math.pi / 4), 0),
        ("hamming", 0.54, 0.08),
        ("hann", 0.5, 0),
    ],
)
def test_windows_by_hand(name, at_half, at_end):
    ratio = ramp_response(64, 1.0, name) / ramp_response(64, 1.0)
    halved = ramp_response(64, 1.0, name, cutoff=0.5) / ramp_response(64, 1.0)

    assert set(FILTERS) == {"ram-lak", "shepp-logan", "cosine", "hamming", "hann"}
    assert ratio[[0, 16, 32]].tolist() == pytest.approx([1, at_half, at_end], abs=1e-12)
    assert halved[[0, 8, 16, 17]].tolist() == pytest.approx([1, at_half, at_end, 0], abs=1e-12)


def test_ramp_refuses():
    with pytest.raises(ValueError, match="did you mean 'ram-lak'"):
        ramp_response(64, 1.0, "ramlak")
    with pytest.raises(ValueError, match="cutoff must be in"):
        ramp_response(64, 1.0, cutoff=0.0)


@pytest.mark.parametrize("num_samples", [726, 729, 735, 1025])
def test_response_of_any_length_equals_the_sum_over_the_kernel(num_samples):
    # Lengths at which a frequency grid is not exactly whole once made the kernel a lone peak.
    n = [k if k < (num_samples + 1) // 2 else k - num_samples for k in range(num_samples)]
    kernel = [1 / 4 if k == 0 else -1 / (math.pi * k) ** 2 if k % 2 else 0.0 for k in n]

    expected = torch.fft.rfft(torch.tensor(kernel, dtype=torch.float64)).real

    torch.testing.assert_close(ramp_response(num_samples, 1.0), expected)
