"""Where a piecewise-linear operation bends: the boundaries that each of its units draws.

A unit is one entry of the operation's activation pattern. Most kinds switch where an affine
quantity of their input changes sign (u = 0 for ReLU, u = v for the larger of two); pooling and
maxima along axes switch where another entry of a window becomes the largest.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor

from framelets.geometry._segment_workers import Workers
from framelets.geometry._step_gains import Gain

_ROUNDING = 64 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Crossings:
    """Where the units of one operation switch along a segment.

    Attributes:
        positions: One for each switch of a unit.
        units: The unit that switches, as an index into the flattened pattern.
        undecided: Whether double precision cannot tell the unit from zero on both sides.
    """

    positions: Tensor
    units: Tensor
    undecided: Tensor


@dataclass(frozen=True, kw_only=True)
class Bend(ABC):
    """A recorded operation that bends.

    Attributes:
        apply: The operation, as a function of one sample of each input.
        kind: Its name in the activation pattern.
        place: Path of the module that ran it.
        shape: Shape of its pattern.
        on_at_zero: Whether a gap of exactly zero counts as positive.
    """

    apply: Callable[..., Tensor]
    kind: str = ""
    place: str = ""
    shape: tuple[int, ...] = ()
    on_at_zero: bool = False

    def called(self, kind: str, place: str, shape: Sequence[int]) -> "Bend":
        """Return the same operation with its name and place."""
        return replace(self, kind=kind, place=place, shape=tuple(shape))

    @abstractmethod
    def crossings(
        self, positions: Tensor, values: Sequence[Sequence[Tensor]], workers: Workers
    ) -> Crossings:
        """Find every switch between the knots of the inputs, which are affine from knot to knot.

        Args:
            positions: The knots.
            values: Every input at every knot.
            workers: Threads to work on.
        """

    @abstractmethod
    def pattern(self, values: Sequence[Tensor]) -> bytes:
        """Return which units are on, or what each chose, for one sample of each input."""

    @abstractmethod
    def num_choices(self, values: Sequence[Tensor]) -> Tensor:
        """Return how many affine pieces each unit has: 2 for ReLU, a window's entries for pooling.

        It is the same for every input; values only tell shapes.
        """

    @abstractmethod
    def choices(self, values: Sequence[Tensor]) -> Tensor:
        """Return which piece each unit is on, counted from 0, in the shape of the pattern."""

    @abstractmethod
    def reads(self, values: Sequence[Tensor], units: Tensor) -> list[Tensor]:
        """Return which entries of each input some units read, as masks.

        Args:
            values: The inputs, of which only the shapes matter.
            units: A mask in the shape of the pattern.
        """

    @abstractmethod
    def gaps(self, values: Sequence[Tensor]) -> Tensor:
        """Return how far each condition of the pattern is from switching, as a vector.

        Within a region every gap is an affine function of the image, and its zeros are where a
        unit switches; the region is where all gaps keep their signs.
        """

    @abstractmethod
    def gap_slopes(self, values: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:
        """Return the derivative of the gaps along tangents of the inputs."""

    @abstractmethod
    def gap_norms(self, values: Sequence[Tensor], norms: Sequence[Tensor]) -> Tensor:
        """Bound the norm of each gap's gradient, given such bounds for the inputs."""

    @abstractmethod
    def gap_unit(self, index: int) -> int:
        """Return the unit that a gap belongs to."""

    @abstractmethod
    def largest_by_unit(self, gaps: Tensor) -> Tensor:
        """Return the largest of some number over the gaps of each unit, in the pattern's shape."""

    @abstractmethod
    def open_rows(self, rows: Sequence[Tensor]) -> Tensor:
        """Bound the rows of what comes out, given those of the inputs, whatever each unit does."""

    @abstractmethod
    def open_gain(self) -> Gain:
        """Bound the operation's Lipschitz constant, whatever each unit does."""

    @abstractmethod
    def jump(self) -> Tensor | float:
        """Return by what a unit's derivative changes when it switches, over its gap's."""


