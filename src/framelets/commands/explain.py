"""Explain a network at an image: its frame, offset, spectrum, atoms, K_p and active units."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from framelets.commands.devices import choose_device
from framelets.commands.explanation import Chain, ImageCard, Subject, write_explanation
from framelets.commands.explanation_segment import DIRECTIONS
from framelets.commands.instrument import InstrumentOptions
from framelets.commands.pixels import choose_pixels, parse_pixels
from framelets.commands.scan_files import is_scan
from framelets.commands.shown_tables import explanation_note, explanation_table
from framelets.commands.stages import Stages, silent
from framelets.commands.task_scans import (
    as_network_input,
    chain_of,
    grid_of,
    read_scan,
    scan_words,
    subject_at_scan,
)
from framelets.commands.user_networks import LoadedNetwork, load_network, parse_settings
from framelets.core import Result, RunFolder, choose
from framelets.data import read_image
from framelets.report import write_report
from framelets.tasks import TASKS

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class ExplainOptions:
    """What `explain` may vary.

    Attributes:
        weights: Weights file of a `module:callable`.
        versus: A second network, put beside the first.
        versus_weights: Its weights file.
        settings: Arguments of the callables, `key=value`.
        channels: Repeat the image in so many channels.
        slice_index: Slice of a volume.
        key: Array of an npz archive.
        crop: Cut the middle, so many pixels square.
        scale: Multiply the image of a `module:callable` by this.
        num_views: Use only this many views of a scan.
        pixels: Pixels of the atoms, `ROW,COLUMN`; found in the image if empty.
        cut: Module after which the encoder ends.
        num_singular_values: How many singular triplets.
        precision: "float32" or "float64".
        interactive: What the page lets its reader try out.
    """

    weights: Path | None = None
    versus: str | None = None
    versus_weights: Path | None = None
    settings: tuple[str, ...] = ()
    channels: int = 1
    slice_index: int | None = None
    key: str | None = None
    crop: int | None = None
    scale: float = 1.0
    num_views: int | None = None
    pixels: tuple[str, ...] = ()
    cut: str | None = None
    num_singular_values: int = 20
    precision: str = "float32"
    interactive: InstrumentOptions = field(default_factory=InstrumentOptions)


def explain(
    network: str,
    at: Path,
    run: Path,
    options: ExplainOptions | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
    stages: Stages = silent,
) -> Result:
    """Explain a network at an image and write the page of a run folder.

    Args:
        network: Shipped weights by name, or `module:callable`, whose code is run.
        at: The image; for a shipped network also a scan, whose reconstruction it is given.
        run: Run folder.
        options: Everything else.
        seed: Seed of the random starts.
        device: Where to compute.
        command: The command line, for captions.
        stages: Told how far it is.

    Returns:
        The content of `geometry.json`, and where the page is.

    Raises:
        ValueError: If a name is unknown or the image does not fit.
        OSError: If a file cannot be read or written.
    """
    options = options or ExplainOptions()
    dtype = choose("precision", options.precision, _PRECISIONS)
    where = choose_device(device)
    arguments = parse_settings(options.settings)
    choose("segment", options.interactive.segment, DIRECTIONS)
    own = [name for name in (network, options.versus) if name is not None and ":" in name]
    if arguments and not own:
        raise ValueError("--set is for module:callable; shipped networks come as they are")
    networks = [_load(network, options.weights, arguments)]
    if options.versus is not None:
        networks.append(_load(options.versus, options.versus_weights, arguments))
    elif options.versus_weights is not None:
        raise ValueError("--versus-weights needs --versus")
    subjects, card, guide, chain = _subjects(at, networks, options)
    shape = (guide.shape[0], guide.shape[1])
    pixels = parse_pixels(options.pixels, shape) if options.pixels else choose_pixels(guide)
    for loaded in networks:
        loaded.module.to(device=where, dtype=dtype)
    moved = [
        dataclasses.replace(subject, image=subject.image.to(device=where, dtype=dtype))
        for subject in subjects
    ]
    if where.type != "cpu" or dtype != torch.float32:
        chain = None
    folder = RunFolder(run)
    with folder.lock("explain"):
        content = write_explanation(
            folder,
            moved,
            card,
            pixels,
            command=command,
            seed=seed,
            num_singular_values=options.num_singular_values,
            cut=options.cut,
            chain=chain,
            interactive=options.interactive,
            stages=stages,
        )
        folder.write_run_json(command, seed, stage="explain")
        page = write_report(run)
    return Result(
        "explanation",
        content | {"report": str(page)},
        tables=[explanation_table(content["networks"])],
        notes=[explanation_note(content["networks"])],
        files={"report": page},
    )


def _load(name: str, weights: Path | None, arguments: dict[str, object]) -> LoadedNetwork:
    return load_network(name, weights, arguments if ":" in name else None)


def _subjects(
    at: Path, networks: list[LoadedNetwork], options: ExplainOptions
) -> tuple[list[Subject], ImageCard, Tensor, Chain | None]:
    """Read the image or scan; return it as each network takes it, and as an image to look at."""
    if is_scan(at):
        return _subjects_at_scan(at, networks, options)
    if at.is_dir():
        raise IsADirectoryError(f"--at must be one image, got the folder {at}")
    if options.num_views is not None:
        raise ValueError(f"--views is for scans, but {at} is an image")
    found = read_image(at, key=options.key, slice_index=options.slice_index)
    found = dataclasses.replace(found, pixels=cropped(found.pixels, options.crop))
    place = f", slice {options.slice_index}" if options.slice_index is not None else ""
    words = f"{at.name}{place}, {found.pixels.shape[0]} x {found.pixels.shape[1]} pixels"
    own = [network for network in networks if not network.task]
    if own and len(own) < len(networks):
        raise ValueError(
            "a network of the package and a module:callable take differently scaled images; "
            "explain them one after the other"
        )
    if own:
        image = (options.scale * found.pixels).expand(options.channels, -1, -1)
        unit = found.unit if options.scale == 1 else f"x {options.scale:g} {found.unit}".strip()
        card = ImageCard(words, unit)
    else:
        if options.channels != 1 or options.scale != 1:
            raise ValueError("--channels and --scale are for module:callable")
        if any(network.method == "unrolled" for network in networks):
            raise ValueError("the unrolled network takes a scan, not an image; give one with --at")
        image, done = as_network_input(found)
        card = ImageCard(f"{words}, {done}", "of the 99th percentile")
    return [Subject(network, image) for network in networks], card, image[0], None


def _subjects_at_scan(
    at: Path, networks: list[LoadedNetwork], options: ExplainOptions
) -> tuple[list[Subject], ImageCard, Tensor, Chain]:
    if not all(network.task for network in networks):
        raise ValueError(
            f"{at} is a scan, which only networks of the package take; reconstruct it first "
            "(framelets reconstruct) and explain at the image in reconstruction.npz --key fbp"
        )
    if (options.crop, options.key, options.slice_index) != (None, None, None):
        raise ValueError("--crop, --key and --slice are for images, not for scans")
    task = TASKS[networks[0].task]()
    measurement = read_scan(at, options.num_views)
    grid, reference = grid_of(at, task, measurement)
    while measurement.sinogram.ndim > 2:  # one image of several
        measurement = dataclasses.replace(measurement, sinogram=measurement.sinogram[0])
        reference = None if reference is None else reference[0]
    chain = chain_of(measurement, grid)
    subjects = [subject_at_scan(network, task, measurement, grid) for network in networks]
    card = ImageCard(f"scan {at.name} ({scan_words(measurement)})", "of the 99th percentile")
    guide = chain.reconstruction(measurement.sinogram) if reference is None else reference
    return subjects, card, guide, chain


def cropped(image: Tensor, size: int | None) -> Tensor:
    """Cut the middle of an image, so many pixels square; all of it if the size is None."""
    if size is None:
        return image
    height, width = image.shape
    if size > min(height, width):
        raise ValueError(f"--crop must be at most {min(height, width)} here, got {size}")
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]
