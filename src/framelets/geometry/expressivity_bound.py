"""How many linear maps a network could choose from: bounds counted from its units.

Every unit of a piecewise-linear network is on one of a few affine pieces: two for ReLU, leaky ReLU
and |x|, as many as the window has entries for max pooling. A linear region fixes the piece of every
unit, so that there are at most

    product over units of their pieces

regions with inner points, and no more linear maps of them: 2^(number of units) for ReLU. For the
network of [1] with encoder layers of d_1..d_k units, decoder layers of d_(k-1)..d_1 and skips of
s_1..s_k this is

    2^(2 sum d_i - d_k)                    without skips
    2^(2 sum d_i - d_k) 2^(sum s_k)        with skips.

The theorem of [1] has the same form, a power of two that grows with channels and depth and another
factor from the skips; whether its printed exponent is sum d_i - d_k or 2 sum d_i - d_k is not known
to us. The bound here is ours: an upper bound, counted. Only skips with filters and switches of
their own, as those of [1], add units; one that hands features across as they are adds none.

The number is far above what can occur. A layer that sees the image cuts its n entries with N
hyperplanes, into fewer than 2^N cells if N > n (`arrangement_bound` [2]).

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
    [2] T. M. Cover, "Geometrical and statistical properties of systems of linear inequalities with
        applications in pattern recognition", IEEE Trans. Electronic Computers 14(3), 1965.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from framelets.geometry._reach import reach_of, shapes_at_bends
from framelets.geometry._segment_walk import SegmentProgram
from framelets.geometry.partition_segment import BoundaryLayer, layers_of


@dataclass(frozen=True)
class LayerExpressivity:
    """The units of one operation and what they can choose from.

    Attributes:
        layer: The operation.
        on_skip: Whether its units lie on a skip: on no way through those of lowest resolution.
        num_units: How many units it has.
        log2_choices: Binary logarithm of the product of their pieces; for ReLU the number of units.
        num_units_of_pixel: How many of them can reach the chosen entry of the output.
        log2_choices_of_pixel: The logarithm for these alone.
    """

    layer: BoundaryLayer
    on_skip: bool
    num_units: int
    log2_choices: float
    num_units_of_pixel: int
    log2_choices_of_pixel: float


@dataclass(frozen=True)
class ExpressivityBound:
    """Certified upper bounds of the number of linear maps of a network, counted from its units.

    All are binary logarithms. They bound the linear regions with inner points, the activation
    patterns, and the linear maps of such regions.

    Attributes:
        layers: One for each operation that bends, in the order of the network.
        entry: The entry of the output, without batch axis, for what is said of a pixel.
        has_bottom: Whether the network lowers the resolution, so that skips can be told.
    """

    layers: tuple[LayerExpressivity, ...]
    entry: tuple[int, ...]
    has_bottom: bool

    @property
    def num_units(self) -> int:
        """How many units there are."""
        return sum(layer.num_units for layer in self.layers)

    @property
    def log2_maps(self) -> float:
        """At most 2 to this power linear maps of the whole image."""
        return math.fsum(layer.log2_choices for layer in self.layers)

    @property
    def log2_maps_without_skips(self) -> float:
        """The exponent without the units that lie on skips."""
        return math.fsum(layer.log2_choices for layer in self.layers if not layer.on_skip)

    @property
    def log2_maps_of_skips(self) -> float:
        """What the units on skips add to the exponent."""
        return math.fsum(layer.log2_choices for layer in self.layers if layer.on_skip)

    @property
    def num_units_of_pixel(self) -> int:
        """How many units can reach the chosen entry of the output."""
        return sum(layer.num_units_of_pixel for layer in self.layers)

    @property
    def log2_maps_of_pixel(self) -> float:
        """At most 2 to this power linear maps make this entry: what counts on patches obey."""
        return math.fsum(layer.log2_choices_of_pixel for layer in self.layers)

    def __str__(self) -> str:
        """Write the bounds, and what they are worth."""
        lines = [
            f"at most 2^{self.log2_maps:.6g} linear maps of the image ({self.num_units} units), "
            f"2^{self.log2_maps_of_pixel:.6g} of the output at {self.entry} "
            f"({self.num_units_of_pixel} units reach it): certified upper bounds, counted"
        ]
        if self.has_bottom:
            lines.append(
                f"without the units on skips 2^{self.log2_maps_without_skips:.6g}; skips add a "
                f"factor 2^{self.log2_maps_of_skips:.6g}"
            )
        return "\n".join(lines)


def expressivity_bound(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Inexact[Tensor, " 1 *sample"],
    *,
    entry: tuple[int, ...] | None = None,
    forward: Callable[..., Tensor] | None = None,
) -> ExpressivityBound:
    """Count the choices of all units of a network, layer by layer.

    Operations that the output does not depend on are not counted.

    Args:
        network: A piecewise-linear network in evaluation mode, or a function of one tensor that
            takes double precision.
        image: Any image of the size in question, with its batch axis of one.
        entry: Where the output is looked at, an index without batch axis; default: its middle.
        forward: How to call the network, if not `network(image)`.

    Returns:
        Certified upper bounds, as binary logarithms.

    Raises:
        ValueError: If the network is not piecewise linear (what a normalization by the image's own
            statistics can choose from is not finite), or the entry does not exist.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        >>> bound = expressivity_bound(network, torch.ones(1, 4))
        >>> bound.log2_maps, bound.log2_maps_of_pixel
        (3.0, 1.0)
    """
    program = SegmentProgram(network, image, forward)
    shape = tuple(program.output.shape[1:])
    entry = tuple(size // 2 for size in shape) if entry is None else tuple(entry)
    if len(entry) != len(shape) or not all(
        0 <= i < size for i, size in zip(entry, shape, strict=True)
    ):
        raise ValueError(
            f"entry must be an index into the output of shape {shape}, got {entry}; leave out the "
            "batch axis"
        )
    flat = int(torch.arange(math.prod(shape)).reshape(shape)[entry])
    values = shapes_at_bends(program)
    reach = reach_of(program, values, flat)
    skips = _on_skip(program)
    layers = []
    for number, (bend, layer) in enumerate(zip(program.bends, layers_of(program), strict=True)):
        logarithms = bend.num_choices(values[number]).double().log2().cpu()
        reaching = reach.units[number].flatten()
        layers.append(
            LayerExpressivity(
                layer=layer,
                on_skip=skips is not None and skips[number],
                num_units=layer.num_units,
                log2_choices=math.fsum(logarithms.tolist()),
                num_units_of_pixel=int(reaching.sum()),
                log2_choices_of_pixel=math.fsum(logarithms[reaching].tolist()),
            )
        )
    return ExpressivityBound(tuple(layers), entry, skips is not None)


def arrangement_bound(num_units: int, num_inputs: int, *, bias: bool) -> float:
    """Bound the cells into which the units of a first layer cut its inputs: a certified bound.

    N hyperplanes cut n dimensions into at most sum_(k<=n) C(N, k) cells, and into at most
    2 sum_(k<n) C(N-1, k) if all pass through zero [2].

    Args:
        num_units: N.
        num_inputs: n.
        bias: Whether the units have a bias, so that their hyperplanes need not pass through zero.

    Returns:
        The binary logarithm of the bound.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> 2 ** arrangement_bound(4, 3, bias=False)
        14.0
    """
    for name, value in (("num_units", num_units), ("num_inputs", num_inputs)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if num_inputs >= num_units:
        return float(num_units)
    top, last = (num_units, num_inputs) if bias else (num_units - 1, num_inputs - 1)
    total = term = 1
    for k in range(last):
        term = term * (top - k) // (k + 1)
        total += term
    return math.log2(total if bias else 2 * total)


def _on_skip(program: SegmentProgram) -> list[bool] | None:
    """Tell which bends lie on no way through the units of lowest resolution, if it is lowered.

    What these units are made of belongs to the encoder, what is made of them to the decoder. Units
    without axes of space, or of one pixel, weigh channels: they are no bottom.
    """
    ndim, whole = program.image.ndim, math.prod(program.image.shape[2:])
    sizes = {
        node: math.prod(program.bends[number].shape[2:])
        for node, number in program.bend_of.items()
        if len(program.bends[number].shape) == ndim
    }
    sizes = {node: size for node, size in sizes.items() if size > 1}
    lowest = min(sizes.values(), default=whole)
    if lowest >= whole:
        return None
    bottom = {node for node, size in sizes.items() if size == lowest}
    before, after = set(bottom), set(bottom)
    for link in program.links:
        if not after.isdisjoint(link.inputs):
            after.add(link.output)
    for link in reversed(program.links):
        if link.output in before:
            before.update(link.inputs)
    return [node not in before | after for node in program.bend_of]
