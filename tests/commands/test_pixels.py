"""The pixels that are found: flat where it is flat, on the edge, at the small detail."""

import pytest
import torch

from framelets.commands.pixels import Pixel, choose_pixels, parse_pixels


@pytest.fixture
def disk_with_a_vessel():
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(96.0), indexing="ij")
    image = (torch.hypot(rows - 40, columns - 48) < 30).float()
    image += 0.1 * torch.sin(rows) * (columns < 48) * image  # texture on the left half
    image[24:26, 60:62] = 2.0
    return image


def test_pixels_are_what_their_labels_say(disk_with_a_vessel):
    flat, edge, detail = choose_pixels(disk_with_a_vessel)

    assert [pixel.label for pixel in (flat, edge, detail)] == ["flat", "edge", "detail"]
    around = disk_with_a_vessel[flat.row - 2 : flat.row + 3, flat.column - 2 : flat.column + 3]
    assert around.std() < 1e-6
    assert around.mean() == 1
    assert abs(((edge.row - 40) ** 2 + (edge.column - 48) ** 2) ** 0.5 - 30) < 2
    assert abs(detail.row - 24.5) < 2
    assert abs(detail.column - 60.5) < 2


def test_pixels_do_not_depend_on_the_unit(disk_with_a_vessel):
    assert choose_pixels(3000 * disk_with_a_vessel - 1000) == choose_pixels(disk_with_a_vessel)


@pytest.mark.parametrize("image", [torch.ones(40, 41), torch.rand(5, 7)], ids=["constant", "tiny"])
def test_without_structure_the_middle_is_taken(image):
    height, width = image.shape
    assert choose_pixels(image) == [Pixel("middle", height // 2, width // 2)]


def test_chosen_pixels():
    assert parse_pixels(["3, 4"], (5, 6)) == [Pixel("chosen", 3, 4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [("3", "ROW,COLUMN"), ("a,b", "ROW,COLUMN"), ("-1,2", "ROW,COLUMN"), ("5,0", "5 x 6 pixels")],
)
def test_refuses_other_pixels(text, message):
    with pytest.raises(ValueError, match=message):
        parse_pixels([text], (5, 6))
