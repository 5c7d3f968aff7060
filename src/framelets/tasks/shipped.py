"""Weights inside the package, by name."""

from pathlib import Path
from typing import Any

from torch import Tensor

from framelets.core.choices import refuse_unknown
from framelets.training import load_weights

SHIPPED_WEIGHTS = (
    "sparse-view-ct/unet",
    "sparse-view-ct/dual-frame-unet",
    "sparse-view-ct/tight-frame-unet",
    "sparse-view-ct/tight-frame-unet-narrow",
    "sparse-view-ct/unrolled",
)
"""Names of the weights that come with the package: task and network."""


def load_state(name: str) -> dict[str, Tensor]:
    """Read shipped weights."""
    return load_weights(weights_path(name))[0]


def model_card(name: str) -> dict[str, Any]:
    """Read the model card of shipped weights: configuration, data, command, figures.

    Args:
        name: One of `SHIPPED_WEIGHTS`.

    Raises:
        ValueError: If the name is unknown.
    """
    return load_weights(weights_path(name))[1]


def weights_path(name: str) -> Path:
    """Give the file of shipped weights.

    Raises:
        ValueError: If the name is unknown; the nearest valid one is named.
    """
    refuse_unknown("weights", name, SHIPPED_WEIGHTS)
    return Path(__file__).parent / "weights" / f"{name}.safetensors"
