"""Inversions: filtered back-projection, least squares, total variation."""

from framelets.solvers.filtered_back_projection import FilteredBackProjection
from framelets.solvers.least_squares import least_squares
from framelets.solvers.ramp_filter import FILTERS, ramp_response
from framelets.solvers.reconstruction import Reconstruction
from framelets.solvers.total_variation import total_variation
from framelets.solvers.view_weights import ray_weights

__all__ = [
    "FILTERS",
    "FilteredBackProjection",
    "Reconstruction",
    "least_squares",
    "ramp_response",
    "ray_weights",
    "total_variation",
]
