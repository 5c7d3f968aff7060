"""Run folders: where the stages of a run meet, on disk.

A stage (simulate, train, reconstruct, explain, evaluate) reads what earlier stages left and adds
files that describe themselves. It holds the folder's lock while it writes, and every file appears
whole or not at all, so that neither a kill nor a full disk leaves half a result. POSIX only.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import textwrap
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

SCHEMA_VERSION = 1
"""Version of the layout of a run folder, written into `run.json`."""

_PACKAGES = (
    "framelets",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "lightning-fabric",
    "torchmetrics",
    "safetensors",
    "scikit-image",
    "slicerio",
)


class RunFolderLockedError(BlockingIOError):
    """Another process is writing into this run folder."""


class RunFolder:
    """A folder that holds one run; made if it does not exist.

    Names of files are relative to the folder and may name a subfolder: `checkpoint/state.pt`.

    Args:
        path: The folder.

    Raises:
        OSError: If the folder cannot be made, or `path` is a file.

    Example:
        >>> import tempfile
        >>> folder = RunFolder(tempfile.mkdtemp())
        >>> with folder.lock("evaluate"):
        ...     folder.write_json("metrics.json", {"psnr_db": 31.5})
        >>> folder.read_json("metrics.json")
        {'psnr_db': 31.5}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the folder, or make it."""
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(
                f"run folder must be a folder, got the file {self.path}; choose another path"
            ) from None
        except OSError as error:
            raise type(error)(f"cannot make run folder {self.path}: {error.strerror}") from None

    def __repr__(self) -> str:
        """Name the folder."""
        return f"RunFolder({str(self.path)!r})"

    def file(self, name: str) -> Path:
        """Return the path of a file of this run, which need not exist.

        Raises:
            ValueError: If the name leads out of the folder.
        """
        relative = Path(name)
        if not name or relative.is_absolute() or ".." in relative.parts:
            raise ValueError(f"name must stay inside the run folder, got {name!r}")
        return self.path / relative

    def has(self, name: str) -> bool:
        """Tell whether the run has this file."""
        return self.file(name).is_file()

    @contextlib.contextmanager
    def lock(self, stage: str) -> Iterator[None]:
        """Hold the folder while a stage writes into it.

        The kernel keeps the lock and drops it when the process ends, however it ends: a lock file
        that a dead process left behind does not block. Temporary files of a killed writer are
        removed.

        Args:
            stage: What is being done, told to a second process: "train".

        Raises:
            RunFolderLockedError: If another process, or another `RunFolder` of this one, holds it.
        """
        with open(self.path / ".lock", "a+", encoding="utf-8") as lock_file:  # noqa: PTH123
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock_file.seek(0)
                raise RunFolderLockedError(
                    f"run folder {self.path} is in use by {lock_file.read() or 'another process'}; "
                    "wait until it ends or choose another folder"
                ) from None
            for leftover in self.path.rglob(".*.partial"):
                leftover.unlink(missing_ok=True)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            host = socket.gethostname()
            lock_file.truncate(0)
            lock_file.write(f"process {os.getpid()} on {host} (stage {stage}, since {now})")
            lock_file.flush()
            try:
                yield
            finally:
                lock_file.truncate(0)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file of bytes, whole or not at all."""
        write_atomically(self.file(name), lambda stream: stream.write(content))

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 text file, whole or not at all."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, content: object) -> None:
        """Write a JSON file, whole or not at all.

        Tensors and NumPy arrays become lists, paths text.

        Raises:
            ValueError: If a number is NaN or infinite, which JSON cannot say.
        """
        try:
            text = json.dumps(content, indent=2, allow_nan=False, default=_to_json)
        except ValueError as error:
            raise ValueError(f"{name} cannot hold {error}; write None or text instead") from None
        self.write_text(name, text + "\n")

    def write_npz(self, name: str, **arrays: np.ndarray | Tensor | str | float) -> None:
        """Write named arrays, compressed, whole or not at all; text becomes a text array.

        Raises:
            TypeError: If something is no array of numbers or text (it would be pickled).
        """
        converted = {key: _to_numpy(key, array) for key, array in arrays.items()}
        write_atomically(
            self.file(name),
            lambda stream: np.savez_compressed(stream, allow_pickle=False, **converted),
        )

    def read_bytes(self, name: str) -> bytes:
        """Read a file.

        Raises:
            FileNotFoundError: If the run has no such file; the message lists those it has.
        """
        try:
            return self.file(name).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(self._missing(name)) from None

    def read_text(self, name: str) -> str:
        """Read a UTF-8 text file."""
        return self.read_bytes(name).decode()

    def read_json(self, name: str) -> Any:  # noqa: ANN401
        """Read a JSON file.

        Raises:
            ValueError: If the file is not JSON.
        """
        try:
            return json.loads(self.read_bytes(name))
        except ValueError as error:
            raise ValueError(f"{self.file(name)} is not JSON: {error}") from None

    def read_npz(self, name: str) -> dict[str, np.ndarray]:
        """Read named arrays; nothing is unpickled."""
        if not self.has(name):
            raise FileNotFoundError(self._missing(name))
        return read_arrays(self.file(name))

    def write_run_json(
        self, command: str | Sequence[str], seed: int | None, **details: object
    ) -> None:
        """Record in `run.json` how this stage was run, and keep the records of earlier stages.

        Args:
            command: The command line.
            seed: The seed of all randomness, None if there is none.
            **details: Anything else worth keeping, such as `stage="train"`.
        """
        earlier: list[object] = []
        if self.has("run.json"):
            previous = self.read_json("run.json")
            earlier = [*previous.pop("earlier", []), previous]
        record = {
            "schema_version": SCHEMA_VERSION,
            "command": command if isinstance(command, str) else " ".join(command),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": seed,
            "versions": _versions(),
            "git": _git_state(),
            "machine": _machine(),
        }
        self.write_json("run.json", record | details | ({"earlier": earlier} if earlier else {}))

    def _missing(self, name: str) -> str:
        found = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        return f"run folder {self.path} has no {name}; it has {', '.join(found) or 'no files'}"


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it appears whole or not at all, and an older one stays until then.

    The content goes to a temporary file in the same folder, to the disk, and then takes the name.

    Args:
        path: The file; its folder is made if it does not exist.
        write: Called with the stream to write to.

    Raises:
        OSError: If writing fails, for example on a full disk; one line, and nothing is left over.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"cannot write {path}: {reason}; the file is unchanged"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal text."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_arrays(path: str | os.PathLike[str], max_bytes: int = 8 * 2**30) -> dict[str, np.ndarray]:
    """Read every array of an npz archive; nothing is unpickled.

    Args:
        path: The archive.
        max_bytes: Refuse an archive that unpacks to more, before unpacking it.

    Raises:
        ValueError: If the file is empty, cut short, no archive of arrays, holds pickled objects,
            or is too large.
    """
    try:
        with Path(path).open("rb") as file:
            return _unpack(file, path, max_bytes)
    except _TooLargeError:
        raise
    except _PickledError:
        raise ValueError(
            f"{path} holds pickled Python objects, which could run code when read; in the program "
            "that made it, save plain arrays: np.savez(file, name=np.asarray(x, dtype=float))"
        ) from None
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError, MemoryError) as error:
        reason = textwrap.shorten(str(error), 200)
        raise ValueError(f"{path} is damaged, cut short or no npz archive: {reason}") from None
    except RuntimeError as error:  # zipfile's own for encryption and unknown compression
        raise ValueError(f"{path} cannot be unpacked: {error}") from None


