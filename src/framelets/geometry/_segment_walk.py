"""Send a segment through a network, layer by layer, and find every boundary that it crosses.

On a segment every tensor of a piecewise-linear network is a piecewise-linear curve of one number t.
A curve is kept by its values at knots, with the promise that it is affine between neighboring
knots. The promise holds for the input x + t v with its two ends as knots, and every operation
keeps it:

- A linear operation maps affine to affine: it is applied at all knots at once. One that reads
  several curves reads them at the knots of all, where missing values are interpolated, which is
  exact.
- An operation that bends is affine in t wherever none of its units switches. The quantities whose
  signs decide that are affine between knots, so that all switches of all units follow from the
  values at the knots alone (`_segment_bends`). They become knots; values there are interpolated
  before the operation is applied.

So every boundary is found, at the layer that draws it, and an earlier layer is never evaluated at
the knots of a later one: the cost is at most one pass through the network a breakpoint.

Memory grows with the number of knots. Where it would pass the limit, the segment is cut off between
two knots, and all curves with it: nothing that was computed on this side of the cut is lost.

Rounding: positions are exact up to the rounding of double precision in the values, divided by the
slope of the unit that switches; switches nearer to each other than `RESOLUTION` are one knot.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from framelets.geometry._replay import Link, Node, Program
from framelets.geometry._segment_bends import Bend, Crossings
from framelets.geometry._segment_convolution import convolve
from framelets.geometry._segment_curve import Curve, together
from framelets.geometry._segment_rules import BendFinder
from framelets.geometry._segment_workers import Workers
from framelets.geometry._steps import Convolution
from framelets.geometry.linearize import record

RESOLUTION = 2.0**-48
"""Positions on a segment of length one that lie nearer together than this are taken for one."""


@dataclass(frozen=True)
class Stretch:
    """A part of a segment: the output's curve, and what switches where.

    Attributes:
        curve: The output at every knot, the two ends included.
        positions: Where each switch lies, ascending.
        layers: Which operation switches, as an index into `SegmentProgram.bends`.
        units: Which of its units.
        num_undecided: Switches of units that are zero within rounding on both sides.
    """

    curve: Curve
    positions: Tensor
    layers: Tensor
    units: Tensor
    num_undecided: int

    @property
    def start(self) -> float:
        """Where it starts."""
        return float(self.curve.positions[0])

    @property
    def end(self) -> float:
        """Where it ends; before the end that was asked for, if memory did not suffice."""
        return float(self.curve.positions[-1])


class SegmentProgram:
    """A network in double precision as a list of linear operations and bends.

    Attributes:
        image: The image, with its batch axis of one, in double precision.
        output: The network's output there.
        recording: What was recorded there.
        bends: All operations that bend, in the order in which they ran.
        depths: For each of them, how many bends there are on the longest way from the image to its
            output, itself included.
        bytes_per_knot: The most memory that one knot takes.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[Tensor], Tensor],
        image: Tensor,
        forward: Callable[..., Tensor] | None = None,
    ) -> None:
        """Record the network at the image.

        Raises:
            ValueError: If it is not piecewise linear, or bends in a way that has no rule.
        """
        self.network, self.image = in_double(network, image)
        self._forward = forward
        finder = BendFinder()
        recording, self.output, self.target = record(
            self.network, self.image, forward, finder.rule_for
        )
        finder.refuse_others(recording)
        self.recording = recording
        self.nodes: list[Node] = recording.nodes
        frozen = [recording.frozen[i] for i in sorted(recording.frozen)]
        self.links: list[Link] = Program(frozen, self.nodes, [0], [self.target]).links
        for link in self.links:
            if link.output in recording.smooth or (
                recording.tangent[link.output].step is not link.step
                and not isinstance(link.step, Convolution)  # a folded normalization
            ):
                raise ValueError(_curved(link))
        made = {0, *(link.output for link in self.links)}
        if self.target not in made or any(i not in made for k in self.links for i in k.inputs):
            reasons = [r for i, r in recording.refusals.items() if i not in recording.frozen]
            raise ValueError(
                f"{reasons[0] if reasons else 'the output does not depend on the image'}; the "
                "network is not piecewise linear there"
            )
        numbers = [link.output for link in self.links if link.output in finder.bends]
        self.bends: list[Bend] = [finder.bends[i] for i in numbers]
        self.bend_of = {node: number for number, node in enumerate(numbers)}
        self.last_use = {i: k for k, link in enumerate(self.links) for i in link.inputs}
        self.depths = self._depths()
        self.bytes_per_knot = self._bytes_per_knot()

    def run(self, image: Tensor) -> Tensor:
        """Run the network itself, in double precision."""
        with torch.no_grad():
            given = image.clone()
            return self._forward(self.network, given) if self._forward else self.network(given)

    def patterns(self, image: Tensor) -> list[bytes]:
        """Return the pattern of every bend at an image in double precision."""
        found: list[bytes] = []
        self.visit(image, lambda number, values: found.append(self.bends[number].pattern(values)))
        return found

    def visit(self, image: Tensor, look: Callable[[int, list[Tensor]], object]) -> Tensor:
        """Run at an image in double precision and show the inputs of every bend.

        Args:
            image: The image, with its batch axis of one.
            look: Called with the number of each bend, in order, and its inputs.

        Returns:
            The output.
        """
        held = {0: image}
        for k, link in enumerate(self.links):
            values = [held[i] for i in link.inputs]
            number = self.bend_of.get(link.output)
            if number is None:
                held[link.output] = self._linear(link, [[value] for value in values], Workers())[0]
            else:
                look(number, values)
                held[link.output] = self.bends[number].apply(*values)
            self.forget(held, k)
        return held[self.target]

    def forget(self, held: dict[int, Any], k: int) -> None:
        """Drop what no operation after the k-th reads."""
        for i in self.links[k].inputs:
            if self.last_use[i] == k and i != self.target:
                held.pop(i, None)

    def walk(self, direction: Tensor, start: float, end: float, max_knots: int) -> Stretch:
        """Follow the segment image + t direction from one t to another, or as far as is allowed.

        Args:
            direction: In double precision, of the image's shape.
            start: First t.
            end: Last t, if so many knots suffice.
            max_knots: Most knots, the two ends included.
        """
        with Workers() as workers:
            return self._walk(direction, start, end, max_knots, workers)

    def _walk(
        self, direction: Tensor, start: float, end: float, max_knots: int, workers: Workers
    ) -> Stretch:
        knots = torch.tensor([start, end], dtype=torch.float64, device=self.image.device)
        ends = [self.image + t * direction for t in (start, end)]
        held = {0: Curve(knots, ends)}
        switches: list[tuple[int, Crossings]] = []
        for k, link in enumerate(self.links):
            positions, values = together([held[i] for i in link.inputs])
            number = self.bend_of.get(link.output)
            if number is None:
                result = self._linear(link, values, workers)
            else:
                bend = self.bends[number]
                curves = [Curve(positions, value) for value in values]
                found = bend.crossings(positions, values, workers)
                places = _snap(found.positions, knots)
                switches.append((number, replace(found, positions=places)))
                knots = torch.unique(torch.cat([knots, places]))
                positions = torch.unique(torch.cat([positions, places]))
                if len(knots) > max_knots:
                    end = _cut(knots, max_knots)
                    knots, positions = (_until(p, end) for p in (knots, positions))
                    held = {i: curve.until(end) for i, curve in held.items()}
                rows = [curve.at(positions) for curve in curves]
                result = workers.each(bend.apply, *rows)
                del rows
                del curves
            held[link.output] = Curve(positions, result)
            del values
            self.forget(held, k)
        return _stretch(held[self.target], switches)

    def _linear(
        self, link: Link, values: Sequence[Sequence[Tensor]], workers: Workers
    ) -> list[Tensor]:
        step = link.step
        if isinstance(step, Convolution):
            return convolve(step, values[0], workers)
        results = workers.each(step.forward, *values)
        if step.constant is None:
            return results
        constant = step.constant.to(results[0].dtype)
        return [result + constant for result in results]

    def _depths(self) -> list[int]:
        depth = {0: 0}
        for link in self.links:
            depth[link.output] = max(depth[i] for i in link.inputs)
            depth[link.output] += link.output in self.bend_of
        return [depth[node] for node in self.bend_of]

    def _bytes_per_knot(self) -> int:
        sizes = [
            torch.Size(node.shape).numel() * torch.empty(0, dtype=node.dtype).element_size()
            for node in self.nodes
        ]
        live, most = {0}, 0
        for k, link in enumerate(self.links):
            live.add(link.output)
            most = max(most, sum(sizes[i] for i in live))
            live -= {i for i in link.inputs if self.last_use[i] == k}
        return most


