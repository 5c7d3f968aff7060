"""Sphinx settings."""

import re
from typing import Any

project = "framelets"
author = "The framelets developers"
project_copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "framelets"
exclude_patterns = ["_build", "jupyter_execute", "results/*"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_attr_annotations = False
suppress_warnings = ["ref.python"]


def keep_formulas_plain(*event: Any) -> None:  # noqa: ANN401
    """Escape the norms and adjoints of plain-text formulas, which reST would take for markup."""
    lines: list[str] = event[-1]
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`+[^`]*`+)", line)
            # An underscore inside a word, as in num_views, is no markup.
            markup = r"([|*]|(?<!\w)_|_(?!\w))"
            parts[::2] = [re.sub(markup, r"\\\1", part) for part in parts[::2]]
            lines[i] = "".join(parts)


def setup(app: Any) -> None:  # noqa: ANN401
    """Run before napoleon reads the docstrings."""
    app.connect("autodoc-process-docstring", keep_formulas_plain, priority=400)
