"""Where source and detector stand in a two-dimensional scan.

One convention serves every scan. The rotation axis is the origin of (x, y); x points to the right
of the image and y up, toward row 0. A view angle b turns the gantry counterclockwise, with

    e_u = (cos b, sin b)     the detector axis: index 0 lies at its negative end,
    e_w = (-sin b, cos b)    the direction of the central ray, from source to detector.

At b = 0 the source stands below the image, the rays travel up and the detector index grows to the
right. Detector element k of K has its center at

    u_k = (k - (K - 1) / 2) detector_spacing_mm + detector_offset_mm.

A fan beam with its source far away is a parallel beam with the same view angles. The polar angle
of the fan's source, which some texts call the view angle, is b - pi/2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.physics.image_grid import refuse_unless_positive

_MOST_TURNS = 4

_S = TypeVar("_S", bound="_Scan")


@dataclass(frozen=True, eq=False)
class _Scan:
    view_angles: Float[Tensor, " view"]
    num_detectors: int
    detector_spacing_mm: float

    def __post_init__(self) -> None:
        """Refuse what no scanner has; keep the angles in float64 on the CPU."""
        angles = self.view_angles
        if not isinstance(angles, Tensor) or not angles.is_floating_point():
            kind = angles.dtype if isinstance(angles, Tensor) else type(angles).__name__
            raise TypeError(
                f"view_angles must be a tensor of floats in radians, got {kind}; "
                "use torch.tensor(angles, dtype=torch.float64)"
            )
        if angles.ndim != 1 or len(angles) < 1:
            raise ValueError(
                f"view_angles must be one axis of at least 1 view, got shape {tuple(angles.shape)}"
            )
        if not angles.isfinite().all():
            raise ValueError("view_angles must be finite, got NaN or infinity; drop those views")
        span = float(angles.max() - angles.min())
        if span > _MOST_TURNS * 2 * math.pi:
            raise ValueError(
                f"view_angles must be radians, but they span {span:.6g} rad, "
                f"over {_MOST_TURNS} turns; "
                "if they are degrees use torch.deg2rad, if they are many turns reduce by 2 pi"
            )
        if self.num_detectors < 1:
            raise ValueError(f"num_detectors must be at least 1, got {self.num_detectors}")
        refuse_unless_positive("detector_spacing_mm", self.detector_spacing_mm)
        object.__setattr__(self, "view_angles", angles.detach().to("cpu", torch.float64))

    @property
    def num_views(self) -> int:
        """Number of views."""
        return len(self.view_angles)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of views and of detector elements: the shape of a sinogram."""
        return self.num_views, self.num_detectors

    def subset(self: _S, views: int | Sequence[int] | slice | Tensor) -> _S:
        """Keep some of the views: index a sinogram likewise.

        Args:
            views: A step n keeps views 0, n, 2n, ...; else a slice, indices or a mask.

        Returns:
            The same scan with these views, in the order given.

        Raises:
            ValueError: If the step is not positive or no view is left.
        """
        if isinstance(views, int):
            if views < 1:
                raise ValueError(f"views as a step must be at least 1, got {views}")
            views = slice(None, None, views)
        index = (
            views if isinstance(views, slice | Tensor) else torch.tensor(views, dtype=torch.long)
        )
        kept = self.view_angles[index]
        if kept.numel() == 0:
            raise ValueError(f"views must keep at least one of {self.num_views} views, kept none")
        return replace(self, view_angles=kept)

    def _detector_positions_mm(self, offset_mm: float) -> Float[Tensor, " detector"]:
        index = torch.arange(self.num_detectors, dtype=torch.float64)
        return (index - (self.num_detectors - 1) / 2) * self.detector_spacing_mm + offset_mm

    def _axes(self) -> tuple[Float[Tensor, "view 2"], Float[Tensor, "view 2"]]:
        cosine, sine = self.view_angles.cos(), self.view_angles.sin()
        return torch.stack([cosine, sine], dim=-1), torch.stack([-sine, cosine], dim=-1)