def in_double(
    network: nn.Module | Callable[[Tensor], Tensor], image: Tensor
) -> tuple[nn.Module | Callable[[Tensor], Tensor], Tensor]:
    """Return a copy of a network and its image with the same numbers in double precision.

    Raises:
        TypeError: If the network is a plain function, which cannot be converted, and the image is
            not in double precision.
    """
    dtype = torch.complex128 if image.is_complex() else torch.float64
    if isinstance(network, nn.Module):
        network = deepcopy(network)._apply(_doubled)
    elif image.dtype != dtype:
        raise TypeError(
            f"image must be {dtype} for a network that is a plain function, got {image.dtype}; "
            "convert the image and the function's constants, or pass an nn.Module"
        )
    return network, image.detach().to(dtype)


def _doubled(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def _curved(link: Link) -> str:
    return (
        f"operation {link.name!r} in {link.place} is not piecewise linear, so that what a network "
        "does along a segment is not either; normalizations must be evaluated batch norms, "
        "activations relu, leaky_relu, abs, clamp, maximum or max pooling"
    )


def _snap(positions: Tensor, knots: Tensor) -> Tensor:
    """Move positions that lie within the resolution of a knot, or of each other, together."""
    if not len(positions):
        return positions
    ordered, order = torch.sort(positions)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered.diff() > RESOLUTION
    first = ordered[starts]
    after = torch.searchsorted(knots, first).clamp(max=len(knots) - 1)
    for nearest in (knots[after], knots[(after - 1).clamp(min=0)]):
        first = torch.where((first - nearest).abs() <= RESOLUTION, nearest, first)
    snapped = torch.empty_like(positions)
    snapped[order] = first[starts.cumsum(0) - 1]
    return snapped


def _cut(knots: Tensor, max_knots: int) -> float:
    """Return where to end, so that at most `max_knots` are left: in a wide gap near the last."""
    first = (3 * max_knots) // 4 - 1
    gaps = knots.diff()[first : max_knots - 1]
    widest = first + int(gaps.argmax())
    return float((knots[widest] + knots[widest + 1]) / 2)


def _until(positions: Tensor, end: float) -> Tensor:
    return torch.cat([positions[positions < end], positions.new_tensor([end])])


def _stretch(curve: Curve, switches: Sequence[tuple[int, Crossings]]) -> Stretch:
    nothing = torch.empty(0, dtype=torch.long, device=curve.positions.device)
    positions = torch.cat([curve.positions[:0], *(found.positions for _, found in switches)])
    units = torch.cat([nothing, *(found.units for _, found in switches)])
    undecided = torch.cat([nothing.bool(), *(found.undecided for _, found in switches)])
    layers = [torch.full_like(found.units, layer) for layer, found in switches]
    order = torch.argsort(positions, stable=True)
    order = order[positions[order] <= curve.positions[-1]]  # some may lie beyond a later cut
    return Stretch(
        curve,
        positions[order],
        torch.cat([nothing, *layers])[order],
        units[order],
        int(undecided[order].sum()),
    )
