"""Tune the weight of total variation on simulated training images."""

import math

import torch

from framelets.core import Result
from framelets.core.run_folder import RunFolder
from framelets.experiments.options import ExperimentOptions
from framelets.tasks.ct_simulation import SimulatedScan, fixed_scan, measurement_of
from framelets.tasks.tuned_total_variation import TABLE, tuned_total_variation

VIEWS = (30, 60, 90, 120)
NOISE = {"photons_1e5": 1e5, "noise_free": None}
NUM_SCANS = 2
IMAGES_PER_SCAN = 3
STEP = 2.0
"""Ratio of neighboring weights; the minimum is interpolated between them."""

_FIRST = {"photons_1e5": 1e-4, "noise_free": 1e-5}
_SMALLEST = 1e-9


def tune_tv_weights(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Find the weight of lowest mean squared error for each number of views and each noise.

    The weight is without units (`tasks.tuned_total_variation`), the error in normalized
    attenuation, on images that no evaluation sees. The search walks downhill in factors of two and
    ends at the minimum of the parabola through the last three points, in log weight and log error.
    Finished searches are kept in the folder and not repeated.

    Args:
        folder: Receives `tv_weights.json`; its content is what the package ships.
        options: With `quick`, one scan of two images.
    """
    with folder.lock("tv-weights"):
        found = folder.read_json("searches.json") if folder.has("searches.json") else {}
        for noise in NOISE:
            guess = _FIRST[noise]
            for views in VIEWS:
                key = f"{noise}/{views}"
                report = options.stages(f"{views} views, {noise.replace('_', ' ')}")
                if key not in found:
                    found[key] = _search(noise, views, guess, options)
                    folder.write_json("searches.json", found)
                guess = found[key]["weight"]
                report(1.0)
        table = {
            "command": options.command,
            "views": list(VIEWS),
            **{
                noise: [float(f"{found[f'{noise}/{v}']['weight']:.3g}") for v in VIEWS]
                for noise in NOISE
            },
        }
        folder.write_json(TABLE, table)
    rows = [
        [views, *(f"{found[f'{noise}/{views}']['weight']:.3g}" for noise in NOISE)]
        for views in VIEWS
    ]
    return Result(
        "weights of total variation",
        table,
        tables=[("", ["views", "1e5 photons", "noise-free"], rows)],
        files={"table": folder.file(TABLE)},
    )


def _search(noise: str, views: int, guess: float, options: ExperimentOptions) -> dict[str, object]:
    num_scans, num_images = (1, 2) if options.quick else (NUM_SCANS, IMAGES_PER_SCAN)
    scans = [
        fixed_scan(views, num_images, 1000 * (options.seed + 1) + 10 * views + i, NOISE[noise])
        for i in range(num_scans)
    ]
    errors: dict[int, float] = {}

    def log_error(power: int) -> float:
        if power not in errors:
            weight = guess * STEP**power
            errors[power] = math.log(sum(_error(scan, weight) for scan in scans) / len(scans))
        return errors[power]

    best = 0
    while min(log_error(best - 1), log_error(best + 1)) < log_error(best):
        best += 1 if log_error(best + 1) < log_error(best - 1) else -1
        if guess * STEP**best < _SMALLEST:
            break
    left, middle, right = (log_error(best + shift) for shift in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = (left - right) / (2 * curvature) if curvature > 0 else 0.0
    return {
        "weight": guess * STEP ** (best + max(-0.5, min(0.5, shift))),
        "tried": {f"{guess * STEP**power:.3g}": value for power, value in sorted(errors.items())},
    }


def _error(scan: SimulatedScan, weight: float) -> float:
    scale = scan.scale[:, None, None]
    measurement = measurement_of(scale * scan.sinogram, scan.scan)
    image = tuned_total_variation(measurement, scan.grid, weight=weight) / scale
    return float((image - scan.reference).square().mean(dtype=torch.float64))
