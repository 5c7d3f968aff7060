"""Files of trained weights that run no code when read.

Weights are written as safetensors, with a model card as JSON in the header. A plain state dict in
a .pt file is read by torch's restricted loader. A whole pickled module, a TorchScript archive or a
`torch.export` archive can run code when read; they are refused with the lines that convert them.
"""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from framelets.core.run_folder import write_atomically

WEIGHTS_SCHEMA = 1
_CARD = "model_card"


def save_weights(path: str | Path, network: nn.Module, card: Mapping[str, Any]) -> None:
    """Write the weights of a network and its model card, whole or not at all.

    Args:
        path: File to write; `.safetensors` by convention.
        network: The network whose parameters and buffers are written.
        card: The model card: configuration, data and licenses, command, figures. Must be JSON.

    Raises:
        OSError: If the file cannot be written; an older one is left as it was.
    """
    tensors = {
        name: value.detach().to("cpu").contiguous() for name, value in network.state_dict().items()
    }
    text = json.dumps({"schema_version": WEIGHTS_SCHEMA, **card})
    content = save(tensors, metadata={"format": "pt", _CARD: text})
    write_atomically(path, lambda stream: stream.write(content))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and their model card; no code of the file is run.

    Args:
        path: A safetensors file, or a .pt file that holds a plain state dict.

    Returns:
        The state dict, on the CPU, and the model card (empty if the file has none).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    with path.open("rb") as stream:
        start = stream.read(9)
    if len(start) == 9 and start[8:9] == b"{":  # length of the JSON header, then the header
        return _load_safetensors(path)
    return _load_state_dict(path), {}


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(_CARD, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from None
    try:
        card = json.loads(text)
    except ValueError:
        raise ValueError(f"the model card of {path} is not JSON") from None
    version = card.get("schema_version", WEIGHTS_SCHEMA)
    if version > WEIGHTS_SCHEMA:
        raise ValueError(
            f"{path} has model card version {version}, this framelets reads up to "
            f"{WEIGHTS_SCHEMA}; upgrade framelets"
        )
    return tensors, card


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [Path(name).name for name in archive.namelist()]
        if "constants.pkl" in names or any("archive_format" in name for name in names):
            kind = "torch.jit.load" if "constants.pkl" in names else "torch.export.load"
            call = "" if kind == "torch.jit.load" else ".module()"
            raise ValueError(_refusal(path, "a program archive", f"{kind}({str(path)!r}){call}"))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        call = f"torch.load({str(path)!r}, weights_only=False)"
        raise ValueError(_refusal(path, "pickled Python objects", call)) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged or no weights file: {reason}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold named tensors, it holds {type(content).__name__}")
    for name, value in content.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise ValueError(
                f"{path} must hold named tensors only, but {name!r} is {type(value).__name__}; "
                "save network.state_dict() alone"
            )
    return content


def _refusal(path: Path, kind: str, load: str) -> str:
    return (
        f"{path} holds {kind}, which can run code when read, and is refused; where you trust it, "
        f"convert it once: import torch, safetensors.torch; network = {load}; "
        "safetensors.torch.save_file({k: v.contiguous() for k, v in network.state_dict().items()}, "
        f"{str(path.with_suffix('.safetensors'))!r})"
    )
