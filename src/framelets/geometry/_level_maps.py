"""Where a recorded network lowers the resolution, and what it does there, as linear maps.

A level is an image of the recording with operations on it that give coarser images. Where the
network joins the levels below with the skip again (a concatenation or a sum), the way there is
followed back through operations that act on every channel by itself: resampling, padding, sums,
numbers. What lies beyond them, and came from below, is what a synthesis is given.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from framelets.core import LinearOperator
from framelets.geometry._image_graph import Edge, ImageGraph
from framelets.geometry._recording import NO_MODULE, Recording
from framelets.geometry._replay import Link
from framelets.geometry._steps import Convolution, Step

MakeOperator = Callable[[Sequence[Link], Sequence[int], Sequence[int]], LinearOperator]
"""From links, source nodes and target nodes to the operator between their flattened values."""

_JOINS = {"cat", "add", "sub"}


@dataclass(frozen=True, eq=False)
class Resampling:
    """One operation that changes the resolution.

    Attributes:
        name: Name of the operation; "rearrangement" if it is made of views.
        place: Path of the module that runs it.
        operator: The operation from flattened to flattened image.
        step: Its step, or None if it has several.
        before: Shape of the image before it, without batch axis.
        after: Shape after it.
        goes_down: False for a subband that stays beside the levels below.
    """

    name: str
    place: str
    operator: LinearOperator
    step: Step | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    goes_down: bool = True


@dataclass(frozen=True, eq=False)
class Join:
    """What reaches the place where skip and levels below meet, channel by channel.

    Attributes:
        operator: From the level's image and the tensors from below, flattened one after the other,
            to the branches that have the image's shape.
        below: Shapes of the tensors from below.
        num_branches: How many branches there are.
    """

    operator: LinearOperator
    below: tuple[tuple[int, ...], ...]
    num_branches: int


@dataclass(frozen=True, eq=False)
class LevelMaps:
    """One level of a recorded network.

    Attributes:
        name: Path of the module that pools; functions called in between are told by what they
            follow.
        shape: Shape of the image that is pooled, without batch axis.
        skip: True if the image is also read at full resolution.
        poolings: The operations on it that lower the resolution, in the order in which they ran.
        join: Where it meets again what came from below; None if that was not found.
    """

    name: str
    shape: tuple[int, ...]
    skip: bool
    poolings: tuple[Resampling, ...]
    join: Join | None


def find_levels(
    recording: Recording, links: Sequence[Link], make_operator: MakeOperator
) -> list[LevelMaps]:
    """Find every image that is read by an operation with a coarser result."""
    graph = ImageGraph(recording, links)
    found = []
    for i, edges in graph.by_source.items():
        coarser = [edge for edge in edges if graph.coarsens(edge.source, edge.target)]
        if not coarser:
            continue
        poolings = tuple(
            _resampling(graph, edge, make_operator, graph.goes_down(edge)) for edge in coarser
        )
        reading = {link.output for edge in coarser for link in edge.links}
        skip = any(link.output not in reading for link in graph.readers[i])
        join = _find_join(graph, i, [edge.target for edge in coarser], make_operator)
        level = LevelMaps(poolings[0].place, graph.shape(i), skip, poolings, join)
        found.append((coarser[0].target, level, graph.place_before(i, poolings[0].place)))
    found.sort(key=lambda f: f[0])
    first = [replace(level.poolings[0], place=_around(level.poolings)) for _, level, _ in found]
    names = _names([(one, before) for one, (_, _, before) in zip(first, found, strict=True)])
    return [replace(level, name=name) for (_, level, _), name in zip(found, names, strict=True)]


def find_rises(
    recording: Recording, links: Sequence[Link], make_operator: MakeOperator
) -> list[tuple[Resampling, Convolution | None]]:
    """Find every operation that raises the resolution of what came from below.

    Subbands that an encoder hands to its decoder are left out. A rise is followed through padding
    and averaging right behind it.

    Returns:
        The operations, and for a rearrangement the convolution right before it.
    """
    graph = ImageGraph(recording, links)
    found = []
    for edges in graph.by_source.values():
        for edge in edges:
            if not graph.coarsens(edge.target, edge.source) or graph.comes_straight(edge.source):
                continue
            behind = graph.smoothed(edge)
            before = graph.producer[edge.source].step if edge.source in graph.producer else None
            convolution = before if isinstance(before, Convolution) else None
            rise = _resampling(graph, behind, make_operator, goes_down=False)
            found.append(
                (edge.target, rise, convolution, graph.place_before(edge.source, rise.place))
            )
    found.sort(key=lambda f: f[0])
    names = _names([(rise, before) for _, rise, _, before in found])
    return [
        (replace(rise, place=name), convolution)
        for (_, rise, convolution, _), name in zip(found, names, strict=True)
    ]


def _around(poolings: Sequence[Resampling]) -> str:
    """Return the path of the smallest module around the poolings that go down."""
    paths = [pooling.place.split(".") for pooling in poolings if pooling.goes_down]
    common = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    return ".".join(common) or poolings[0].place


def _names(found: Sequence[tuple[Resampling, str]]) -> list[str]:
    """Name operations by their modules, or by what they follow where a module has several."""
    places = Counter(resampling.place for resampling, _ in found)
    return [
        f"{resampling.name} after {before}"
        if places[resampling.place] > 1 or resampling.place == NO_MODULE
        else resampling.place
        for resampling, before in found
    ]


def _find_join(
    graph: ImageGraph, image: int, pooled: Sequence[int], make_operator: MakeOperator
) -> Join | None:
    below = graph.after(pooled)
    for link in graph.links:
        if link.name not in _JOINS or link.output not in below:
            continue
        if graph.nodes[link.output].shape[2:] != graph.nodes[image].shape[2:]:
            continue
        ends, passed, direct = graph.trace(link.inputs, image)
        given = [i for i in ends if i in below]
        if not direct or not (given or passed.intersection(pooled)):
            continue
        branches = list(link.inputs) if link.name == "cat" else [link.output]
        branches = [i for i in branches if graph.shape(i) == graph.shape(image)]
        if not branches:
            return None
        rest = [i for i in ends if i not in below]
        operator = make_operator(graph.links, [image, *given, *rest], branches)
        return Join(operator, tuple(graph.shape(i) for i in given), len(branches))
    return None


def _resampling(
    graph: ImageGraph, edge: Edge, make_operator: MakeOperator, goes_down: bool
) -> Resampling:
    single = len(edge.links) == 1
    return Resampling(
        edge.links[0].name if single else "rearrangement",
        edge.links[0].place,
        make_operator(edge.links, [edge.source], [edge.target]),
        edge.links[0].step if single else None,
        graph.shape(edge.source),
        graph.shape(edge.target),
        goes_down,
    )
