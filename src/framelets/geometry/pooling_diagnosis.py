"""What every pooling of a network forgets, folds down and counts twice.

A level analyzes an image u by F u = (u, A u): the skip, if there is one, and the pooling A.

- Bounds. lower |u|^2 <= |F u|^2 <= upper |u|^2. A lower bound of zero: part of u is forgotten.
- Aliasing. Of the energy that A passes on of a white u, the share that comes from frequencies at
  or above the new Nyquist frequency, pi over the factor s of an axis, and is folded down:

      1 - int_{|w| < pi/s} |a(w)|^2 dw / int |a(w)|^2 dw

  with the frequency response a of the pooling, summed over channels. Filters are finite, so the
  integrals are finite sums: in one dimension that over the band is
  sum_{j,k} a_j a_k sin(pi (j - k) / s) / (pi (j - k)). Keeping every second pixel of a row gives
  1/2, its mean with the next one 1/2 - 1/pi; both axes of an image, 3/4 and
  1 - (1/2 + 1/pi)^2 = 0.33. A filter bank that keeps all subbands cancels its aliasing again.
- Reconstruction. G brings skip and pooled image back: R u = G F u is the sum of the branches that
  meet at full resolution, without the filters. `ratio` is that of the largest to the smallest
  singular value of R: how often the level counts some of u against the rest. `error` is the norm
  of w R - I with the best number w, (ratio - 1) / (ratio + 1) where R is symmetric. A plain U-Net
  counts low frequencies twice: R = I + P, ratio 2, error 1/3; its dual frame has R = I, the tight
  frame R = 2 I [1]. R acts on every channel by itself and commutes with shifts by the factor of the
  pooling, so its singular values are those of small matrices, one a frequency, found from its
  responses to the pixels of one block in every channel; the map is taken as periodic. Max pooling
  chooses anew in every block and commutes with no shift: all blocks of a channel are taken to
  choose as the probed one does. That is exact where blocks meet neither in the pooling nor in the
  un-pooling, as all choices in a block have the same singular values.

What comes from below has passed through filters of the network. In their place R has

- "network": nothing, where a low-resolution tensor of the pooled image's shape is brought back
  channel by channel: the un-pooling of the network itself;
- "pseudo-inverse": A* A u / c, the part of u that the pooling keeps, where a learned un-pooling
  mixes channels and A A* = c I, as for averages and maxima;
- "adjoint": A* A u in all other cases, such as a pooling that mixes channels, or one with A A* not
  c I (averages or maxima of overlapping windows) where the un-pooling is not found or, for maxima,
  at all: R = F* F, and ratio = upper / lower. The scale of a learned pooling is arbitrary where a
  normalization follows, and this ratio with it.

References:
    [1] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex
from scipy.optimize import minimize_scalar
from torch import Tensor

from framelets.core import LinearOperator
from framelets.geometry._image_graph import is_depthwise
from framelets.geometry._level_maps import Join, LevelMaps, Resampling
from framelets.geometry._steps import Convolution
from framelets.geometry.frame_levels import Level, Stacked, level_of, scalar_of
from framelets.geometry.linearize import LocalMap


@dataclass(frozen=True)
class PoolingDiagnosis:
    """One level at which the resolution falls.

    Attributes:
        level: Place, skip, frame bounds and counts.
        operation: The pooling in words.
        learned: True if the pooling is a convolution across channels.
        aliasing: Share of what goes down that was folded down.
        ratio: Largest over smallest singular value of R; infinity where part of u is lost.
        error: Norm of w R - I with the best number w.
        completion: What stands for the levels below: "network", "pseudo-inverse" or "adjoint".
    """

    level: Level
    operation: str
    learned: bool
    aliasing: float
    ratio: float
    error: float
    completion: str


def diagnose_poolings(
    local: LocalMap, *, generator: torch.Generator | None = None
) -> list[PoolingDiagnosis]:
    """Diagnose every level of a network at an image.

    Args:
        local: A network at an image; record it in float64.
        generator: Source of the starting vectors.

    Example:
        >>> from framelets.geometry import linearize
        >>> def network(image):  # a skip beside the mean, un-pooled by copying
        ...     low = torch.nn.functional.avg_pool2d(image, 2)
        ...     return torch.cat([image, torch.nn.functional.interpolate(low, scale_factor=2)], 1)
        >>> local = linearize(network, torch.ones(1, 1, 8, 8, dtype=torch.float64))
        >>> (found,) = diagnose_poolings(local)
        >>> found.operation, round(found.level.upper, 6), round(found.ratio, 6)
        ('average pooling 2x2', 1.25, 2.0)
        >>> round(found.error, 6), round(found.aliasing, 6)
        (0.333333, 0.330369)
    """
    generator = generator or torch.Generator(local.image.device).manual_seed(0)
    return [_diagnose(maps, generator) for maps in local.levels()]


def operation_words(resampling: Resampling) -> str:
    """Describe an operation that changes the resolution: kind, kernel or factor, stride."""
    sizes = zip(resampling.before[1:], resampling.after[1:], strict=True)
    factor = "x".join(str(round(max(n, m) / min(n, m))) for n, m in sizes)
    step = resampling.step
    if isinstance(step, Convolution):
        kernel = "x".join(map(str, step.weight.shape[2:]))
        strides = step.options[0]
        stride = "x".join(map(str, strides if len(set(strides)) > 1 else strides[:1]))
        kind = "transposed convolution" if step.transposed else "convolution"
        depthwise = "depthwise " if is_depthwise(step) and step.groups > 1 else ""
        return f"{depthwise}{kind} {kernel}, stride {stride}"
    for part, words in _WORDS.items():
        if part in resampling.name:
            return f"{words} {factor}"
    return f"{resampling.name} {factor}"


_WORDS = {
    "rearrangement": "rearrangement",
    "avg_pool": "average pooling",
    "max_pool": "max pooling",
    "nearest": "nearest-neighbor upsampling",
    "linear": "linear upsampling",
    "bicubic": "cubic upsampling",
    "pixel_shuffle": "pixel shuffle",
    "slice": "every pixel in",
}


def _diagnose(maps: LevelMaps, generator: torch.Generator) -> PoolingDiagnosis:
    level = level_of(maps, generator)
    down = [pooling for pooling in maps.poolings if pooling.goes_down] or [maps.poolings[0]]
    pair, completion = _pair(maps, down, generator)
    if pair is not None:
        ratio, error = _ratio_and_error(pair, down[0])
    else:
        ratio = level.upper / level.lower if level.lower > 0 else math.inf
        error = (level.upper - level.lower) / (level.upper + level.lower)
    many = f"{len(maps.poolings)} x " if len(maps.poolings) > 1 else ""
    return PoolingDiagnosis(
        level,
        many + operation_words(down[0]),
        any(map(_mixes_channels, down)),
        _aliasing(down),
        ratio,
        error,
        completion,
    )


def _pair(
    maps: LevelMaps, down: Sequence[Resampling], generator: torch.Generator
) -> tuple["_Pair | None", str]:
    """Return R, or None where it is F* F, and what stands for the levels below."""
    pooling = Stacked([p.operator for p in down])
    if not maps.skip or any(map(_mixes_channels, down)):
        return None, "adjoint"
    gain = scalar_of(pooling.H, pooling.dtype, generator)
    low_shape = down[0].after if len(down) == 1 else None
    kept = pooling.gram if gain is None else (1 / gain) * pooling.gram
    pair = _Pair(maps.join, maps.shape, low_shape, pooling, kept)
    if gain is None and (not pair.complete or any("max_pool" in p.name for p in down)):
        return None, "adjoint"
    return pair, "network" if pair.complete else "pseudo-inverse"


def _mixes_channels(pooling: Resampling) -> bool:
    return isinstance(pooling.step, Convolution) and not is_depthwise(pooling.step)


class _Pair:
    """R: skip and pooled image, brought together as the network does."""

    def __init__(
        self,
        join: Join | None,
        shape: tuple[int, ...],
        low_shape: tuple[int, ...] | None,
        pooling: Stacked,
        kept: LinearOperator,
    ) -> None:
        self.input_shape = pooling.input_shape
        self.dtype, self.device = pooling.dtype, pooling.device
        self._pooling, self._kept = pooling, kept
        self._join = None if join is None else join.operator
        below = () if join is None else join.below
        self._num_branches = 1 if join is None else join.num_branches
        self._sizes = [math.prod(s) for s in below]
        same = [k for k, s in enumerate(below) if s == shape]
        # What is kept comes back once: at the first tensor that has the right shape, or beside.
        self._kinds = [
            "low" if s == low_shape else "kept" if same and k == same[0] else "none"
            for k, s in enumerate(below)
        ]
        self.complete = join is not None and all(kind == "low" for kind in self._kinds)
        self._beside = not self.complete and not same

    def __call__(self, x: Tensor) -> Tensor:
        result = self._kept(x) if self._beside else torch.zeros_like(x)
        if self._join is None:
            return result + x
        (total,) = self._join.input_shape or (0,)
        given = [x]
        for kind, size in zip(self._kinds, self._sizes, strict=True):
            zeros = x.new_zeros(*x.shape[:-1], size)
            given.append(
                {"low": self._pooling, "kept": self._kept}[kind](x) if kind != "none" else zeros
            )
        elsewhere = total - sum(part.shape[-1] for part in given)
        branches = self._join(torch.cat([*given, x.new_zeros(*x.shape[:-1], elsewhere)], -1))
        together: Tensor = branches.unflatten(-1, (self._num_branches, -1)).sum(-2)
        return result + together


def _ratio_and_error(pair: _Pair, pooling: Resampling) -> tuple[float, float]:
    matrices = _responses(pair, pooling)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    values = torch.linalg.svdvals(matrices)
    high, low = float(values.max()), float(values.min())

    def error(weight: float) -> float:
        return float(torch.linalg.matrix_norm(weight * matrices - identity, 2).max())

    options = {"xatol": 1e-9 / high}
    found = minimize_scalar(error, bounds=(0.0, 2 / high), method="bounded", options=options)
    lost = low <= torch.finfo(values.dtype).eps ** 0.5 * high
    return math.inf if lost else high / low, min(1.0, float(found.fun))


def _responses(
    pair: _Pair, pooling: Resampling
) -> Complex[Tensor, "channel *frequency phase_out phase_in"]:
    """Return the matrices that R applies to the phases of a map, frequency by frequency.

    Channels whose matrices are those of another one are left out.
    """
    space = pooling.before[1:]
    factors = [round(n / m) for n, m in zip(space, pooling.after[1:], strict=True)]
    blocks = [n // s for n, s in zip(space, factors, strict=True)]
    origin = [b // 2 for b in blocks]
    points = torch.zeros(math.prod(factors), *pooling.before, dtype=pair.dtype, device=pair.device)
    for k, phase in enumerate(itertools.product(*map(range, factors))):
        place = [s * b + p for s, b, p in zip(factors, origin, phase, strict=True)]
        index: tuple[int | slice, ...] = (k, slice(None), *place)
        points[index] = 1  # R acts on every channel by itself
    channels = _different(pair(points.flatten(1)).reshape(points.shape).transpose(0, 1))
    return torch.stack([_by_frequency(maps, blocks, factors, origin) for maps in channels])


def _different(channels: Tensor) -> list[Tensor]:
    """Keep the first of all channels that are equal up to rounding."""
    limit = 100 * torch.finfo(channels.dtype).eps * channels.abs().max()
    kept: list[Tensor] = []
    for channel in channels:
        if all((channel - other).abs().max() > limit for other in kept):
            kept.append(channel)
    return kept


def _by_frequency(
    maps: Tensor, blocks: Sequence[int], factors: Sequence[int], origin: Sequence[int]
) -> Complex[Tensor, "*frequency phase_out phase_in"]:
    """Transform the responses `phase_in *space` of one channel to the pixels of one block."""
    for axis, (b, s) in enumerate(zip(blocks, factors, strict=True)):
        # Each axis becomes two: the block, counted from that of the points, and the phase in it.
        maps = maps.narrow(2 * axis + 1, 0, b * s).unflatten(2 * axis + 1, (b, s))
        maps = maps.roll(-origin[axis], 2 * axis + 1)
    num_axes = len(blocks)
    order = [*range(1, 2 * num_axes, 2), *range(2, 2 * num_axes + 1, 2), 0]
    by_block = maps.permute(order).flatten(num_axes, 2 * num_axes - 1)
    responses: Tensor = torch.fft.fftn(by_block, dim=tuple(range(num_axes)))
    return responses


def _aliasing(poolings: Sequence[Resampling]) -> float:
    folded = total = 0.0
    for pooling in poolings:
        filters, spacing = _filters(pooling)
        band = filters
        factors = [round(n / m) for n, m in zip(pooling.before[1:], pooling.after[1:], strict=True)]
        for axis, (s, d) in enumerate(zip(factors, spacing, strict=True), start=2):
            places = d * torch.arange(filters.shape[axis], dtype=torch.float64)
            sinc = torch.sinc((places - places[:, None]) / s) / s
            band = torch.movedim(torch.movedim(band, axis, -1) @ sinc.to(band), -1, axis)
        energy = float(torch.linalg.vector_norm(filters)) ** 2
        total += energy
        folded += energy - float(torch.vdot(filters.flatten(), band.flatten()).real)
    return max(0.0, folded / total) if total > 0 else 0.0


def _filters(pooling: Resampling) -> tuple[Tensor, list[int]]:
    """Return the filters `output input *space` of a pooling, and how far apart their taps are.

    What is no convolution treats all channels and all places alike: one row stands for it.
    """
    step = pooling.step
    if isinstance(step, Convolution):
        return step.weight.contiguous(), list(step.options[2])
    middle = [n // 2 for n in pooling.after[1:]]
    stacked = Stacked([pooling.operator])
    point = torch.zeros(pooling.after, dtype=stacked.dtype, device=stacked.device)
    point[(0, *middle)] = 1
    row = stacked.adjoint(point.flatten()).reshape(1, *pooling.before)
    return row, [1] * len(middle)
