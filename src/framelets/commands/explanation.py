"""The geometry of networks at one image, written into a run folder.

`geometry.json` holds `command`, `seed`, `image` (`description`, `unit`, `window`, `medical`),
`pixels` and one table a network in `networks`; `geometry.npz` holds the arrays, with the number of
the network before the point: `0.image`, `0.output`, `0.linear` (L x), `0.offset` (b), `0.left` and
`0.right` (singular vectors u and v of L), `0.rows` and `0.columns` (atoms of L at the pixels). If
the image comes from a scan, `baseline.columns` and `baseline.rows` are the point responses and ray
weights of the linear reconstruction that made it, `0.chain_columns` and `0.chain_rows` the same
followed by L. A network may also take the scan itself; then its rows are ray weights, it has no
columns of its own, and `input_is_scan` says so. Everything is in the unit of the network's input.

If they were asked for, the table of a network has `grid`, `segment` and `support`, which
`explanation_grid`, `explanation_segment` and `explanation_support` describe; their atoms are in
`0.atom_data`, `0.atom_places` and `0.atom_values` (`atom_store`), and the maps of `support` are
`0.determined`, `0.contradiction`, `0.null_linear` and `0.null_offset`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.commands.instrument import InstrumentOptions, instrument
from framelets.commands.pixels import Pixel
from framelets.commands.stages import Stages, silent
from framelets.commands.user_networks import LoadedNetwork
from framelets.core import LinearOperator, RunFolder
from framelets.geometry import (
    LocalMap,
    atoms,
    frame_levels,
    linearize,
    local_lipschitz,
    spectrum,
)

_STORED_VECTORS = 6


@dataclass(frozen=True)
class ImageCard:
    """What the image is, for the page.

    Attributes:
        description: In words, with where it came from.
        unit: Unit of its values.
        window: Display window, or None to choose one from the image.
        medical: Whether the page must say that this is no medical device.
    """

    description: str
    unit: str = ""
    window: tuple[float, float] | None = None
    medical: bool = True


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and what it is given.

    Attributes:
        network: The network.
        image: One sample, in the network's type and on its device.
        forward: How to call the network, if not network(image).
        input_is_scan: Whether the network is given the sinogram and returns the image.
        measurement: The sinogram in the unit of the network's output, if the image comes from one.
    """

    network: LoadedNetwork
    image: Float[Tensor, "channel height width"]
    forward: Callable[[nn.Module, Tensor], Tensor] | None = None
    input_is_scan: bool = False
    measurement: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Chain:
    """How an image comes from a scan: image = reconstruction(projector(object)), both linear."""

    name: str
    projector: LinearOperator
    reconstruction: LinearOperator


def write_explanation(
    folder: RunFolder,
    subjects: Sequence[Subject],
    card: ImageCard,
    pixels: Sequence[Pixel],
    *,
    command: str,
    seed: int = 0,
    num_singular_values: int = 20,
    cut: str | None = None,
    chain: Chain | None = None,
    interactive: InstrumentOptions | None = None,
    stages: Stages = silent,
) -> dict[str, Any]:
    """Explain networks at one image and write `geometry.json` and `geometry.npz`.

    Args:
        folder: Run folder, locked by the caller.
        subjects: One network with its input, or several to put side by side.
        card: What the image is.
        pixels: Where to take atoms.
        command: The command line, for captions.
        seed: Seed of the random starts.
        num_singular_values: How many singular triplets.
        cut: Where the encoder ends; found from the recording by default.
        chain: Where the image came from, if from a scan.
        interactive: What the page lets its reader try out; nothing by default.
        stages: Told how far it is.

    Returns:
        The content of `geometry.json`.

    Raises:
        ValueError: If a network cannot take the image or has an operation without a rule.
    """
    arrays: dict[str, Tensor] = {}
    tables = []
    if chain is not None:
        arrays |= _baseline(chain, pixels)
    for index, subject in enumerate(subjects):
        table, found = _explain_one(
            subject, pixels, seed, num_singular_values, cut, chain, interactive, stages
        )
        tables.append(table)
        arrays |= {f"{index}.{name}": array for name, array in found.items()}
    content: dict[str, Any] = {
        "command": command,
        "seed": seed,
        "image": asdict(card),
        "pixels": [asdict(pixel) for pixel in pixels],
        "networks": tables,
    }
    if interactive is not None:
        content["page_limit_mb"] = interactive.page_limit_mb
    if chain is not None:
        content["baseline"] = {"name": chain.name}
    folder.write_npz("geometry.npz", **arrays)
    folder.write_json("geometry.json", content)
    return content


