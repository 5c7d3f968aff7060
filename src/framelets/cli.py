"""The command line: parse, call, print.

Results go to stdout, progress and errors to stderr. A user's mistake is one line and exit code 2;
Ctrl-C exits with 130 and SIGTERM with 143, and what was finished until then stays on disk.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from framelets.commands.stages import shown_stages

_TRACEBACK = "FRAMELETS_TRACEBACK"

app = typer.Typer(
    name="framelets",
    help="Reconstruct images from incomplete measurements, and explain the networks that do it. "
    "Research software, not a medical device.",
    epilog="Start with: framelets demo",
    rich_markup_mode="rich",
    add_completion=True,
    pretty_exceptions_enable=False,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of all randomness.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:1, mps.")
]
RunOption = Annotated[
    Path | None, typer.Option("--run", "-o", help="Run folder; a new one in runs/ by default.")
]


class _TerminatedError(BaseException):
    """SIGTERM has come."""


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
        bool, typer.Option("--traceback", help=f"Show where an error arose (or set {_TRACEBACK}).")
    ] = False,
) -> None:
    if traceback:
        os.environ[_TRACEBACK] = "1"


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

    with shown_stages() as stages:
        result = run_demo(
            task,
            _run_folder(run, "demo"),
            num_views=views,
            size=size,
            seed=seed,
            device=device,
            command=_command(),
            stages=stages,
        )
    _print(result, as_json)


@app.command(epilog="Example: framelets simulate scan.toml --at slice.dcm --output scan.npz")
def simulate(
    config: Annotated[Path, typer.Argument(help="TOML file with the scan's settings.")],
    at: Annotated[
        Path | None, typer.Option("--at", help="Image to scan; the chest CT by default.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Scan to write.")] = Path(
        "scan.npz"
    ),
    slice_index: Annotated[
        int | None, typer.Option("--slice", min=0, help="Slice of a volume.")
    ] = None,
    spacing_mm: Annotated[
        float | None, typer.Option("--spacing-mm", help="Pixel size, if the file does not say.")
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
            spacing_mm=spacing_mm,
            seed=seed,
            stages=stages,
        )
    _print(result, as_json)


@app.command(epilog="Example: framelets reconstruct scan.npz --method unrolled --views 60")
def reconstruct(
    scan: Annotated[Path, typer.Argument(help="Scan, or a folder of scans.")],
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

    with shown_stages() as stages:
        result = run_reconstruct(
            scan,
            method,
            _run_folder(run, f"reconstruct-{scan.stem}"),
            task=task,
            num_views=views,
            size=size,
            seed=seed,
            device=device,
            command=_command(),
            stages=stages,
        )
    _print(result, as_json)


@app.command(
    epilog="Examples: framelets explain sparse-view-ct/unet --at scan.npz · "
    "framelets explain my_networks:make --set width=32 --weights unet.safetensors --at slice.dcm"
)
def explain(
    network: Annotated[
        str,
        typer.Argument(help="Shipped weights by name, or module:callable, whose code is run."),
    ],
    at: Annotated[Path, typer.Option("--at", help="Image, or scan for a shipped network.")],
    versus: Annotated[
        str | None, typer.Option("--versus", help="A second network, to put beside it.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Weights: safetensors, or plain state dict.")
    ] = None,
    versus_weights: Annotated[
        Path | None, typer.Option("--versus-weights", help="Weights of the second network.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Argument of the callable, key=value; repeat it for several."),
    ] = None,
    run: RunOption = None,
    channels: Annotated[
        int, typer.Option("--channels", min=1, help="Repeat the image in so many channels.")
    ] = 1,
    slice_index: Annotated[
        int | None, typer.Option("--slice", min=0, help="Slice of a volume.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Array of an npz archive.")] = None,
    crop: Annotated[
        int | None, typer.Option("--crop", min=8, help="Cut the middle, so many pixels square.")
    ] = None,
    scale: Annotated[
        float, typer.Option("--scale", help="Multiply the image of a module:callable by this.")
    ] = 1.0,
    views: Annotated[
        int | None, typer.Option("--views", min=2, help="Use only this many views of a scan.")
    ] = None,
    pixel: Annotated[
        list[str] | None,
        typer.Option("--pixel", help="ROW,COLUMN of an atom; found in the image by default."),
    ] = None,
    cut: Annotated[
        str | None, typer.Option("--cut", help="Module after which the encoder ends.")
    ] = None,
    num: Annotated[int, typer.Option("--num", min=1, help="Number of singular values.")] = 20,
    precision: Annotated[str, typer.Option("--precision", help="float32 or float64.")] = "float32",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show what a network did to this image: frame, offset, spectrum, atoms, K_p, units."""
    from framelets.commands.explain import ExplainOptions
    from framelets.commands.explain import explain as run_explain

    _tell_foreign_code(network, versus)
    options = ExplainOptions(
        weights=weights,
        versus=versus,
        versus_weights=versus_weights,
        settings=tuple(settings or ()),
        channels=channels,
        slice_index=slice_index,
        key=key,
        crop=crop,
        scale=scale,
        num_views=views,
        pixels=tuple(pixel or ()),
        cut=cut,
        num_singular_values=num,
        precision=precision,
    )
    with shown_stages() as stages:
        result = run_explain(
            network,
            at,
            _run_folder(run, f"explain-{_file_name(network)}"),
            options,
            seed=seed,
            device=device,
            command=_command(),
            stages=stages,
        )
    _print(result, as_json)


