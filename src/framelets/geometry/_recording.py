"""Record a network once, at one image, operation by operation.

A dispatch mode sees every tensor operation that the network runs, below modules, autograd and
composite functions, so that it does not matter how the network is written. Each operation on data
that depend on the image is handed to its rule (`_rules`), which turns it into linear steps at once:
activations are freed as in a plain forward pass, and only masks, indices and scales stay.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from framelets.core.linear_function import Apply, run_unobserved
from framelets.geometry._memory import WrittenMemory
from framelets.geometry._replay import Link, Node
from framelets.geometry._steps import MatchedMap, Step

NO_MODULE = "the network"
"""Place of an operation that no submodule runs."""


@dataclass(frozen=True)
class Switch:
    """What one operation chose at this image: a mask, or the index of each maximum."""

    place: str
    kind: str
    pattern: Tensor


class Recording:
    """What was recorded: nodes, and for each the link that makes it, frozen and tangent.

    Attributes:
        nodes: All tensors that depend on the image, in the order in which they arose.
        frozen: Links of the frozen map; a node without one cannot be used linearly.
        tangent: Links of the Jacobian.
        refusals: For a node without a frozen link, why.
        switches: Masks and selections, by place: the activation pattern.
        smooth: Nodes whose frozen link is their derivative, but not constant in a region.
        num_operations: How many operations touched data that depend on the image.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.frozen: dict[int, Link] = {}
        self.tangent: dict[int, Link] = {}
        self.refusals: dict[int, str] = {}
        self.factors: dict[int, int] = {}
        self.energies: set[int] = set()
        self.switches: list[Switch] = []
        self.smooth: set[int] = set()
        self.num_operations = 0