def _explain_one(
    subject: Subject,
    pixels: Sequence[Pixel],
    seed: int,
    num_singular_values: int,
    cut: str | None,
    chain: Chain | None,
    interactive: InstrumentOptions | None,
    stages: Stages,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    start = time.perf_counter()
    network = subject.network
    stages(f"{network.name}: recording")(0.0)
    local = linearized(subject, cut)
    generator = torch.Generator(subject.image.device).manual_seed(seed)
    smallest = min(local.image.numel(), local.output.numel())
    triplets = spectrum(
        local.frozen,
        min(num_singular_values, smallest),
        generator=generator,
        progress=stages(f"{network.name}: singular values"),
    )
    bounds = local_lipschitz(
        local, generator=generator, progress=stages(f"{network.name}: Lipschitz constant")
    )
    progress = stages(f"{network.name}: atoms and frame bounds")
    progress(0.0)
    drawn = _atoms(local, pixels, subject.input_is_scan, chain)
    progress(0.3)
    levels = frame_levels(local, generator=generator)
    progress(1.0)
    # Where L is the Jacobian, sigma_1 and K_p are one norm, and either search may have found more.
    sigma = float(triplets.values[0])
    lower = max(bounds.lower, sigma) if local.piecewise_linear else bounds.lower
    upper = max(bounds.upper, lower)
    linear = local.output - local.offset
    pattern = local.activation_pattern
    table: dict[str, Any] = {
        "name": network.name,
        "source": network.source,
        "input_is_scan": subject.input_is_scan,
        "num_parameters": network.num_parameters,
        "precision": str(subject.image.dtype).removeprefix("torch."),
        "input_shape": list(local.image.shape),
        "output_shape": list(local.output.shape),
        "piecewise_linear": local.piecewise_linear,
        "replay_error": local.replay_error,
        "num_operations": local.num_operations,
        "cut": local.cut,
        "norms": {
            "output": _norm(local.output),
            "linear": _norm(linear),
            "offset": _norm(local.offset),
        },
        "frame_levels": [asdict(level) for level in levels],
        "spectrum": {
            "values": triplets.values.tolist(),
            "residuals": triplets.residuals.tolist(),
            "converged": triplets.converged,
            "num_products": triplets.num_products,
        },
        "lipschitz": {
            "lower": lower,
            "upper": upper if math.isfinite(upper) else None,
            "probability": bounds.probability,
            "num_products": bounds.num_products,
        },
        "activity": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "num_units": layer.num_units,
                "num_active": layer.num_active,
            }
            for layer in pattern.layers
        ],
        "pattern_hash": pattern.digest(),
    }
    arrays = {
        "image": local.image,
        "output": local.output,
        "linear": linear,
        "offset": local.offset,
        "left": triplets.left[:_STORED_VECTORS],
        "right": triplets.right[:_STORED_VECTORS],
    }
    if interactive is not None:
        tables, more = instrument(
            network.module,
            network.name,
            local,
            pixels,
            interactive,
            leading=triplets.right[0],
            forward=subject.forward,
            projector=chain.projector if chain is not None else None,
            measurement=subject.measurement,
            input_is_scan=subject.input_is_scan,
            seed=seed,
            stages=stages,
        )
        table |= tables
        drawn |= more
    table["seconds"] = time.perf_counter() - start
    return table, arrays | drawn


def linearized(subject: Subject, cut: str | None = None) -> LocalMap:
    """Record a network at what it is given, or say in one line why it cannot be.

    Raises:
        ValueError: If the network cannot take the image or has an operation without a rule.
        TypeError: If it returns something other than one tensor.
    """
    name, image = subject.network.name, subject.image
    try:
        return linearize(subject.network.module, image.unsqueeze(0), subject.forward, cut)
    except (ValueError, TypeError) as error:
        raise type(error)(f"network {name}: {error}") from error
    except (RuntimeError, IndexError) as error:  # what torch raises for a shape that does not fit
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"network {name} cannot take an image of shape (1, "
            f"{', '.join(map(str, image.shape))}): {reason}; crop the image or choose the number "
            "of channels that the network was made for"
        ) from error


def _atoms(
    local: LocalMap, pixels: Sequence[Pixel], input_is_scan: bool, chain: Chain | None
) -> dict[str, Tensor]:
    if input_is_scan:
        rows = local.frozen.adjoint(_points(pixels, local.output))
        drawn = {"chain_rows": rows[:, 0]}
        if chain is not None:
            points = _points(pixels, local.output)[:, 0]
            drawn["chain_columns"] = local.frozen(chain.projector(points).unsqueeze(1))[:, 0]
        return drawn
    indices = [(*[0] * (local.image.ndim - 2), pixel.row, pixel.column) for pixel in pixels]
    chosen = atoms(local.frozen, indices)
    drawn = {"rows": chosen.rows, "columns": chosen.columns}
    if chain is not None:
        points = _points(pixels, local.image)[:, 0]
        blurred = chain.reconstruction(chain.projector(points)).unsqueeze(1)
        drawn["chain_columns"] = local.frozen(blurred)[:, 0]
        drawn["chain_rows"] = chain.reconstruction.adjoint(chosen.rows[:, 0])
    return drawn


def _baseline(chain: Chain, pixels: Sequence[Pixel]) -> dict[str, Tensor]:
    shape = chain.projector.input_shape or ()
    points = _points(pixels, torch.zeros(1, *shape))[:, 0]
    return {
        "baseline.columns": chain.reconstruction(chain.projector(points)),
        "baseline.rows": chain.reconstruction.adjoint(points),
    }


def _points(pixels: Sequence[Pixel], like: Tensor) -> Tensor:
    """Return images of the shape of a sample, each with a one at a pixel of the first channel."""
    points = torch.zeros(len(pixels), *like.shape, dtype=like.dtype, device=like.device)
    for point, pixel in zip(points, pixels, strict=True):
        point[(*[0] * (like.ndim - 2), pixel.row, pixel.column)] = 1
    return points


def _norm(array: Tensor) -> float:
    return float(torch.linalg.vector_norm(array))
