"""Sparse-view CT of data that no network saw: classical, learned and unrolled reconstruction.

Two data sets: every fifth slice of a head CT, upsampled twice, scanned by simulation with and
without photon noise (one patient: the spread is that within one patient); and nine measured
fan-beam scans of acrylic disks, whose reference is filtered back-projection of all 720 views. The
reference is noisy, and shares its noise with what is made of some of its views.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core import Result
from framelets.core.run_folder import RunFolder, sha256_of
from framelets.data import EVALUATION_FILES, CTMeasurement, head_ct, htc_scans
from framelets.experiments.options import ExperimentOptions
from framelets.experiments.sparse_view_ct_figure import draw_figure
from framelets.experiments.sparse_view_ct_table import (
    Scores,
    budgets,
    judge,
    make_tables,
    summarize,
    training_table,
)
from framelets.experiments.written_tables import as_csv, as_markdown
from framelets.physics import CTProjector, FanBeamScan, ImageGrid, pixel_average
from framelets.tasks import SparseViewCT, load_plan
from framelets.tasks.ct_simulation import scan_of
from framelets.tasks.shipped import weights_path
from framelets.training import load_weights

VIEWS = (30, 60, 90, 120)
SLICE_STEP = 5
PHOTONS = 1e5
FIGURE_VIEWS = 60
FIGURE_SLICE = 80  # above the eyes
FIGURE_DISK = "03a"
CASES = {
    "head, 1e5 photons": ("head", PHOTONS),
    "head, noise-free": ("head", None),
    "disks, measured": ("disks", PHOTONS),
}
"""Data set and the noise that the weight of total variation is chosen for."""

_DATA_FILE = "data.json"
_WEIGHTS_FILE = "weights.json"


@dataclasses.dataclass(frozen=True)
class _Case:
    """Scans of one data set with one number of views, and what is held true."""

    names: list[str]
    measurement: CTMeasurement
    grid: ImageGrid
    reference: Float[Tensor, "batch height width"]
    mask: Tensor


def compare_on_sparse_views(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Reconstruct both data sets by every method, measure, and check the aims.

    Metrics of each image lie in `metrics/`, one file for each case, number of views and method;
    what lies there already is not computed again, and the outcome says how much that was. Results
    of shipped weights that have changed since are.

    Args:
        folder: Receives `results.json`, `results.csv`, `results.md` and `figure.png`.
        options: With `quick`, two slices, two disks and two numbers of views. `weights` names
            folders that hold run folders of `framelets train`, each named after its network.

    Raises:
        FileNotFoundError: If the measured data are missing.
        ValueError: If a folder of weights holds no training of this task, or the run folder holds
            results of other data.
    """
    task = SparseViewCT()
    data_folder = options.find_data(EVALUATION_FILES)
    others = {path.name: other_trainings(path) for path in options.weights}
    all_views = VIEWS[:2] if options.quick else VIEWS
    scores: Scores = {}
    other_scores: dict[str, Scores] = {label: {} for label in others}
    num_results, num_reused = 0, 0
    with folder.lock("reproduce"):
        _refuse_other_data(folder, data_folder)
        weights, changed = _shipped_weights(folder)
        for case_name, (data, photons) in CASES.items():
            for num_views in all_views:
                load = cache(partial(_load, data, photons, num_views, options, data_folder))
                contenders: list[tuple[str, nn.Module | None, str, Scores]] = [
                    (method, None, "", scores) for method in task.methods
                ]
                for label, networks in others.items():
                    contenders += [
                        (method, network, f" of {label}", other_scores[label])
                        for method, network in networks.items()
                    ]
                for method, network, label, collected in contenders:
                    report = options.stages(f"{case_name}, {num_views} views, {method}{label}")
                    slug = f"{case_name}-{num_views}-{method}{label}"
                    slug = slug.replace(", ", "-").replace(" ", "-")
                    name = f"metrics/{slug}.json"
                    num_results += 1
                    if folder.has(name) and (network is not None or method not in changed):
                        num_reused += 1
                    else:
                        shown = None if network else f"images/{slug}.npz"
                        found = _measure(
                            task, load(), method, network, photons, report, folder, shown
                        )
                        folder.write_json(name, found)
                    of_views = collected.setdefault(case_name, {}).setdefault(num_views, {})
                    of_views[method] = folder.read_json(name)
                    report(1.0)
        folder.write_json(_WEIGHTS_FILE, weights)
        summary = summarize(scores)
        verdicts = judge(scores, quick=options.quick)
        content = {
            "command": options.command,
            "data": {
                "head": f"every {SLICE_STEP}th slice of one head CT (one patient), fan beam",
                "disks": "Helsinki Tomography Challenge 2022, CC BY 4.0, measured fan beam; "
                "reference: filtered back-projection of all 720 views",
            },
            "quick": options.quick,
            "budgets": budgets(task),
            "summary": summary,
            "verdicts": verdicts,
        }
        tables = make_tables(summary, budgets(task))
        if others:
            content["other_trainings"] = {
                label: summarize(of_label) for label, of_label in other_scores.items()
            }
            tables.append(training_table(scores, other_scores))
        folder.write_json("results.json", content)
        folder.write_text("results.csv", as_csv(summary))
        folder.write_text("results.md", as_markdown(tables, verdicts, options.command))
        figure = draw_figure(folder, task.methods, FIGURE_VIEWS)
    return Result(
        "sparse-view CT",
        content,
        tables=tables,
        notes=[
            *_reused_note(folder, num_reused, num_results),
            "Head: one patient, so the spread is that within one patient. Never trained on.",
            *verdicts,
            "Research software, not a medical device.",
        ],
        files={
            "results": folder.file("results.json"),
            "table": folder.file("results.md"),
            "figure": figure,
        },
    )


