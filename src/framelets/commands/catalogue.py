"""What there is: tasks, methods, weights, experiments and readable formats."""

from framelets.commands.reconstruction import METHODS_IN_WORDS
from framelets.core import Result, Table
from framelets.data import READABLE_FORMATS, SCAN_KEYS
from framelets.experiments import EXPERIMENTS
from framelets.tasks import SHIPPED_WEIGHTS, TASKS, model_card


def catalogue() -> Result:
    """List everything that the other commands take by name."""
    weights = {}
    for name in SHIPPED_WEIGHTS:
        card = model_card(name)
        weights[name] = {
            "num_parameters": card.get("num_parameters"),
            "command": card.get("command", ""),
        }
    data = {
        "tasks": {
            name: {"baselines": list(task.baselines), "methods": list(task.methods)}
            for name, task in TASKS.items()
        },
        "weights": weights,
        "experiments": list(EXPERIMENTS),
        "image_formats": dict(READABLE_FORMATS),
        "scan_keys": dict(SCAN_KEYS),
    }
    tables: list[Table] = [
        (
            "Tasks and their methods (reconstruct --method)",
            ["task", "method", "what it is"],
            [
                [name if method == task.methods[0] else "", method, METHODS_IN_WORDS[method]]
                for name, task in TASKS.items()
                for method in task.methods
            ],
        ),
        (
            "Shipped weights (explain)",
            ["name", "parameters"],
            [[name, _count(about["num_parameters"])] for name, about in weights.items()],
        ),
        ("Experiments (reproduce)", ["name"], [[name] for name in EXPERIMENTS]),
        ("Image formats (--at)", ["format", "meaning"], [*READABLE_FORMATS.items()]),
        ("Keys of a scan, an npz archive", ["key", "meaning"], list(SCAN_KEYS.items())),
    ]
    return Result("catalogue", data, tables=tables)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
