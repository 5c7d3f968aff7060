"""Inversions: filtered back-projection, least squares, total variation, framelets, wavelets."""

from framelets.solvers.filtered_back_projection import FilteredBackProjection
from framelets.solvers.framelet_shrinkage import framelet_shrinkage
from framelets.solvers.kept_measurement import KeptMeasurement
from framelets.solvers.least_squares import least_squares
from framelets.solvers.low_dimensional_manifold import low_dimensional_manifold
from framelets.solvers.manifold_energy import REWEIGHTINGS, ManifoldEnergy
from framelets.solvers.ramp_filter import FILTERS, ramp_response
from framelets.solvers.reconstruction import Reconstruction
from framelets.solvers.total_variation import total_variation
from framelets.solvers.view_weights import ray_weights
from framelets.solvers.wavelet_frames import WaveletFrame

__all__ = [
    "FILTERS",
    "REWEIGHTINGS",
    "FilteredBackProjection",
    "KeptMeasurement",
    "ManifoldEnergy",
    "Reconstruction",
    "WaveletFrame",
    "framelet_shrinkage",
    "least_squares",
    "low_dimensional_manifold",
    "ramp_response",
    "ray_weights",
    "total_variation",
]
