"""What of the output the scan supports, for the page: maps and what they are worth.

`geometry.null_space` splits the output into what the measurement determines, where the network
contradicts it, and what lies in the null space of the scan, by L x and by b.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from framelets.core import LinearOperator
from framelets.geometry import LocalMap, null_space

MAPS = ("determined", "contradiction", "null_linear", "null_offset")


def explain_support(
    local: LocalMap, projector: LinearOperator, measurement: Tensor, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Split the output of a network by what the scan sees.

    Args:
        local: The network at an image made from the scan, or at the scan.
        projector: The scan A, from images to measurements.
        measurement: y, in the unit of the network's output.
        seed: Seed of the search for |A|.

    Returns:
        Energies over that of the output, and what they are worth; the four maps.
    """
    found = null_space(
        local,
        projector,
        measurement,
        tolerance=1e-2,
        generator=torch.Generator().manual_seed(seed),
    )
    whole = found.energy or 1.0  # of an output of zeros every part is zero
    size = float(torch.linalg.vector_norm(local.output.double()))
    num = local.output.numel()
    table = {
        "shares": _shares(found.energies, whole),
        "cross": found.cross_term / whole,
        "range_cross": found.range_cross_term / whole,
        "undecided": found.undecided / whole,
        "null_share": found.null_share,
        "errors": list(found.errors),
        "error_per_pixel": [error * size / num**0.5 for error in found.errors],
        "threshold": found.threshold,
        "tolerance": found.tolerance,
        "converged": found.converged,
        "num_iterations": found.num_iterations,
    }
    return table, {name: getattr(found, name).float() for name in MAPS}


def _shares(energies: Sequence[float], whole: float) -> dict[str, float]:
    return {name: energy / whole for name, energy in zip(MAPS, energies, strict=True)}
