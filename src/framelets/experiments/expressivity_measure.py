"""One network of the expressivity experiment: how it is trained, and what is measured of it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core.run_folder import RunFolder
from framelets.experiments.learning_machines_data import (
    NOISE_STD,
    center,
    training_images,
    unseen_images,
    with_noise,
)
from framelets.geometry import (
    count_representations,
    expressivity_bound,
    partition_segment,
    representations_along,
)
from framelets.machines import NetworkMachine
from framelets.metrics import psnr
from framelets.networks import UNet

PATCH_SIZE = 64
DENOISED_SIZE = 128
COUNTED_SIZE = 256
MARGIN = 56
"""Border that is left out of every count: no smaller than any network's own."""

PERIOD = 8
"""Distance of the centers of the patches that are counted: a multiple of every pooling block."""

COARSE_RESOLUTION = 0.1
"""Steps of the frequency responses by which coarse maps are told apart."""

SEGMENT_STD = 0.02
"""Root mean square change of a pixel along a segment, in standard deviations of the noise."""

_COUNTED_AT = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


@dataclass(frozen=True)
class Design:
    """A network of the sweep.

    Attributes:
        width: Channels of the finest level.
        depth: Number of poolings.
        skip: Whether features are handed across.
    """

    width: int
    depth: int
    skip: bool

    def __str__(self) -> str:
        """Name it."""
        skips = "skips" if self.skip else "no skips"
        return f"width {self.width}, depth {self.depth}, {skips}"

    @property
    def slug(self) -> str:
        """Name for files."""
        return f"width-{self.width}-depth-{self.depth}-{'skip' if self.skip else 'plain'}"


@dataclass(frozen=True)
class Budget:
    """What every network gets, and on how much it is measured.

    Attributes:
        num_steps: Training steps.
        batch_size: Crops of 64 x 64 a step.
        learning_rate: Peak learning rate.
        num_images: Test images that are denoised.
        num_counted: How many of them are counted on.
        num_segments: In how many of them a segment is followed.
    """

    num_steps: int = 300
    batch_size: int = 4
    learning_rate: float = 5e-3
    num_images: int = 8
    num_counted: int = 3
    num_segments: int = 2


def measure(
    design: Design, budget: Budget, seed: int, folder: RunFolder, report: Callable[[float], None]
) -> dict[str, Any]:
    """Train a network and measure it.

    Args:
        design: The network.
        budget: Of all networks.
        seed: Of its weights and its training batches; the test images have one noise for all.
        folder: Receives the state of the training, which goes on from there.
        report: Told how far it is.

    Returns:
        What was measured, as plain JSON values.
    """
    start = time.process_time()
    build = partial(
        UNet, width=design.width, depth=design.depth, normalization="none", skip=design.skip
    )
    machine = NetworkMachine(
        build,
        MARGIN,
        budget.num_steps,
        budget.learning_rate,
        budget.batch_size,
        (PATCH_SIZE, PATCH_SIZE),
    )
    state = RunFolder(folder.file(f"training/{design.slug}-{seed}"))
    fitted = machine.fit(training_images("A"), NOISE_STD, seed=seed, folder=state)
    trained = time.process_time()
    report(0.4)
    clean = unseen_images(budget.num_images)
    shown = torch.stack([center(image, DENOISED_SIZE) for image in clean])
    noisy = with_noise(shown, 0)
    found = {
        "num_parameters": fitted.num_parameters,
        "psnr": psnr(fitted.apply(noisy), shown, 1.0).tolist(),
        "psnr_noisy": psnr(noisy, shown, 1.0).tolist(),
        **_bounds(fitted.network, noisy[0]),
        **_counts(
            fitted.network, clean[: budget.num_counted], lambda share: report(0.4 + 0.4 * share)
        ),
        **_crossings(
            fitted.network, clean[: budget.num_segments], lambda share: report(0.8 + 0.2 * share)
        ),
    }
    return found | {
        "core_seconds_training": trained - start,
        "core_seconds_measuring": time.process_time() - trained,
    }


def _bounds(network: nn.Module, image: Float[Tensor, "height width"]) -> dict[str, Any]:
    patch = expressivity_bound(network, center(image, PATCH_SIZE)[None, None])
    # A larger image, in which all that reaches the pixel has place.
    whole = expressivity_bound(network, image[None, None])
    return {
        "log2_bound": patch.log2_maps,
        "log2_bound_of_skips": patch.log2_maps_of_skips,
        "log2_bound_of_pixel": whole.log2_maps_of_pixel,
        "num_units": patch.num_units,
        "num_units_of_pixel": whole.num_units_of_pixel,
    }


def _counts(network: nn.Module, clean: Tensor, report: Callable[[float], None]) -> dict[str, Any]:
    centers = torch.stack([center(image, COUNTED_SIZE) for image in clean])
    count = count_representations(
        network,
        with_noise(centers, 1)[:, None],
        margin=MARGIN,
        period=PERIOD,
        counted_at=_COUNTED_AT,
        coarse_resolution=COARSE_RESOLUTION,
        progress=report,
    )
    return asdict(count)


def _crossings(
    network: nn.Module, clean: Tensor, report: Callable[[float], None]
) -> dict[str, Any]:
    """Count boundaries along segments in the direction of noise, from noisy patches."""
    patches = torch.stack([center(image, PATCH_SIZE) for image in clean])
    noisy = with_noise(patches, 2)
    directions = SEGMENT_STD * (with_noise(patches, 3) - patches)
    rows = []
    for number, (patch, direction) in enumerate(zip(noisy, directions, strict=True)):
        partition = partition_segment(network, patch[None, None], direction[None, None])
        along = representations_along(partition)
        rows.append(
            {
                "num_boundaries": partition.num_boundaries,
                "num_undecided": partition.num_undecided,
                "length": along.length,
                "num_patterns": along.num_patterns,
                "num_maps": along.num_maps,
            }
        )
        report((number + 1) / len(noisy))
    boundaries = sum(row["num_boundaries"] for row in rows)
    length = sum(row["length"] for row in rows)
    rms = length / PATCH_SIZE / NOISE_STD  # of all segments together, in noise levels
    return {
        "segments": rows,
        "crossings_per_norm": boundaries / length,
        "crossings_per_pixel": boundaries / rms / PATCH_SIZE**2,
        "map_share_of_pieces": sum(row["num_maps"] for row in rows)
        / sum(row["num_patterns"] for row in rows),
    }
