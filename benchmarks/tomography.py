"""CT projectors and filtered back-projection against others, in CPU seconds summed over threads.

Two scans of a 511 x 511 phantom at 1 mm with exact line integrals: 360 parallel views over half a
turn, 723 elements; 360 fan-beam views over a turn, 729 elements of 1.5 mm, source to axis 1000 mm
and to detector 1500 mm. The sizes are odd on purpose: at even ones scikit-image turns about the
pixel size // 2, half a pixel from our axis, and would be charged with a shift instead of an error.
At odd ones its FBP and ours are the same sums (they agree to 5e-7), so equal errors are expected.

scikit-image and deepinv (its Radon modules) run here; mbirtorch runs in `.venv-peers` and meets us
in files. The fan beam is timed for our engines alone. Errors: of a projection, the norm of the
difference from the exact integrals over theirs; of a reconstruction from exact integrals, the root
mean square inside the object, whose skin is 1.
"""

import importlib.util
import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.transform import iradon, radon
from torch import Tensor

from benchmarks.measure import NUM_THREADS, Row, Timing, interleave, print_rows
from benchmarks.phantom import phantom_image, phantom_integrals
from framelets.physics import CTProjector, FanBeamScan, ImageGrid, ParallelBeamScan
from framelets.solvers import FilteredBackProjection

SIZE = 511
NUM_VIEWS = 360
REPEATS = 3
SPARSE_BYTES = 6_000_000_000
ENGINES = ("sparse", "numba")
FOLDER = Path(".bench")
PEER_PYTHON = Path(".venv-peers/bin/python")
REFERENCE = "framelets numba"

Array = NDArray[np.floating]


class Problem(NamedTuple):
    """A scan with the exact line integrals of the phantom."""

    scan: ParallelBeamScan | FanBeamScan
    grid: ImageGrid
    image: Tensor
    integrals: Tensor


class Outcome(NamedTuple):
    """What a library gave for one operation, and when."""

    result: Array
    timing: Timing


def measure() -> list[Row]:
    """Time every library on both scans and compare what came out."""
    turn = torch.arange(NUM_VIEWS, dtype=torch.float64) * (2 * torch.pi / NUM_VIEWS)
    parallel = _make_problem(ParallelBeamScan(turn / 2, 723, detector_spacing_mm=1.0))
    fan = _make_problem(
        FanBeamScan(
            turn,
            num_detectors=729,
            detector_spacing_mm=1.5,
            source_to_isocenter_mm=1000.0,
            source_to_detector_mm=1500.0,
        )
    )
    outcomes = _run_here(parallel, _others(parallel))
    for operation, outcome in _run_mbirtorch(parallel).items():
        outcomes[operation]["mbirtorch"] = outcome
    return [
        *_compare(f"parallel, median of {REPEATS}", parallel, outcomes),
        *_compare(f"fan, median of {REPEATS}", fan, _run_here(fan, {})),
    ]


def _make_problem(scan: ParallelBeamScan | FanBeamScan) -> Problem:
    points, directions = (tensor.numpy() for tensor in scan.rays())
    angles = np.arctan2(-directions[..., 0], directions[..., 1])
    u = points[..., 0] * np.cos(angles) + points[..., 1] * np.sin(angles)
    integrals = torch.from_numpy(phantom_integrals(angles, u, SIZE)).float()
    image = torch.from_numpy(phantom_image(SIZE)).float()
    return Problem(scan, ImageGrid(SIZE, SIZE, 1.0), image, integrals)


def _run_here(
    problem: Problem, others: dict[str, dict[str, Callable[[], Array]]]
) -> dict[str, dict[str, Outcome]]:
    where = (problem.scan, problem.grid)
    options = {"memory_limit_bytes": SPARSE_BYTES}
    projectors = {engine: CTProjector(*where, engine, **options) for engine in ENGINES}
    outcomes = {
        "forward": _run(
            {engine: partial(_apply, A, problem.image) for engine, A in projectors.items()},
            others.get("forward", {}),
        ),
        "adjoint": _run(
            {engine: partial(_apply, A.H, problem.integrals) for engine, A in projectors.items()},
            {},
        ),
    }
    del projectors  # their matrices take gigabytes
    inversions = {
        engine: FilteredBackProjection(*where, engine=engine, **options) for engine in ENGINES
    }
    outcomes["FBP"] = _run(
        {engine: partial(_apply, fbp, problem.integrals) for engine, fbp in inversions.items()},
        others.get("FBP", {}),
    )
    return outcomes


