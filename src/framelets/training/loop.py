"""The training loop: one function that reads from top to bottom.

Batches are functions of seed and step, so a checkpoint holds plain tensors and numbers only:
weights, their running average, the optimizer, torch's random state, the step and the time. A run
resumed from it repeats the uninterrupted run bit for bit on a CPU with the same number of threads.
"""

import copy
import csv
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from framelets.core.run_folder import RunFolder
from framelets.training.config import RunConfig
from framelets.training.task import Task
from framelets.training.weights import save_weights

CHECKPOINT = "checkpoint/last.pt"
LOG = "log.csv"
WEIGHTS = "weights.safetensors"
_COLUMNS = ("step", "seconds", "learning_rate", "loss", "gradient_norm", "validation_psnr")


@dataclass(frozen=True)
class TrainingResult:
    """What a training run leaves.

    Attributes:
        network: The trained network (the running average of its weights), in evaluation mode.
        num_steps: Steps taken, those of earlier sittings included.
        seconds: Time spent on them, validation and checkpoints included.
        core_seconds: The same in processor time, summed over the cores: what it costs on a busy
            machine too.
        num_parameters: Learned parameters of the network.
        figures: The last validation.
        finished: False if `max_seconds` stopped the run before its last step.
    """

    network: nn.Module
    num_steps: int
    seconds: float
    core_seconds: float
    num_parameters: int
    figures: dict[str, float]
    finished: bool


