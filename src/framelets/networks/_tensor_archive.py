"""Tensor Archives (TZA), the weights files of Open Image Denoise [1], read as data.

References:
    [1] https://github.com/RenderKit/oidn: training/tza.py and core/tza.cpp.
"""

import hashlib
import math
import struct
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_HEADER = struct.pack("<HB", 0x41D7, 2)  # magic number and major version, little-endian
_DTYPES: "dict[str, np.dtype[np.floating]]" = {"f": np.dtype("<f4"), "h": np.dtype("<f2")}
_MAX_TENSORS = 1000  # networks of the filter have at most 38


def read_tza(data: bytes) -> dict[str, Tensor]:
    """Read a Tensor Archive.

    Layout, little-endian: uint16 0x41D7, uint8 major and minor version, uint64 offset of the
    table; the table: uint32 count, then for each tensor uint16 length and the UTF-8 name, uint8
    number of axes, uint32 sizes, one letter an axis ("x" or "oihw"), one letter for the type
    ("f" float32, "h" float16) and the uint64 offset of its values.

    Args:
        data: The archive; bytes after it are ignored.

    Returns:
        Float32 tensors by name, in the order of the table.

    Raises:
        ValueError: If the bytes are no such archive, or are damaged.
    """
    return {entry.name: _read_values(data, entry) for entry in _read_table(data)[0]}


def find_tza(library: bytes, digest: str) -> bytes | None:
    """Find the archive with this start of its SHA-256 digest among the bytes of a library."""
    start = library.find(_HEADER)
    while start >= 0:
        try:
            _, end = _read_table(memoryview(library)[start:])
        except ValueError:
            end = 0  # three bytes of something else
        archive = library[start : start + end]
        if hashlib.sha256(archive).hexdigest().startswith(digest):
            return archive
        start = library.find(_HEADER, start + max(end, 1))
    return None


class _Entry(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: "np.dtype[np.floating]"
    offset: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class _Cursor:
    """Reads along a buffer and refuses to step outside it."""

    def __init__(self, data: bytes | memoryview, position: int) -> None:
        self._data, self.position = data, position

    def read(self, num_bytes: int) -> bytes:
        end = self.position + num_bytes
        if end > len(self._data):
            raise ValueError(
                f"tensor archive ends at byte {len(self._data)} inside a field that needs byte "
                f"{end}; the file is truncated or damaged"
            )
        field, self.position = bytes(self._data[self.position : end]), end
        return field

    def read_text(self, num_bytes: int) -> str:
        try:
            return self.read(num_bytes).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"tensor archive has a name that is not text: {error}") from None

    def read_ints(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(f"<{layout}", self.read(struct.calcsize(f"<{layout}")))


def _read_table(data: bytes | memoryview) -> tuple[list[_Entry], int]:
    cursor = _Cursor(data, 0)
    if cursor.read(len(_HEADER)) != _HEADER:
        raise ValueError("data is no tensor archive (TZA, version 2): its magic number is missing")
    cursor.read(1)
    (cursor.position,) = cursor.read_ints("Q")
    (count,) = cursor.read_ints("I")
    if count > _MAX_TENSORS:
        raise ValueError(f"tensor archive claims {count} tensors; the file is damaged")
    entries: dict[str, _Entry] = {}
    for _ in range(count):
        entry = _read_entry(cursor)
        if entry.name in entries:
            raise ValueError(f"tensor archive holds {entry.name!r} twice; the file is damaged")
        if entry.offset + entry.num_bytes > len(data):
            raise ValueError(
                f"tensor archive places {entry.name!r} at bytes {entry.offset} to "
                f"{entry.offset + entry.num_bytes} of {len(data)}; the file is truncated or damaged"
            )
        entries[entry.name] = entry
    # Entries that share their values would let a small file fill the memory.
    if sum(entry.num_bytes for entry in entries.values()) > len(data):
        raise ValueError("tensor archive has tensors that overlap; the file is damaged")
    return list(entries.values()), cursor.position


def _read_entry(cursor: _Cursor) -> _Entry:
    name = cursor.read_text(*cursor.read_ints("H"))
    (num_axes,) = cursor.read_ints("B")
    shape = cursor.read_ints(f"{num_axes}I")
    layout, dtype = cursor.read_text(num_axes), cursor.read_text(1)
    if layout not in ("x", "oihw") or dtype not in _DTYPES or 0 in shape:
        raise ValueError(
            f"tensor archive describes {name!r} by shape {shape}, layout {layout!r} and type "
            f"{dtype!r}; known are the layouts x and oihw and the types f and h"
        )
    (offset,) = cursor.read_ints("Q")
    return _Entry(name, shape, _DTYPES[dtype], offset)


def _read_values(data: bytes, entry: _Entry) -> Tensor:
    count = math.prod(entry.shape)
    values = np.frombuffer(data, entry.dtype, count, entry.offset).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"tensor archive has a NaN or infinite value in {entry.name!r}")
    return torch.from_numpy(values).reshape(entry.shape)