class _TooLargeError(ValueError):
    """An archive unpacks to more than is allowed."""


class _PickledError(ValueError):
    """An array holds Python objects."""


def _unpack(file: IO[bytes], path: str | os.PathLike[str], max_bytes: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > max_bytes:
            raise _TooLargeError(
                f"{path} unpacks to {total / 2**30:.3g} GiB, more than the allowed "
                f"{max_bytes / 2**30:.3g} GiB; split it or raise max_bytes"
            )
        return {
            entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in entries
        }


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    # Not by np.load, which takes whatever it does not know for a pickle.
    with archive.open(entry) as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise _PickledError from None
            raise ValueError(f"{entry.filename}: {error}") from None


def _sync_folder(folder: Path) -> None:
    # The new name itself reaches the disk only with its folder; some file systems refuse this.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _to_numpy(name: str, array: object) -> np.ndarray:
    if isinstance(array, Tensor):
        array = array.detach().resolve_conj().cpu().numpy()
    converted = np.asarray(array)
    if converted.dtype.hasobject:
        raise TypeError(f"{name} must be an array of numbers or text, got {type(array).__name__}")
    return converted


def _to_json(content: object) -> object:
    if isinstance(content, (Tensor, np.ndarray, np.generic)):
        return content.tolist()
    if isinstance(content, os.PathLike):
        return os.fspath(content)
    if isinstance(content, Mapping):
        return dict(content)
    raise TypeError(f"JSON cannot hold {type(content).__name__}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _git_state() -> dict[str, object] | None:
    """Tell the commit of the running source, or None if it is not a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return result.stdout.strip()

    try:
        # An environment that lies inside somebody's repository is not a checkout of this package.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": git("rev-parse", "HEAD"), "clean": not git("status", "--porcelain")}
    except (OSError, subprocess.SubprocessError):
        return None


def _machine() -> dict[str, object]:
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), cpu)
    return {
        "system": platform.platform(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "accelerators": [
            torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
        ],
    }
