"""What a training configuration file says: which task, how it is set up, how it is trained."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from framelets.core.choices import choose, refuse_unknown
from framelets.core.config import load_config
from framelets.tasks.shipped import SHIPPED_WEIGHTS
from framelets.tasks.sparse_view_ct import SparseViewCT, SparseViewCTConfig
from framelets.training import RunConfig

TASKS = {SparseViewCT.name: SparseViewCT}
"""Every task by name."""


@dataclass(frozen=True)
class TrainingPlan:
    """The contents of a training configuration file.

    Attributes:
        task: Name of the task, a key of `TASKS`.
        training: Settings of the run.
        sparse_view_ct: Settings of the task of this name.
    """

    task: str = SparseViewCT.name
    training: RunConfig = field(default_factory=RunConfig)
    sparse_view_ct: SparseViewCTConfig = field(default_factory=SparseViewCTConfig)

    def make_task(self) -> SparseViewCT:
        """Build the task that the file describes."""
        return choose("task", self.task, TASKS)(self.sparse_view_ct)


def load_plan(
    path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> TrainingPlan:
    """Read a training configuration file, or one that comes with the package.

    Args:
        path: A TOML file, or a name of shipped weights such as "sparse-view-ct/unet".
        overrides: Values that win over the file, with dotted keys: `{"training.num_steps": 10}`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a name, a key or a choice is unknown; the nearest valid one is named.
        TypeError: If a value has the wrong type.
    """
    if not Path(path).is_file() and not str(path).endswith(".toml"):
        refuse_unknown("config (or a .toml file)", str(path), SHIPPED_WEIGHTS)
        path = Path(__file__).parent / "configs" / f"{path}.toml"
    return load_config(TrainingPlan, path, dict(overrides or {}))


def load_shipped(name: str) -> nn.Module:
    """Load a shipped network in evaluation mode.

    Args:
        name: One of `SHIPPED_WEIGHTS`, such as "sparse-view-ct/unet".

    Raises:
        ValueError: If the name is unknown; the nearest valid one is named.
    """
    refuse_unknown("weights", name, SHIPPED_WEIGHTS)
    task, network = name.split("/")
    return TASKS[task]().trained(network)
