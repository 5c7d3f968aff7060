"""What a training run may vary, with its defaults, in one place."""

import math
from dataclasses import dataclass

from framelets.core.choices import refuse_unknown

OPTIMIZERS = ("adamw", "sgd")
"""Known optimizers: AdamW, and stochastic gradient descent with Nesterov momentum 0.9."""


@dataclass(frozen=True)
class RunConfig:
    """Settings of one training run.

    The learning rate rises linearly during `warmup_steps`, then falls along half a cosine from
    `learning_rate` to `final_fraction` times it at `num_steps`.

    Attributes:
        network: Which network of the task to train, by name.
        seed: Seed of the initial weights and of every training batch.
        num_steps: Optimizer steps in all.
        max_seconds: Stop (and leave a resumable checkpoint) after so much training time; 0: never.
        batch_size: Samples per step and process.
        optimizer: One of `OPTIMIZERS`.
        learning_rate: Peak learning rate.
        final_fraction: Last learning rate as a fraction of the peak.
        warmup_steps: Steps until the peak is reached.
        weight_decay: Decoupled weight decay (AdamW) or L2 penalty (SGD).
        gradient_clip: Largest norm of the whole gradient; 0: not clipped.
        average_decay: Decay of the running average of the weights, which is what is validated and
            saved; 0: the last weights themselves.
        log_every: Steps between two lines of the log.
        validate_every: Steps between two validations.
        checkpoint_every: Steps between two checkpoints.
        accelerator: Lightning Fabric accelerator: "auto", "cpu", "cuda", "mps".
        devices: Number of processes (devices) per node.
        num_nodes: Number of nodes.
        precision: Lightning Fabric precision: "32-true", "bf16-mixed", ...
    """

    network: str = "unet"
    seed: int = 0
    num_steps: int = 1000
    max_seconds: float = 0.0
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    final_fraction: float = 0.01
    warmup_steps: int = 50
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    average_decay: float = 0.99
    log_every: int = 20
    validate_every: int = 250
    checkpoint_every: int = 250
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "32-true"

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        refuse_unknown("optimizer", self.optimizer, OPTIMIZERS)
        for name in (
            "num_steps",
            "batch_size",
            "log_every",
            "validate_every",
            "checkpoint_every",
            "devices",
            "num_nodes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("max_seconds", "weight_decay", "gradient_clip", "warmup_steps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction must lie in [0, 1], got {self.final_fraction}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must lie in [0, 1), got {self.average_decay}")

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of a step, counted from 0.

        Example:
            >>> config = RunConfig(num_steps=100, warmup_steps=10, learning_rate=1.0)
            >>> [round(config.learning_rate_at(step), 3) for step in (0, 9, 10, 55, 99)]
            [0.1, 1.0, 1.0, 0.505, 0.01]
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        elapsed = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        cosine = (1 + math.cos(math.pi * min(1.0, elapsed))) / 2
        return self.learning_rate * (self.final_fraction + (1 - self.final_fraction) * cosine)
