"""What an experiment or a command returns: data for machines, tables and paths for people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""Title, column names and rows."""


@dataclass(frozen=True)
class Result:
    """What was done, and what came out of it.

    Attributes:
        title: What was done.
        data: Everything, as plain JSON values.
        tables: What to show of it.
        notes: Sentences to show below.
        files: What was written, by name.
    """

    title: str
    data: dict[str, Any]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    files: dict[str, Path] = field(default_factory=dict)
