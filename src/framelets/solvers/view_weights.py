"""How much every ray of a scan counts in an integral over all lines.

A line is measured once by a parallel beam in half a turn, twice by a fan beam in a whole turn, and
once or twice by a fan beam in between. The weights here are the angle that each view stands for,
in radians, times the share of each ray among the measurements of its line.

References:
    D. L. Parker, "Optimal short scan convolution reconstruction for fanbeam CT", Medical Physics
    9(2), 1982.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.physics import FanBeamScan, ParallelBeamScan, Scan

_GAP = 4.0
"""A step of more than this many median steps is a range without views."""


def ray_weights(scan: Scan) -> Float[Tensor, "view detector"]:
    """Weigh the rays so that a sum over them is an integral over all lines, each line once.

    Parallel beam: half the steps to both neighbors modulo pi, so that half a turn, a whole turn,
    and scans that repeat their first view at the end all come out right. Fan beam in a whole turn:
    half of that modulo 2 pi. Fan beam in less: the step times Parker's weights, if the arc is pi
    plus the fan or more; if it is less, every ray counts by how often its line was measured, and
    the lines that were not are missing. Views may be in any order and unevenly spaced. A step over
    four times the median counts as a range without views, which nobody stands for. The shares of a
    short scan are those of a rotation axis on the central ray; an axis offset of a few detector
    elements changes them little.

    Args:
        scan: Source and detector.

    Returns:
        Weights in radians, in float64.

    Raises:
        ValueError: If all views have one direction.
    """
    num_detectors = scan.num_detectors
    if isinstance(scan, ParallelBeamScan):
        steps, _, _ = _angle_steps(scan.view_angles, math.pi)
        return steps[:, None].expand(-1, num_detectors).clone()
    steps, first, arc = _angle_steps(scan.view_angles, 2 * math.pi)
    if arc is None:
        return steps[:, None].expand(-1, num_detectors) / 2
    return steps[:, None] * _short_scan_shares(scan, first, arc)


def _angle_steps(angles: Tensor, period: float) -> tuple[Tensor, float, float | None]:
    # The angle each view stands for; where the measured arc begins; how long it is, or None if
    # it closes. Views of equal angle share: the step between them is zero.
    order = torch.argsort(angles.remainder(period))
    ordered = angles.remainder(period)[order]
    steps = torch.diff(ordered, append=ordered[:1] + period)
    moving = steps[steps > 1e-6 * period]
    if len(moving) < 2:
        raise ValueError(
            f"scan must have at least 2 different views modulo {period:.4g} rad, got one direction"
        )
    usual = float(moving.median())
    longest = int(steps.argmax())
    missing = float(steps[longest]) > _GAP * usual
    kept = torch.where(steps > _GAP * usual, usual, steps)
    weights = torch.empty_like(steps)
    weights[order] = (kept + kept.roll(1)) / 2
    if not missing:
        return weights, 0.0, None
    first = float(ordered[(longest + 1) % len(ordered)]) - usual / 2
    return weights, first, period - float(steps[longest]) + usual


def _short_scan_shares(scan: FanBeamScan, first: float, arc: float) -> Tensor:
    # In terms of Parker's formula the view turns with the source and gamma grows against the
    # turn, so that (b, gamma) and (b + pi - 2 gamma, -gamma) are one line.
    turn = (scan.view_angles - first).remainder(2 * math.pi)[:, None]
    gamma = -scan.fan_angles[None, :]
    half_fan = (arc - math.pi) / 2
    if half_fan < float(gamma.abs().max()):
        partner = (turn + math.pi - 2 * gamma).remainder(2 * math.pi)
        return 1 / (1 + (partner < arc).double())
    rising = torch.sin(math.pi / 4 * turn / (half_fan - gamma).clamp(min=1e-12)) ** 2
    falling = torch.sin(math.pi / 4 * (arc - turn) / (half_fan + gamma).clamp(min=1e-12)) ** 2
    shares = torch.ones_like(turn * gamma)
    shares = torch.where(turn < 2 * (half_fan - gamma), rising, shares)
    return torch.where(turn > math.pi - 2 * gamma, falling, shares)
