"""A run folder made by hand: every file that the page reads, with numbers that a test can find."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from framelets.core.run_folder import RunFolder

SIZE = 48


def phantom(size=SIZE):
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = 0.02 * (rows**2 / 0.8 + columns**2 / 0.5 < 1.0)
    image = image - 0.015 * ((rows + 0.1) ** 2 + (columns - 0.3) ** 2 < 0.06)
    return image + 0.01 * ((rows - 0.3) ** 2 + (columns + 0.2) ** 2 < 0.004)


def wave(size, index):
    rows, columns = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    pattern = np.sin((index + 2) * 3 * columns) * np.cos((index + 1) * 4 * rows)
    return pattern / np.linalg.norm(pattern)


def blob(size, row, column, width):
    rows, columns = np.mgrid[:size, :size]
    square = (rows - row) ** 2 + (columns - column) ** 2
    return np.exp(-square / width**2) - 0.3 * np.exp(-square / (2 * width) ** 2)


PIXELS = [
    {"label": "flat", "row": 30, "column": 20, "channel": 0},
    {"label": "edge", "row": 24, "column": 40, "channel": 0},
    {"label": "detail", "row": 31, "column": 19, "channel": 0},
]


def write_reconstruction(folder, size=SIZE):
    rng = np.random.default_rng(0)
    reference = phantom(size)
    views = np.sin(np.linspace(0, np.pi, 70))[None, :] * np.linspace(1, 2, 30)[:, None]
    metadata = {
        "title": "A scan and its reconstructions",
        "data": "a phantom drawn for the test",
        "unit": "1/mm",
        "window": [0.0, 0.03],
        "medical": True,
        "measurement": "fan beam, 1e+05 photons per ray",
        "scan": {"source to detector": "553.74 mm"},
        "reference": "the object itself",
        "methods": {
            "fbp": {"label": "FBP", "words": "filtered back-projection"},
            "tv": {"label": "total variation"},
            "unet": {"label": "U-Net"},
        },
    }
    folder.write_npz(
        "reconstruction.npz",
        measurement=views,
        reference=reference,
        fbp=reference + 0.003 * rng.standard_normal((size, size)),
        tv=reference + 0.001 * rng.standard_normal((size, size)),
        unet=reference + 0.0008 * rng.standard_normal((size, size)),
        metadata=json.dumps(metadata),
    )
    rows = {
        "fbp": {"psnr_db": 21.25, "ssim": 0.61, "nmse": 0.031, "seconds": 0.04},
        "tv": {"psnr_db": 29.5, "ssim": 0.93, "nmse": 0.004, "seconds": 8.5},
        "unet": {"psnr_db": 31.75, "ssim": 0.59, "nmse": 0.003, "seconds": 0.3},
    }
    for number_of_parameters, row in zip((0, 0, 241000), rows.values(), strict=True):
        row["num_parameters"] = number_of_parameters
    folder.write_json("metrics.json", {"baseline": "fbp", "rows": rows})


def level(name, lower, upper, skip, kept):
    counts = {"num_entries": 1000, "num_coefficients": int(1000 * kept)}
    return {"name": name, "lower": lower, "upper": upper, "skip": skip, **counts}


def network_of(name, size=SIZE, channels=1, dtype="float32"):
    values = [1.875 - 0.06 * i for i in range(12)]
    return {
        "name": name,
        "source": "shipped with the package",
        "num_parameters": 241000,
        "precision": dtype,
        "input_shape": [channels, size, size],
        "output_shape": [channels, size, size],
        "piecewise_linear": True,
        "replay_error": 3.125e-7,
        "num_operations": 87,
        "cut": "after bottom.1",
        "norms": {"output": 8.0, "linear": 7.9, "offset": 1.0},
        "frame_levels": [
            level("poolings.0", 1.0, 2.0, True, 1.25),
            level("poolings.1", 1.0, 1.0, False, 1.0),
            level("poolings.2", 0.0, 1.0, False, 0.25),
        ],
        "spectrum": {
            "values": values,
            "residuals": [2e-3 * (1 + i) for i in range(12)],
            "converged": True,
            "num_products": 96,
        },
        "lipschitz": {"lower": 1.875, "upper": 1.8925, "probability": 0.99, "num_products": 64},
        "activity": [
            {
                "name": f"encoders.{i}.relu",
                "kind": "relu",
                "num_units": 1000,
                "num_active": 730 - 60 * i,
            }
            for i in range(9)
        ],
        "pattern_hash": "0123456789abcdef0123456789abcdef",
        "seconds": 12.5,
    }


def network_arrays(index, size=SIZE, channels=1):
    image = np.stack([phantom(size)] * channels)
    stacked = [np.stack([wave(size, i)] * channels) for i in range(6)]
    atoms = [np.stack([blob(size, p["row"], p["column"], 2.0)] * channels) for p in PIXELS]
    return {
        f"{index}.image": image,
        f"{index}.output": image,
        f"{index}.linear": 0.99 * image,
        f"{index}.offset": 0.01 * image,
        f"{index}.left": np.stack(stacked),
        f"{index}.right": np.stack(stacked)[::-1],
        f"{index}.rows": np.stack(atoms),
        f"{index}.columns": np.stack(atoms),
    }


def write_geometry(folder, names=("unet",), size=SIZE, channels=1, baseline=True):
    arrays = {}
    for index in range(len(names)):
        arrays |= network_arrays(index, size, channels)
        if baseline:
            arrays[f"{index}.chain_columns"] = arrays[f"{index}.columns"]
            arrays[f"{index}.chain_rows"] = np.stack([wave(30, i) for i in range(3)])
    if baseline:
        arrays["baseline.columns"] = arrays["0.columns"][:, 0]
        arrays["baseline.rows"] = np.stack([wave(30, i + 2) for i in range(3)])
    folder.write_npz("geometry.npz", **arrays)
    geometry = {
        "command": "framelets explain unet --at image.npy",
        "seed": 7,
        "image": {"description": "a phantom", "unit": "1/mm", "window": None, "medical": True},
        "pixels": PIXELS,
        "baseline": {"name": "FBP"},
        "networks": [network_of(name, size, channels) for name in names],
    }
    folder.write_json("geometry.json", geometry)


@pytest.fixture
def run_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_run_json("framelets demo", 7)
    return folder


@pytest.fixture
def content():
    """What may be put into a run folder."""
    return SimpleNamespace(write_reconstruction=write_reconstruction, write_geometry=write_geometry)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("full") / "run")
    folder.write_run_json("framelets demo", 7)
    write_reconstruction(folder)
    write_geometry(folder)
    return folder