@app.command(
    epilog="Example: framelets train sparse-view-ct/unet -o runs/unet --set training.num_steps=2000"
)
def train(
    config: Annotated[
        str, typer.Argument(help="TOML file, or the name of a config shipped with the package.")
    ],
    run: RunOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting that wins over the file, table.key=value."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed, instead of the file's.")
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a network; the same command again goes on where it was interrupted."""
    from framelets.commands.train import train as run_train

    # Not a new folder each time: the second call must find the first one's checkpoint.
    folder = run or Path("runs") / f"train-{_file_name(config.removesuffix('.toml'))}"
    result = run_train(
        config,
        folder,
        settings=settings or [],
        seed=seed,
        device=device,
        command=_command(),
        progress=sys.stderr.isatty(),
    )
    _print(result, as_json)


@app.command(epilog="Example: framelets evaluate runs/fbp runs/unet")
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    as_json: JsonOption = False,
) -> None:
    """Print the metrics of runs side by side."""
    from framelets.commands.evaluate import evaluate as run_evaluate

    _print(run_evaluate(runs), as_json)


@app.command(epilog="Example: framelets reproduce sparse-view-ct --run runs/table")
def reproduce(
    name: Annotated[str, typer.Argument(help="Experiment; framelets list names them.")],
    run: RunOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few images only: shows that it runs, proves nothing.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of measured data, or FRAMELETS_DATA.")
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

    folder = run or Path("runs") / f"reproduce-{_file_name(name)}"
    with shown_stages() as stages:
        result = run_reproduce(
            name,
            folder,
            data_folder=data,
            quick=quick,
            weights=weights or [],
            seed=seed,
            command=_command(),
            stages=stages,
        )
    _print(result, as_json)


@app.command(epilog="Example: framelets report runs/first")
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.")], as_json: JsonOption = False
) -> None:
    """Write the page of a run folder again, from what lies in it."""
    from framelets.commands.result import Result
    from framelets.report import write_report

    page = write_report(run)
    _print(Result(f"report of {run}", {"report": str(page)}, files={"report": page}), as_json)


@app.command("list", epilog="Example: framelets list --json")
def list_everything(as_json: JsonOption = False) -> None:
    """List tasks, methods, shipped weights, experiments and readable formats."""
    from framelets.commands.catalogue import catalogue

    _print(catalogue(), as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words after the program's name; those of this process by default.

    Returns:
        The exit code.
    """
    command = typer.main.get_command(app)
    with _sigterm():
        try:
            code = command.main(
                args=list(sys.argv[1:] if arguments is None else arguments) or ["--help"],
                prog_name="framelets",
                standalone_mode=False,
            )
        except Exception as error:
            return _report_error(error)
        except KeyboardInterrupt:
            code = 130
        except _TerminatedError:
            code = 143
    if code in (130, 143):
        print(
            "framelets: interrupted; what was finished is kept, and the same command with the same "
            "--run goes on from there",
            file=sys.stderr,
        )
    return code if isinstance(code, int) else 0


def _report_error(error: Exception) -> int:
    """Print one line for a user's mistake and return 2; raise again what is none."""
    if os.environ.get(_TRACEBACK, "0") not in ("", "0"):
        raise error
    if hasattr(error, "format_message"):  # typer's own: unknown command, option or bad value
        text = error.format_message()
    elif isinstance(error, ModuleNotFoundError):
        text = f"the package {error.name} is not installed; run pip install {error.name}"
    elif isinstance(error, MemoryError) or "out of memory" in str(error):
        text = f"not enough memory: {error}; crop the image or choose fewer channels"
    elif isinstance(error, OSError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, (ValueError, TypeError, OSError)):
        text = str(error)
    else:
        raise error
    print("framelets: " + " ".join(text.split()), file=sys.stderr)
    return 2


@contextlib.contextmanager
def _sigterm() -> Iterator[None]:
    def terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise _TerminatedError

    try:
        previous = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread: whoever runs us handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _print(result: Any, as_json: bool) -> None:  # noqa: ANN401
    if as_json:
        print(json.dumps(result.data, indent=2, allow_nan=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for title, columns, rows in result.tables:
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*[str(cell) for cell in row])
        console.print(table)
        console.print()
    for note in result.notes:
        console.print(note, markup=False)
    for what, path in result.files.items():
        print(f"{what}: {path}")


def _run_folder(run: Path | None, name: str) -> Path:
    return run or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _command() -> str:
    """Return the command line as a reader would type it."""
    import shlex

    return shlex.join(["framelets", *sys.argv[1:]])


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in text).strip("-") or "run"


def _tell_foreign_code(*names: str | None) -> None:
    for name in names:
        if name is not None and ":" in name:
            print(f"running your own code: {name}", file=sys.stderr)
