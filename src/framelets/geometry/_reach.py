"""Which units of a network, and which entries of its image, can reach one entry of the output."""

from dataclasses import dataclass

import torch
from torch import Tensor

from framelets.geometry._segment_walk import SegmentProgram


@dataclass(frozen=True)
class Reach:
    """What one entry of the output can depend on, whatever the image.

    Attributes:
        units: Of each operation that bends, a mask of the units that reach the entry.
        image: A mask of the entries of the image.
    """

    units: tuple[Tensor, ...]
    image: Tensor


def shapes_at_bends(program: SegmentProgram) -> list[list[Tensor]]:
    """Return the inputs of every bend at the recorded image."""
    values: list[list[Tensor]] = []
    program.visit(program.image, lambda _, inputs: values.append(inputs))
    return values


def reach_of(program: SegmentProgram, values: list[list[Tensor]], entry: int) -> Reach:
    """Follow one entry of the output back through the network.

    A linear step is followed by its adjoint, applied to random numbers where something is reached:
    what it gives is zero at an entry if and only if nothing that is reached reads the entry, but
    for a coincidence of probability zero. Units are passed whether they are on or off.

    Args:
        program: The network.
        values: The inputs of its bends, from `shapes_at_bends`.
        entry: Index into the flattened output.
    """
    generator = torch.Generator().manual_seed(0)
    reached: dict[int, Tensor] = {}

    def reach(index: int, mask: Tensor) -> None:
        reached[index] = reached[index] | mask if index in reached else mask

    first = torch.zeros(program.nodes[program.target].shape, dtype=torch.bool)
    first.view(-1)[entry] = True
    reach(program.target, first)
    units: dict[int, Tensor] = {}
    for link in reversed(program.links):
        mask = reached.pop(link.output, None)
        number = program.bend_of.get(link.output)
        if number is not None:
            bend = program.bends[number]
            units[number] = torch.zeros(bend.shape, dtype=torch.bool) if mask is None else mask
        if mask is None:
            continue
        if number is not None:
            pulled = bend.reads(values[number], mask)
        else:
            dtype = program.nodes[link.output].dtype
            noise = torch.randn(mask.shape, dtype=dtype, generator=generator)
            cotangent = (noise * mask).to(program.image.device)
            pulled = [part != 0 for part in link.step.adjoint(cotangent)]
        for index, part in zip(link.inputs, pulled, strict=True):
            reach(index, part.reshape(program.nodes[index].shape).cpu())
    nothing = torch.zeros(program.nodes[0].shape, dtype=torch.bool)
    return Reach(
        tuple(units[number] for number in range(len(program.bends))), reached.get(0, nothing)
    )
