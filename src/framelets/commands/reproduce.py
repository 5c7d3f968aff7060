"""Run an experiment of the theory by its name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framelets import __version__
from framelets.commands.stages import Stages, silent
from framelets.core import Result, RunFolder, choose
from framelets.experiments import EXPERIMENTS, ExperimentOptions

_SETTINGS = "settings.json"


def reproduce(
    name: str,
    run: Path,
    *,
    data_folder: Path | None = None,
    quick: bool = False,
    weights: Sequence[Path] = (),
    seed: int = 0,
    command: str = "",
    stages: Stages = silent,
) -> Result:
    """Run an experiment; what its run folder holds already is not computed again.

    Args:
        name: One of `framelets.experiments.EXPERIMENTS`.
        run: Run folder.
        data_folder: Where the measured data lie; `FRAMELETS_DATA` by default.
        quick: Few images only.
        weights: Folders of other trainings to be measured too.
        seed: Seed of all randomness.
        command: The command line, kept with the results.
        stages: Told how far it is.

    Raises:
        ValueError: If there is no such experiment, or the folder holds results made with other
            settings.
        OSError: If data are missing or the folder cannot be written.
    """
    experiment = choose("experiment", name, EXPERIMENTS)
    folder = RunFolder(run)
    _begin(folder, {"experiment": name, "quick": quick, "seed": seed, "framelets": __version__})
    options = ExperimentOptions(data_folder, quick, seed, command, stages, weights)
    result = experiment(folder, options)
    with folder.lock("reproduce"):
        folder.write_run_json(command, seed, stage="reproduce")
    return result


def _begin(folder: RunFolder, settings: dict[str, Any]) -> None:
    """Keep the settings with the results; refuse a folder whose results had others."""
    with folder.lock("reproduce"):
        holds_results = any(
            path.name != _SETTINGS and not path.name.startswith(".")
            for path in folder.path.iterdir()
        )
        if holds_results and folder.has(_SETTINGS):
            earlier = folder.read_json(_SETTINGS)
            for key, value in settings.items():
                if earlier.get(key) != value:
                    raise ValueError(
                        f"run folder {folder.path} holds results made with {key} = "
                        f"{earlier.get(key)!r}, not {value!r}; choose a new --run"
                    )
        folder.write_json(_SETTINGS, settings)
