"""Run a function at many knots, each on a thread of its own.

Splitting every single operation among threads makes these wait for each other a thousand times a
knot; a knot a thread needs no waiting.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_SMALL = 2**14  # entries of a tensor for which handing over costs more than the work


class Workers:
    """As many threads as torch may use, on each of which torch uses one; a context."""

    def __init__(self) -> None:
        """Start none yet."""
        self._num_threads = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        """Start the threads."""
        if self._num_threads > 1:
            self._pool = ThreadPoolExecutor(
                self._num_threads, initializer=torch.set_num_threads, initargs=(1,)
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            # What the threads set for themselves is also the default of threads to come.
            torch.set_num_threads(self._num_threads)

    def each(self, function: Callable[..., T], *rows: Sequence[Tensor] | Iterable[Any]) -> list[T]:
        """Apply a function to the first of all, the second of all, and so on."""
        columns = [list(row) for row in rows]
        first = columns[0][0] if columns[0] else None
        if self._pool is None or not isinstance(first, Tensor) or first.numel() < _SMALL:
            return [function(*values) for values in zip(*columns, strict=True)]
        return list(self._pool.map(function, *columns))
