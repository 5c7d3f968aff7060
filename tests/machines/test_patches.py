"""Patches with mirrored borders, and maps that make pixels from them."""

import pytest
import torch

from framelets.machines.patches import PatchMap, patch_indices
from framelets.testing import assert_adjoint


@pytest.mark.parametrize(
    ("shape", "window"), [((5, 6), (3, 3)), ((4, 7), (1, 5)), ((6, 5), (5, 3))]
)
def test_patches_are_those_of_a_mirrored_image(shape, window):
    image = torch.arange(30.0)[: shape[0] * shape[1]].reshape(shape)
    sides = [taps // 2 for taps in window]
    mirrored = torch.nn.functional.pad(
        image[None, None], (sides[1], sides[1], sides[0], sides[0]), mode="reflect"
    )
    expected = torch.nn.functional.unfold(mirrored, window)[0].mT

    assert torch.equal(image.flatten()[patch_indices(shape, window)], expected)


def test_an_even_window_has_its_pixel_at_half_its_size():
    assert patch_indices((1, 3), (1, 2)).tolist() == [[1, 0], [0, 1], [1, 2]]


@pytest.mark.parametrize("shape", [(6, 5), (4, 4)])
def test_patch_map(shape):
    generator = torch.Generator().manual_seed(0)
    filters = torch.randn(shape[0] * shape[1], 9, dtype=torch.float64, generator=generator)
    patch_map = PatchMap(filters, shape, (3, 3))
    image = torch.randn(shape, dtype=torch.float64, generator=generator)

    made = patch_map(image)
    patch = image[0:3, 1:4].flatten()  # around pixel (1, 2)

    assert_adjoint(patch_map, shape)
    torch.testing.assert_close(made[1, 2], patch @ filters[shape[1] + 2])


def test_patches_refuses_a_window_that_cannot_be_mirrored():
    with pytest.raises(ValueError, match=r"window must have 1 to \(5, 7\) taps .* got \(7, 3\)"):
        patch_indices((3, 4), (7, 3))