def _run(
    ours: dict[str, Callable[[], Array]], others: dict[str, Callable[[], Array]]
) -> dict[str, Outcome]:
    calls = {f"framelets {engine}": call for engine, call in ours.items()} | others
    timings = interleave(calls, REPEATS)
    return {name: Outcome(call(), timings[name]) for name, call in calls.items()}


@torch.inference_mode()
def _apply(function: Callable[[Tensor], Tensor], x: Tensor) -> Array:
    return function(x).numpy()


def _others(problem: Problem) -> dict[str, dict[str, Callable[[], Array]]]:
    angles_deg = np.rad2deg(problem.scan.view_angles.numpy())
    image, sinogram = problem.image.numpy(), problem.integrals.numpy()
    deepinv = _deepinv_radon()
    options = {"circle": False, "parallel_computation": False}
    theta = torch.from_numpy(angles_deg).float()
    project = deepinv.Radon(SIZE, theta, **options)
    invert = deepinv.IRadon(SIZE, theta, **options)
    return {
        "forward": {
            "scikit-image": lambda: radon(image, angles_deg, circle=False).T,
            "deepinv": lambda: _apply(project, problem.image[None, None])[0, 0].T,
        },
        "FBP": {
            "scikit-image": lambda: iradon(sinogram.T, angles_deg, output_size=SIZE, circle=False),
            "deepinv": lambda: _apply(invert, problem.integrals.T[None, None])[0, 0],
        },
    }


def _deepinv_radon() -> ModuleType:
    # Its file alone: the package imports torchvision, whose build must match that of torch.
    found = importlib.util.find_spec("deepinv")
    (folder,) = found.submodule_search_locations
    path = Path(folder, "physics", "functional", "radon.py")
    spec = importlib.util.spec_from_file_location("deepinv_radon", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run_mbirtorch(problem: Problem) -> dict[str, Outcome]:
    FOLDER.mkdir(exist_ok=True)
    np.savez(
        FOLDER / "scan.npz",
        image=problem.image.numpy(),
        sinogram=problem.integrals.numpy(),
        view_angles=problem.scan.view_angles.numpy(),
    )
    command = [PEER_PYTHON, "-m", "benchmarks.peer_mbirtorch", FOLDER, str(REPEATS)]
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str((FOLDER / "compiled").resolve())}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    with np.load(FOLDER / "mbirtorch.npz") as arrays:
        return {
            operation: Outcome(arrays[operation], Timing(*arrays[f"{operation} seconds"], REPEATS))
            for operation in ("forward", "adjoint", "FBP")
        }


def _compare(case: str, problem: Problem, outcomes: dict[str, dict[str, Outcome]]) -> list[Row]:
    rows = []
    integrals, image = problem.integrals.numpy(), problem.image.numpy()
    for operation, by_library in outcomes.items():
        reference = by_library[REFERENCE].timing.cpu
        rows.append(Row("tomography", case, f"{operation}, {REFERENCE}", 1e3 * reference, "ms CPU"))
        for library, (result, timing) in by_library.items():
            name = f"{operation}, {library}"
            if library != REFERENCE:
                rows.append(
                    Row("tomography", case, f"{name} / {REFERENCE}", timing.cpu / reference, "")
                )
            if operation == "forward":
                error = np.linalg.norm(result - integrals) / np.linalg.norm(integrals)
                rows.append(Row("tomography", case, f"{name}: error", 100 * float(error), "%"))
            elif operation == "FBP":
                error = np.sqrt(np.mean((result - image)[image > 0] ** 2))
                rows.append(Row("tomography", case, f"{name}: RMSE", float(error), "of skin"))
    return rows


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    print_rows(measure())
