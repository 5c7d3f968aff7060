"""Networks by name: shipped weights, or the user's own `module:callable` with a weights file."""

import importlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor, nn

from framelets.core import refuse_unknown
from framelets.networks import reframe
from framelets.tasks import SHIPPED_WEIGHTS, TASKS, load_plan
from framelets.training import load_weights

_MAX_EXAMPLE = 2**26
"""Most entries of the image that a rewritten network is found at; a damaged card may claim any."""


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network in evaluation mode, with where it came from.

    Attributes:
        name: What the user called it.
        module: The network.
        source: Where code and weights came from, in words.
        task: Task of a network of the package, "" for the user's own.
        method: Its name in the task.
    """

    name: str
    module: nn.Module = field(repr=False)
    source: str
    task: str = ""
    method: str = ""

    @property
    def num_parameters(self) -> int:
        """Learned parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def load_network(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> LoadedNetwork:
    """Load a network of the package by its name, or make the user's own by running their code.

    Args:
        name: One of `framelets.tasks.SHIPPED_WEIGHTS`, or `module:callable`. The module is imported
            (the current folder comes first), and the callable, a function or class, is called with
            `arguments`; it may also be a network that exists already.
        weights: A safetensors file, or a .pt that holds a plain state dict. For a network of the
            package, a run folder of `framelets train` or the weights file in it.
        arguments: Keyword arguments of the callable.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: If the name is unknown, the code fails, or the weights do not fit.
        TypeError: If the callable does not give a `torch.nn.Module`.
        OSError: If the weights file cannot be read.
    """
    if ":" not in name:
        refuse_unknown("network (or module:callable)", name, SHIPPED_WEIGHTS)
        if arguments:
            raise ValueError(f"arguments are for module:callable, not for {name}")
        return _of_package(name, None if weights is None else Path(weights))
    module = _make(name, dict(arguments or {}))
    source = f"the user's own code {name}"
    if weights is None:
        source += ", with the weights that the code gives it"
    else:
        state, card = load_weights(Path(weights))
        module = _rewritten(module, card)
        _fit(module, state, Path(weights))
        source += f", weights from {weights}"
    return LoadedNetwork(name, module.eval(), source)


def _of_package(name: str, weights: Path | None) -> LoadedNetwork:
    task, method = name.split("/")
    if weights is None:
        module = TASKS[task]().trained(method)
        return LoadedNetwork(name, module, "weights shipped with framelets", task, method)
    if weights.is_dir():
        weights = weights / "weights.safetensors"
    state, card = load_weights(weights)
    # A run folder says how the network was made; a file alone must fit the package's settings.
    config = weights.with_name("config.toml")
    made_by = load_plan(config).make_task() if config.is_file() else TASKS[task]()
    module = _rewritten(made_by.network(method), card)
    _fit(module, state, weights)
    return LoadedNetwork(name, module.eval(), f"weights from {weights}", task, method)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` settings; values are JSON where they can be, else text.

    Example:
        >>> parse_settings(["width=8", "pooling=max", "training.seed=1"])
        {'width': 8, 'pooling': 'max', 'training.seed': 1}
    """
    arguments: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not all(part.isidentifier() for part in key.split(".")):
            raise ValueError(f"a setting must be key=value, got {setting!r}")
        try:
            arguments[key] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key] = value
    return arguments


def _make(name: str, arguments: dict[str, Any]) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py"):
        dotted = ".".join(PurePath(module_name.removesuffix(".py")).parts)
        raise ValueError(f"network {name}: name the module without .py, as in {dotted}:{attribute}")
    # The user's file lies where they stand; a console script does not look there by itself.
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"network {name}: there is no module {error.name!r}, neither installed nor in {folder}"
        ) from None
    except Exception as error:  # the user's code may raise anything
        raise _failed(name, f"importing {module_name}", error) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [key for key in vars(found) if not key.startswith("_")]
            refuse_unknown(f"callable of {module_name}", part, public)
        found = getattr(found, part)
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise TypeError(f"{name} must be a callable that makes a network, got {found!r}")
        try:
            found = found(**arguments)
        except Exception as error:  # the user's code may raise anything
            raise _failed(name, "calling it", error) from error
    if not isinstance(found, nn.Module):
        raise TypeError(f"{name} must give a torch.nn.Module, got {type(found).__name__}")
    return found


def _rewritten(module: nn.Module, card: Mapping[str, Any]) -> nn.Module:
    """Rewrite a network as `framelets lint --fix` did before it wrote its weights."""
    if "reframed" not in card:
        return module
    shape = card.get("example_shape")
    sizes = shape if isinstance(shape, list) else [0]
    if not all(isinstance(n, int) and n > 0 for n in sizes) or math.prod(sizes) > _MAX_EXAMPLE:
        raise ValueError(f"the model card has example_shape {shape!r}; write the weights again")
    some = next(module.parameters())
    return reframe(module, str(card["reframed"]), some.new_zeros(sizes))


def _failed(name: str, doing: str, error: Exception) -> ValueError:
    return ValueError(f"network {name}: {doing} failed with {type(error).__name__}: {error}")


def _fit(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict, or say in one line what does not fit."""
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        raise ValueError(
            f"weights {path} do not fit {type(module).__name__}: {len(missing)} names are missing"
            f"{_first(missing)} and {len(unexpected)} unknown{_first(unexpected)}; "
            "rename them, or make the network with the arguments it was trained with"
        )
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            raise ValueError(
                f"weights {path} do not fit {type(module).__name__}: {name} must have shape "
                f"{tuple(value.shape)}, got {tuple(state[name].shape)}"
            )
    module.load_state_dict(dict(state))


def _first(names: list[str]) -> str:
    return f" (first {names[0]})" if names else ""
