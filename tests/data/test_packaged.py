"""Images inside packages: units, orientation and order."""

import pytest
import torch

from framelets.data import chest_ct, hounsfield_to_attenuation, natural_images
from framelets.data.packaged import NATURAL_IMAGES


def test_hounsfield_by_hand():
    hounsfield = torch.tensor([-3024, -1000, 0, 1000], dtype=torch.int16)
    expected = torch.tensor([0.0, 0.0, 0.02, 0.04])
    torch.testing.assert_close(hounsfield_to_attenuation(hounsfield, water=0.02), expected)


def test_chest_is_upright():
    chest = chest_ct()

    assert chest.voxels.shape == (34, 128, 128)
    assert chest.spacing_zyx_mm == pytest.approx((10.0, 3.047, 3.047), abs=1e-3)
    assert chest.unit == "1/mm"
    assert chest.voxels[12, 40, 64].item() == pytest.approx(0.0192 * 1.04, rel=0.05)  # heart
    bone = chest.voxels > 0.0192 * 1.3
    rows = torch.arange(128)
    assert (bone.sum((0, 2)) * rows).sum() / bone.sum() > 64  # the spine lies behind
    lung = (chest.voxels > 0.001) & (chest.voxels < 0.006)
    assert lung[22].sum() > 3 * lung[3].sum()  # slices go from the abdomen up
    # The heart lies on the patient's left: the right half of the picture.
    heart = chest.voxels[15, 35:60, 34:94] > 0.015
    assert heart[:, 30:].sum() > 1.3 * heart[:, :30].sum()


def test_natural_images_are_gray_in_the_unit_interval():
    images = natural_images()

    assert len(images) == len(NATURAL_IMAGES)
    for image in images.values():
        assert image.ndim == 2
        assert image.min() >= 0
        assert 0.2 < image.max() <= 1
        assert image.std() > 0.02
