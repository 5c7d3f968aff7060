"""Options and arguments that several commands share, and names made from them."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of all randomness.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:1, mps.")
]
RunOption = Annotated[
    Path | None, typer.Option("--run", "-o", help="Run folder; a new one in runs/ by default.")
]

NetworkArgument = Annotated[
    str, typer.Argument(help="Shipped weights by name, or module:callable, whose code is run.")
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="Weights: safetensors, or plain state dict.")
]
ArgumentsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Argument of the callable, key=value; repeat it for several."),
]
ChannelsOption = Annotated[
    int, typer.Option("--channels", min=1, help="Repeat the image in so many channels.")
]
SliceOption = Annotated[int | None, typer.Option("--slice", min=0, help="Slice of a volume.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="Array of an npz archive.")]
CropOption = Annotated[
    int | None, typer.Option("--crop", min=8, help="Cut the middle, so many pixels square.")
]
ScaleOption = Annotated[
    float, typer.Option("--scale", help="Multiply the image of a module:callable by this.")
]


def run_folder(run: Path | None, name: str) -> Path:
    """Return the folder that the user chose, or a new one."""
    return run or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def command_line() -> str:
    """Return the command line as a reader would type it."""
    return shlex.join(["framelets", *sys.argv[1:]])


def file_name(text: str) -> str:
    """Turn a name into one that a folder may have."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in text).strip("-") or "run"
