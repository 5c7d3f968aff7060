"""Pixel positions, refinement and block averages."""

import pytest
import torch

from framelets.physics import ImageGrid, pixel_average


def test_row_0_is_the_top_and_the_axis_is_the_middle():
    centers = ImageGrid(height=3, width=4, pixel_spacing_mm=2.0).pixel_centers_mm()

    assert centers.shape == (3, 4, 2)
    assert centers[0, 0].tolist() == [-3.0, 2.0]
    assert centers[2, 3].tolist() == [3.0, -2.0]


def test_refined_pixels_lie_inside_theirs():
    grid = ImageGrid(3, 4, 2.0)

    fine = grid.refined(2)

    averaged = pixel_average(fine.pixel_centers_mm().movedim(-1, 0), 2).movedim(0, -1)
    torch.testing.assert_close(averaged, grid.pixel_centers_mm())
    assert fine.radius_mm == grid.radius_mm


def test_pixel_average_by_hand():
    image = torch.arange(12.0).reshape(1, 2, 6)

    assert pixel_average(image, 2).tolist() == [[[3.5, 5.5, 7.5]]]


@pytest.mark.parametrize(("name", "value"), [("height", 0), ("pixel_spacing_mm", -1.0)])
def test_grid_refuses_impossible_sizes(name, value):
    arguments = {"height": 2, "width": 2, "pixel_spacing_mm": 1.0} | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be"):
        ImageGrid(**arguments)


@pytest.mark.parametrize("factor", [0, 2])
def test_pixel_average_refuses_a_factor_that_does_not_divide(factor):
    with pytest.raises(ValueError, match=f"divisible by factor {factor}.*pad or crop"):
        pixel_average(torch.zeros(4, 5), factor)


def test_refined_refuses_no_pixels():
    with pytest.raises(ValueError, match="factor must be a whole number"):
        ImageGrid(2, 2, 1.0).refined(0)
