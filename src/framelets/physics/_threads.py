"""Threads for compiled kernels: as many as torch may use, safe to fork and to share."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def for_ranges(work: Callable[[int, int], object], size: int) -> None:
    """Call work(first, last) on consecutive parts of range(size), one part a thread.

    The pool belongs to this process: a forked child makes its own, as threads do not survive a
    fork. `torch.set_num_threads` sets the number of threads.
    """
    parts = partition(size)
    if len(parts) == 1:
        work(*parts[0])
        return
    for done in [_pool().submit(work, first, last) for first, last in parts]:
        done.result()


def partition(size: int) -> list[tuple[int, int]]:
    """Cut range(size) into nearly equal consecutive parts, at most one a thread."""
    num_parts = max(1, min(torch.get_num_threads(), size))
    edges = [size * part // num_parts for part in range(num_parts + 1)]
    return list(pairwise(edges))


def _pool() -> ThreadPoolExecutor:
    key = (os.getpid(), torch.get_num_threads())
    return _pools.setdefault(key, _pools.get(key) or ThreadPoolExecutor(key[1], "framelets"))