@dataclass(frozen=True, eq=False)
class ParallelBeamScan(_Scan):
    """Parallel rays: element k at view angle b measures the line x cos b + y sin b = u_k.

    Half a turn measures every line once; the element k at b sees the line of -u_k at b + pi.

    Attributes:
        view_angles: Gantry angles in radians, in any order.
        num_detectors: Elements along the detector.
        detector_spacing_mm: Distance between the centers of neighbors.
        detector_offset_mm: Where the middle of the detector lies on e_u. A rotation axis that
            projects on the (fractional) index c means ((K - 1) / 2 - c) detector_spacing_mm.
    """

    detector_offset_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no scanner has."""
        super().__post_init__()
        _refuse_unless_finite("detector_offset_mm", self.detector_offset_mm)

    @property
    def detector_positions_mm(self) -> Float[Tensor, " detector"]:
        """Position u of every element on the detector axis."""
        return self._detector_positions_mm(self.detector_offset_mm)

    @property
    def field_of_view_radius_mm(self) -> float:
        """Radius of the disk around the axis that every view sees whole; 0 if there is none."""
        u, margin = self.detector_positions_mm, self.detector_spacing_mm / 2
        return max(0.0, min(margin - float(u[0]), float(u[-1]) + margin))

    def rays(self) -> tuple[Float[Tensor, "view detector 2"], Float[Tensor, "view detector 2"]]:
        """Give every ray by a point in mm and a unit direction, both as (x, y)."""
        along_detector, along_ray = self._axes()
        points = self.detector_positions_mm[:, None] * along_detector[:, None]
        return points, along_ray[:, None].expand_as(points)

    def projection_matrices(self) -> Float[Tensor, "view 2 3"]:
        """Map a point to the detector: P (x, y, 1) = U (k, 1), k the index; here U = 1."""
        along_detector, _ = self._axes()
        middle = (self.num_detectors - 1) / 2 - self.detector_offset_mm / self.detector_spacing_mm
        matrices = torch.zeros(self.num_views, 2, 3, dtype=torch.float64)
        matrices[:, 0, :2] = along_detector / self.detector_spacing_mm
        matrices[:, 0, 2] = middle
        matrices[:, 1, 2] = 1.0
        return matrices


@dataclass(frozen=True, eq=False)
class FanBeamScan(_Scan):
    """Rays from one point to a flat detector, which turn together around the axis.

    At view angle b the source stands at -axis_offset_mm e_u - source_to_isocenter_mm e_w and the
    point u of the detector at (u - axis_offset_mm) e_u + (source_to_detector_mm -
    source_to_isocenter_mm) e_w. A whole turn measures every line twice.

    Attributes:
        view_angles: Gantry angles in radians, in any order; the source's polar angle plus pi/2.
        num_detectors: Elements along the detector.
        detector_spacing_mm: Distance between the centers of neighbors, on the real detector.
        source_to_isocenter_mm: From the source to the rotation axis, along e_w.
        source_to_detector_mm: From the source to the detector, along e_w.
        detector_offset_mm: Where the middle of the detector lies, from the foot of the
            perpendicular that the source drops on it.
        axis_offset_mm: Where the rotation axis lies, from that perpendicular, along e_u.
    """

    source_to_isocenter_mm: float
    source_to_detector_mm: float
    detector_offset_mm: float = 0.0
    axis_offset_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no scanner has."""
        super().__post_init__()
        refuse_unless_positive("source_to_isocenter_mm", self.source_to_isocenter_mm)
        _refuse_unless_finite("detector_offset_mm", self.detector_offset_mm)
        _refuse_unless_finite("axis_offset_mm", self.axis_offset_mm)
        _refuse_unless_finite("source_to_detector_mm", self.source_to_detector_mm)
        if not self.source_to_detector_mm >= self.source_to_isocenter_mm:
            raise ValueError(
                "source_to_detector_mm must be at least source_to_isocenter_mm "
                f"{self.source_to_isocenter_mm}, got {self.source_to_detector_mm}; "
                "were they swapped, or is one of them from the isocenter to the detector?"
            )

    @property
    def magnification(self) -> float:
        """Source-detector over source-isocenter distance."""
        return self.source_to_detector_mm / self.source_to_isocenter_mm

    @property
    def detector_positions_mm(self) -> Float[Tensor, " detector"]:
        """Position u of every element on the real detector."""
        return self._detector_positions_mm(self.detector_offset_mm)

    @property
    def fan_angles(self) -> Float[Tensor, " detector"]:
        """Angle of every ray with the central ray e_w, positive toward e_u."""
        return torch.atan(self.detector_positions_mm / self.source_to_detector_mm)

    @property
    def field_of_view_radius_mm(self) -> float:
        """Radius of the disk around the axis that every view sees whole; 0 if there is none."""
        u, margin = self.detector_positions_mm, self.detector_spacing_mm / 2
        edges = torch.stack([u[0] - margin, u[-1] + margin])
        gamma = torch.atan(edges / self.source_to_detector_mm)
        distance = self.source_to_isocenter_mm * gamma.sin() - self.axis_offset_mm * gamma.cos()
        return max(0.0, min(-float(distance[0]), float(distance[1])))

    def rays(self) -> tuple[Float[Tensor, "view detector 2"], Float[Tensor, "view detector 2"]]:
        """Give every ray by a point in mm, the source, and a unit direction, both as (x, y)."""
        along_detector, along_axis = self._axes()
        source = -self.axis_offset_mm * along_detector - self.source_to_isocenter_mm * along_axis
        gamma = self.fan_angles[:, None]
        directions = gamma.sin() * along_detector[:, None] + gamma.cos() * along_axis[:, None]
        return source[:, None].expand_as(directions), directions

    def projection_matrices(self) -> Float[Tensor, "view 2 3"]:
        """Map a point to the detector: P (x, y, 1) = U (k, 1), with k the fractional index.

        U = (R + x . e_w) / R is the depth of the point seen from the source, 1 at the axis, where
        R is `source_to_isocenter_mm`.
        """
        along_detector, along_axis = self._axes()
        middle = (self.num_detectors - 1) / 2 - self.detector_offset_mm / self.detector_spacing_mm
        scale = self.magnification / self.detector_spacing_mm
        matrices = torch.zeros(self.num_views, 2, 3, dtype=torch.float64)
        matrices[:, 1, :2] = along_axis / self.source_to_isocenter_mm
        matrices[:, 1, 2] = 1.0
        matrices[:, 0] = middle * matrices[:, 1]
        matrices[:, 0, :2] += scale * along_detector
        matrices[:, 0, 2] += scale * self.axis_offset_mm
        return matrices


Scan = ParallelBeamScan | FanBeamScan


def _refuse_unless_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
