"""Put the stretches of a segment together."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from framelets.geometry._segment_walk import Stretch

if TYPE_CHECKING:
    from framelets.geometry.partition_segment import SegmentPartition


class SegmentBuilder:
    """Collects stretches that follow each other; a piece that a cut divides is made one again.

    The lists hold one tensor a stretch; what they mean is said at `SegmentPartition`.
    """

    def __init__(self, keep_outputs: bool) -> None:
        """Start at zero with nothing."""
        self.reached = 0.0
        self.positions: list[Tensor] = []
        self.boundary_positions: list[Tensor] = []
        self.boundary_layers: list[Tensor] = []
        self.boundary_units: list[Tensor] = []
        self.slope_norms: list[Tensor] = []
        self.slope_changes: list[Tensor] = []
        self.outputs: list[Tensor] | None = [] if keep_outputs else None
        self.num_undecided = 0
        self.num_breakpoints = 0
        self.last_breakpoint = 0.0

    def resume(self, previous: "SegmentPartition") -> None:
        """Go on where a partition ends."""
        self.reached = previous.reached
        self.positions = [previous.positions]
        self.boundary_positions = [previous.boundary_positions]
        self.boundary_layers = [previous.boundary_layers]
        self.boundary_units = [previous.boundary_units]
        self.slope_norms = [previous.slope_norms]
        self.slope_changes = [previous.slope_changes]
        if previous.outputs is not None:
            self.outputs = list(previous.outputs)
        self.num_undecided = previous.num_undecided
        self.num_breakpoints = len(previous.positions)
        if self.num_breakpoints:
            self.last_breakpoint = float(previous.positions[-1])

    def add(self, stretch: Stretch) -> None:
        """Append a stretch that starts where the last one ended."""
        breakpoints, numbers = torch.unique(stretch.positions, return_inverse=True)
        norms, changes = _slopes(stretch, breakpoints)
        if self.slope_norms:
            before = stretch.start - self.last_breakpoint
            after = float(breakpoints[0] if len(breakpoints) else stretch.end) - stretch.start
            if before > after:  # the longer part tells the slope better
                norms[0] = self.slope_norms[-1][-1]
            self.slope_norms[-1] = self.slope_norms[-1][:-1]
        self.positions.append(breakpoints)
        self.boundary_positions.append(numbers + self.num_breakpoints)
        self.boundary_layers.append(stretch.layers)
        self.boundary_units.append(stretch.units)
        self.slope_norms.append(norms)
        self.slope_changes.append(changes)
        self.num_undecided += stretch.num_undecided
        self.num_breakpoints += len(breakpoints)
        self.reached = stretch.end
        if len(breakpoints):
            self.last_breakpoint = float(breakpoints[-1])
        if self.outputs is not None:
            values = [*stretch.curve.at(breakpoints), stretch.curve.values[-1]]
            if self.outputs:
                self.outputs.pop()
            else:
                values.insert(0, stretch.curve.values[0])
            self.outputs += [_sample(value) for value in values]


def _sample(value: Tensor) -> Tensor:
    return value[0] if value.ndim > 0 and value.shape[0] == 1 else value


def _slopes(stretch: Stretch, breakpoints: Tensor) -> tuple[Tensor, Tensor]:
    """Return the norms of the slopes of all pieces, and of their changes at the breakpoints."""
    positions, values = stretch.curve.positions, stretch.curve.values
    norms, changes = [], []
    before: Tensor | None = None
    for k in range(1, len(positions)):
        slope = (values[k] - values[k - 1]) / (positions[k] - positions[k - 1])
        norms.append(torch.linalg.vector_norm(slope))
        if before is not None:
            changes.append(torch.linalg.vector_norm(slope - before))
        before = slope
    # A breakpoint at an end of the segment bounds a piece without length.
    no_change = torch.zeros_like(norms[0])
    if len(breakpoints) and breakpoints[0] == positions[0]:
        norms, changes = [norms[0], *norms], [no_change, *changes]
    if len(breakpoints) and breakpoints[-1] == positions[-1]:
        norms, changes = [*norms, norms[-1]], [*changes, no_change]
    return torch.stack(norms), torch.stack(changes) if changes else positions[:0]
