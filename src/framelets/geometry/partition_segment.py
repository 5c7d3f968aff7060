"""The partition of the input space along a segment: every boundary, and the affine piece between.

The units of a piecewise-linear network cut its input space into regions, in each of which the
network is one affine map [1]. `partition_segment` finds all boundaries that the segment x + t v,
0 <= t <= 1, crosses, of all layers, and what the network does between them:

    f(x + t v) = f(x + t_k v) + (t - t_k) s_k    for t_k <= t <= t_(k+1)

Positions are exact: they are not searched on a grid but solved for, layer by layer, in double
precision (`_segment_walk` says why none is missed, and what rounding leaves). A network in single
precision is taken with the weights it has and evaluated in double precision; its own rounding moves
each of its boundaries by about 1e-7 of the unit's values over the unit's slope.

A density of boundaries has two units that must not be mixed: boundaries per unit of the norm of the
whole image, |v|, and per unit of the root mean square change of a pixel, |v| / sqrt(n), of which
there are sqrt(n) times as many.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor, nn

from framelets.geometry._segment_builder import SegmentBuilder
from framelets.geometry._segment_curve import Curve
from framelets.geometry._segment_walk import SegmentProgram

_REPLAY_TOLERANCE = 1e-9


@dataclass(frozen=True)
class BoundaryLayer:
    """An operation that draws boundaries.

    Attributes:
        name: Path of the module that ran it.
        kind: The operation: "relu", "max_pool", ...
        shape: Shape of its units, with the batch axis of one.
        depth: How many such operations there are on the longest way from the image to its output,
            itself included.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    depth: int

    @property
    def num_units(self) -> int:
        """How many units it has."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class SegmentPartition:
    """All boundaries along a segment, up to where it was followed; exact up to rounding.

    A boundary is one unit that switches; several may lie at one position, a breakpoint.

    Attributes:
        layers: The operations whose units switch, in the order of the network.
        reached: How far the segment was followed; 1 if to its end.
        positions: The breakpoints, ascending.
        boundary_positions: Of each boundary, the index of its breakpoint.
        boundary_layers: Of each boundary, the index of its layer.
        boundary_units: Of each boundary, the unit, an index into the flattened layer.
        slope_norms: |s_k| of the piece before the first breakpoint, between each two, and after the
            last; over `direction_norm`, the gain of the network along the segment. A piece of
            length d is found up to about 1e-16 |f| / d.
        slope_changes: |s_k - s_(k-1)| at each breakpoint; zero (within that rounding) where the
            unit that switches does not reach the output.
        outputs: The output at t = 0, at each breakpoint and at `reached`, if it was kept.
        direction_norm: |v|.
        num_pixels: Entries n of the image.
        num_undecided: Boundaries of units that are zero, within rounding, at the ends of the piece
            in which they switch, so that double precision does not tell whether they do.
        replay_error: Largest |f - f'| / |f| at both ends, of what was followed against a run of
            the network in double precision.
        fingerprint: Of image, direction and layers; a walk is only continued on its own segment.
    """

    layers: tuple[BoundaryLayer, ...]
    reached: float
    positions: Float[Tensor, " breakpoint"]
    boundary_positions: Int[Tensor, " boundary"]
    boundary_layers: Int[Tensor, " boundary"]
    boundary_units: Int[Tensor, " boundary"]
    slope_norms: Float[Tensor, " piece"]
    slope_changes: Float[Tensor, " breakpoint"]
    outputs: Inexact[Tensor, " knot *output_shape"] | None
    direction_norm: float
    num_pixels: int
    num_undecided: int
    replay_error: float
    fingerprint: str

    @property
    def num_boundaries(self) -> int:
        """How many units switched."""
        return len(self.boundary_units)

    @property
    def num_pieces(self) -> int:
        """How many affine pieces the part that was followed has."""
        return len(self.positions) + 1

    @property
    def piece_ends(self) -> Float[Tensor, " knot"]:
        """Where pieces start and end: 0, the breakpoints, `reached`."""
        ends = self.positions.new_tensor([0.0, self.reached])
        return torch.cat([ends[:1], self.positions, ends[1:]])

    @property
    def boundaries_by_layer(self) -> Int[Tensor, " layer"]:
        """How many units of each layer switched."""
        return torch.bincount(self.boundary_layers, minlength=len(self.layers))

    def boundaries_per_norm(self) -> Float[Tensor, " layer"]:
        """Count boundaries of each layer per unit of the norm of the whole image."""
        return self.boundaries_by_layer.double() / (self.reached * self.direction_norm)

    def boundaries_per_pixel_rms(self) -> Float[Tensor, " layer"]:
        """Count boundaries of each layer per unit of the root mean square change of a pixel."""
        return self.boundaries_per_norm() * sqrt(self.num_pixels)

    def num_switches(self, layer: int) -> Int[Tensor, " *units"]:
        """Count how often each unit of a layer switched, in the layer's shape."""
        chosen = self.boundary_units[self.boundary_layers == layer]
        return torch.bincount(chosen, minlength=self.layers[layer].num_units).reshape(
            self.layers[layer].shape
        )

    def output_at(self, position: float) -> Inexact[Tensor, " *output_shape"]:
        """Return f(x + t v) from the pieces.

        Raises:
            ValueError: If outputs were not kept, or the position was not reached.
        """
        if self.outputs is None:
            raise ValueError("outputs were not kept; call partition_segment with keep_outputs=True")
        if not 0 <= position <= self.reached:
            raise ValueError(f"position must lie between 0 and {self.reached}, got {position}")
        at = self.positions.new_tensor([position])
        return Curve(self.piece_ends, list(self.outputs)).at(at)[0]

    def to_arrays(self) -> dict[str, Tensor | str | float]:
        """Return everything as arrays, for a run folder's `write_npz`."""
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        arrays["layers"] = json.dumps([astuple(layer) for layer in self.layers])
        return {
            name: torch.tensor(value) if isinstance(value, int) else value
            for name, value in arrays.items()
            if value is not None
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "SegmentPartition":
        """Take what `to_arrays` gave and a file kept."""
        values: dict[str, Any] = {
            name: torch.from_numpy(a) if a.ndim else a.item() for name, a in arrays.items()
        }
        layers = json.loads(values.pop("layers"))
        return cls(
            layers=tuple(BoundaryLayer(n, k, tuple(shape), d) for n, k, shape, d in layers),
            outputs=values.pop("outputs", None),
            **values,
        )


def partition_segment(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Inexact[Tensor, " 1 *sample"],
    direction: Inexact[Tensor, " 1 *sample"],
    *,
    forward: Callable[..., Tensor] | None = None,
    previous: SegmentPartition | None = None,
    keep_outputs: bool = False,
    memory_limit_bytes: int = 4 * 1024**3,
    time_limit_s: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> SegmentPartition:
    """Find every boundary that a segment of images crosses, exactly.

    The segment is followed in stretches that keep to the memory limit; the cost is at most one
    forward pass in double precision for each boundary, and two for each stretch.

    Args:
        network: A piecewise-linear network in evaluation mode, or a function of one tensor that
            takes double precision. An nn.Module is copied and converted.
        image: The image x with its batch axis of one.
        direction: The direction v, of the same shape; its length is the length of the segment.
        forward: How to call the network, if not `network(image)`.
        previous: What an earlier call on this segment reached; it is continued.
        keep_outputs: Keep the output at every breakpoint.
        memory_limit_bytes: Memory for the values of all layers; what is kept of the boundaries is
            small beside it, except for the outputs.
        time_limit_s: Start no stretch after so many seconds; the result says how far it got.
        progress: Called with the part of the segment that is done, from 0 to 1.

    Returns:
        The partition of the segment from 0 to `reached`.

    Raises:
        ValueError: If the network is not piecewise linear or jumps, the direction is zero or of
            another shape, the memory does not hold three points, or `previous` belongs to another
            segment.
        TypeError: If a plain function is given an image that is not in double precision.

    Example:
        >>> image, direction = torch.tensor([[-1.0, 3.0]]), torch.tensor([[4.0, -4.0]])
        >>> partition_segment(torch.nn.ReLU(), image, direction).positions.tolist()
        [0.25, 0.75]
    """
    _check(image, direction)
    program = SegmentProgram(network, image, forward)
    direction = direction.detach().to(program.image.dtype)
    max_knots = memory_limit_bytes // program.bytes_per_knot
    if max_knots < 4:
        raise ValueError(
            f"memory_limit_bytes must hold four points of {program.bytes_per_knot} bytes each, "
            f"got {memory_limit_bytes}"
        )
    layers = layers_of(program)
    fingerprint = _fingerprint(program, direction, layers)
    builder = _start(previous, fingerprint, keep_outputs)
    started, length = time.monotonic(), 1.0
    error = previous.replay_error if previous is not None else 0.0
    stretch = None
    while builder.reached < 1:
        if time_limit_s is not None and time.monotonic() - started >= time_limit_s:
            break
        start = builder.reached
        stretch = program.walk(direction, start, min(1.0, start + length), max_knots)
        builder.add(stretch)
        if start == 0:
            error = _refuse_difference(stretch.curve.values[0], program.output)
        # Of the knots that the memory holds, some are left for boundaries that lie denser ahead.
        density = max(1, len(stretch.curve.positions) - 2) / (stretch.end - stretch.start)
        length = 0.9 * max_knots / density
        if progress is not None:
            progress(builder.reached)
    if stretch is not None:
        output = program.run(program.image + stretch.end * direction)
        error = max(error, _refuse_difference(stretch.curve.values[-1], output))
    nothing = torch.empty(0, dtype=torch.float64, device=image.device)
    return SegmentPartition(
        layers=layers,
        reached=builder.reached,
        positions=torch.cat([nothing, *builder.positions]),
        boundary_positions=torch.cat([nothing.long(), *builder.boundary_positions]),
        boundary_layers=torch.cat([nothing.long(), *builder.boundary_layers]),
        boundary_units=torch.cat([nothing.long(), *builder.boundary_units]),
        slope_norms=torch.cat([nothing, *builder.slope_norms]),
        slope_changes=torch.cat([nothing, *builder.slope_changes]),
        outputs=torch.stack(builder.outputs) if builder.outputs else None,
        direction_norm=float(torch.linalg.vector_norm(direction)),
        num_pixels=image[0].numel(),
        num_undecided=builder.num_undecided,
        replay_error=error,
        fingerprint=fingerprint,
    )


def _start(
    previous: SegmentPartition | None, fingerprint: str, keep_outputs: bool
) -> SegmentBuilder:
    builder = SegmentBuilder(keep_outputs)
    if previous is None:
        return builder
    if previous.fingerprint != fingerprint:
        raise ValueError(
            "previous must be a partition of the same network, image and direction; this one is "
            "of another segment"
        )
    if keep_outputs != (previous.outputs is not None):
        raise ValueError(
            f"keep_outputs must be what it was in the previous call, got {keep_outputs}"
        )
    if previous.reached > 0:
        builder.resume(previous)
    return builder


def layers_of(program: SegmentProgram) -> tuple[BoundaryLayer, ...]:
    """Describe the operations of a network that draw boundaries."""
    return tuple(
        BoundaryLayer(bend.place, bend.kind, bend.shape, depth)
        for bend, depth in zip(program.bends, program.depths, strict=True)
    )


def _fingerprint(
    program: SegmentProgram, direction: Tensor, layers: tuple[BoundaryLayer, ...]
) -> str:
    digest = hashlib.blake2b(repr(layers).encode(), digest_size=16)
    for tensor in (program.image, program.output, direction):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _refuse_difference(found: Tensor, expected: Tensor) -> float:
    scale = float(torch.linalg.vector_norm(expected)) or 1.0
    error = float(torch.linalg.vector_norm(found - expected)) / scale
    if error > _REPLAY_TOLERANCE:
        raise ValueError(
            f"the recording does not replay the network along the segment: |f - f'| / |f| is "
            f"{error:.1e}; the network takes another way there (a Python if), or a constant of it "
            "is not in double precision"
        )
    return error


def _check(image: Tensor, direction: Tensor) -> None:
    if direction.shape != image.shape:
        raise ValueError(
            f"direction must have the image's shape {tuple(image.shape)}, "
            f"got {tuple(direction.shape)}"
        )
    if direction.is_complex() and not image.is_complex():
        raise TypeError(f"direction must be real as the image is, got {direction.dtype}")
    values = torch.view_as_real(direction) if direction.is_complex() else direction
    if not bool(torch.isfinite(values).all()) or not bool((direction != 0).any()):
        raise ValueError("direction must be finite and not zero")
