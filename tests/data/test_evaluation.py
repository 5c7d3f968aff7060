"""Real scans for evaluation: units, order and geometry, checked against physics."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from framelets.data import HTC_SCANS, head_ct, htc_scans
from framelets.testing import real_data_folder


@pytest.mark.real_data
def test_head_is_attenuation_and_upright():
    head = head_ct(real_data_folder())

    assert head.voxels.shape == (108, 256, 256)
    assert head.unit == "1/mm"
    assert head.spacing_zyx_mm == pytest.approx((1.5, 0.957, 0.957), abs=1e-3)
    assert head.voxels.min() == 0
    brain = head.voxels[80, 120:136, 120:136].mean().item()
    assert brain == pytest.approx(0.0192 * 1.03, rel=0.02)
    # The head holder lies behind the head: below it, in the picture.
    slice_90 = head.voxels[90] > 0.004
    assert slice_90[170:].sum() > 2 * slice_90[:60].sum()


@pytest.mark.real_data
def test_htc_scans_agree_with_their_conjugate_rays():
    scans = dict(htc_scans(real_data_folder()))
    assert tuple(scans) == HTC_SCANS
    scan = scans["ta"]
    assert scan.sinogram.shape == (720, 560)
    assert (scan.kind, scan.detector_spacing_mm) == ("fan", 0.2)

    # In one full turn every line is measured twice: p(b, u) = p(b + pi - 2 atan(u / SDD), -u).
    def disagreement(scan, offset_mm):
        u = (np.arange(560) - 279.5) * scan.detector_spacing_mm + offset_mm
        turn = 0.5 - np.arctan(u / scan.source_to_detector_mm) / math.pi
        view = (np.arange(720)[:, None] + 720 * turn) % 720
        index = np.broadcast_to(279.5 - (u + offset_mm) / scan.detector_spacing_mm, view.shape)
        sinogram = torch.cat([scan.sinogram, scan.sinogram[:1]]).numpy()
        conjugate = map_coordinates(sinogram, [view, index], order=1, mode="nearest")
        return (conjugate - sinogram[:-1])[:, 2:-2].std() / sinogram.std()

    for name in ("tb", "03a"):
        scan = scans[name]
        offset = scan.detector_offset_mm
        assert disagreement(scan, offset) < 0.03
        assert disagreement(scan, offset) < 0.9 * disagreement(scan, 0.0)
        assert disagreement(scan, offset) < 0.75 * disagreement(scan, -offset)
