"""How a command tells how far it is: it names a stage and then gives the share that is done."""

import contextlib
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[float], None]
"""Called with the share of a stage that is done, from 0 to 1."""

Stages = Callable[[str], Progress]
"""Called with the name of a stage that begins; returns where to report its progress."""


def silent(name: str) -> Progress:  # noqa: ARG001
    """Report nothing."""
    return lambda _: None


@contextlib.contextmanager
def shown_stages() -> Iterator[Stages]:
    """Show stages with progress bars on stderr; off a terminal, one line a stage."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _announce
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:

        def begin(name: str) -> Progress:
            for earlier in bars.tasks:
                bars.update(earlier.id, completed=1.0)
                bars.stop_task(earlier.id)
            task = bars.add_task(name, total=1.0)
            return lambda share: bars.update(task, completed=share)

        yield begin


def _announce(name: str) -> Progress:
    sys.stderr.write(f"{name}\n")
    sys.stderr.flush()
    return silent(name)
