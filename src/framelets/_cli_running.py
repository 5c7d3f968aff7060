"""Run a command: exit codes, one line for a mistake, signals, and what is printed of a result."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import typer

TRACEBACK = "FRAMELETS_TRACEBACK"


class _TerminatedError(BaseException):
    """SIGTERM has come."""


class _InterruptedError(BaseException):
    """SIGINT or SIGTERM has come, and it is known what is left."""

    def __init__(self, code: int, left: str) -> None:
        """Keep the exit code and what is left, in words."""
        super().__init__(left)
        self.code = code


def run_command(app: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; those of this process by default."""
    command = typer.main.get_command(app)
    left = "nothing was kept"
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
        except _InterruptedError as interruption:
            code, left = interruption.code, str(interruption)
    if code in (130, 143):
        typer.echo(f"framelets: interrupted; {left}", err=True)
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def resumable(run: Path) -> Iterator[None]:
    """Tell an interrupted user that the command goes on from what the run folder has."""
    with told_if_interrupted(
        f"what was finished is kept in {run}; the same command with --run {run} goes on from there"
    ):
        yield


@contextlib.contextmanager
def told_if_interrupted(left: str) -> Iterator[None]:
    """Tell an interrupted user what is left; without this it is that nothing was kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise _InterruptedError(130, left) from None
    except _TerminatedError:
        raise _InterruptedError(143, left) from None


def _report_error(error: Exception) -> int:
    """Print one line for a user's mistake and return 2; raise again what is none."""
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
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
    typer.echo("framelets: " + " ".join(text.split()), err=True)
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


def show(result: Any, as_json: bool) -> None:  # noqa: ANN401
    """Print a result: its tables, notes and files, or all of it as JSON."""
    if as_json:
        typer.echo(json.dumps(result.data, indent=2, allow_nan=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for title, columns, rows in result.tables:
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        for number, column in enumerate(columns):
            figures = number > 0 and all(str(row[number])[:1] in "+-0123456789" for row in rows)
            table.add_column(column, justify="right" if figures else "left", overflow="fold")
        for row in rows:
            table.add_row(*[str(cell) for cell in row])
        console.print(table)
        console.print()
    for note in result.notes:
        # What is to be copied, indented, is not wrapped.
        console.print(note, markup=False, soft_wrap=note.startswith("    "))
    for what, path in result.files.items():
        typer.echo(f"{what}: {path}")
