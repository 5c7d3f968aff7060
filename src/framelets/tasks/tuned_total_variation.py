"""Total variation with weights that were tuned on simulated training images.

The weight is kept without units: with s the scan's attenuation scale and |A| the norm of the
projector, the objective in normalized attenuation x' = x / s, y' = y / s is

    |A x' - y'|^2 / 2 + w |A|^2 TV(x').

`tv_weights.json` holds the w of lowest mean squared error for several numbers of views, with and
without noise, and the command that found them. Between them w is interpolated, log-linearly in the
number of views; other numbers of photons I0 scale it by sqrt(1e5 / I0), as they scale the noise.
"""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from framelets.core.spectral import norm_bounds
from framelets.data import CTMeasurement
from framelets.physics import CTProjector, ImageGrid
from framelets.solvers import FilteredBackProjection, total_variation
from framelets.tasks.ct_simulation import FILTER, attenuation_scale, scan_of

TABLE = "tv_weights.json"
NUM_ITERATIONS = 200
_TOLERANCE = 1e-4
TUNED_PHOTONS = 1e5
"""Photons per ray that the weights were tuned for; taken where a scan does not say its own."""


def tuned_weight(num_views: int, photons_per_ray: float | None) -> float:
    """Look up the unitless weight of total variation.

    Args:
        num_views: Number of views of the scan.
        photons_per_ray: Photons per ray; None: noise-free.
    """
    table = _table()
    weights = table["noise_free" if photons_per_ray is None else "photons_1e5"]
    log_weight = np.interp(math.log(num_views), np.log(table["views"]), np.log(weights))
    noise = 1.0 if photons_per_ray is None else math.sqrt(TUNED_PHOTONS / photons_per_ray)
    return noise * math.exp(float(log_weight))


def tuned_total_variation(
    measurement: CTMeasurement,
    grid: ImageGrid,
    photons_per_ray: float | None = TUNED_PHOTONS,
    *,
    weight: float | None = None,
    num_iterations: int = NUM_ITERATIONS,
    progress: Callable[[float], None] | None = None,
) -> Float[Tensor, "*batch height width"]:
    """Reconstruct attenuation in 1/mm by total variation, starting at filtered back-projection.

    Args:
        measurement: The scan.
        grid: Pixels.
        photons_per_ray: Noise that the weight is chosen for; None: none.
        weight: Unitless weight; default: the tuned one.
        num_iterations: Most iterations of the solver.
        progress: Told the share of the iterations that was made.
    """
    scan = scan_of(measurement)
    fbp = FilteredBackProjection(scan, grid, FILTER)(measurement.sinogram)
    scale = attenuation_scale(fbp)[..., None, None]
    projector = CTProjector(scan, grid)
    norm = norm_bounds(projector, relative_gap=0.05).upper
    unitless = tuned_weight(scan.num_views, photons_per_ray) if weight is None else weight
    result = total_variation(
        measurement.sinogram / scale,
        projector,
        unitless * norm**2,
        num_iterations,
        _TOLERANCE,
        start=fbp / scale,
        operator_norm=norm,
        progress=progress,
    )
    return result.image * scale


@cache
def _table() -> dict[str, Any]:
    text = (Path(__file__).parent / TABLE).read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
