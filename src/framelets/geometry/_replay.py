"""Replay a recording as a linear operator: forward through the steps, or back through them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from framelets.core import LinearOperator
from framelets.geometry._steps import ChannelScale, Convolution, Scale, Step


@dataclass(frozen=True)
class Node:
    """A tensor of the recording that depends on the image."""

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    place: str


@dataclass(frozen=True)
class Link:
    """One step and the nodes that it joins."""

    inputs: tuple[int, ...]
    output: int
    step: Step
    name: str
    place: str


class Program:
    """Links in the order in which they ran, from source nodes to target nodes.

    Links that no target needs are left out; a channel scale is folded into the convolution before
    it; masks are applied in place where the value has no other reader.
    """

    def __init__(
        self,
        links: Sequence[Link],
        nodes: Sequence[Node],
        sources: Sequence[int],
        targets: Sequence[int],
    ) -> None:
        self.nodes = nodes
        self.sources = tuple(sources)
        self.targets = tuple(targets)
        self.links = _fold(_needed(links, self.sources, self.targets), self.targets)
        readers = _count_readers(self.links, self.targets)
        producers = {link.output: link.step for link in self.links}
        self._last_use = {i: k for k, link in enumerate(self.links) for i in link.inputs}
        self._in_place = {
            k
            for k, link in enumerate(self.links)
            if isinstance(link.step, Scale)
            and readers[link.inputs[0]] == 1
            and link.inputs[0] in producers
            and producers[link.inputs[0]].allocates
            and _keeps_type(link, nodes)
        }

    def forward(self, values: Sequence[Tensor], constants: bool = False) -> list[Tensor]:
        """Push values from the sources to the targets, with the constants or without."""
        held: dict[int, Tensor] = dict(zip(self.sources, values, strict=True))
        kept = set(self.targets)
        for k, link in enumerate(self.links):
            inputs = [held[i] for i in link.inputs]
            if k in self._in_place and isinstance(link.step, Scale):
                result = link.step.forward(*inputs, in_place=not constants)
            else:
                result = link.step.forward(*inputs)
            if constants and link.step.constant is not None:
                result = result + link.step.constant
            held[link.output] = result
            for i in link.inputs:
                if self._last_use[i] == k and i not in kept:
                    held.pop(i, None)
        return [self._value(held, target, values[0]) for target in self.targets]

    def adjoint(self, cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Pull cotangents back from the targets to the sources."""
        held: dict[int, Tensor] = {}
        owned: set[int] = set()
        for target, cotangent in zip(self.targets, cotangents, strict=True):
            held[target] = held[target] + cotangent if target in held else cotangent
        for link in reversed(self.links):
            cotangent = held[link.output]
            if link.output not in self.sources:
                del held[link.output]
            mine = link.output in owned and link.output not in self.sources
            if isinstance(link.step, Scale) and mine and _keeps_type(link, self.nodes):
                pulled = link.step.adjoint(cotangent, in_place=True)
            else:
                pulled = link.step.adjoint(cotangent)
            for i, value in zip(link.inputs, pulled, strict=True):
                if i not in held:
                    held[i] = value
                    if link.step.adjoint_allocates:
                        owned.add(i)
                elif i in owned:
                    held[i] = held[i].add_(value)
                else:
                    held[i] = held[i] + value
                    owned.add(i)
        return [self._value(held, source, cotangents[0]) for source in self.sources]

    def _value(self, held: dict[int, Tensor], index: int, like: Tensor) -> Tensor:
        if index in held:
            return held[index]
        node = self.nodes[index]
        return torch.zeros(node.shape, dtype=node.dtype, device=like.device)


