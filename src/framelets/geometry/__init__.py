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
from .expressivity_bound import (
    ExpressivityBound,
    LayerExpressivity,
    arrangement_bound,
    expressivity_bound,
)
from .filter_keys import count_distinct, filter_keys
from .frame_levels import Level, frame_levels
from .linearize import LocalMap, linearize
from .lipschitz_bound import LipschitzBound, OperationNorm, lipschitz_bound
from .lipschitz_distribution import (
    LipschitzAlong,
    LipschitzDistribution,
    lipschitz_along,
    lipschitz_distribution,
)
from .lipschitz_estimate import LipschitzEstimate, lipschitz_estimate
from .local_figures import LocalFigures, local_figures
from .local_lipschitz import local_lipschitz
from .null_space import MeasurementSupport, null_space
from .null_space_projection import NullSpaceProjection, RegularizedSolution
from .partition_figure import draw_partition
from .partition_map import PartitionMap, partition_map
from .partition_plane import ImagePlane, PlanePartition, partition_plane
from .partition_segment import BoundaryLayer, SegmentPartition, partition_segment
from .pooling_diagnosis import PoolingDiagnosis, diagnose_poolings
from .representations import (
    RepresentationCount,
    SegmentRepresentations,
    count_representations,
    representations_along,
)
from .spectrum import spectrum
from .unpooling_diagnosis import UnpoolingDiagnosis, diagnose_unpoolings
from .weight_jacobian import LandscapeCondition, WeightJacobian, landscape_condition
from .worst_perturbation import WorstPerturbation, worst_perturbation

__all__ = [
    "ActivationPattern",
    "Atoms",
    "BoundaryAlong",
    "BoundaryDensity",
    "BoundaryDistance",
    "BoundaryLayer",
    "DenoiserUncertainty",
    "DensityRow",
    "ExpressivityBound",
    "ImagePlane",
    "LandscapeCondition",
    "LayerExpressivity",
    "LayerPattern",
    "Level",
    "LipschitzAlong",
    "LipschitzBound",
    "LipschitzDistribution",
    "LipschitzEstimate",
    "LocalFigures",
    "LocalMap",
    "MeasurementSupport",
    "NullSpaceProjection",
    "OperationNorm",
    "PartitionMap",
    "PlanePartition",
    "PoolingDiagnosis",
    "RegularizedSolution",
    "RepresentationCount",
    "SegmentPartition",
    "SegmentRepresentations",
    "UnpoolingDiagnosis",
    "WeightJacobian",
    "WorstPerturbation",
    "arrangement_bound",
    "atoms",
    "boundary_along",
    "boundary_density",
    "boundary_distance",
    "count_distinct",
    "count_representations",
    "denoiser_uncertainty",
    "diagnose_poolings",
    "diagnose_unpoolings",
    "directions_at",
    "distance_to_cross",
    "divergence",
    "draw_partition",
    "expressivity_bound",
    "filter_keys",
    "frame_levels",
    "landscape_condition",
    "linearize",
    "lipschitz_along",
    "lipschitz_bound",
    "lipschitz_distribution",
    "lipschitz_estimate",
    "local_figures",
    "local_lipschitz",
    "null_space",
    "partition_map",
    "partition_plane",
    "partition_segment",
    "representations_along",
    "spectrum",
    "worst_perturbation",
]