def _reused_note(folder: RunFolder, num_reused: int, num_results: int) -> list[str]:
    if not num_reused:
        return []
    return [
        f"{num_reused} of {num_results} results were in {folder.path} already and were not "
        "computed again; choose a new --run to compute them."
    ]


# Data.


def _shipped_weights(folder: RunFolder) -> tuple[dict[str, str], set[str]]:
    """Return the SHA-256 of each shipped weights file, and the networks whose file has changed."""
    task = SparseViewCT
    found = {name: sha256_of(weights_path(f"{task.name}/{name}")) for name in task.networks}
    if not folder.has(_WEIGHTS_FILE):
        folder.write_json(_WEIGHTS_FILE, found)
    earlier = folder.read_json(_WEIGHTS_FILE)
    return found, {name for name in found if earlier.get(name) != found[name]}


def _refuse_other_data(folder: RunFolder, data_folder: Path) -> None:
    found = {name: sha256_of(data_folder / name) for name in EVALUATION_FILES}
    earlier = folder.read_json(_DATA_FILE) if folder.has(_DATA_FILE) else found
    changed = [name for name in found if earlier.get(name) != found[name]]
    if changed:
        raise ValueError(
            f"run folder {folder.path} holds results of another {changed[0]} than the one in "
            f"{data_folder}; choose a new --run"
        )
    folder.write_json(_DATA_FILE, found)


def _load(
    data: str, photons: float | None, num_views: int, options: ExperimentOptions, data_folder: Path
) -> _Case:
    if data == "head":
        return _head(data_folder, photons, num_views, options)
    return _disks(data_folder, num_views, options)


def head_scan(num_views: int) -> FanBeamScan:
    """Give the fan-beam scan of the head: 384 elements, at the axis as large as its pixels."""
    angles = 2 * math.pi * torch.arange(num_views, dtype=torch.float64) / num_views
    return FanBeamScan(
        angles,
        num_detectors=384,
        detector_spacing_mm=1.68,
        source_to_isocenter_mm=541.0,
        source_to_detector_mm=949.0,
    )


def _head(
    data_folder: Path, photons: float | None, num_views: int, options: ExperimentOptions
) -> _Case:
    volume = head_ct(data_folder)
    indices = list(range(0, len(volume.voxels), SLICE_STEP))
    if options.quick:
        indices = [FIGURE_SLICE, 20]
    slices = volume.voxels[indices]
    fine = torch.nn.functional.interpolate(slices[:, None], scale_factor=2, mode="bicubic")[:, 0]
    fine = fine.clamp(min=0)
    spacing = volume.spacing_zyx_mm
    if spacing is None:
        raise ValueError("the head CT does not say its pixel spacing")
    grid = ImageGrid(slices.shape[-2], slices.shape[-1], spacing[-1])
    generator = torch.Generator().manual_seed(options.seed)
    measurement = SparseViewCT().simulate(
        fine, head_scan(num_views), grid.refined(2), photons, generator
    )
    names = [f"slice {index}" for index in indices]
    mask = torch.ones(grid.shape, dtype=torch.bool)
    return _Case(names, measurement, grid, pixel_average(fine, 2), mask)


