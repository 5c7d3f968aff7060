"""Look at every pooling and un-pooling of a network, and rewrite what counts features twice."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.commands.devices import choose_device
from framelets.commands.lint_findings import (
    failures,
    finding_notes,
    finding_tables,
    findings,
)
from framelets.commands.lint_fix import rewrite, write_rewritten
from framelets.commands.network_images import ImageOptions, read_network_image
from framelets.commands.scan_files import is_scan
from framelets.commands.stages import Stages, silent
from framelets.commands.user_networks import LoadedNetwork, load_network, parse_settings
from framelets.core import Result, refuse_unknown
from framelets.geometry import (
    PoolingDiagnosis,
    UnpoolingDiagnosis,
    diagnose_poolings,
    diagnose_unpoolings,
    linearize,
)
from framelets.networks import FORMS, UnrolledNetwork

_SIZES = {1: 64, 2: 64, 3: 32}
"""Default length of each axis of the image, by the number of axes."""


@dataclass(frozen=True)
class LintOptions:
    """What `lint` may vary.

    Attributes:
        weights: Weights file of a `module:callable`, or run folder of a network of the package.
        settings: Arguments of the callable, `key=value`.
        at: Image to record the network at; random numbers by default.
        input_shape: Shape of the random image, `CHANNELS,HEIGHT,WIDTH`; found by default.
        size: Length of each axis of the random image.
        channels: Repeat the image in so many channels.
        slice_index: Slice of a volume.
        key: Array of an npz archive.
        crop: Cut the middle, so many pixels square.
        scale: Multiply the image of a `module:callable` by this.
        fix: "dual-frame" or "tight-frame", to rewrite the network.
        output: Weights file or folder to write the rewritten network to.
        min_lower_bound: Smallest lower frame bound that passes.
        max_ratio: Largest ratio that passes.
    """

    weights: Path | None = None
    settings: tuple[str, ...] = ()
    at: Path | None = None
    input_shape: str | None = None
    size: int | None = None
    channels: int = 1
    slice_index: int | None = None
    key: str | None = None
    crop: int | None = None
    scale: float = 1.0
    fix: str | None = None
    output: Path | None = None
    min_lower_bound: float | None = None
    max_ratio: float | None = None


def lint(
    network: str,
    options: LintOptions | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
    stages: Stages = silent,
) -> Result:
    """Diagnose the levels of a network, and rewrite it if asked to.

    Args:
        network: Shipped weights by name, or `module:callable`, whose code is run.
        options: Everything else.
        seed: Seed of the random image and of random starts.
        device: Where to compute; in double precision.
        command: The command line, for the model card.
        stages: Told how far it is.

    Returns:
        The diagnoses; `failures` names the levels that miss a threshold.

    Raises:
        ValueError: If a name or an option is wrong, or the network cannot be recorded or rewritten.
        OSError: If a file cannot be read or written.
    """
    options = options or LintOptions()
    _refuse_wrong(options)
    arguments = parse_settings(options.settings)
    if arguments and ":" not in network:
        raise ValueError("--set is for module:callable; shipped networks come as they are")
    loaded = load_network(network, options.weights, arguments if ":" in network else None)
    generator = torch.Generator().manual_seed(seed)
    image, words = _image(loaded, options, generator)
    where = choose_device(device)
    image = image.to(device=where, dtype=torch.float64)
    module = copy.deepcopy(loaded.module).to(device=where, dtype=torch.float64)
    levels, rises = diagnose(loaded.name, module, image, seed, stages)
    data: dict[str, Any] = {
        "network": loaded.name,
        "source": loaded.source,
        "image": words,
        "input_shape": list(image.shape[1:]),
        "seed": seed,
        **findings(levels, rises),
    }
    tables, notes, files = finding_tables(levels, rises), finding_notes(levels, rises), {}
    if options.fix is not None and options.output is not None:
        fixed = rewrite(loaded, module, image, options.fix)
        path = write_rewritten(loaded, fixed, options.output, options.weights, command)
        levels, rises = diagnose(f"{loaded.name}, rewritten", fixed.module, image, seed, stages)
        data["fix"] = fixed.summary() | {"weights": str(path), **findings(levels, rises)}
        title = f"Rewritten as a {options.fix.replace('-', ' ')}"
        tables = [*tables, *finding_tables(levels, [], title)]
        notes = fixed.notes(loaded, path, options.settings)
        files["weights"] = path
    data["failures"] = failures(levels, options.min_lower_bound, options.max_ratio)
    return Result(f"levels of {loaded.name}", data, tables=tables, notes=notes, files=files)


def diagnose(
    name: str, module: nn.Module, image: Tensor, seed: int, stages: Stages = silent
) -> tuple[list[PoolingDiagnosis], list[UnpoolingDiagnosis]]:
    """Record a network at an image and diagnose its levels.

    Of an unrolled network the networks between its data steps are looked at.

    Raises:
        ValueError: If the network cannot be recorded.
    """
    progress = stages(f"{name}: levels")
    levels: list[PoolingDiagnosis] = []
    rises: list[UnpoolingDiagnosis] = []
    parts = {"": module}
    if isinstance(module, UnrolledNetwork):
        parts = {f"regularizers.{i}.": part for i, part in enumerate(module.regularizers)}
    for number, (prefix, part) in enumerate(parts.items()):
        progress(number / len(parts))
        generator = torch.Generator(image.device).manual_seed(seed)
        try:
            local = linearize(part, image)
            found = diagnose_poolings(local, generator=generator)
        except (RuntimeError, IndexError) as error:  # what torch raises for a shape that is wrong
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"network {name} cannot take an image of shape {tuple(image.shape)}: {reason}; "
                "say what it takes with --input CHANNELS,HEIGHT,WIDTH"
            ) from error
        except (ValueError, TypeError) as error:
            raise type(error)(f"network {name}: {error}") from error
        except ArithmeticError as error:
            raise ValueError(f"network {name}: {error}; choose a smaller --size") from error
        for level in found:
            named = replace(level.level, name=prefix + level.level.name)
            levels.append(replace(level, level=named))
        rises += [replace(rise, name=prefix + rise.name) for rise in diagnose_unpoolings(local)]
    progress(1.0)
    return levels, rises


def _refuse_wrong(options: LintOptions) -> None:
    if options.fix is not None:
        refuse_unknown("--fix", options.fix, FORMS)
    if (options.fix is None) != (options.output is None):
        raise ValueError("--fix and --output belong together; give both or none")
    if options.at is not None and (options.input_shape or options.size):
        raise ValueError("--at brings its own size; leave out --input and --size")
    if options.input_shape and options.size:
        raise ValueError("--input says the size already; leave out --size")
    image_options = (options.slice_index, options.key, options.crop)
    if options.at is None and (image_options != (None, None, None) or options.scale != 1):
        raise ValueError("--slice, --key, --crop and --scale need an image, --at")
    if options.max_ratio is not None and not options.max_ratio >= 1:
        raise ValueError(f"--max-ratio must be at least 1, got {options.max_ratio}")
    if options.min_lower_bound is not None and not options.min_lower_bound > 0:
        raise ValueError(f"--min-lower-bound must be positive, got {options.min_lower_bound}")


def _image(
    loaded: LoadedNetwork, options: LintOptions, generator: torch.Generator
) -> tuple[Float[Tensor, "1 channel *space"], str]:
    """Read the image, or draw one that the network takes; return it and what it is."""
    if options.at is None:
        shape = _shape(loaded.module, options)
        text = " x ".join(map(str, shape))
        return torch.rand(1, *shape, generator=generator), f"random numbers, {text}"
    if is_scan(options.at):
        raise ValueError(
            f"{options.at} is a scan; lint at an image: the levels are those of the networks alone"
        )
    how = ImageOptions(
        options.channels, options.slice_index, options.key, options.crop, options.scale
    )
    found = read_network_image(options.at, loaded, how)
    return found.sample.unsqueeze(0), found.words


def _shape(module: nn.Module, options: LintOptions) -> tuple[int, ...]:
    if options.input_shape is not None:
        parts = options.input_shape.split(",")
        if len(parts) < 2 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            raise ValueError(
                f"--input must be CHANNELS,HEIGHT,WIDTH, as in 1,64,64, got {options.input_shape!r}"
            )
        return tuple(int(part) for part in parts)
    channels, axes = options.channels, 2
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            # The first layer tells what the network takes, unless the user does.
            channels = layer.in_channels if options.channels == 1 else options.channels
            axes = layer.weight.ndim - 2
            break
    return (channels, *[options.size or _SIZES[axes]] * axes)
