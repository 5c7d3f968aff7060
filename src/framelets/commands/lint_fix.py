"""Rewrite a network as a dual frame or a tight frame, and write its weights."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.commands.user_networks import LoadedNetwork, parse_settings
from framelets.networks import Reframed, UnrolledNetwork, reframe
from framelets.training import save_weights


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A network that was rewritten.

    Attributes:
        form: "dual-frame" or "tight-frame".
        module: The network in double precision, as it was measured.
        stored: The network in its own precision, as it is written.
        example_shape: Shape of the image that it was rewritten at, with batch axis.
        difference: |f_new(x) - f(x)| / |f(x)| at that image.
    """

    form: str
    module: nn.Module
    stored: nn.Module
    example_shape: tuple[int, ...]
    difference: float

    @property
    def left(self) -> tuple[str, ...]:
        """What is left as it is, and why."""
        return self.module.left if isinstance(self.module, Reframed) else ()

    def summary(self) -> dict[str, Any]:
        """Return what there is to say, as plain values."""
        return {
            "form": self.form,
            "relative_difference": self.difference,
            "left": list(self.left),
            "num_parameters": sum(p.numel() for p in self.stored.parameters()),
        }

    def notes(self, loaded: LoadedNetwork, path: Path, settings: Sequence[str]) -> list[str]:
        """Say what it computes and how to load it."""
        words = "".join(f" --set {setting}" for setting in settings)
        arguments = f", {parse_settings(settings)}" if settings else ""
        shape = ", ".join(map(str, self.example_shape))
        return [
            f"At this image the output differs by {self.difference:.2g} of its norm, in double "
            "precision.",
            *[f"Left as it is: {text}." for text in self.left],
            "",
            "Load it on the command line, for every verb that takes --weights:",
            f"    framelets lint {loaded.name}{words} --weights {path}",
            "Load it in Python:",
            "    from framelets.commands.user_networks import load_network",
            f"    network = load_network({loaded.name!r}, {str(path)!r}{arguments}).module",
            f"In code that makes the network of {loaded.name} itself:",
            "    import framelets.networks, framelets.training, torch",
            f"    example = torch.zeros({shape})",
            f"    network = framelets.networks.reframe(network, {self.form!r}, example)",
            f"    network.load_state_dict(framelets.training.load_weights({str(path)!r})[0])",
        ]


def rewrite(
    loaded: LoadedNetwork,
    module: nn.Module,
    image: Float[Tensor, "1 channel *space"],
    form: str,
) -> Rewritten:
    """Rewrite a network and measure what that changes at an image.

    Args:
        loaded: The network as it was loaded.
        module: The same in double precision, where the image is.
        image: The image.
        form: "dual-frame" or "tight-frame".

    Raises:
        ValueError: If the network cannot be rewritten.
    """
    if isinstance(module, UnrolledNetwork):
        raise ValueError(
            f"network {loaded.name} is unrolled: rewrite the network between its data steps, and "
            "build it from that"
        )
    try:
        fixed = reframe(module, form, image)
        some = next(loaded.module.parameters())
        stored = reframe(loaded.module, form, image.to(some))
    except ValueError as error:
        raise ValueError(f"{loaded.name}: {error}") from None
    with torch.no_grad():
        before, after = module(image), fixed(image)
    difference = torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before)
    return Rewritten(form, fixed, stored, tuple(image.shape), float(difference))


def write_rewritten(
    loaded: LoadedNetwork, fixed: Rewritten, output: Path, weights: Path | None, command: str
) -> Path:
    """Write the weights of a rewritten network, with a model card that says how to rebuild it.

    Args:
        loaded: The network as it was loaded.
        fixed: The rewritten network.
        output: A safetensors file, or a folder that gets `weights.safetensors`.
        weights: Where the weights came from; what a run folder says of its network is kept.
        command: The command line, for the model card.

    Returns:
        The file.

    Raises:
        ValueError: If the network of a run folder is to go to a file.
        OSError: If it cannot be written.
    """
    is_file = output.suffix == ".safetensors"
    path = output if is_file else output / "weights.safetensors"
    config = _config_of(loaded, weights)
    if config is not None and is_file:
        raise ValueError(f"--output must be a folder, for the settings in {config}, got {output}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if config is not None and not (output / config.name).exists():
        shutil.copy(config, output / config.name)
    card = fixed.summary() | {
        "reframed": fixed.form,
        "example_shape": list(fixed.example_shape),
        "network": loaded.name,
        "source": loaded.source,
        "command": command,
    }
    save_weights(path, fixed.stored, json.loads(json.dumps(card)))
    return path


def _config_of(loaded: LoadedNetwork, weights: Path | None) -> Path | None:
    if not loaded.task or weights is None:
        return None
    config = (weights if weights.is_dir() else weights.parent) / "config.toml"
    return config if config.is_file() else None
