"""Training images: endless, repeatable, sharp, inside the circle, and drawn to scale."""

import math

import numpy as np
import pytest
import torch

from framelets.data import TrainingImages
from framelets.data._shapes import draw_curve, draw_polygon, draw_shape
from framelets.data.training_images import MAX_ATTENUATION


@pytest.fixture(scope="module")
def images():
    return TrainingImages(96, 96, torch.Generator().manual_seed(0))


def test_images_are_attenuation_of_bodies_in_air(images):
    batch = images.batch(60)

    assert batch.shape == (60, 96, 96)
    assert batch.min() == 0
    assert 0.03 < batch.max() <= MAX_ATTENUATION
    radius = torch.hypot(*torch.meshgrid(*[torch.arange(96) - 47.5] * 2, indexing="ij"))
    assert (batch[:, radius > 49] == 0).all()
    typical = batch.flatten(1).quantile(0.9, dim=1)
    assert (typical > 0.002).all()
    assert 0.008 < typical.median() < 0.04


def test_images_differ_and_have_sharp_edges(images):
    batch = images.batch(30)

    distances = torch.cdist(batch.flatten(1), batch.flatten(1)) + torch.eye(30)
    assert distances.min() > 0.05
    # In most images some neighbors differ by half of the image's range: no blur to learn.
    steps = (batch[:, 1:] - batch[:, :-1]).abs().amax((1, 2)) / batch.amax((1, 2))
    assert (steps > 0.5).float().mean() > 0.7


def test_state_goes_on_bit_for_bit(images):
    next(images)
    state = images.state_dict()
    first = [next(images) for _ in range(12)]
    other = TrainingImages(96, 96, torch.Generator())
    other.load_state_dict(state)

    for image in first:
        torch.testing.assert_close(next(other), image, rtol=0, atol=0)


def test_any_height_and_width():
    images = TrainingImages(40, 61, torch.Generator().manual_seed(1))

    assert images.batch(8).shape == (8, 40, 61)


def test_iterates(images):
    assert [image.shape for image, _ in zip(images, range(2), strict=False)] == [(96, 96)] * 2


def test_refuses_tiny_images():
    with pytest.raises(ValueError, match=r"at least 16, got \(8, 64\)"):
        TrainingImages(8, 64, torch.Generator())


@pytest.mark.parametrize(
    ("kind", "half_axes", "area"),
    [
        ("ellipse", (20.0, 9.0), math.pi * 20 * 9),
        ("box", (20.3, 9.0), 4 * 20.3 * 9),
        ("capsule", (20.0, 6.0), 4 * 14 * 6 + math.pi * 36),
        ("bars", (20.0, 16.0), 4 * 20 * 16 / 2),
        ("ring", (16.0, 16.0), math.pi * (16**2 - 12**2)),
    ],
)
@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_shapes_cover_their_area(kind, half_axes, area, angle):
    canvas = np.zeros((70, 81), np.float32)

    draw_shape(canvas, kind, (3.3, -2.1), half_axes, angle, 2.0)

    assert canvas.sum() / 2 == pytest.approx(area, rel=0.03)
    assert canvas.max() == pytest.approx(2, rel=1e-6)
    rows, columns = np.indices(canvas.shape)
    assert (rows * canvas).sum() / canvas.sum() == pytest.approx(34.5 - 2.1, abs=0.3)
    assert (columns * canvas).sum() / canvas.sum() == pytest.approx(40 + 3.3, abs=0.3)


def test_shapes_turn_from_x_toward_y():
    canvas = np.zeros((21, 21), np.float32)
    draw_shape(canvas, "capsule", (0.0, 0.0), (9.0, 1.0), math.pi / 4, 1.0)
    assert canvas[15, 15] == 1
    assert canvas[5, 15] == 0


def test_shapes_may_leave_the_canvas():
    canvas = np.ones((8, 8), np.float32)
    draw_shape(canvas, "ellipse", (100.0, 0.0), (5.0, 5.0), 0.0, 0.0)
    assert canvas.min() == 1
    draw_shape(canvas, "ellipse", (4.0, 4.0), (5.0, 5.0), 0.0, 1.0, mode="add")
    assert (canvas[0, 0], canvas[7, 7]) == (1, 2)


def test_polygon_and_curve_cover_their_area():
    canvas = np.zeros((64, 64), np.float32)
    normals = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    draw_polygon(canvas, (0.0, 0.0), normals, np.full(4, 10.0, np.float32), 20.0, 1.0)
    assert canvas.sum() == pytest.approx(400, rel=1e-3)

    canvas[:] = 0
    points = np.array([[-20, 0], [0, 0], [20, 0]], np.float32)
    draw_curve(canvas, points, np.full(3, 2.0, np.float32), 1.0)
    assert canvas.sum() == pytest.approx(4 * 40 + 4 * math.pi, rel=0.03)
