"""A network at one input: its frame, offset, spectrum, atoms, patterns and local constants."""

from .activation_pattern import ActivationPattern, LayerPattern
from .atoms import Atoms, atoms
from .divergence import divergence
from .frame_levels import Level, frame_levels
from .linearize import LocalMap, linearize
from .lipschitz import lipschitz_estimate
from .spectrum import spectrum

__all__ = [
    "ActivationPattern",
    "Atoms",
    "LayerPattern",
    "Level",
    "LocalMap",
    "atoms",
    "divergence",
    "frame_levels",
    "linearize",
    "lipschitz_estimate",
    "spectrum",
]
