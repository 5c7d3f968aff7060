"""The partition of a plane of images: exact polygons for small networks.

A region of the input space, all images with one activation pattern, is a convex polytope; a plane
cuts it in a convex polygon. `partition_plane` finds all of them on a square of the plane through
three images, by cutting the square at the boundaries of one layer after the other
(`_polygon_walk`), as [1] does for dense layers. Coordinates are those of an orthonormal basis of
the plane: distances, lengths and areas are in units of the image norm.

References:
    [1] A. I. Humayun, R. Balestriero, G. Balakrishnan and R. Baraniuk, "SplineCam: exact
        visualization and characterization of deep network geometry and decision boundaries",
        CVPR 2023.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Inexact
from torch import Tensor, nn

from framelets.geometry._polygon import rectangle
from framelets.geometry._polygon_walk import cut_plane
from framelets.geometry._segment_walk import SegmentProgram, in_double
from framelets.geometry.linearize import linearize
from framelets.geometry.local_lipschitz import local_lipschitz
from framelets.geometry.partition_segment import BoundaryLayer, layers_of


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """The plane through three images, with orthonormal coordinates around their mean.

    Attributes:
        center: The mean of the three images, with its batch axis of one.
        axes: Two orthonormal directions, the first from the first image towards the second.
        points: Coordinates of the three images.
    """

    center: Float[Tensor, " 1 *sample"]
    axes: Float[Tensor, " 2 1 *sample"]
    points: Float[Tensor, "3 2"]

    @classmethod
    def through(cls, images: Sequence[Tensor]) -> "ImagePlane":
        """Lay a plane through three real images.

        Raises:
            ValueError: If there are not three, of one shape, that do not lie on a line.
        """
        if len(images) != 3 or len({tuple(image.shape) for image in images}) != 1:
            shapes = [tuple(image.shape) for image in images]
            raise ValueError(f"images must be three of one shape, got {shapes}")
        if any(image.is_complex() for image in images):
            raise TypeError("images must be real; a plane is spanned by real multiples")
        first, second, third = (image.detach().double() for image in images)
        center = (first + second + third) / 3
        sides = torch.stack([second - first, third - first]).flatten(1)
        basis, triangle = torch.linalg.qr(sides.T)
        lengths = triangle.diagonal().abs()
        if not bool((lengths > 1e-9 * torch.linalg.vector_norm(sides)).all()):
            raise ValueError("images must not lie on one line; choose a third one beside it")
        axes = (basis * triangle.diagonal().sign()).T
        points = torch.stack([image.flatten() for image in (first, second, third)])
        coordinates = (points - center.flatten()) @ axes.T
        return cls(center, axes.reshape(2, *first.shape), coordinates)

    @property
    def half_width(self) -> float:
        """Half the side of the square around the mean that holds the images with a margin."""
        return 1.25 * float(self.points.abs().max())

    def image(self, point: Sequence[float] | Float[np.ndarray, " 2"]) -> Tensor:
        """Return the image at coordinates, in double precision."""
        return self.center + float(point[0]) * self.axes[0] + float(point[1]) * self.axes[1]


@dataclass(frozen=True, eq=False)
class PlanePartition:
    """All regions of a square of a plane; exact up to the rounding of double precision.

    Attributes:
        plane: The plane.
        half_width: Half the side of the square, in units of the image norm.
        layers: The operations that draw boundaries.
        corners: Of each region, its corners in the coordinates of the plane, in order.
        edge_layers: Of each region, the layer that drew the edge from each corner to the next: an
            index into `layers`, or -1 for the border of the square.
        outputs: Of each region, constant and two slopes of the output in the coordinates.
        areas: Of each region.
        gains: Of each region, K_p = |J| as a certified lower bound (`local_lipschitz`); None if
            not asked for.
    """

    plane: ImagePlane
    half_width: float
    layers: tuple[BoundaryLayer, ...]
    corners: list[Float[np.ndarray, "_ 2"]]
    edge_layers: list[np.ndarray]
    outputs: Inexact[Tensor, " region 3 *output_shape"]
    areas: Float[np.ndarray, " region"]
    gains: Float[np.ndarray, " region"] | None

    @property
    def num_regions(self) -> int:
        """How many regions the square meets."""
        return len(self.corners)


def partition_plane(
    network: nn.Module | Callable[[Tensor], Tensor],
    images: Sequence[Tensor],
    *,
    half_width: float | None = None,
    forward: Callable[..., Tensor] | None = None,
    max_regions: int = 20_000,
    with_gains: bool = False,
    generator: torch.Generator | None = None,
) -> PlanePartition:
    """Find every region on a square of the plane through three images, exactly.

    The number of regions grows with the square of the width; for networks and planes with more
    than some ten thousand, use `partition_map`.

    Args:
        network: A piecewise-linear network in evaluation mode, on the CPU, or a function of one
            tensor that takes double precision.
        images: Three real images with a batch axis of one, not on one line.
        half_width: Half the side of the square around their mean, in units of the image norm;
            default: so that it holds the three images with a margin of a quarter.
        forward: How to call the network, if not `network(image)`.
        max_regions: Stop beyond so many.
        with_gains: Also bound K_p in every region, which takes some ten passes each.
        generator: Source of the starts of `local_lipschitz`.

    Raises:
        ValueError: If the network is not piecewise linear, the images lie on a line, or there are
            more regions than allowed.

    Example:
        >>> images = [torch.tensor([point]) for point in ([-1.0, -1], [1.0, -1], [0.0, 2])]
        >>> partition_plane(torch.nn.ReLU(), images).num_regions
        4
    """
    plane = ImagePlane.through(images)
    doubled, _ = in_double(network, images[0])
    program = SegmentProgram(doubled, plane.center, forward)
    width = plane.half_width if half_width is None else half_width
    square = rectangle((-width, -width), (width, width))
    cells = cut_plane(program, plane.axes, square, max_regions)
    gains = None
    if with_gains:
        gains = np.array(
            [
                local_lipschitz(
                    linearize(doubled, plane.image(polygon.center), forward), generator=generator
                ).lower
                for polygon in cells.polygons
            ]
        )
    return PlanePartition(
        plane=plane,
        half_width=width,
        layers=layers_of(program),
        corners=[polygon.corners for polygon in cells.polygons],
        edge_layers=[polygon.labels for polygon in cells.polygons],
        outputs=cells.outputs,
        areas=np.array([polygon.area for polygon in cells.polygons]),
        gains=gains,
    )
