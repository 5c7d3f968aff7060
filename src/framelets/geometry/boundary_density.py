"""How dense the boundaries of a network's regions are, along directions that mean something.

Along a path the number of boundaries grows in proportion to its length, and with depth and width
[1]. What a length means depends on the direction: noise, another exposure (scaling), the way
towards another patient, the direction that the network amplifies most, a direction that the scan
does not see. `directions_at` makes them, `boundary_density` counts on segments of one norm.

References:
    [1] A. Goujon, A. Etemadi and M. Unser, "On the number of regions of piecewise linear neural
        networks", 2022.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from framelets.geometry.linearize import linearize
from framelets.geometry.partition_segment import (
    BoundaryLayer,
    SegmentPartition,
    partition_segment,
)
from framelets.geometry.spectrum import spectrum


@dataclass(frozen=True)
class DensityRow:
    """Boundaries of one layer along one direction; exact counts.

    Attributes:
        direction: Its name.
        layer: The operation that draws the boundaries; None for all together.
        depth: Of the operation (`BoundaryLayer.depth`); 0 for all together.
        num_boundaries: How many were crossed.
        length: Norm of the image's change over which they were counted.
        per_norm: Boundaries per unit of the norm of the whole image.
        per_pixel_rms: Boundaries per unit of the root mean square change of a pixel.
    """

    direction: str
    layer: BoundaryLayer | None
    depth: int
    num_boundaries: int
    length: float
    per_norm: float
    per_pixel_rms: float


@dataclass(frozen=True, eq=False)
class BoundaryDensity:
    """Counts along several directions; exact over the length that was followed.

    Attributes:
        partitions: Of each direction, by name; its `reached` tells how much was followed.
    """

    partitions: Mapping[str, SegmentPartition]

    def rows(self) -> list[DensityRow]:
        """Return one row for each direction and layer, in the order of the network."""
        return [
            _row(name, partition, layer, layer.depth, int(count))
            for name, partition in self.partitions.items()
            for layer, count in zip(
                partition.layers, partition.boundaries_by_layer.tolist(), strict=True
            )
        ]

    def by_depth(self) -> list[DensityRow]:
        """Return one row for each direction and depth."""
        found = []
        for name, partition in self.partitions.items():
            counts: dict[int, int] = {}
            pairs = zip(partition.layers, partition.boundaries_by_layer.tolist(), strict=True)
            for layer, count in pairs:
                counts[layer.depth] = counts.get(layer.depth, 0) + int(count)
            found += [_row(name, partition, None, d, counts[d]) for d in sorted(counts)]
        return found

    def totals(self) -> list[DensityRow]:
        """Return one row for each direction."""
        return [
            _row(name, partition, None, 0, partition.num_boundaries)
            for name, partition in self.partitions.items()
        ]


def boundary_density(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Inexact[Tensor, " 1 *sample"],
    directions: Mapping[str, Tensor],
    *,
    norm: float,
    forward: Callable[..., Tensor] | None = None,
    memory_limit_bytes: int = 4 * 1024**3,
    time_limit_s: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> BoundaryDensity:
    """Count the boundaries on segments of one norm in several directions from an image.

    Args:
        network: As for `partition_segment`.
        image: The image with its batch axis of one.
        directions: By name; their lengths do not matter. `directions_at` makes them.
        norm: Norm of the change of the whole image at the end of each segment.
        forward: How to call the network, if not `network(image)`.
        memory_limit_bytes: Of `partition_segment`.
        time_limit_s: For each direction; what was not reached is not counted.
        progress: Called with the share of the directions that is done, from 0 to 1.

    Raises:
        ValueError: If the network is not piecewise linear, there is no direction, or the norm is
            not positive.
    """
    if not directions:
        raise ValueError("directions must name at least one direction, got none")
    if not norm > 0:
        raise ValueError(f"norm must be positive, got {norm}")
    partitions: dict[str, SegmentPartition] = {}

    def report(share: float) -> None:
        if progress is not None:
            progress((len(partitions) + share) / len(directions))

    for name, direction in directions.items():
        length = float(torch.linalg.vector_norm(direction))
        if length == 0:
            raise ValueError(f"directions must not be zero, got {name!r}")
        partitions[name] = partition_segment(
            network,
            image,
            direction * (norm / length),
            forward=forward,
            memory_limit_bytes=memory_limit_bytes,
            time_limit_s=time_limit_s,
            progress=report,
        )
    return BoundaryDensity(partitions)


def directions_at(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Inexact[Tensor, " 1 *sample"],
    *,
    another_image: Tensor | None = None,
    null_space: Tensor | None = None,
    forward: Callable[..., Tensor] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Make directions that mean something at an image, for `boundary_density`.

    Args:
        network: A network that can be linearized.
        image: The image with its batch axis of one; not zero.
        another_image: Where to go from here, such as another patient's image.
        null_space: A direction that the measurement does not see.
        forward: How to call the network, if not `network(image)`.
        generator: Source of the noise; default: seed 0.

    Returns:
        "noise" (white), "scaling" (the image itself), "leading singular vector" (of the Jacobian),
        and "another image" and "null space" if they were given.
    """
    generator = generator or torch.Generator().manual_seed(0)
    noise = torch.randn(image.shape, dtype=image.dtype, generator=generator).to(image.device)
    leading = spectrum(linearize(network, image, forward).tangent, num=1, generator=generator)
    directions = {
        "noise": noise,
        "scaling": image,
        "leading singular vector": leading.right[:1].reshape(image.shape),
    }
    if another_image is not None:
        directions["another image"] = another_image - image
    if null_space is not None:
        directions["null space"] = null_space
    return directions


def _row(
    name: str,
    partition: SegmentPartition,
    layer: BoundaryLayer | None,
    depth: int,
    count: int,
) -> DensityRow:
    length = partition.reached * partition.direction_norm
    per_norm = count / length if length > 0 else 0.0
    per_pixel_rms = per_norm * sqrt(partition.num_pixels)
    return DensityRow(name, layer, depth, count, length, per_norm, per_pixel_rms)
