"""The command line: parse, call, print.

Results go to stdout, progress and errors to stderr. A user's mistake is one line and exit code 2;
Ctrl-C exits with 130 and SIGTERM with 143; the last line says what was kept.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from framelets._cli_networks import audit, explain, lint, train
from framelets._cli_options import (
    DeviceOption,
    JsonOption,
    KeyOption,
    RunOption,
    SeedOption,
    SliceOption,
    command_line,
    file_name,
    run_folder,
)
from framelets._cli_running import (
    TRACEBACK,
    resumable,
    run_command,
    show,
    told_if_interrupted,
)
from framelets.commands.stages import shown_stages

app = typer.Typer(
    name="framelets",
    help="Reconstruct images from incomplete measurements, and explain the networks that do it. "
    "Research software, not a medical device.",
    epilog="Start with: framelets demo",
    rich_markup_mode="rich",
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"framelets {version('framelets')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool | None,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help=f"Show where an error arose (or set {TRACEBACK}).")
    ] = False,
) -> None:
    if traceback:
        os.environ[TRACEBACK] = "1"


@app.command(epilog="Example: framelets demo --run runs/first")
def demo(
    task: Annotated[str, typer.Argument(help="Which task to show.")] = "sparse-view-ct",
    run: RunOption = None,
    views: Annotated[int, typer.Option("--views", min=2, help="Views of the scan.")] = 60,
    size: Annotated[int, typer.Option("--size", min=32, help="Rows and columns.")] = 256,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Scan a real image, reconstruct it by classical and learned methods, explain the network."""
    from framelets.commands.demo import demo as run_demo

    folder = run_folder(run, "demo")
    unfinished = f"the page in {folder} was not written; run the command again"
    with told_if_interrupted(unfinished), shown_stages() as stages:
        result = run_demo(
            task,
            folder,
            num_views=views,
            size=size,
            seed=seed,
            device=device,
            command=command_line(),
            stages=stages,
        )
    show(result, as_json)


@app.command(epilog="Example: framelets simulate scan.toml --at slice.dcm --output scan.npz")
def simulate(
    config: Annotated[
        Path,
        typer.Argument(exists=True, help="TOML file with the scan's settings; it may be empty."),
    ],
    at: Annotated[
        Path | None,
        typer.Option("--at", exists=True, help="Image to scan; the chest CT by default."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Scan to write.")] = Path(
        "scan.npz"
    ),
    slice_index: SliceOption = None,
    key: KeyOption = None,
    spacing_mm: Annotated[
        float | None, typer.Option("--spacing-mm", help="Pixel size, if the file does not say.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="What a value of 1 (white) is in 1/mm: 0.02 is about water."),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Scan an image: write the sinogram that a scanner would measure, noise included."""
    from framelets.commands.simulate import simulate as run_simulate

    with shown_stages() as stages:
        result = run_simulate(
            config,
            output,
            at=at,
            slice_index=slice_index,
            key=key,
            spacing_mm=spacing_mm,
            scale=scale,
            seed=seed,
            stages=stages,
        )
    show(result, as_json)


@app.command(epilog="Example: framelets reconstruct scan.npz --method unrolled --views 60")
def reconstruct(
    scan: Annotated[Path, typer.Argument(exists=True, help="Scan, or a folder of scans.")],
    method: Annotated[
        list[str], typer.Option("--method", "-m", help="Method; repeat it for several.")
    ] = ["fbp"],  # noqa: B006 - typer copies it
    run: RunOption = None,
    views: Annotated[
        int | None, typer.Option("--views", min=2, help="Use only this many of the views.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=8, help="Rows and columns of the image.")
    ] = None,
    task: Annotated[str, typer.Option("--task", help="Which task's methods.")] = "sparse-view-ct",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Turn scans into images; a folder of scans goes on where it was interrupted."""
    from framelets.commands.reconstruct import reconstruct as run_reconstruct

    folder = run_folder(run, f"reconstruct-{scan.stem}")
    # One scan is written when it is finished, and not before.
    told = resumable(folder) if scan.is_dir() else contextlib.nullcontext()
    with told, shown_stages() as stages:
        result = run_reconstruct(
            scan,
            method,
            folder,
            task=task,
            num_views=views,
            size=size,
            seed=seed,
            device=device,
            command=command_line(),
            stages=stages,
        )
    show(result, as_json)


app.command(
    epilog="Examples: framelets explain sparse-view-ct/unet --at scan.npz · "
    "framelets explain my_networks:make --set width=32 --weights unet.safetensors --at slice.dcm"
)(explain)
app.command(
    epilog="Examples: framelets lint my_networks:make --max-ratio 1.5 · "
    "framelets lint sparse-view-ct/unet --fix tight-frame --output tight.safetensors"
)(lint)
app.command(
    epilog="Examples: framelets audit sparse-view-ct/unet --images slices --crop 128 · "
    "framelets audit my_networks:make --images slices --max-lipschitz 3 --json"
)(audit)
app.command(
    epilog="Example: framelets train sparse-view-ct/unet -o runs/unet --set training.num_steps=2000"
)(train)


@app.command(epilog="Example: framelets evaluate runs/fbp runs/unet")
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    as_json: JsonOption = False,
) -> None:
    """Print the metrics of runs side by side."""
    from framelets.commands.evaluate import evaluate as run_evaluate

    show(run_evaluate(runs), as_json)


@app.command(epilog="Example: framelets reproduce sparse-view-ct --run runs/table")
def reproduce(
    name: Annotated[str, typer.Argument(help="Experiment; framelets list names them.")],
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", "-o", help="Run folder; by default runs/reproduce-NAME, where it goes on."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few images only: shows that it runs, proves nothing.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", exists=True, help="Folder of measured data, or FRAMELETS_DATA."),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option("--weights", help="Folder of other trainings to measure too; repeatable."),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment of the theory: print its table, write its figures."""
    from framelets.commands.reproduce import reproduce as run_reproduce

    folder = run or Path("runs") / f"reproduce-{file_name(name)}"
    with resumable(folder), shown_stages() as stages:
        result = run_reproduce(
            name,
            folder,
            data_folder=data,
            quick=quick,
            weights=weights or [],
            seed=seed,
            command=command_line(),
            stages=stages,
        )
    show(result, as_json)


@app.command(epilog="Example: framelets report runs/first")
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")], as_json: JsonOption = False
) -> None:
    """Write the page of a run folder again, from what lies in it."""
    from framelets.core import Result
    from framelets.report import write_audit, write_report

    page = write_audit(run) if (run / "audit.json").is_file() else write_report(run)
    show(Result(f"report of {run}", {"report": str(page)}, files={"report": page}), as_json)


@app.command("list", epilog="Example: framelets list --json")
def list_everything(as_json: JsonOption = False) -> None:
    """List tasks, methods, shipped weights, experiments and readable formats."""
    from framelets.commands.catalogue import catalogue

    show(catalogue(), as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; those of this process by default.

    Returns:
        The exit code.
    """
    return run_command(app, arguments)
