"""Measurement operators: CT scans, projectors, back-projectors and photon noise."""

from framelets.physics.back_projector import BackProjector
from framelets.physics.ct_projector import CTProjector
from framelets.physics.image_grid import ImageGrid, pixel_average
from framelets.physics.photon_noise import add_photon_noise
from framelets.physics.scans import FanBeamScan, ParallelBeamScan, Scan

__all__ = [
    "BackProjector",
    "CTProjector",
    "FanBeamScan",
    "ImageGrid",
    "ParallelBeamScan",
    "Scan",
    "add_photon_noise",
    "pixel_average",
]
