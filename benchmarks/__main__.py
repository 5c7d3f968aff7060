"""Run all sections, or those named, each in a process of its own; print a table, write JSON.

python -m benchmarks [SECTION ...] [--json FILE]

Sections that are not run keep their rows in the file, if the machine and torch are the same.
"""

import argparse
import json
import os
import platform
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure import NUM_THREADS, Row, run_apart

SECTIONS = {
    "dense_jacobian": [partial(run_apart, "dense_jacobian")],
    "hankel": [partial(run_apart, "hankel")],
    "linearize": [partial(run_apart, "linearize")],
    "local_lipschitz": [
        partial(run_apart, "local_lipschitz", name) for name in ("unet", "denoiser")
    ],
    "partition": [
        partial(run_apart, "partition", name) for name in ("noise", "scaling", "another image")
    ],
    "regions": [partial(run_apart, "regions")],
    "spectrum": [partial(run_apart, "spectrum", name) for name in ("unet", "denoiser")],
    "tomography": [partial(run_apart, "tomography")],
}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, default=Path(".bench/results.json"), metavar="FILE")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"SECTION must be one of {', '.join(SECTIONS)}, got {', '.join(unknown)}")
    os.environ |= {"OMP_NUM_THREADS": str(NUM_THREADS), "NUMBA_NUM_THREADS": str(NUM_THREADS)}

    machine = f"{platform.machine()}, {NUM_THREADS} threads of {os.cpu_count()} cores"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    chosen = options.sections or list(SECTIONS)
    kept = [row for row in _read(options.json, machine) if row.section not in chosen]
    rows: list[Row] = []
    for name in chosen:
        for measure in SECTIONS[name]:
            Console(stderr=True).print(f"measuring {name} ...")
            rows += measure()
            # What was measured stays if a later part fails.
            _write(options.json, sorted(kept + rows, key=_place), machine)
    _print_table(rows, f"{machine}, torch {version('torch')}")
    print(f"written to {options.json} and beside it as .md")


def _read(path: Path, machine: str) -> list[Row]:
    """Return the rows of an earlier run on such a machine."""
    if not path.is_file():
        return []
    earlier = json.loads(path.read_text())
    if (earlier["machine"], earlier["torch"]) != (machine, version("torch")):
        return []
    return [Row(**row) for row in earlier["rows"] if row["section"] in SECTIONS]


def _place(row: Row) -> int:
    return list(SECTIONS).index(row.section)


def _write(path: Path, rows: list[Row], machine: str) -> None:
    result = {"machine": machine, "torch": version("torch"), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(_markdown(rows, machine))


def _print_table(rows: list[Row], title: str) -> None:
    table = Table("section", "case", "quantity", title=title)
    for heading in ("value", "unit", "goal"):
        table.add_column(heading, justify="right")
    for row in rows:
        style = None if row.goal is None else "green" if row.value <= row.goal else "red"
        goal = "" if row.goal is None else f"<= {row.goal:g}"
        table.add_row(
            row.section, row.case, row.quantity, f"{row.value:.3g}", row.unit, goal, style=style
        )
    Console(width=max(130, Console().width)).print(table)


def _markdown(rows: list[Row], machine: str) -> str:
    lines = [
        f"Written by `make bench`: {machine}, torch {version('torch')}; medians, each section in "
        "one run.",
        "",
        "| section | case | quantity | value | goal |",
        "|---|---|---|---:|---:|",
    ]
    for row in rows:
        goal = "" if row.goal is None else f"at most {row.goal:g}"
        value = f"{row.value:.3g} {row.unit}".strip()
        lines.append(f"| {row.section} | {row.case} | {row.quantity} | {value} | {goal} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