class ReplayedMap(LinearOperator):
    """A recorded network, or a part of it, as a linear operator on one sample.

    A sample is what the network takes without its batch axis. Coefficients, the values at the cut
    between analysis and synthesis, are one vector; complex ones enter as pairs of reals where the
    cut holds both kinds. Vectors of a batch are replayed together, in chunks that keep to the
    memory limit.

    Attributes:
        input_dtype: Type of an input: the one in which the network was recorded.
        output_dtype: Type of an output.
        device: Where the recording lives.
    """

    def __init__(
        self,
        program: Program,
        input_shape: tuple[int, ...] | None,
        output_shape: tuple[int, ...] | None,
        *,
        real_linear: bool,
        chunk: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        self._program = program
        nodes = program.nodes
        self._sources = [nodes[i] for i in program.sources]
        self._targets = [nodes[i] for i in program.targets]
        self._flat_input = input_shape is None
        self._flat_output = output_shape is None
        self.input_shape: tuple[int, ...] = input_shape or (_length(self._sources),)
        self.output_shape: tuple[int, ...] = output_shape or (_length(self._targets),)
        self.input_dtype = _common_dtype(self._sources)
        self.output_dtype = _common_dtype(self._targets)
        self.real_linear = real_linear
        self._chunk = chunk
        self.device = device

    def forward(self, x: Tensor) -> Tensor:
        """Apply the linear map to samples of shape `*batch *input_shape`."""
        return self._batched(x, self.input_shape, self.output_shape, self._push, "x")

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint to samples of shape `*batch *output_shape`."""
        return self._batched(y, self.output_shape, self.input_shape, self._pull, "y")

    def _push(self, x: Tensor) -> Tensor:
        values = _split(x, self._sources) if self._flat_input else [_as_node(x, self._sources[0])]
        results = self._program.forward(values)
        if self._flat_output:
            return _join(results, self._targets, self.output_dtype)
        return results[0].reshape(self.output_shape)

    def _pull(self, y: Tensor) -> Tensor:
        values = _split(y, self._targets) if self._flat_output else [_as_node(y, self._targets[0])]
        results = self._program.adjoint(values)
        if self._flat_input:
            return _join(results, self._sources, self.input_dtype)
        return results[0].reshape(self.input_shape)

    def _batched(
        self,
        x: Tensor,
        shape: tuple[int, ...],
        result_shape: tuple[int, ...],
        apply: Callable[[Tensor], Tensor],
        name: str,
    ) -> Tensor:
        wanted = self.input_dtype if name == "x" else self.output_dtype
        if tuple(x.shape[x.ndim - len(shape) :]) != tuple(shape):
            raise ValueError(
                f"{name} must have shape (*batch, {', '.join(map(str, shape))}), "
                f"got {tuple(x.shape)}"
            )
        if x.dtype != wanted:
            raise TypeError(
                f"{name} must be {wanted}, the type in which the network was recorded, "
                f"got {x.dtype}; convert it, or record with another type"
            )
        batch = x.shape[: x.ndim - len(shape)]
        flat = x.reshape(-1, *shape)
        if flat.ndim == 4:
            flat = flat.contiguous(memory_format=torch.channels_last)
        if len(flat) == 1:
            return apply(flat[0]).reshape(*batch, *result_shape)
        if len(flat) == 0:
            return x.new_zeros(*batch, *result_shape)
        replay = torch.vmap(apply)
        # A few rare operations have no batched form; vmap then loops, and need not say so.
        torch._C._functorch._set_vmap_fallback_warning_enabled(False)  # type: ignore[attr-defined]
        try:
            parts = [replay(part) for part in torch.split(flat, self._chunk)]
        finally:
            torch._C._functorch._set_vmap_fallback_warning_enabled(True)  # type: ignore[attr-defined]
        result = parts[0] if len(parts) == 1 else torch.cat(parts)
        return result.reshape(*batch, *result_shape)


def _needed(links: Sequence[Link], sources: Iterable[int], targets: Iterable[int]) -> list[Link]:
    """Keep the links that lie on a way from a source to a target."""
    reached = set(sources)
    for link in links:
        if any(i in reached for i in link.inputs) and link.output not in sources:
            reached.add(link.output)
    wanted = set(targets)
    kept: list[Link] = []
    for link in reversed(links):
        if link.output in wanted and link.output in reached and link.output not in sources:
            kept.append(link)
            wanted.update(link.inputs)
    return kept[::-1]


def _count_readers(links: Sequence[Link], targets: Iterable[int]) -> dict[int, int]:
    readers: dict[int, int] = {}
    for index in [i for link in links for i in link.inputs] + list(targets):
        readers[index] = readers.get(index, 0) + 1
    return readers


def _fold(links: list[Link], targets: Iterable[int]) -> list[Link]:
    """Fold a channel scale (an evaluated batch norm) into the convolution that feeds it."""
    readers = _count_readers(links, targets)
    folded: list[Link] = []
    place: dict[int, int] = {}
    for link in links:
        before = folded[place[link.inputs[0]]] if link.inputs[0] in place else None
        if (
            isinstance(link.step, ChannelScale)
            and before is not None
            and isinstance(before.step, Convolution)
            and readers[before.output] == 1
        ):
            step = before.step.scaled(link.step.factor, link.step.constant)
            at = place[link.inputs[0]]
            folded[at] = Link(before.inputs, link.output, step, before.name, before.place)
            place[link.output] = at
        else:
            place[link.output] = len(folded)
            folded.append(link)
    return folded


def _keeps_type(link: Link, nodes: Sequence[Node]) -> bool:
    first, last = nodes[link.inputs[0]], nodes[link.output]
    return first.dtype == last.dtype and first.shape == last.shape


def _length(nodes: Sequence[Node]) -> int:
    pairs = _common_dtype(nodes).is_complex
    return sum(
        torch.Size(node.shape).numel() * (2 if node.dtype.is_complex and not pairs else 1)
        for node in nodes
    )


def _common_dtype(nodes: Sequence[Node]) -> torch.dtype:
    """The type of a vector of coefficients: complex only if every node is."""
    if all(node.dtype.is_complex for node in nodes):
        return nodes[0].dtype
    return next(node.dtype for node in nodes if not node.dtype.is_complex)


def _split(vector: Tensor, nodes: Sequence[Node]) -> list[Tensor]:
    values, start = [], 0
    for node in nodes:
        pairs = node.dtype.is_complex and not vector.is_complex()
        size = torch.Size(node.shape).numel() * (2 if pairs else 1)
        part = vector[start : start + size]
        start += size
        if pairs:
            part = torch.complex(*part.reshape(*node.shape, 2).unbind(-1))
        values.append(_as_node(part, node))
    return values


def _join(values: Sequence[Tensor], nodes: Sequence[Node], dtype: torch.dtype) -> Tensor:
    parts = []
    for value, node in zip(values, nodes, strict=True):
        pairs = node.dtype.is_complex and not dtype.is_complex
        parts.append((torch.view_as_real(value.resolve_conj()) if pairs else value).flatten())
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _as_node(value: Tensor, node: Node) -> Tensor:
    return value.reshape(node.shape)
