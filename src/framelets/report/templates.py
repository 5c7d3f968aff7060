"""The templates of the pages, which share macros and filters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from framelets.report.numbers import number, percent


def template(name: str, **filters: Callable[..., Any]) -> jinja2.Template:
    """Load a template of this folder.

    Args:
        name: File name.
        filters: More filters than those of every page, `number` and `percent`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=number, percent=percent, **filters)
    return environment.get_template(name)