def train(
    task: Task,
    config: RunConfig,
    folder: RunFolder,
    *,
    command: str = "",
    progress: bool = True,
) -> TrainingResult:
    """Train a network of a task in a run folder, or go on where the folder's checkpoint stands.

    The folder receives `checkpoint/last.pt`, `log.csv`, TensorBoard events in `tensorboard/` and,
    once all steps are done, `weights.safetensors` with its model card. SIGINT and SIGTERM let the
    current step end, write a checkpoint and are then delivered again; a second one acts at once.

    Args:
        task: Networks, batches, loss and validation.
        config: Settings of the run.
        folder: Run folder; locked while this function runs.
        command: The command that a reader types to repeat this run, for the model card.
        progress: Show a progress bar on stderr.

    Returns:
        The trained network and what it cost.

    Raises:
        ValueError: If the folder holds a checkpoint of a run with other settings, or the loss is
            not finite.
    """
    # Seconds to import; most commands reach this module without training anything.
    from lightning_fabric import Fabric

    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        precision=config.precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    torch.manual_seed(config.seed)
    plain_network = task.network(config.network)
    plain_network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(plain_network).to(fabric.device).eval().requires_grad_(False)
    network, optimizer = fabric.setup(plain_network, _optimizer(plain_network, config))
    num_parameters = sum(parameter.numel() for parameter in plain_network.parameters())
    seed = config.seed * fabric.world_size + fabric.global_rank

    with ExitStack() as exits:
        exits.enter_context(folder.lock("train"))
        signals = exits.enter_context(_held_signals())
        show = exits.enter_context(_bar(config, progress))
        step, seconds, core_seconds, figures = 0, 0.0, 0.0, dict[str, float]()
        state = _read_checkpoint(folder, config)
        if state is not None:
            plain_network.load_state_dict(state["network"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["random_state"])
            step, figures = state["step"], state["figures"]
            seconds, core_seconds = state["seconds"], state["core_seconds"]
        show(step, torch.tensor(float("nan")), figures)
        write_log = exits.enter_context(_log(folder, step, fabric.is_global_zero))
        sitting, core_sitting = time.perf_counter() - seconds, time.process_time() - core_seconds

        while step < config.num_steps:
            rate = config.learning_rate_at(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            network.train()
            batch = fabric.to_device(task.training_batch(step, config.batch_size, seed))
            loss = task.loss(network, batch)
            optimizer.zero_grad()
            fabric.backward(loss)
            limit = config.gradient_clip or float("inf")
            norm = fabric.clip_gradients(
                network, optimizer, max_norm=limit, error_if_nonfinite=False
            )
            if not (torch.isfinite(loss) and norm is not None and torch.isfinite(norm)):
                raise ValueError(
                    f"loss or gradient is not finite at step {step} (loss {loss.item()}); "
                    "lower learning_rate, or resume from the last checkpoint with other settings"
                )
            optimizer.step()
            step += 1
            # Early on, a long memory would hold the initial weights: the average's grows with it.
            _average(average, plain_network, min(config.average_decay, step / (step + 10)))

            seconds = time.perf_counter() - sitting
            interrupted = bool(signals)
            out_of_time = bool(config.max_seconds) and seconds >= config.max_seconds
            last = step == config.num_steps
            row: dict[str, float] = {}
            if last or step % config.validate_every == 0:
                figures = task.validate(average)
                row["validation_psnr"] = figures["psnr"]
            if row or step % config.log_every == 0:
                row |= {"loss": loss.item(), "gradient_norm": float(norm), "learning_rate": rate}
                seconds = time.perf_counter() - sitting
                write_log(step, seconds, row)
            show(step, loss, figures)
            if last or interrupted or out_of_time or step % config.checkpoint_every == 0:
                seconds = time.perf_counter() - sitting
                core_seconds = time.process_time() - core_sitting
                fabric.barrier()
                if fabric.is_global_zero:
                    _write_checkpoint(
                        folder,
                        config=asdict(config),
                        step=step,
                        seconds=seconds,
                        core_seconds=core_seconds,
                        figures=figures,
                        network=plain_network.state_dict(),
                        average=average.state_dict(),
                        optimizer=optimizer.state_dict(),
                        random_state=torch.get_rng_state(),
                    )
            if interrupted or out_of_time:
                break

        finished = step == config.num_steps
        if finished and fabric.is_global_zero:
            card = {
                "task": task.name,
                "network": config.network,
                "command": command,
                "config": asdict(config),
                "num_parameters": num_parameters,
                "num_steps": step,
                "seconds": round(seconds, 1),
                "core_seconds": round(core_seconds, 1),
                "num_threads": torch.get_num_threads(),
                "validation": figures,
                **task.card,
            }
            save_weights(folder.file(WEIGHTS), average, card)
    return TrainingResult(average, step, seconds, core_seconds, num_parameters, figures, finished)


def _optimizer(network: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    parameters = network.parameters()
    decay = config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, config.learning_rate, momentum=0.9, nesterov=True, weight_decay=decay
        )
    return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=decay)


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    # The first step has decay 1/11: the average starts as the network itself in all but name.
    for mean, value in zip(
        average.state_dict().values(), network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point() or mean.is_complex():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _write_checkpoint(folder: RunFolder, **state: Any) -> None:  # noqa: ANN401
    buffer = io.BytesIO()
    torch.save(state, buffer)
    folder.write_bytes(CHECKPOINT, buffer.getvalue())


def _read_checkpoint(folder: RunFolder, config: RunConfig) -> dict[str, Any] | None:
    path = folder.file(CHECKPOINT)
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    wanted, found = asdict(config), state["config"]
    # More time may be granted, and another interval of notes changes no weight.
    free = {"max_seconds", "log_every", "validate_every", "checkpoint_every"}
    changed = [key for key in wanted if key not in free and wanted[key] != found.get(key)]
    if changed:
        key = changed[0]
        raise ValueError(
            f"{path} was written with {key} = {found.get(key)!r}, not {wanted[key]!r}; "
            "resume with the same settings or choose a new run folder"
        )
    return state


@contextmanager
def _log(folder: RunFolder, step: int, enabled: bool) -> Iterator[Callable[..., None]]:
    """Open the CSV and TensorBoard logs, cut back to the step at which a run resumes."""
    if not enabled:
        yield lambda *_: None
        return
    from torch.utils.tensorboard import SummaryWriter

    path = folder.file(LOG)
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if _at_most(row["step"], step)]
    text = io.StringIO()
    kept = csv.DictWriter(text, _COLUMNS)
    kept.writeheader()
    kept.writerows(rows)
    folder.write_text(LOG, text.getvalue())
    board_path = str(folder.file("tensorboard"))
    with (
        path.open("a", newline="") as file,
        SummaryWriter(board_path, purge_step=step + 1) as board,
    ):
        lines = csv.DictWriter(file, _COLUMNS)

        def write(step: int, seconds: float, row: dict[str, float]) -> None:
            texts = {key: f"{value:.6g}" for key, value in row.items()}
            lines.writerow({"step": step, "seconds": f"{seconds:.1f}"} | texts)
            file.flush()
            for key, value in row.items():
                board.add_scalar(key, value, step)

        yield write


def _at_most(text: str | None, step: int) -> bool:
    # A line cut short by a kill has no readable step and is dropped with the later ones.
    return text is not None and text.isdigit() and int(text) <= step


@contextmanager
def _held_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, and deliver the first again when the block ends."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread can take signals
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def hold(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)  # a second signal acts at once

    for number in before:
        signal.signal(number, hold)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


@contextmanager
def _bar(config: RunConfig, visible: bool) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("loss {task.fields[loss]:.3g}  PSNR {task.fields[psnr]:.2f} dB"),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not visible) as bar:
        name = f"train {config.network}"
        job = bar.add_task(name, total=config.num_steps, loss=float("nan"), psnr=float("nan"))
        shown = 0.0

        def show(step: int, loss: Tensor, figures: dict[str, float]) -> None:
            nonlocal shown
            if time.perf_counter() - shown > 0.5 or step == config.num_steps:
                shown = time.perf_counter()
                psnr = figures.get("psnr", float("nan"))
                bar.update(job, completed=step, loss=loss.item(), psnr=psnr)

        yield show


def read_log(path: Path) -> list[dict[str, float]]:
    """Read a `log.csv` as one dictionary per line; what a line leaves out is left out.

    Args:
        path: The file.

    Returns:
        Lines in the order of the steps.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: float(value) for key, value in row.items() if value} for row in rows]
