"""From a recorded operation to its `Bend`: which operations the partition knows how to follow."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from framelets.geometry._linear_rules import Rule, bound, names_in
from framelets.geometry._recording import Call, Recording
from framelets.geometry._rules import SUPPORTED
from framelets.geometry._segment_bends import Bend, EnvelopeBend, SignBend, pooling_windows
from framelets.geometry._slope_rules import clamp_bounds


class BendFinder:
    """Records as `linearize` does and keeps, for every operation that bends, how.

    Attributes:
        bends: The bend of a node.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.bends: dict[int, Bend] = {}
        self._known_switches: set[int] = set()

    def rule_for(self, name: str) -> Rule | None:
        """Return the rule of an operation, which also notes its bend."""
        rule = SUPPORTED.get(name)
        if rule is None:
            return None

        def watched(call: Call) -> None:
            recording = call.recorder.recording
            _refuse_choices(call)
            first = len(recording.switches)
            rule(call)
            make = BENDS.get(name)
            bend = make(call) if make else None
            if bend is not None:
                switch = recording.switches[first]
                self._known_switches.add(first)
                result = recording.nodes[-1]
                self.bends[result.index] = bend.called(switch.kind, switch.place, result.shape)
            if isinstance(call.result, (tuple, list)):
                # As nodes, so that whatever reads them is seen.
                for choice in call.result:
                    if not choice.is_floating_point():
                        call.recorder.add_node(choice, call.place)

        return watched

    def refuse_others(self, recording: Recording) -> None:
        """Raise if the network switches in a way that has no bend.

        Raises:
            ValueError: If it does; the operation is named.
        """
        for number, switch in enumerate(recording.switches):
            if number not in self._known_switches:
                raise ValueError(
                    f"operation {switch.kind!r} in {switch.place} compares or jumps, so that its "
                    "boundaries are not known; write it with relu, abs, clamp, maximum or max "
                    "pooling"
                )


def _refuse_choices(call: Call) -> None:
    if any(not (t.is_floating_point() or t.is_complex()) for t in call.inputs()):
        raise ValueError(
            f"{call.where} reads the indices that a pooling chose, so that the network jumps "
            "where they change; its boundaries are not known"
        )


def _at(thresholds: Callable[[Call], list[Any]]) -> Callable[[Call], Bend | None]:
    """Return the maker of an operation that bends where u passes one of some thresholds."""

    def make(call: Call) -> Bend | None:
        image = call.args[0]
        if image.is_complex():
            return None
        held = [t.detach().clone() if isinstance(t, Tensor) else t for t in thresholds(call)]

        def quantities(u: Tensor) -> list[Tensor]:
            return [u if isinstance(t, float | int) and t == 0 else u - t for t in held]

        return SignBend(apply=bound(call, [image]), quantities=quantities)

    return make


def _absolute(call: Call) -> Bend | None:
    bend = _at(lambda _: [0])(call)
    return replace(bend, slopes=(-1.0, 1.0)) if isinstance(bend, SignBend) else None


def _leaky(call: Call) -> Bend | None:
    slope = call.args[1] if len(call.args) > 1 else 0.01
    slope = slope.detach().clone() if isinstance(slope, Tensor) else float(slope)
    bend = _at(lambda _: [0])(call)
    return replace(bend, slopes=(slope, 1.0)) if isinstance(bend, SignBend) else None


def _thresholds_of_clamp(call: Call) -> list[Any]:
    return [b for b in clamp_bounds(call) if b is not None]


def _clamp(call: Call) -> Bend | None:
    if len(call.inputs()) > 1 or call.node(call.args[0]) is None:
        return None
    return _at(_thresholds_of_clamp)(call)


def _threshold(call: Call) -> Bend | None:
    threshold, rest = call.args[1:3]
    return _at(lambda _: [threshold])(call) if threshold == rest else None


def _width(call: Call) -> list[float]:
    width = call.args[1] if len(call.args) > 1 else 0.5
    return [-width, width]


