"""Train a network of a task, or go on where a run folder's checkpoint stands."""

from collections.abc import Sequence
from pathlib import Path

from framelets.commands.user_networks import parse_settings
from framelets.core import Result, RunFolder, dump_config
from framelets.report import write_report
from framelets.tasks import load_plan
from framelets.training import train as run_training
from framelets.training.loop import CHECKPOINT

_FABRIC_NAMES = {"auto": "auto", "cpu": "cpu", "cuda": "cuda", "mps": "mps"}


def train(
    config: str,
    run: Path,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    device: str = "auto",
    command: str = "",
    progress: bool = True,
) -> Result:
    """Train as a configuration file says; the folder receives weights, log and checkpoint.

    Args:
        config: TOML file, or the name of a config that comes with the package.
        run: Run folder; with a checkpoint of the same settings training goes on there.
        settings: Settings that win over the file, `table.key=value`.
        seed: Seed, instead of the file's.
        device: "auto" leaves the file's choice.
        command: The command line, for the model card.
        progress: Show a progress bar on stderr.

    Raises:
        ValueError: If a setting is wrong, or the folder holds a run with other settings.
        OSError: If a file cannot be read or written, or the folder is in use.
    """
    overrides = parse_settings(settings)
    if seed is not None:
        overrides["training.seed"] = seed
    if device != "auto":
        if device not in _FABRIC_NAMES:
            raise ValueError(f"device must be one of {', '.join(_FABRIC_NAMES)}, got {device!r}")
        overrides["training.accelerator"] = device
    plan = load_plan(config, overrides)
    task = plan.make_task()
    folder = RunFolder(run)
    with folder.lock("train"):
        if not folder.has(CHECKPOINT):
            folder.write_text("config.toml", dump_config(plan))
            folder.write_run_json(command, plan.training.seed, stage="train")
    result = run_training(task, plan.training, folder, command=command, progress=progress)
    with folder.lock("report"):
        page = write_report(run) if folder.has("log.csv") else None
    data = {
        "run": str(run),
        "num_steps": result.num_steps,
        "seconds": result.seconds,
        "num_parameters": result.num_parameters,
        "validation": result.figures,
        "finished": result.finished,
    }
    rows = [
        ["steps", f"{result.num_steps:,}"],
        ["seconds", f"{result.seconds:.0f}"],
        ["parameters", f"{result.num_parameters:,}"],
        *[[f"validation {key}", f"{value:.2f}"] for key, value in result.figures.items()],
    ]
    notes = [] if result.finished else ["out of time; the same command goes on from here"]
    files = {"run": run}
    if result.finished:
        files["weights"] = folder.file("weights.safetensors")
    if page is not None:
        files["report"] = page
    return Result("training", data, tables=[("", ["", ""], rows)], notes=notes, files=files)