class Call:
    """One operation on recorded data, as its rule sees it.

    Attributes:
        overload: The name of its variant.
        name: The operation's name without overload and trailing underscore, such as "convolution".
        function: The operation, in the form that writes to none of its arguments.
        args: Its positional arguments; tensors hold what they held before the operation.
        kwargs: Its named arguments.
        result: What it returned.
        place: The path of the module that ran it.
    """

    def __init__(
        self,
        recorder: "Recorder",
        function: Any,  # noqa: ANN401
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.recorder = recorder
        self.name, self.function = _functional(function)
        self.overload: str = function._overloadname
        self.args = args
        self.kwargs = kwargs
        self.result: Any = None
        self.place = recorder.place

    @property
    def where(self) -> str:
        """The operation's name and where it stands in the network."""
        return f"operation {self.name!r} in {self.place}"

    def node(self, value: object) -> int | None:
        """Return the node of a tensor that depends on the image, or None."""
        return self.recorder.node_of(value) if isinstance(value, Tensor) else None

    def inputs(self, arguments: object = None) -> list[Tensor]:
        """Return the distinct tensors that depend on the image, among these arguments or all."""
        found: dict[int, Tensor] = {}
        for value in _tensors((self.args, self.kwargs) if arguments is None else arguments):
            if self.node(value) is not None:
                found[id(value)] = value
        return list(found.values())

    def applied(self, table: dict[int, Any]) -> Any:  # noqa: ANN401
        """Run the operation with some arguments (keyed by id) replaced."""
        args, kwargs = replace_tensors((self.args, self.kwargs), table)
        return self.function(*args, **kwargs)

    def emit(
        self,
        output: Tensor,
        inputs: list[Tensor],
        frozen: Step | None,
        tangent: Step | None = None,
        *,
        tangent_inputs: list[Tensor] | None = None,
        refusal: str = "",
        factor: int = 0,
        energy: bool = False,
        root: bool = False,
        smooth: bool = False,
    ) -> None:
        """Make `output` a node: its frozen link, and its tangent link where that differs.

        Args:
            output: A tensor that the operation returned.
            inputs: The tensors that the frozen step reads.
            frozen: The frozen step, or None if the operation has none.
            tangent: The derivative, or None if it is the frozen step.
            tangent_inputs: The tensors that the derivative reads, if not the same.
            refusal: Why there is no frozen step.
            factor: Above zero if a product may freeze this tensor; of two, the higher is frozen.
            energy: True if the tensor is a sum of squares, which only a root makes linear again.
            root: True if the operation is such a root.
            smooth: True if the frozen step is the derivative, but changes without any switch.
        """
        recording = self.recorder.recording
        squares = any(self.node(value) in recording.energies for value in inputs)
        if frozen is not None and squares and not (energy or root):
            tangent = tangent or frozen
            frozen = None
            refusal = f"{self.where} reads a product of two tensors that both depend on the image"
        ends = tuple(self._index(value) for value in inputs)
        read = ends if tangent_inputs is None else tuple(self._index(t) for t in tangent_inputs)
        index = self.recorder.add_node(output, self.place)
        if frozen is not None:
            recording.frozen[index] = Link(ends, index, frozen, self.name, self.place)
        else:
            recording.refusals[index] = refusal or f"{self.where} has no rule"
        derivative = tangent or frozen
        if derivative is not None:
            recording.tangent[index] = Link(read, index, derivative, self.name, self.place)
        if factor:
            recording.factors[index] = factor
        if energy:
            recording.energies.add(index)
        if smooth:
            recording.smooth.add(index)

    def alias(self, output: Tensor, value: Tensor) -> None:
        """Say that `output` holds the same values as a node that exists."""
        self.recorder.alias(output, self._index(value))

    def switch(self, kind: str, pattern: Tensor) -> None:
        """Add a mask or a selection to the activation pattern."""
        self.recorder.recording.switches.append(Switch(self.place, kind, pattern))

    def _index(self, value: Tensor) -> int:
        index = self.node(value)
        if index is None:
            raise RuntimeError(f"{self.where} reads a tensor that is not part of the recording")
        return index


class Recorder(TorchDispatchMode):
    """The dispatch mode: finds operations on recorded data and calls their rules.

    Args:
        rule_for: From an operation's name to its rule, or None.
    """

    def __init__(self, rule_for: Callable[[str], Callable[[Call], None] | None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = Recording()
        self._rule_for = rule_for
        self._known: Any = WeakIdKeyDictionary()  # tensor -> node, writes to its memory by then
        self._written: dict[int, WrittenMemory] = {}
        self._path: list[str] = []

    @property
    def place(self) -> str:
        """The path of the module that is running."""
        return self._path[-1] if self._path else NO_MODULE

    @contextmanager
    def inside(self, network: nn.Module) -> Iterator[None]:
        """Follow which module of the network is running."""
        names = {id(module): name for name, module in network.named_modules() if name}
        path = self._path

        def enter(module: nn.Module, _: Any) -> None:  # noqa: ANN401
            path.append(names.get(id(module), self.place))

        def leave(*_: Any) -> None:  # noqa: ANN401
            path.pop()

        handles = [
            nn.modules.module.register_module_forward_pre_hook(enter),
            nn.modules.module.register_module_forward_hook(leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def add_node(self, tensor: Tensor, place: str) -> int:
        """Make a tensor a new node."""
        index = len(self.recording.nodes)
        self.recording.nodes.append(Node(index, tuple(tensor.shape), tensor.dtype, place))
        self.alias(tensor, index)
        return index

    def alias(self, tensor: Tensor, index: int) -> None:
        """Let a tensor stand for a node."""
        memory = self._memory(tensor)
        self._known[tensor] = (index, memory.num_writes if memory else 0)

    def node_of(self, tensor: Tensor) -> int | None:
        """Return the node of a tensor; it is read anew if its memory was written to since."""
        index: int | None
        index, num_writes = self._known.get(tensor, (None, 0))
        memory = self._memory(tensor)
        if memory is None or (index is not None and num_writes == memory.num_writes):
            return index
        read = memory.read(tensor, self.recording.nodes)
        if read is None:
            return None
        inputs, step = read
        new = self.add_node(tensor, self.place)
        link = Link(inputs, new, step, "read of overwritten memory", self.place)
        self.recording.frozen[new] = self.recording.tangent[new] = link
        return new

    def _memory(self, tensor: Tensor) -> WrittenMemory | None:
        if not self._written or tensor.layout != torch.strided:
            return None
        key = tensor.untyped_storage()._cdata
        memory = self._written.get(key)
        if memory is not None and memory.storage.expired():
            del self._written[key]
            return None
        return memory

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operation, and its rule if it reads recorded data."""
        kwargs = kwargs or {}
        call = Call(self, func, args, kwargs)
        if not call.inputs():
            return func(*args, **kwargs)
        rule = self._rule_for(call.name)
        if rule is None:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        written = _written(call, func, args, kwargs)
        if written is not None:
            before = written.clone()
            index = self.node_of(written)
            if index is not None:
                self.alias(before, index)
            call.args, call.kwargs = replace_tensors((args, kwargs), {id(written): before})
        call.result = func(*args, **kwargs)
        self.recording.num_operations += 1
        values = list(_tensors(call.result))
        if values and not any(v.is_floating_point() or v.is_complex() for v in values):
            # Comparisons and indices do not change while no switch does: constants of this image.
            made_of_indices = not any(
                t.is_floating_point() or t.is_complex() for t in call.inputs()
            )
            for value in values:
                if made_of_indices:  # the choice was noted where it was made
                    self.add_node(value, self.place)
                else:
                    call.switch(call.name, value)
            return call.result
        if rule is None:
            raise ValueError(
                f"{call.where} has no rule, so the network cannot be written as L x + b there; "
                "rewrite it with operations that `framelets list` names, or explain a part of "
                "the network that does without it"
            )
        rule(call)
        if written is not None and written in self._known:
            self._after_writing(written)
        return call.result

    def observe(self, x: Tensor, apply: Apply, adjoint: bool) -> Tensor:
        """Record a linear map that brings its own adjoint, as one step."""
        result = run_unobserved(x, apply, adjoint)
        source = self.node_of(x)
        if source is not None:
            index = self.add_node(result, self.place)
            link = Link((source,), index, MatchedMap(apply, adjoint), "linear map", self.place)
            self.recording.frozen[index] = self.recording.tangent[index] = link
            self.recording.num_operations += 1
        return result

    def _after_writing(self, written: Tensor) -> None:
        """Note which part of a memory holds a new node, so that other views of it are read anew."""
        index = self._known[written][0]
        memory = self._memory(written)
        if memory is None:
            storage = written.untyped_storage()
            memory = self._written[storage._cdata] = WrittenMemory(StorageWeakRef(storage))
            for other, (node, _) in list(self._known.items()):
                strided = other is not written and other.layout == torch.strided
                if strided and other.untyped_storage()._cdata == storage._cdata:
                    memory.write(other, node)
        memory.write(written, index)
        self.alias(written, index)


def _functional(function: Any) -> tuple[str, Any]:  # noqa: ANN401
    """Return the name of an operation and its form that writes to none of its arguments."""
    name = function.overloadpacket.__name__
    if not function._schema.is_mutable:
        return name, function
    name = name.removesuffix("_")
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return name, function
    overload = function._overloadname
    return name, getattr(packet, overload) if overload in packet.overloads() else packet


def _written(
    call: Call,
    function: Any,  # noqa: ANN401
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Tensor | None:
    """Return the tensor that an operation overwrites, if it does."""
    if not function._schema.is_mutable:
        return None
    for position, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            if argument.is_out:
                raise ValueError(f"{call.where} writes to out=; let it return its result instead")
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            if isinstance(value, Tensor):
                return value
    return None


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def replace_tensors(value: Any, table: dict[int, Any]) -> Any:  # noqa: ANN401
    if isinstance(value, Tensor):
        return table.get(id(value), value)
    if isinstance(value, (list, tuple)):
        return type(value)(replace_tensors(item, table) for item in value)
    if isinstance(value, dict):
        return {key: replace_tensors(item, table) for key, item in value.items()}
    return value
