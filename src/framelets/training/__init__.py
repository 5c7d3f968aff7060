"""The training loop, its configuration and the files of trained weights."""

from framelets.training.config import RunConfig
from framelets.training.loop import TrainingResult, train
from framelets.training.task import ReconstructionTask, Task
from framelets.training.weights import WEIGHTS_SCHEMA, load_weights, save_weights

__all__ = [
    "WEIGHTS_SCHEMA",
    "ReconstructionTask",
    "RunConfig",
    "Task",
    "TrainingResult",
    "load_weights",
    "save_weights",
    "train",
]
