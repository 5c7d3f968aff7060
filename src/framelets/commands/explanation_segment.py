"""What the page shows along a segment from the image: boundaries, active units, one row of L.

The boundaries are those of `partition_segment`: exact, in double precision. On the piece between
two of them the network is one affine map; the row of its L at a pixel is the gradient of the output
there, taken in the middle of the piece in double precision, and so exact too.

Noise is white within a square around that pixel. Noise on the whole image would cross as many
boundaries sooner, but nearly all of them are of units that this pixel does not see.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from framelets.commands.atom_store import AtomStore
from framelets.commands.explanation_grid import unravel, why_not
from framelets.commands.pixels import Pixel
from framelets.commands.stages import Progress, silent
from framelets.core import LinearOperator, choose
from framelets.geometry import (
    ActivationPattern,
    LayerPattern,
    LocalMap,
    SegmentPartition,
    distance_to_cross,
    linearize,
    partition_segment,
)

DIRECTIONS = {
    "noise": "white noise within {side} x {side} pixels around the pixel",
    "scaling": "the image itself: brighter",
    "singular": "the leading right singular vector of L",
    "none": "",
}
"""Directions that the segment may take, in words."""

_NOISE_RADIUS = 4
_LEAST_ROW_RADIUS = 16
_A_BIT_BEYOND = 1.1  # so that the last piece can be seen
_TIME_LIMIT_S = 120.0


def explain_segment(
    network: nn.Module,
    local: LocalMap,
    store: AtomStore,
    pixels: Sequence[Pixel],
    kind: str,
    *,
    leading: Tensor,
    num_boundaries: int,
    norm: float | None = None,
    forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
    seed: int = 0,
    projector: LinearOperator | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Follow a segment from the image over some tens of boundaries.

    Args:
        network: The network.
        local: The same, linearized.
        store: Where the rows go.
        pixels: Pixels of the page; the segment's is the edge, or the first.
        kind: One of `DIRECTIONS`.
        leading: The leading right singular vector of L.
        num_boundaries: Follow the segment over so many at most.
        norm: Length of the segment; by default as long as so many boundaries are likely to need.
        forward: How to call the network, if not network(image).
        seed: Seed of the noise.
        projector: The scan A, if the network takes one.
        progress: Called with the share that is done.

    Returns:
        A table of boundaries and pieces, or `missing`, why there is none.
    """
    progress = progress or silent("segment")
    choose("segment", kind, DIRECTIONS)
    if kind == "none":
        return {"missing": "it was not asked for (--segment none)"}
    if reason := why_not(local, projector):
        return {"missing": reason}
    if not local.piecewise_linear:
        return {"missing": "the network is not piecewise linear, so that no boundaries divide it"}
    pixel = next((p for p in pixels if p.label == "edge"), pixels[0])
    at = (pixel.row, pixel.column)
    direction, words = _direction(local, kind, at, projector, leading, seed)
    image = local.image.unsqueeze(0)
    try:
        if norm is None:
            norm = _A_BIT_BEYOND * distance_to_cross(
                network, image, direction, num_boundaries, forward=forward
            )
        if not isfinite(norm):
            return {"missing": f"fewer than {num_boundaries} units ever switch in this direction"}
        direction = direction.double()
        direction = direction * (norm / torch.linalg.vector_norm(direction))
        partition = partition_segment(
            network,
            image,
            direction,
            forward=forward,
            keep_outputs=True,
            time_limit_s=_TIME_LIMIT_S,
            progress=lambda share: progress(0.5 * share),
        )
    except ValueError as error:
        return {"missing": str(error)}
    walk = _Walk(network, forward, image, partition, direction, at, num_boundaries)
    return {
        "kind": kind,
        "direction": words,
        "row": at[0],
        "column": at[1],
        "through_scan": projector is not None,
        "length": walk.end * partition.direction_norm,
        "wanted": norm,
        "num_undecided": partition.num_undecided,
        "replay_error": partition.replay_error,
        **walk.table(),
        **walk.rows(store, projector, lambda share: progress(0.5 + 0.5 * share)),
    }