@dataclass(frozen=True, kw_only=True)
class SignBend(Bend):
    """An operation whose units switch where an affine quantity changes sign.

    Attributes:
        quantities: From one sample of each input to these quantities, one or two for each unit;
            a unit counts as on where its quantity is positive.
        slopes: The least and the largest slope of a unit, of the operation of one input; of two
            inputs it takes one or the other.
        copies: How many units read the same entry of an input, at most.
    """

    quantities: Callable[..., list[Tensor]]
    slopes: tuple[Tensor | float, Tensor | float] = (0.0, 1.0)
    copies: int = 1

    def crossings(
        self, positions: Tensor, values: Sequence[Sequence[Tensor]], workers: Workers
    ) -> Crossings:
        """Find all changes of sign between neighboring knots, each exact by linear interpolation.

        An affine function on an interval is zero inside if and only if its signs at the ends
        differ. Every knot has one value, so that no change is lost or counted twice at a knot.
        """
        first = self.quantities(*(value[0] for value in values))
        scale = max((float(q.abs().max()) for q in first if q.numel()), default=0.0)

        def between(_: Tensor, k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
            width = positions[k] - positions[k - 1]
            found = []
            before, after = (self.quantities(*(value[i] for value in values)) for i in (k - 1, k))
            for low, high in zip(before, after, strict=True):
                units = ((low > 0) ^ (high > 0)).flatten().nonzero().flatten()
                start, end = low.flatten()[units], high.flatten()[units]
                position = positions[k - 1] + width * (start / (start - end))
                position = position.clamp(positions[k - 1], positions[k])
                unclear = start.abs() + end.abs() <= _ROUNDING * scale
                found.append((position, units, unclear))
            return found

        return _joined(workers.each(between, values[0][1:], range(1, len(positions))), positions)

    def pattern(self, values: Sequence[Tensor]) -> bytes:
        """Return the signs of the quantities, eight a byte."""
        signs = [(q > 0).flatten().cpu().numpy() for q in self.quantities(*values)]
        return b"".join(np.packbits(sign).tobytes() for sign in signs)

    def num_choices(self, values: Sequence[Tensor]) -> Tensor:
        """Return one more than there are quantities, which pass zero one after the other."""
        num_quantities = len(self.quantities(*values))
        return torch.full((prod(self.shape),), 1 + num_quantities)

    def choices(self, values: Sequence[Tensor]) -> Tensor:
        """Return how many quantities are positive."""
        signs = [(q > 0).reshape(self.shape) for q in self.quantities(*values)]
        return torch.stack(signs).sum(0)

    def reads(self, values: Sequence[Tensor], units: Tensor) -> list[Tensor]:
        """Return the entries at the units, where broadcasting put them."""
        return [units.to(torch.float64).sum_to_size(value.shape) > 0 for value in values]

    def gaps(self, values: Sequence[Tensor]) -> Tensor:
        """Return the quantities."""
        return torch.cat([q.flatten() for q in self.quantities(*values)])

    def gap_slopes(self, values: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Return the linear parts of the quantities."""
        zeros = [torch.zeros_like(tangent) for tangent in tangents]
        return self.gaps(tangents) - self.gaps(zeros)

    def gap_norms(self, values: Sequence[Tensor], norms: Sequence[Tensor]) -> Tensor:
        """Add the bounds of what is subtracted."""
        total = torch.stack([norm.expand(self.shape) for norm in norms]).sum(0).flatten()
        return total.repeat(self.gaps(values).numel() // max(1, total.numel()))

    def gap_unit(self, index: int) -> int:
        """Return the index within one of the quantities."""
        return index % prod(self.shape)

    def largest_by_unit(self, gaps: Tensor) -> Tensor:
        """Return the largest over the quantities."""
        return gaps.reshape(-1, *self.shape).amax(0)

    def open_rows(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the larger of two, or take the steepest slope of one."""
        largest = torch.stack([row.expand(self.shape) for row in rows]).amax(0)
        return largest * self._steepest()

    def open_gain(self) -> Gain:
        """Return the steepest slope."""
        return Gain(float(self._steepest().max()) * sqrt(self.copies))

    def jump(self) -> Tensor | float:
        """Return the difference of the two slopes."""
        return self.slopes[1] - self.slopes[0]

    def _steepest(self) -> Tensor:
        low, high = (torch.as_tensor(slope, dtype=torch.float64).abs() for slope in self.slopes)
        return torch.maximum(low, high)


@dataclass(frozen=True, kw_only=True)
class EnvelopeBend(Bend):
    """An operation that takes the largest entry of each window of its input.

    Attributes:
        entries: The entries of each unit's window, as indices into the flattened input.
        exists: Which of them lie in the input and not in its padding.
        sign: -1 where the smallest is taken.
    """

    entries: Tensor
    exists: Tensor
    sign: float = 1.0
    on_at_zero: bool = True

    def lines(self, value: Tensor, units: Tensor | slice = slice(None)) -> Tensor:
        """Return the entries of the windows of some units, shape `unit entry`."""
        entries = self.sign * value.flatten()[self.entries[units]]
        return entries.masked_fill(~self.exists[units], -torch.inf)

    def crossings(
        self, positions: Tensor, values: Sequence[Sequence[Tensor]], workers: Workers
    ) -> Crossings:
        """Follow the upper envelope of each window between knots where its choice differs.

        The maximum of affine functions is convex: an entry that is the largest at both ends of an
        interval is so between them.
        """
        (value,) = values
        choices = workers.each(lambda row: self.lines(row).argmax(1), value)

        def between(_: Tensor, k: int) -> list[tuple[Tensor, Tensor, Tensor]]:
            before, after = choices[k - 1], choices[k]
            units = (before != after).nonzero().flatten()
            if not len(units):
                return []
            start, end = (self.lines(value[i], units) for i in (k - 1, k))
            shares, which = _envelope(start, end, before[units], after[units])
            width = positions[k] - positions[k - 1]
            decided = torch.zeros_like(which, dtype=torch.bool)
            return [(positions[k - 1] + width * shares, units[which], decided)]

        return _joined(workers.each(between, value[1:], range(1, len(positions))), positions)

    def pattern(self, values: Sequence[Tensor]) -> bytes:
        """Return the place of the largest entry in each window."""
        return self.choices(values).cpu().numpy().tobytes()

    def num_choices(self, values: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """Return the sizes of the windows, without padding."""
        return self.exists.sum(1)

    def choices(self, values: Sequence[Tensor]) -> Tensor:
        """Return the place of the largest entry in each window."""
        return self.lines(values[0]).argmax(1).reshape(self.shape)

    def reads(self, values: Sequence[Tensor], units: Tensor) -> list[Tensor]:
        """Return the entries of the windows."""
        chosen = units.flatten()
        found = torch.zeros(values[0].numel(), dtype=torch.bool, device=units.device)
        found[self.entries[chosen][self.exists[chosen]]] = True
        return [found.reshape(values[0].shape)]

    def gaps(self, values: Sequence[Tensor]) -> Tensor:
        """Return how far every entry of each window is below the largest one."""
        lines = self.lines(values[0])
        gaps = lines.max(1, keepdim=True).values - lines
        # An entry is never overtaken by itself, nor by padding.
        gaps = gaps.scatter(1, lines.argmax(1, keepdim=True), torch.inf)
        return gaps.flatten()

    def gap_slopes(self, values: Sequence[Tensor], tangents: Sequence[Tensor]) -> Tensor:
        """Return the slopes of these gaps, with the largest entries held."""
        chosen = self.lines(values[0]).argmax(1, keepdim=True)
        lines = self.sign * tangents[0].flatten()[self.entries]
        return (lines.gather(1, chosen) - lines).masked_fill(~self.exists, 0).flatten()

    def gap_norms(self, values: Sequence[Tensor], norms: Sequence[Tensor]) -> Tensor:
        """Add the bounds of both entries."""
        chosen = self.lines(values[0]).argmax(1, keepdim=True)
        lines = norms[0].flatten()[self.entries]
        return (lines.gather(1, chosen) + lines).flatten()

    def gap_unit(self, index: int) -> int:
        """Return the window."""
        return index // self.entries.shape[1]

    def largest_by_unit(self, gaps: Tensor) -> Tensor:
        """Return the largest over the entries of each window."""
        return gaps.reshape(self.entries.shape).amax(1).reshape(self.shape)

    def open_rows(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the largest row in each window."""
        lines = rows[0].flatten()[self.entries].masked_fill(~self.exists, 0)
        return lines.amax(1).reshape(self.shape)

    def open_gain(self) -> Gain:
        """Return the root of the number of windows that an entry lies in, at most."""
        counts = torch.bincount(self.entries[self.exists])
        return Gain(sqrt(int(counts.max())))

    def jump(self) -> Tensor | float:
        """Return one: another entry takes the place of the largest."""
        return 1.0


def _joined(found: Sequence[Sequence[tuple[Tensor, Tensor, Tensor]]], knots: Tensor) -> Crossings:
    parts = [part for interval in found for part in interval]
    nothing = torch.empty(0, dtype=torch.long, device=knots.device)
    return Crossings(
        torch.cat([knots[:0], *(positions for positions, _, _ in parts)]),
        torch.cat([nothing, *(units for _, units, _ in parts)]),
        torch.cat([nothing.bool(), *(undecided for *_, undecided in parts)]),
    )


def _envelope(start: Tensor, end: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the upper envelopes of lines over [0, 1] change from one line to the next.

    Args:
        start: Values at 0, shape `window line`; minus infinity where there is no line.
        end: Values at 1.
        first: The line that is the largest at 0, one for each window.
        last: The line that is the largest at 1.

    Returns:
        The positions of all changes, and the window of each.
    """
    shares, which = [], []
    windows = torch.arange(len(start))
    now, reached = first.clone(), start.new_zeros(len(start))
    while len(windows):
        rows = torch.arange(len(windows))
        ahead = start[rows, now, None] - start
        behind = end[rows, now, None] - end
        # Only a line that is higher at the end overtakes; it is met where the gap is zero.
        overtakes = behind < 0
        meeting = ahead / (ahead - behind)
        meeting = torch.where(overtakes, meeting.clamp(0, 1), torch.inf)
        meeting = torch.maximum(meeting, reached[:, None])
        nearest = meeting.min(1, keepdim=True).values
        steepest = torch.where((meeting == nearest) & overtakes, -behind, -torch.inf).argmax(1)
        going_on = overtakes.any(1)
        # Of equal lines at the end the operation took another one: the change is there.
        switched = ~going_on & (now != last)
        shares += [nearest[going_on, 0], start.new_ones(int(switched.sum()))]
        which += [windows[going_on], windows[switched]]
        now, last, windows = steepest[going_on], last[going_on], windows[going_on]
        reached = nearest[going_on, 0]
        start, end = start[going_on], end[going_on]
    return torch.cat(shares), torch.cat(which)


def pooling_windows(
    shape: Sequence[int],
    starts: Sequence[Tensor],
    sizes: Sequence[Tensor],
    steps: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Return the windows of a pooling, as `EnvelopeBend` takes them.

    Args:
        shape: Of the input; its last axes are pooled.
        starts: For each pooled axis, where the window of each output index starts.
        sizes: For each pooled axis, how many entries the window of each output index has.
        steps: For each pooled axis, the distance of neighboring entries.
    """
    axes = len(starts)
    index = torch.arange(prod(shape[:-axes])).reshape(-1, *[1] * (2 * axes))
    exists = torch.ones_like(index, dtype=torch.bool)
    for axis in range(axes):
        size = shape[axis - axes]
        offsets = torch.arange(int(sizes[axis].max()))
        places = starts[axis][:, None] + steps[axis] * offsets
        inside = (offsets < sizes[axis][:, None]) & (places >= 0) & (places < size)
        along = [1] * (1 + 2 * axes)
        along[1 + axis], along[1 + axes + axis] = places.shape
        index = index * size + places.clamp(0, size - 1).reshape(along)
        exists = exists & inside.reshape(along)
    num_entries = prod(index.shape[1 + axes :])
    exists = exists.expand(index.shape)
    return index.reshape(-1, num_entries), exists.reshape(-1, num_entries)
