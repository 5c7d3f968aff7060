"""The images of a recording and what lies between them.

The recording is read as a graph whose nodes are images (batch, channel, space); what leaves that
form in between, such as a pixel shuffle written with views, counts as one edge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from framelets.geometry._recording import NO_MODULE, Recording
from framelets.geometry._replay import Link, Node
from framelets.geometry._steps import Convolution, Scale

_ANOTHER_ORDER = {"permute", "transpose", "t", "view", "_unsafe_view", "reshape"}
_WHOLE_AXES = {"mean", "sum", "amax", "amin", "max", "min", "linalg_vector_norm"}
_CHANNEL_BY_CHANNEL = ("avg_pool", "max_pool", "max_unpool", "upsample_", "_upsample_", "pad")
_PASSING = {"add", "sub", "neg", "slice", "narrow", "view", "_unsafe_view", "gather", "scatter"}
_SMOOTHING = ("pad", "avg_pool")


@dataclass(frozen=True)
class Edge:
    """Links from one image to another."""

    source: int
    target: int
    links: tuple[Link, ...]


def images_of(recording: Recording, links: Sequence[Link]) -> set[int]:
    """Return the nodes whose axes are batch, channel and space, as those of the input are.

    Tokens, attention maps, channels-last copies and averages over the whole image are not; what is
    brought back to a size of space that images have had is.
    """
    images = {0}
    sizes = {recording.nodes[0].shape[2:]}
    for link in links:
        shape = recording.nodes[link.output].shape
        if len(shape) != len(recording.nodes[0].shape) or link.name in _WHOLE_AXES:
            continue
        moved = link.name in _ANOTHER_ORDER or not any(i in images for i in link.inputs)
        if not moved or shape[2:] in sizes:
            images.add(link.output)
            sizes.add(shape[2:])
    return images


def num_pixels(node: Node) -> int:
    """Count the pixels of an image."""
    return torch.Size(node.shape[2:]).numel()


class ImageGraph:
    """Images of a recording and what lies between them."""

    def __init__(self, recording: Recording, links: Sequence[Link]) -> None:
        self.nodes = recording.nodes
        self.links = links
        self.images = images_of(recording, links)
        self.producer = {link.output: link for link in links}
        self.readers: dict[int, list[Link]] = {}
        for link in links:
            for i in dict.fromkeys(link.inputs):
                self.readers.setdefault(i, []).append(link)
        self.by_source: dict[int, list[Edge]] = {}
        for edge in self._edges():
            self.by_source.setdefault(edge.source, []).append(edge)

    def _edges(self) -> Iterator[Edge]:
        for link in self.links:
            if link.output not in self.images:
                continue
            used: dict[int, Link] = {}
            sources, pending = set(), [link]
            while pending:
                current = pending.pop()
                used[current.output] = current
                for i in current.inputs:
                    if i in self.images:
                        sources.add(i)
                    elif i not in used:
                        pending.append(self.producer[i])
            if len(sources) == 1:
                yield Edge(sources.pop(), link.output, tuple(used[k] for k in sorted(used)))

    def place_before(self, i: int, place: str) -> str:
        """Return the place of the nearest operation before a node that is not at a given place."""
        while i in self.producer and self.producer[i].place in (place, NO_MODULE):
            i = max(self.producer[i].inputs)
        return self.nodes[i].place

    def shape(self, i: int) -> tuple[int, ...]:
        return self.nodes[i].shape[1:]

    def coarsens(self, fine: int, coarse: int) -> bool:
        """Tell whether one image is coarser: an axis halved or more, and none longer."""
        pairs = list(zip(self.shape(fine)[1:], self.shape(coarse)[1:], strict=True))
        halved = any(n > 1 and 2 * m <= n + 1 for n, m in pairs)
        return halved and all(m <= n for n, m in pairs) and not self._crops(fine, coarse)

    def _crops(self, fine: int, coarse: int) -> bool:
        """Tell whether a coarser image is a part of the finer one."""
        link = self.producer.get(coarse)
        if link is None or link.name not in ("slice", "narrow") or link.inputs != (fine,):
            return False
        for axis, size in enumerate(self.nodes[fine].shape):
            ramp = torch.arange(size).reshape(-1, *[1] * (len(self.nodes[fine].shape) - axis - 1))
            kept = link.step.forward(ramp.expand(self.nodes[fine].shape).to(torch.float64))
            if kept.shape[axis] < size and bool((kept.diff(dim=axis) > 1).any()):
                return False
        return True

    def goes_down(self, edge: Edge) -> bool:
        """Tell whether something at the low resolution reads the result of a pooling."""
        readers = self.readers.get(edge.target, [])
        rising = {
            link.output
            for out in self.by_source.get(edge.target, [])
            if self.coarsens(out.target, out.source)
            for link in out.links
        }
        return not readers or any(link.output not in rising for link in readers)

    def comes_straight(self, i: int) -> bool:
        """Tell whether a coarse image is made of finer ones by resampling alone."""
        ends, _, _ = self.trace([i], None)
        return all(self.coarsens(end, i) for end in ends)

    def trace(self, starts: Sequence[int], stop: int | None) -> tuple[list[int], set[int], bool]:
        """Follow nodes back through operations on every channel by itself.

        Returns:
            Where that ends, apart from `stop`; what was passed; and whether `stop` was reached
            without a change of size.
        """
        size = None if stop is None else self.nodes[stop].shape[2:]
        ends: set[int] = set()
        seen: set[tuple[int, bool]] = set()
        direct = False
        pending = [(i, True) for i in starts]
        while pending:
            i, same_size = pending.pop()
            same_size = same_size and self.nodes[i].shape[2:] == size
            if i == stop:
                direct = direct or same_size
                continue
            if (i, same_size) in seen:
                continue
            seen.add((i, same_size))
            link = self.producer.get(i)
            if link is not None and _passes(link):
                pending += [(k, same_size) for k in link.inputs]
            else:
                ends.add(i)
        return sorted(ends), {i for i, _ in seen}, direct

    def after(self, starts: Sequence[int]) -> set[int]:
        """Return what depends on some nodes, with them."""
        reached = set(starts)
        for link in self.links:
            if not reached.isdisjoint(link.inputs):
                reached.add(link.output)
        return reached

    def smoothed(self, edge: Edge) -> Edge:
        """Extend a rise by the padding and averaging behind it, if there is averaging."""
        links, target, last = list(edge.links), edge.target, edge
        while len(self.readers.get(target, [])) == 1:
            (link,) = self.readers[target]
            if not any(word in link.name for word in _SMOOTHING) or len(link.inputs) > 1:
                break
            if self.coarsens(target, link.output):
                break
            links.append(link)
            target = link.output
            if "avg_pool" in link.name:
                last = Edge(edge.source, target, tuple(links))
        return last


def _passes(link: Link) -> bool:
    """Tell whether an operation acts on every channel by itself, in a way known beforehand."""
    if link.name in _PASSING or any(part in link.name for part in _CHANNEL_BY_CHANNEL):
        return True
    step = link.step
    if isinstance(step, Convolution):
        return is_depthwise(step) and any(s > 1 for s in step.options[0])
    return isinstance(step, Scale) and step.factor.numel() == 1


def is_depthwise(convolution: Convolution) -> bool:
    """Tell whether a convolution filters every channel by itself."""
    outputs, inputs = convolution.weight.shape[:2]
    return bool(inputs == 1 and outputs == convolution.groups)
