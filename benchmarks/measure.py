"""How things are timed: interleaved, warmed up, medians; standard library only.

The environments of the peers import this file too.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

NUM_THREADS = 2


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats of one call, in seconds; CPU time is summed over threads."""

    wall: float
    cpu: float
    repeats: int


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure, its unit, and the most it may be, if there is a goal."""

    section: str
    case: str
    quantity: str
    value: float
    unit: str
    goal: float | None = None


def interleave(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time several calls in turns, so that a machine that slows down slows them all.

    Args:
        calls: What to time, by name.
        repeats: Rounds that count; one more before them warms up.

    Returns:
        The medians, by name.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            if round_number:
                seconds[name].append(spent)
    return {
        name: Timing(*map(statistics.median, zip(*spent, strict=True)), repeats)
        for name, spent in seconds.items()
    }


def run_apart(module: str, *arguments: str, python: str = sys.executable) -> list[Row]:
    """Run a module of this folder in a process, or an environment, of its own.

    Args:
        module: Name of the module, which ends by printing its rows with `print_rows`.
        arguments: Its command line.
        python: The interpreter of the environment.

    Returns:
        The rows that it printed.

    Raises:
        RuntimeError: If the process fails; the message ends with its last words.
    """
    command = [python, "-m", f"benchmarks.{module}", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        last_words = process.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{' '.join(command)} failed: {''.join(last_words)}")
    return [Row(**row) for row in json.loads(process.stdout.splitlines()[-1])]


def print_rows(rows: list[Row]) -> None:
    """Print rows on one line, for `run_apart`."""
    print(json.dumps([asdict(row) for row in rows]))