def _larger(call: Call) -> Bend | None:
    inputs = call.inputs()
    copies = max(call.result.numel() // max(1, value.numel()) for value in inputs)
    if len(inputs) == 2:
        return SignBend(
            apply=bound(call, inputs),
            quantities=lambda u, v: [torch.sub(*torch.broadcast_tensors(u, v))],
            copies=copies,
        )
    others = [value for value in call.args[:2] if value is not inputs[0]]
    if not others:  # of a tensor with itself, as an affine network would not write it
        return None
    other = others[0].detach().clone()
    return SignBend(apply=bound(call, inputs), quantities=lambda u: [u - other], copies=copies)


def _max_pool(call: Call) -> Bend | None:
    image, output = call.args[0], call.result[0]
    axes = next(int(c) for c in call.name if c.isdigit())
    sizes, counts = image.shape[-axes:], output.shape[-axes:]
    if call.name.startswith("adaptive"):
        steps = [1] * axes
        indices = [torch.arange(n) for n in counts]
        starts = [i * n // m for i, n, m in zip(indices, sizes, counts, strict=True)]
        ends = [((i + 1) * n + m - 1) // m for i, n, m in zip(indices, sizes, counts, strict=True)]
        extents = [end - start for start, end in zip(starts, ends, strict=True)]
    else:
        kernel, stride, padding, dilation = _pooling_options(call, axes)
        steps = dilation
        starts = [torch.arange(m) * s - p for m, s, p in zip(counts, stride, padding, strict=True)]
        extents = [torch.full((m,), k) for m, k in zip(counts, kernel, strict=True)]
    entries, exists = pooling_windows(tuple(image.shape), starts, extents, steps)
    device = image.device
    return EnvelopeBend(
        apply=bound(call, [image], first_of_many=True),
        entries=entries.to(device),
        exists=exists.to(device),
    )


def _pooling_options(call: Call, axes: int) -> list[list[int]]:
    kernel, *rest = call.args[1:]
    defaults: list[Any] = [[], 0, 1]
    given = [*rest[:3], *defaults[len(rest) :]]
    options = [[v] if isinstance(v, int) else list(v) for v in (kernel, *given)]
    options[1] = options[1] or options[0]
    return [v * (axes // len(v)) for v in options]


def _extremum(call: Call) -> Bend | None:
    image = call.args[0]
    many = not isinstance(call.result, Tensor)
    reduced = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", [])
    reduced = [reduced] if isinstance(reduced, int) else list(reduced)
    axes = sorted({a % image.ndim for a in reduced}) or list(range(image.ndim))
    numbers = torch.arange(image.numel(), device=image.device).reshape(image.shape)
    numbers = numbers.movedim(axes, list(range(image.ndim - len(axes), image.ndim)))
    entries = numbers.reshape(-1, prod(image.shape[a] for a in axes))
    return EnvelopeBend(
        apply=bound(call, [image], first_of_many=many),
        entries=entries,
        exists=torch.ones_like(entries, dtype=torch.bool),
        sign=-1.0 if call.name in ("amin", "min") else 1.0,
    )


BENDS: dict[str, Callable[[Call], Bend | None]] = {
    "relu": _at(lambda _: [0]),
    "abs": _absolute,
    **dict.fromkeys(names_in("leaky_relu _prelu_kernel"), _leaky),
    **dict.fromkeys(names_in("clamp clamp_min clamp_max hardtanh"), _clamp),
    "threshold": _threshold,
    "softshrink": _at(_width),
    **dict.fromkeys(names_in("maximum minimum"), _larger),
    **dict.fromkeys(
        names_in(
            """max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
            adaptive_max_pool2d adaptive_max_pool3d"""
        ),
        _max_pool,
    ),
    **dict.fromkeys(names_in("amax amin max min"), _extremum),
}
"""From an operation's name to its bend; one that jumps or bends smoothly has none."""
