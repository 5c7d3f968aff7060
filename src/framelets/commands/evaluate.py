"""Print the metrics of several runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from framelets.commands.shown_tables import metrics_table
from framelets.core import Result, RunFolder


def evaluate(runs: Sequence[Path]) -> Result:
    """Read the metrics of runs and put them in one table.

    Raises:
        FileNotFoundError: If a folder, or the metrics in it, do not exist.
        ValueError: If the metrics of a folder cannot be read.
    """
    rows = {}
    data: dict[str, object] = {}
    for run in runs:
        if not run.is_dir():
            raise FileNotFoundError(f"there is no run folder {run}")
        metrics = RunFolder(run).read_json("metrics.json")
        found = metrics.get("rows") if isinstance(metrics, dict) else None
        if not isinstance(found, dict):
            raise ValueError(f"{run / 'metrics.json'} holds no rows of metrics; evaluate it again")
        data[str(run)] = metrics
        for method, row in found.items():
            plain = {k: v.get("mean") if isinstance(v, dict) else v for k, v in row.items()}
            rows[f"{run.name}: {method}" if len(runs) > 1 else method] = plain
    return Result("metrics", data, tables=[metrics_table(rows)])
