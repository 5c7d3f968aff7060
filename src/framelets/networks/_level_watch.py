"""Watch the torch functions that a network calls, and complete its levels while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from ._pooled_blocks import PooledBlocks, pooled_blocks

_CONCATENATIONS = {"cat", "concat", "concatenate"}
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_SCALINGS = {"mul", "div", "__mul__", "__rmul__", "__truediv__", "true_divide", "multiply"}

_NOT_JOINED = "what it pools is not concatenated, as it is, with what comes up"
_NOT_ONE = "what comes up beside its skip is not one tensor of the same shape"
_NOT_FILTERED = "no convolution of all channels reads its concatenation directly"
_NOT_PLAIN = "only blocks of two pixels along every axis can be completed"
_LEARNED = "it is learned"


class Probe:
    """Finds out which levels of a network can be completed, and where they stand."""

    def __init__(self) -> None:
        self._modules: list[tuple[str, bool]] = []  # path of what is running, has parts
        self._last = ""
        self._outcome: dict[PooledBlocks, tuple[str, str]] = {}  # place, reason or ""
        self._others: dict[str, str] = {}  # words and place, reason

    def note(self, found: PooledBlocks | str, reason: str) -> None:
        """Note a pooling, or what has become of it: an empty reason if it is completed."""
        if isinstance(found, str):
            self._others[f"{found} in {self._place()}"] = reason
            return
        place = self._outcome[found][0] if found in self._outcome else self._place()
        self._outcome[found] = (place, reason)

    def completed(self) -> tuple[str, ...]:
        """Return where poolings are completed."""
        return tuple(place for place, reason in self._outcome.values() if not reason)

    def left(self) -> tuple[str, ...]:
        """Return what is left as it is, and why."""
        poolings = {f"pooling in {place}": reason for place, reason in self._outcome.values()}
        return tuple(
            f"{what}: {reason}" for what, reason in (poolings | self._others).items() if reason
        )

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Follow which module of the network is running."""
        handles = []
        for name, module in network.named_modules():
            if name:
                running = (name, any(True for _ in module.children()))
                handles += [
                    module.register_forward_pre_hook(
                        lambda *_, running=running: self._modules.append(running)
                    ),
                    module.register_forward_hook(lambda *_: self._leave()),
                ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _place(self) -> str:
        name, has_parts = self._modules[-1] if self._modules else ("the network", True)
        return f"{name}, after {self._last}" if has_parts and self._last else name

    def _leave(self) -> None:
        name, has_parts = self._modules.pop()
        if not has_parts:
            self._last = name


class LevelWatch(TorchFunctionMode):
    """Stands in for a few of the functions that a network calls.

    Tensors are told by identity: what is concatenated must be the very tensor that was pooled.

    Args:
        network: The network that will run.
        tight: Hand on what poolings forget; else take what they keep away from what comes up.
        details: Filters of the new branches, by the name of those that they extend.
        probe: What finds out which levels can be completed; filters of new branches are then made.
    """

    def __init__(
        self,
        network: nn.Module,
        tight: bool,
        details: nn.ParameterDict,
        probe: Probe | None = None,
    ) -> None:
        super().__init__()
        self._tight, self._details, self._probe = tight, details, probe
        self._names = {id(value): name for name, value in network.named_parameters()}
        self._pooled: Any = WeakIdKeyDictionary()  # tensor -> its pooling
        self._raised: Any = WeakIdKeyDictionary()  # tensor -> shape below, how it was raised
        self._joined: Any = WeakIdKeyDictionary()  # concatenation -> parts, new parts, poolings

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Call a function, or what stands for it in a completed level."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _CONCATENATIONS:
            return self._concatenate(func, args, kwargs)
        if name in _CONVOLUTIONS:
            args, kwargs = self._convolution(name, args, kwargs)
        result = func(*args, **kwargs)
        found = pooled_blocks(name, args, kwargs, result)
        if isinstance(found, PooledBlocks):
            self._pooled[args[0] if args else kwargs["input"]] = found
            self._note([found], _NOT_JOINED)
        elif found is not None:
            self._note([found], _NOT_PLAIN)
        elif name in ("interpolate", "pad") or name in _SCALINGS:
            self._remember_raised(func, name, args, kwargs, result)
        return result

    def _remember_raised(
        self,
        func: Callable[..., Tensor],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Tensor,
    ) -> None:
        """Remember how a tensor came from a lower resolution, for others to go the same way."""
        if not args or any(isinstance(value, Tensor) for value in args[1:]):
            return
        if name == "interpolate":
            self._raised[result] = (args[0].shape, lambda low: func(low, *args[1:], **kwargs))
        elif args[0] in self._raised:
            shape, before = self._raised[args[0]]
            self._raised[result] = (shape, lambda low: func(before(low), *args[1:], **kwargs))

    def _concatenate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        parts = list(args[0] if args else kwargs.get("tensors", ()))
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        skips = [part for part in parts if part in self._pooled]
        if not skips or axis not in (1, 1 - parts[0].ndim):
            return func(*args, **kwargs)
        if not self._tight:
            return func(self._subtracted(parts, skips), 1)
        result = func(*args, **kwargs)
        poolings = [self._pooled[skip] for skip in skips]
        new = [part for skip in skips for part in self._pooled[skip].details(skip)]
        self._joined[result] = (parts, new, poolings)
        self._note(poolings, _NOT_FILTERED)
        return result

    def _subtracted(self, parts: list[Tensor], skips: list[Tensor]) -> list[Tensor]:
        """Take what the pooling of the skip keeps away from what comes up."""
        others = [k for k, part in enumerate(parts) if all(part is not skip for skip in skips)]
        poolings = [self._pooled[skip] for skip in skips]
        if len(skips) != 1 or len(others) != 1 or parts[others[0]].shape != skips[0].shape:
            self._note(poolings, _NOT_ONE)
            return parts
        up, pooled = parts[others[0]], poolings[0].pooled
        shape, raise_ = self._raised.get(up, (None, None))
        # What the network raises channel by channel is subtracted raised in the same way.
        kept = raise_(pooled) if raise_ and shape == pooled.shape else poolings[0].kept(skips[0])
        self._note(poolings, "")
        return [up - kept if part is up else part for part in parts]

    def _convolution(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Let a convolution that reads a completed concatenation read the new parts too."""
        given = dict(zip(("input", "weight", "bias", "stride"), args, strict=False)) | kwargs
        image, weight = given["input"], given["weight"]
        stride = given.get("stride", 1)
        if max(stride if isinstance(stride, (tuple, list)) else (stride,)) > 1:
            self._note([f"{name} with stride {stride}"], _LEARNED)
        if image not in self._joined:
            return args, kwargs
        parts, new, poolings = self._joined[image]
        key = self._names.get(id(weight), "").replace(".", "__")
        if self._probe is not None and key and weight.shape[1] == image.shape[1]:
            channels = sum(part.shape[1] for part in new)
            zeros = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
            self._details[key] = nn.Parameter(zeros)
            self._note(poolings, "")
        if key not in self._details:
            return args, kwargs
        image = torch.cat([*parts, *new], dim=1)
        weight = torch.cat([weight, self._details[key]], dim=1)
        rest = {k: value for k, value in kwargs.items() if k not in ("input", "weight")}
        return (image, weight, *args[2:]), rest

    def _note(self, poolings: Sequence[PooledBlocks | str], reason: str) -> None:
        if self._probe is not None:
            for pooling in poolings:
                self._probe.note(pooling, reason)
