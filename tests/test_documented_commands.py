"""Every `framelets` line of README and docs is a command that the command line takes."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from framelets import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINES = [
    (page.name, match.group(1))
    for page in PAGES
    for match in re.finditer(r"^ {4}framelets (.+?)(?:  +#.*)?$", page.read_text(), re.MULTILINE)
]


def parse(words):
    """Parse a command line without running it."""
    group = typer.main.get_command(cli.app)
    return group.commands[words[0]].make_context(words[0], words[1:], resilient_parsing=False)


def test_lines_are_found():
    assert {"README.md", "explain.md", "sparse_view_ct.md"} <= {page for page, _ in LINES}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_documented_line_is_a_command(page, line, tmp_path, monkeypatch):  # noqa: ARG001
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    if words[0] == "--help":
        return
    for word in words:  # files and folders must exist, but are not opened
        if Path(word).suffix in (".npz", ".toml", ".dcm", ".png", ".npy", ".safetensors"):
            (tmp_path / word).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / word).touch()
    (tmp_path / "folder").mkdir()

    parse(words)


def test_a_wrong_line_refuses():
    with pytest.raises(Exception, match="No such option"):
        parse(["evaluate", "runs/first", "--metrics"])
