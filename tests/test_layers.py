"""Rooms import only from lines below their own, never from a neighbor on their line."""

import ast
from pathlib import Path

import pytest

from framelets.tasks import TASKS

SOURCE = Path(__file__).parent.parent / "src" / "framelets"
LINES = [
    {"core"},
    {"frames", "physics", "data", "metrics", "report"},
    {"solvers", "networks", "geometry", "training"},
    {"tasks", "machines"},
    {"experiments"},
    {"commands"},
    {"_cli_options", "_cli_running"},
    {"_cli_networks"},
    {"cli"},
    {"__main__"},
]
LINE = {room: number for number, line in enumerate(LINES) for room in line}


def imported_rooms(source, room):
    """Yield every room of framelets that a source text imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "parent-relative imports hide the room they come from"
            base = node.module or ""
            names = [base if node.level == 0 else f"framelets.{room}.{base}"]
            if names == ["framelets"]:
                names = [f"framelets.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "framelets" and len(parts) > 1:
                yield parts[1]


def violations(source, room):
    """List the imports of a source text in a room that the house does not allow."""
    wrong = []
    for other in imported_rooms(source, room):
        if other == room or other.startswith("__"):
            continue
        if other == "testing":
            wrong.append(f"{room} imports testing")
        elif room == "testing":
            if LINE[other] > LINE["tasks"]:
                wrong.append(f"testing imports {other}")
        elif LINE[other] >= LINE[room]:
            wrong.append(f"{room} imports {other}")
    return wrong


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(SOURCE.rglob("*.py")) if p.parent != SOURCE or p.stem != "__init__"],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_imports_go_down(path):
    assert violations(path.read_text(), room_of(path)) == []


def test_no_task_imports_another():
    tasks = {task.__module__ for task in TASKS.values()}
    for name in tasks:
        path = SOURCE / "tasks" / f"{name.split('.')[-1]}.py"
        imported = {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        }
        assert not imported & (tasks - {name})


@pytest.mark.parametrize(
    ("source", "room"),
    [
        ("import framelets.physics", "frames"),
        ("def f():\n    from framelets.tasks import x", "geometry"),
        ("from framelets import commands", "testing"),
        ("if TYPE_CHECKING:\n    from framelets.testing import y", "core"),
    ],
)
def test_a_wrong_import_is_found(source, room):
    assert violations(source, room)
