"""What the training loop asks of a task, and what the other stages ask of one."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Task(Protocol):
    """Networks by name, training batches, a loss and a validation.

    A batch is a function of `(seed, step)` alone, never of what was drawn before: this is what
    makes a resumed run equal to an uninterrupted one without saving any data.
    """

    name: str
    """Name of the task, as the command line knows it."""

    @property
    def card(self) -> Mapping[str, Any]:
        """What the model card says of the task: `data` and their licenses, `task_config`."""
        ...

    def network(self, name: str) -> nn.Module:
        """Build an untrained network; the initial weights come from torch's global generator."""
        ...

    def training_batch(self, step: int, batch_size: int, seed: int) -> Any:  # noqa: ANN401
        """Draw the batch of a step: a tensor, or a list, tuple or dict of such."""
        ...

    def loss(self, network: nn.Module, batch: Any) -> Tensor:  # noqa: ANN401
        """Compute the scalar loss of the network on a batch."""
        ...

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measure the network on fixed seeded samples; the key "psnr" (dB) is shown."""
        ...


@runtime_checkable
class ReconstructionTask(Task, Protocol):
    """A task that also reconstructs: what `reconstruct`, `evaluate` and `demo` ask for."""

    baselines: tuple[str, ...]
    """Classical methods, which need no weights."""

    methods: tuple[str, ...]
    """All methods: the baselines and the networks."""

    def reconstruct(self, measurement: Any, method: str) -> Tensor:  # noqa: ANN401
        """Turn a measurement into an image by a method."""
        ...

    def metrics(self, reconstruction: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Compare a reconstruction with a reference, one value per image."""
        ...
