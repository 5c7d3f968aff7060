"""Linear operators and what can be computed with nothing but their products."""

from .choices import choose, refuse_unknown
from .config import dump_config, load_config
from .linear_operator import Identity, LinearOperator, RealInput
from .result import Result, Table
from .run_folder import (
    RunFolder,
    RunFolderLockedError,
    read_arrays,
    sha256_of,
    write_atomically,
)

__all__ = [
    "Identity",
    "LinearOperator",
    "RealInput",
    "Result",
    "RunFolder",
    "RunFolderLockedError",
    "Table",
    "choose",
    "dump_config",
    "load_config",
    "read_arrays",
    "refuse_unknown",
    "sha256_of",
    "write_atomically",
]