class _Walk:
    """The first boundaries of a segment, piece by piece."""

    def __init__(
        self,
        network: nn.Module,
        forward: Callable[[nn.Module, Tensor], Tensor] | None,
        image: Tensor,
        partition: SegmentPartition,
        direction: Tensor,
        at: tuple[int, int],
        num_boundaries: int,
    ) -> None:
        self._forward, self._partition, self._at = forward, partition, at
        self._start, self._direction = image.double(), direction
        self._network = deepcopy(network).double()
        self._num = min(num_boundaries, len(partition.positions))
        self.ends = partition.piece_ends[: self._num + 2]
        self.end = float(self.ends[-1])
        outputs = torch.stack([partition.output_at(float(t)) for t in self.ends])
        outputs = outputs.reshape(len(outputs), -1, *outputs.shape[-2:])  # no batch axis
        self._slopes = outputs.diff(dim=0)[:, 0] / self.ends.diff()[:, None, None]

    def table(self) -> dict[str, Any]:
        """Describe pieces and boundaries; positions are norms of the change of the image."""
        scale = self._partition.direction_norm
        pattern = linearize(self._network, self._start, self._forward).activation_pattern
        units = _Units(self._partition, pattern)
        boundaries = []
        for k in range(self._num):
            jump = (self._slopes[k + 1] - self._slopes[k]).abs()
            place = divmod(int(jump.argmax()), jump.shape[1])
            boundaries.append(
                {
                    "position": float(self._partition.positions[k]) * scale,
                    "switches": units.switch(k),
                    "slope_change": float(self._partition.slope_changes[k]) / scale,
                    "strongest_at": place,
                    "num_active": units.num_active,
                }
            )
        return {
            "layers": units.layers,
            "num_units": pattern.num_units,
            "num_active": pattern.num_active,
            "gains": (self._partition.slope_norms[: self._num + 1] / scale).tolist(),
            "boundaries": boundaries,
        }

    def rows(
        self, store: AtomStore, projector: LinearOperator | None, progress: Progress
    ) -> dict[str, Any]:
        """Keep the row of L at the pixel on every piece, and its change at every boundary."""
        atoms: list[int] = []
        changes: list[dict[str, float]] = []
        slopes: list[float] = []
        first, previous, radius = None, None, None
        for k in range(self._num + 1):
            gradient = self._gradient(float(self.ends[k : k + 2].mean()))
            slopes.append(float((gradient * self._direction).sum()))
            row = (gradient if projector is None else projector.adjoint(gradient))[0]
            atoms.append(store.add(row, self._at, radius))
            if radius is None:
                radius = max(_LEAST_ROW_RADIUS, store.radius(atoms[0]))
                atoms[0] = store.add(row, self._at, radius)
            if first is None or previous is None:
                first = row
            else:
                atom = store.add(row - previous, self._at, radius)
                shares = [_relative(row - before, row) for before in (previous, first)]
                changes.append({"atom": atom, "share": shares[0], "since_start": shares[1]})
            previous = row
            progress((k + 1) / (self._num + 1))
        own = self._slopes[:, self._at[0], self._at[1]]
        error = (own - torch.tensor(slopes, dtype=own.dtype)).abs().max()
        return {
            "rows": atoms,
            "changes": changes,
            "pixel_slopes": [slope / self._partition.direction_norm for slope in slopes],
            "slope_error": float(error / own.abs().max()) if bool(own.any()) else 0.0,
        }

    def _gradient(self, position: float) -> Tensor:
        image = (self._start + position * self._direction).requires_grad_()
        with torch.enable_grad():
            call = self._forward
            output = call(self._network, image) if call else self._network(image)
            (gradient,) = torch.autograd.grad(output[(0, 0, *self._at)], image)
        return gradient


class _Units:
    """Which units are on, as boundaries are crossed."""

    def __init__(self, partition: SegmentPartition, pattern: ActivationPattern) -> None:
        self._partition = partition
        self.num_active = pattern.num_active
        drawn, recorded = (
            [(layer.name, layer.kind, tuple(layer.shape)) for layer in layers]
            for layers in (partition.layers, pattern.layers)
        )
        # Only where both lists are the same is it known which recorded mask a boundary changes.
        known = pattern.layers if drawn == recorded else [None] * len(drawn)
        self._masks = [
            layer.packed.clone() if layer is not None and _is_mask(layer) else None
            for layer in known
        ]
        self.layers = [
            {
                "name": layer.name or layer.kind,
                "kind": layer.kind,
                "num_units": layer.num_units,
                "num_active": found.num_active if found is not None else None,
            }
            for layer, found in zip(partition.layers, known, strict=True)
        ]

    def switch(self, breakpoint_number: int) -> list[dict[str, Any]]:
        """Cross a breakpoint; return its units, and which way they went where that is known."""
        chosen = self._partition.boundary_positions == breakpoint_number
        layers = self._partition.boundary_layers[chosen].tolist()
        units = self._partition.boundary_units[chosen].tolist()
        return [
            {
                "layer": layer,
                "unit": unravel(unit, self._partition.layers[layer].shape),
                "to": self._toggle(layer, unit),
            }
            for layer, unit in zip(layers, units, strict=True)
        ]

    def _toggle(self, layer: int, unit: int) -> str:
        mask = self._masks[layer]
        if mask is None:
            return ""
        bit = 1 << (unit % 8)
        mask[unit // 8] ^= bit
        on = bool(mask[unit // 8] & bit)
        self.num_active += 1 if on else -1
        return "on" if on else "off"


def _relative(change: Tensor, whole: Tensor) -> float:
    size = float(torch.linalg.vector_norm(whole))
    return float(torch.linalg.vector_norm(change)) / (size or 1.0)


def _is_mask(layer: LayerPattern) -> bool:
    return len(layer.packed) == -(-layer.num_units // 8)  # of a selection, eight bytes a unit


def _direction(
    local: LocalMap,
    kind: str,
    at: tuple[int, int],
    projector: LinearOperator | None,
    leading: Tensor,
    seed: int,
) -> tuple[Tensor, str]:
    image = local.image
    words = DIRECTIONS[kind]
    if kind == "scaling":
        return image.unsqueeze(0), words
    if kind == "singular":
        return leading.reshape(image.shape).unsqueeze(0), words
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    noise = noise.to(image.device, image.dtype)
    if projector is not None:
        return noise.unsqueeze(0), "white noise on the scan"
    top, left = (max(0, place - _NOISE_RADIUS) for place in at)
    window = torch.zeros_like(noise)
    window[..., top : at[0] + _NOISE_RADIUS + 1, left : at[1] + _NOISE_RADIUS + 1] = 1
    return (noise * window).unsqueeze(0), words.format(side=2 * _NOISE_RADIUS + 1)
