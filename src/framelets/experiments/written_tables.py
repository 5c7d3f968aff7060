"""Tables of an experiment as text, for files."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from framelets.core import Table


def as_csv(summary: Sequence[dict[str, Any]]) -> str:
    """Write the summary as CSV text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(summary[0]))
    writer.writeheader()
    writer.writerows(
        {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in record.items()}
        for record in summary
    )
    return text.getvalue()


def as_markdown(tables: Sequence[Table], verdicts: Sequence[str], command: str) -> str:
    """Write tables and verdicts as Markdown, with the command that made them."""
    lines = [f"Made by `{command}`." if command else "", ""]
    for title, columns, rows in tables:
        lines += [title, "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
        lines.append("")
    lines += [f"- {verdict}" for verdict in verdicts]
    return "\n".join(lines).strip() + "\n"
