"""Turn a scan, or a folder of scans, into images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from framelets.commands.devices import choose_device
from framelets.commands.reconstruction import assumed_photons, write_reconstructions
from framelets.commands.scan_files import scans_in
from framelets.commands.shown_tables import metrics_table
from framelets.commands.stages import Stages, silent
from framelets.commands.task_scans import grid_of, read_scan
from framelets.core import Result, RunFolder, choose, refuse_unknown, sha256_of
from framelets.report import write_report
from framelets.tasks import TASKS, SparseViewCT


def reconstruct(
    scan: Path,
    methods: Sequence[str],
    run: Path,
    *,
    task: str = "sparse-view-ct",
    num_views: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
    stages: Stages = silent,
) -> Result:
    """Reconstruct a scan, or every scan of a folder, each into a run folder.

    A folder of scans gives a folder of runs. A scan whose run holds the same methods with the same
    settings, of a file with the same content, is left alone, so that an interrupted command goes
    on where it stopped.

    Args:
        scan: A scan, or a folder of scans.
        methods: Names of the task's methods.
        run: Run folder, or folder of run folders.
        task: Name of the task.
        num_views: Keep so many evenly spaced views.
        size: Rows and columns of the image.
        seed: Recorded; reconstruction itself is not random.
        device: Where to compute.
        command: The command line, for captions.
        stages: Told how far it is.

    Returns:
        Metrics or times, and where the pages are.

    Raises:
        ValueError: If a name is unknown or a scan cannot be reconstructed.
        OSError: If a file cannot be read or written.
    """
    chosen = choose("task", task, TASKS)()
    for method in methods:
        refuse_unknown("method", method, chosen.methods)
    where = choose_device(device)
    paths = scans_in(scan)
    data: dict[str, Any] = {}
    tables = []
    files: dict[str, Path] = {}
    notes = []
    for index, path in enumerate(paths):
        target = run / path.stem if scan.is_dir() else run
        settings = {
            "scan": str(path.resolve()),
            "scan_sha256": sha256_of(path),
            "methods": list(methods),
            "num_views": num_views,
            "size": size,
        }
        done = _finished(target, settings)
        reused = done is not None
        if done is None:
            counter = f"{index + 1} of {len(paths)}, " if len(paths) > 1 else ""
            named = _prefixed(stages, f"{counter}{path.name}: ")
            done, found = _one(path, methods, target, chosen, settings, where, seed, command, named)
            notes += found
        else:
            notes.append(
                f"{target} was finished already: its results are shown, nothing was computed; "
                "choose a new --run to compute again."
            )
        data[str(path)] = {"run": str(target), "metrics": done, "reused": reused}
        tables.append((path.name if len(paths) > 1 else "", *metrics_table(done)[1:]))
        files["report" if len(paths) == 1 else f"report of {path.name}"] = target / "report.html"
    result = next(iter(data.values())) if len(paths) == 1 else {"scans": data}
    return Result("reconstruction", result, tables=tables, notes=notes, files=files)


def _one(
    path: Path,
    methods: Sequence[str],
    run: Path,
    task: SparseViewCT,
    settings: dict[str, Any],
    device: torch.device,
    seed: int,
    command: str,
    stages: Stages,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Reconstruct one scan; give the metrics and what a reader of them must know."""
    size = settings["size"]
    measurement = read_scan(path, settings["num_views"])
    grid, reference = grid_of(path, task, measurement, size)
    dropped = ""
    if reference is None and size is not None:
        stored, known = grid_of(path, task, measurement)
        if known is not None:
            dropped = (
                f"No metrics: the reference has {stored.height} x {stored.width} pixels, "
                f"--size asked for {size} x {size}."
            )
    folder = RunFolder(run)
    with folder.lock("reconstruct"):
        rows = write_reconstructions(
            folder,
            task,
            measurement,
            methods,
            grid,
            title=f"Reconstruction of {path.name}",
            data=f"{path.name}",
            reference=reference,
            note=dropped,
            device=device,
            stages=stages,
        )
        folder.write_run_json(command, seed, stage="reconstruct", settings=settings)
        write_report(run)
    assumed = assumed_photons(measurement, methods)
    return rows, [f"{path.name}: {note}" for note in (dropped, assumed) if note]


def _finished(run: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metrics of a run that was finished with these settings, else None."""
    try:
        record = json.loads((run / "run.json").read_text())
        rows = json.loads((run / "metrics.json").read_text())["rows"]
    except (OSError, ValueError, KeyError):
        return None
    complete = record.get("settings") == settings and (run / "report.html").is_file()
    return dict(rows) if complete and isinstance(rows, dict) else None


def _prefixed(stages: Stages, prefix: str) -> Stages:
    return lambda name: stages(prefix + name)