def _disks(data_folder: Path, num_views: int, options: ExperimentOptions) -> _Case:
    task = SparseViewCT()
    scans = dict(htc_scans(data_folder))
    if options.quick:
        scans = {name: scans[name] for name in (FIGURE_DISK, "ta")}
    first = next(iter(scans.values()))
    sinogram = torch.stack([scan.sinogram for scan in scans.values()])
    # Elements are averaged in pairs: at the axis they are then nearly as large as the pixels.
    # Finer ones would only alias noise into filtered back-projection, the reference's too.
    whole = dataclasses.replace(
        first,
        sinogram=sinogram.unflatten(-1, (-1, 2)).mean(dim=-1),
        detector_spacing_mm=2 * first.detector_spacing_mm,
    )
    grid = task.default_grid(whole)
    reference = task.reconstruct(whole, "fbp", grid)
    step = len(whole.view_angles) // num_views
    measurement = dataclasses.replace(
        whole, sinogram=whole.sinogram[:, ::step], view_angles=whole.view_angles[::step]
    )
    mask = grid.pixel_centers_mm().norm(dim=-1) <= grid.width / 2 * grid.pixel_spacing_mm
    return _Case(list(scans), measurement, grid, reference, mask)


# Measuring.


def _measure(
    task: SparseViewCT,
    case: _Case,
    method: str,
    network: nn.Module | None,
    photons: float | None,
    report: Callable[[float], None],
    folder: RunFolder,
    shown_file: str | None,
) -> dict[str, list[float]]:
    start = time.perf_counter()
    image = task.reconstruct(
        case.measurement,
        method,
        case.grid,
        network=network,
        photons_per_ray=photons,
        progress=report,
    )
    seconds = time.perf_counter() - start
    num_views = case.measurement.sinogram.shape[-2]
    if shown_file is not None and num_views == FIGURE_VIEWS and photons is not None:
        shown = next(
            i for i, n in enumerate(case.names) if n in (f"slice {FIGURE_SLICE}", FIGURE_DISK)
        )
        folder.write_npz(
            shown_file,
            image=image[shown],
            reference=case.reference[shown],
            mask=case.mask,
        )
    scores = task.metrics(image, case.reference, case.mask)
    return {
        **{name: values.tolist() for name, values in scores.items()},
        "residual": _residual(case, image).tolist(),
        "seconds": [seconds / len(case.names)],
    }


def _residual(case: _Case, image: Tensor) -> Tensor:
    """Compute |A x - y| / |y| for each image: how far it is from the measurement."""
    sinogram = case.measurement.sinogram
    projector = CTProjector(scan_of(case.measurement), case.grid, engine="numba")
    missed = torch.linalg.vector_norm(projector(image) - sinogram, dim=(-2, -1))
    relative: Tensor = missed / torch.linalg.vector_norm(sinogram, dim=(-2, -1))
    return relative


# Other trainings.


def other_trainings(folder: Path) -> dict[str, nn.Module]:
    """Load every finished training of sparse-view CT in a folder of run folders.

    Args:
        folder: Holds run folders of `framelets train`, each named after its network.

    Returns:
        The networks by name, in the order of the task's.

    Raises:
        ValueError: If there is none.
    """
    found = {}
    for name in SparseViewCT.networks:
        run = folder / name
        if (run / "weights.safetensors").is_file():
            plan = load_plan(run / "config.toml")
            network = plan.make_task().network(name)
            network.load_state_dict(load_weights(run / "weights.safetensors")[0])
            found[name] = network.eval().requires_grad_(False)
    if not found:
        raise ValueError(
            f"{folder} must hold finished run folders named after networks of sparse-view-ct "
            f"({', '.join(SparseViewCT.networks)}), each with weights.safetensors; make one with "
            f"framelets train sparse-view-ct/unet --run {folder / 'unet'} --seed 1"
        )
    return found
