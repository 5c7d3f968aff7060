"""The linear region around an image: how far every unit is from switching, and how fast it moves.

Inside the region every gap (`Bend.gaps`) is affine in the image, g_j + <r_j, d>, so that the region
is a polytope, and the distance from the image to its surface is the least |g_j| / |r_j|.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from framelets.geometry._replay import Program
from framelets.geometry._segment_convolution import convolve
from framelets.geometry._segment_norms import StepNorms
from framelets.geometry._segment_walk import SegmentProgram
from framelets.geometry._steps import Convolution


class Region:
    """The region of an image in double precision.

    Attributes:
        program: The network, recorded at the image.
        gaps: Of each bend, its gaps at the image.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[Tensor], Tensor],
        image: Tensor,
        forward: Callable[..., Tensor] | None = None,
    ) -> None:
        """Run the network at the image."""
        self.program = SegmentProgram(network, image, forward)
        self._values: list[list[Tensor]] = []
        self.program.visit(self.program.image, lambda _, values: self._values.append(values))
        self.gaps = [
            bend.gaps(values) for bend, values in zip(self.program.bends, self._values, strict=True)
        ]

    def slopes(self, direction: Tensor) -> list[Tensor]:
        """Return the derivative of all gaps along a direction: <r_j, direction>."""
        program = self.program
        held, found = {0: direction}, []
        for k, link in enumerate(program.links):
            tangents = [held[i] for i in link.inputs]
            number = program.bend_of.get(link.output)
            if number is not None:
                found.append(program.bends[number].gap_slopes(self._values[number], tangents))
            if isinstance(link.step, Convolution):
                held[link.output] = convolve(link.step, tangents, constant=False)[0]
            else:
                held[link.output] = link.step.forward(*tangents)
            program.forget(held, k)
        return found

    def gradient(self, number: int, index: int) -> Tensor:
        """Return r_j of one gap of one bend, in the image's shape."""
        program = self.program
        values = self._values[number]
        zeros = [torch.zeros_like(value, requires_grad=True) for value in values]
        gap = program.bends[number].gap_slopes(values, zeros)[index]
        pulled = torch.autograd.grad(gap, zeros)
        node = list(program.bend_of)[number]
        (inputs,) = (link.inputs for link in program.links if link.output == node)
        steps = Program(program.links, program.nodes, [0], inputs)
        (gradient,) = steps.adjoint(pulled)
        return gradient.detach()

    def gradient_bounds(self) -> list[Tensor]:
        """Bound |r_j| of every gap from above, by bounds of the rows of every operation."""
        program = self.program
        norms = StepNorms(program.nodes, program.image)
        found = []
        for k, link in enumerate(program.links):
            number = program.bend_of.get(link.output)
            if number is not None:
                found.append(self.gap_norms(number, [norms.rows[i] for i in link.inputs]))
            norms.pass_through(link)
            program.forget(norms.rows, k)
        return found

    def gap_norms(self, number: int, rows: Sequence[Tensor]) -> Tensor:
        """Bound |r_j| of the gaps of one bend, given bounds of the rows of its inputs."""
        return self.program.bends[number].gap_norms(self._values[number], rows)

    def first_switch(self, slopes: list[Tensor]) -> tuple[float, int, int]:
        """Return where a unit first switches along a direction with these slopes.

        Returns:
            The multiple of the direction, the bend and the gap; infinity if none ever does.
        """
        nearest, where = float("inf"), (-1, -1)
        for number, steps in enumerate(self.switch_distances(slopes)):
            if len(steps) and float(steps.min()) < nearest:
                index = int(steps.argmin())
                nearest, where = float(steps[index]), (number, index)
        return nearest, *where

    def switch_distances(self, slopes: list[Tensor]) -> list[Tensor]:
        """Return where each gap of each bend changes its side, if it keeps its slope."""
        found = []
        for bend, gaps, slope in zip(self.program.bends, self.gaps, slopes, strict=True):
            on = gaps >= 0 if bend.on_at_zero else gaps > 0
            moves = torch.where(on, slope < 0, slope > 0)
            found.append(torch.where(moves, gaps.abs() / slope.abs(), torch.inf))
        return found
