"""Panels show the values they are given: window, orientation, color and enlargement."""

import base64
import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from framelets.report.figures import (
    crop_around,
    panel,
    plain_image,
    round_up,
    signed_panel,
    training_chart,
)


def decode(uri):
    header, content = uri.split(",")
    assert header == "data:image/png;base64"
    return np.asarray(PillowImage.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_window_maps_low_to_black_and_high_to_white():
    pixels = decode(panel(np.array([[-5.0, 0.0], [1.0, 9.0]]), 0.0, 1.0))

    half = pixels.shape[0] // 2
    assert (pixels[0, 0] == 0).all()  # below the window
    assert (pixels[0, half] == 0).all()
    assert (pixels[half, 0] == 255).all()
    assert (pixels[half, half] == 255).all()  # above the window


def test_pixels_stay_squares_when_enlarged():
    image = np.random.default_rng(0).random((5, 7))
    pixels = decode(panel(image, 0.0, 1.0))

    factor = pixels.shape[1] // 7
    assert pixels.shape == (5 * factor, 7 * factor, 3)
    blocks = pixels[..., 0].reshape(5, factor, 7, factor)
    assert (blocks == blocks[:, :1, :, :1]).all()
    np.testing.assert_allclose(blocks[:, 0, :, 0] / 255, image, atol=0.5 / 255 + 1e-9)


def test_zero_of_a_signed_panel_is_white_and_signs_differ():
    pixels = decode(signed_panel(np.array([[-1.0, 0.0, 1.0]]), 1.0)).astype(int)
    width = pixels.shape[1] // 3
    negative, zero, positive = (pixels[0, width * i + width // 2] for i in range(3))

    assert (zero > 240).all()
    assert positive[0] > positive[2]  # red
    assert negative[2] > negative[0]  # blue


def test_a_large_image_is_averaged_not_sampled():
    checkerboard = np.indices((1800, 1800)).sum(0) % 2

    pixels = decode(panel(checkerboard.astype(float), 0.0, 1.0))

    assert max(pixels.shape) == 900
    np.testing.assert_allclose(pixels / 255, 0.5, atol=0.01)


def test_a_sinogram_takes_its_aspect():
    height, width, _ = decode(panel(np.ones((60, 700)), 0.0, 1.0, aspect=1.6)).shape
    assert width / height == pytest.approx(1.6, rel=0.01)


def test_crop_around_a_corner_is_padded():
    image = np.arange(1.0, 10.0).reshape(3, 3)
    np.testing.assert_array_equal(crop_around(image, 0, 0, 1), [[0, 0, 0], [0, 1, 2], [0, 4, 5]])


def test_plain_image_takes_first_channel_and_magnitude():
    image = np.stack([np.full((2, 2), 3 + 4j), np.zeros((2, 2))])
    np.testing.assert_array_equal(plain_image(image), np.full((2, 2), 5.0))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_round_up_of_nothing_is_one(value):
    assert round_up(value) == 1.0


def test_training_chart_takes_a_loss_that_is_a_logarithm():
    # A warning, which a log scale without positive values gives, would be an error here.
    chart = training_chart([20, 40, 60], [-4.0, -5.5, -6.25], [(60, 31.0)])

    assert "31.00 dB" in chart.alt
