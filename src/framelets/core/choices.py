"""Choices by name: an unknown one is refused with the nearest valid one."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def refuse_unknown(what: str, name: str, valid: Iterable[str]) -> None:
    """Raise unless `name` is one of the valid ones.

    Args:
        what: What is being named, for the message: "method", "config key".
        name: The name that came.
        valid: The names that are known.

    Raises:
        ValueError: If the name is unknown; the message lists the valid ones, nearest first.
    """
    names = list(valid)
    if name in names:
        return
    near = get_close_matches(name, names, n=1)
    if not near:  # "unet" for "sparse-view-ct/unet"
        last_parts = [valid_name.rpartition("/")[2] for valid_name in names]
        near = [names[last_parts.index(part)] for part in get_close_matches(name, last_parts, n=1)]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{what} must be one of {', '.join(sorted(names))}, got {name!r}{hint}")


def choose(what: str, name: str, table: Mapping[str, T]) -> T:
    """Look a name up in a table, refusing an unknown one as `refuse_unknown` does."""
    refuse_unknown(what, name, table)
    return table[name]
