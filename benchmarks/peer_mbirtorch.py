"""mbirtorch on the scan in FOLDER/scan.npz, results and seconds to FOLDER/mbirtorch.npz.

Runs in `.venv-peers`, which has no framelets: `python -m benchmarks.peer_mbirtorch FOLDER REPEATS`.
"""

import sys
from pathlib import Path

import mbirtorch
import numpy as np
import torch

from benchmarks.measure import NUM_THREADS, interleave


def main(folder: Path, repeats: int) -> None:
    """Time the parallel beam; shapes there are (view, row, channel) and (row, column, slice)."""
    torch.set_num_threads(NUM_THREADS)
    with np.load(folder / "scan.npz") as arrays:
        image, sinogram, angles = (arrays[key] for key in ("image", "sinogram", "view_angles"))
    model = mbirtorch.ParallelBeamModel((sinogram.shape[0], 1, sinogram.shape[1]), angles)
    model.set_params(recon_shape=(*image.shape, 1))
    volume, projections = image[:, :, None], sinogram[:, None]
    calls = {
        "forward": lambda: np.asarray(model.forward_project(volume))[:, 0],
        "adjoint": lambda: np.asarray(model.back_project(projections))[:, :, 0],
        "FBP": lambda: np.asarray(model.recon_fbp(projections))[:, :, 0],
    }
    timings = interleave(calls, repeats)
    results = {operation: call() for operation, call in calls.items()}
    seconds = {f"{name} seconds": [timing.wall, timing.cpu] for name, timing in timings.items()}
    np.savez(folder / "mbirtorch.npz", **results, **seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
