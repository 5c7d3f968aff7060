"""A network at one input: its frame, offset, spectrum, atoms, patterns and local constants."""

from .activation_pattern import ActivationPattern, LayerPattern
from .atoms import Atoms, atoms
from .boundary_density import BoundaryDensity, DensityRow, boundary_density, directions_at
from .boundary_distance import (
    BoundaryAlong,
    BoundaryDistance,
    boundary_along,
    boundary_distance,
    distance_to_cross,
)
from .denoiser_uncertainty import DenoiserUncertainty, denoiser_uncertainty
from .divergence import divergence
from .frame_levels import Level, frame_levels
from .linearize import LocalMap, linearize
from .local_lipschitz import local_lipschitz
from .null_space import MeasurementSupport, null_space
from .null_space_projection import NullSpaceProjection, RegularizedSolution
from .partition_figure import draw_partition
from .partition_map import PartitionMap, partition_map
from .partition_plane import ImagePlane, PlanePartition, partition_plane
from .partition_segment import BoundaryLayer, SegmentPartition, partition_segment
from .pooling_diagnosis import PoolingDiagnosis, diagnose_poolings
from .spectrum import spectrum
from .unpooling_diagnosis import UnpoolingDiagnosis, diagnose_unpoolings

__all__ = [
    "ActivationPattern",
    "Atoms",
    "BoundaryAlong",
    "BoundaryDensity",
    "BoundaryDistance",
    "BoundaryLayer",
    "DenoiserUncertainty",
    "DensityRow",
    "ImagePlane",
    "LayerPattern",
    "Level",
    "LocalMap",
    "MeasurementSupport",
    "NullSpaceProjection",
    "PartitionMap",
    "PlanePartition",
    "PoolingDiagnosis",
    "RegularizedSolution",
    "SegmentPartition",
    "UnpoolingDiagnosis",
    "atoms",
    "boundary_along",
    "boundary_density",
    "boundary_distance",
    "denoiser_uncertainty",
    "diagnose_poolings",
    "diagnose_unpoolings",
    "directions_at",
    "distance_to_cross",
    "divergence",
    "draw_partition",
    "frame_levels",
    "linearize",
    "local_lipschitz",
    "null_space",
    "partition_map",
    "partition_plane",
    "partition_segment",
    "spectrum",
]
