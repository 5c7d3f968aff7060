"""Every line counts once: whole turns, half turns, short scans, uneven and repeated views."""

import math

import pytest
import torch

from framelets.physics import FanBeamScan, ParallelBeamScan
from framelets.solvers import ray_weights

PI = math.pi


def turn(num_views, span, first=0.0):
    return first + torch.arange(num_views, dtype=torch.float64) * span / num_views


def parallel(angles):
    return ParallelBeamScan(angles, 5, 1.0)


def fan(angles):
    return FanBeamScan(angles, 41, 2.0, 100.0, 150.0)


@pytest.mark.parametrize("num_views", [12, 13])
@pytest.mark.parametrize("span", [PI, 2 * PI])
def test_even_parallel_views_share_pi(span, num_views):
    weights = ray_weights(parallel(turn(num_views, span, 0.4)))

    torch.testing.assert_close(weights, torch.full_like(weights, PI / num_views))


@pytest.mark.parametrize("span", [PI, -PI])
def test_a_first_view_that_is_repeated_at_the_end_is_shared(span):
    weights = ray_weights(parallel(torch.linspace(0, span, 13, dtype=torch.float64)))

    expected = torch.full_like(weights, PI / 12)
    expected[[0, -1]] /= 2
    torch.testing.assert_close(weights, expected)


def test_views_in_any_order_keep_their_weights():
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(30, generator=generator)
    scan = fan(turn(30, PI + 1.2))

    torch.testing.assert_close(ray_weights(scan.subset(order)), ray_weights(scan)[order])


def test_golden_angles_sum_to_pi():
    angles = (torch.arange(40, dtype=torch.float64) * PI / ((1 + math.sqrt(5)) / 2)).remainder(PI)

    assert ray_weights(parallel(angles))[:, 0].sum().item() == pytest.approx(PI)


def test_missing_views_are_stood_for_by_nobody():
    weights = ray_weights(parallel(turn(120, 2.0)))

    torch.testing.assert_close(weights, torch.full_like(weights, 2.0 / 120))


def test_whole_fan_turn_halves():
    weights = ray_weights(fan(turn(24, 2 * PI)))

    torch.testing.assert_close(weights, torch.full_like(weights, PI / 24))


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("span", [PI + 2 * 0.27, PI + 1.0, PI + 2.5])
def test_short_scans_count_each_line_once(span, direction):
    # A ray and its mirror image in the fan see the same lines, each in one turn: together 2 pi.
    scan = fan(turn(2000, span, first=1.1) * direction)

    weights = ray_weights(scan)

    sums = weights.sum(0) + weights.sum(0).flip(0)
    torch.testing.assert_close(sums, torch.full_like(sums, 2 * PI), rtol=2e-3, atol=0)
    assert (weights >= 0).all()
    assert (weights[[0, -1]].sum(1) > 0).all()


def test_conjugate_rays_of_a_short_scan_share_one():
    # b + pi - 2 gamma is a whole number of views further on for the central ray alone.
    scan = fan(turn(2000, 1.5 * PI))
    step = 1.5 * PI / 2000
    later = round(PI / step)

    shares = ray_weights(scan)[:, 20] / step

    both = shares[:-later] + shares[later:]
    torch.testing.assert_close(both, torch.ones_like(both), rtol=2e-3, atol=0)


def test_too_short_an_arc_counts_what_was_measured_twice_half():
    scan = fan(turn(400, PI + 0.2))
    step = (PI + 0.2) / 400

    shares = ray_weights(scan) / step

    once, twice = (torch.isclose(shares, shares.new_tensor(share)) for share in (1.0, 0.5))
    assert (once ^ twice).all()
    assert twice[0].any()
    assert once[200].all()


def test_weights_refuse_a_single_direction():
    with pytest.raises(ValueError, match="at least 2 different views"):
        ray_weights(parallel(torch.zeros(3)))
