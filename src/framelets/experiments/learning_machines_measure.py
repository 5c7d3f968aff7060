"""What is measured of one learning machine, in one size.

Seconds are those of one processor core, which a busy machine does not lengthen.
"""

import time
from collections.abc import Callable
from itertools import combinations
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import RunFolder
from framelets.experiments.learning_machines_data import (
    DENOISED_SIZE,
    NEIGHBORHOOD,
    NOISE_STD,
    PIXELS,
    center,
    neighborhoods,
    training_images,
    unseen_images,
    with_noise,
)
from framelets.experiments.learning_machines_kinds import Kind
from framelets.geometry import count_distinct
from framelets.machines import (
    FittedMachine,
    PixelBasis,
    atom_change,
    filter_change,
)
from framelets.metrics import psnr, ssim

MARGIN = 26
"""Border that is left out of every count: no smaller than any machine's own."""

NUM_NOISES = 2
"""Noise samples of every test image on which representations are counted."""

COUNTED_AT = (1_000, 10_000, 100_000)
PATH_STEPS = 16
SHOWN_ATOMS = 3
_MIDDLE = (NEIGHBORHOOD // 2, NEIGHBORHOOD // 2)


def measure(
    kind: Kind,
    size: str,
    folder: RunFolder,
    slug: str,
    *,
    seed: int,
    num_images: int | None,
    most_counted: int,
    report: Callable[[float], None],
) -> dict[str, Any]:
    """Fit a machine and measure it; one of the main size also on the other training set.

    Args:
        kind: Kind of machine.
        size: Its size.
        folder: Receives the state of long fits, and the atoms of a machine of the main size.
        slug: Name for these files.
        seed: Of all randomness.
        num_images: Only the first so many test images.
        most_counted: Height and width of image centers beyond which nothing is counted.
        report: Told how far it is.

    Returns:
        What was measured, as plain JSON values.
    """
    clean = unseen_images(num_images)
    shown = torch.stack([center(image, DENOISED_SIZE) for image in clean])
    noisy = with_noise(shown, seed)
    machine, fit_seconds = _fit(kind, size, "A", folder, slug, seed)
    report(0.3)
    found: dict[str, Any] = {
        "num_parameters": machine.num_parameters,
        "settings": dict(machine.settings),
        "fit_seconds": fit_seconds,
        **_denoise(machine, shown, noisy),
    }
    report(0.5)
    found |= _count(machine, min(kind.count_size, most_counted), clean, seed)
    report(0.7)
    found |= _crossings(machine, seed)
    if size == kind.main_size:
        other, _ = _fit(kind, size, "B", folder, slug, seed)
        found["psnr_other_set"] = psnr(other.apply(noisy), shown, 1.0).tolist()
        found |= _changes(machine, other, folder, slug, seed)
    report(1.0)
    return found


def _fit(
    kind: Kind, size: str, which: str, folder: RunFolder, slug: str, seed: int
) -> tuple[FittedMachine, float]:
    images = training_images(which)
    state = RunFolder(folder.file(f"training/{slug}-{which}"))
    start = time.process_time()
    machine = kind.sizes[size].fit(images, NOISE_STD, seed=seed, folder=state)
    return machine, time.process_time() - start


def _denoise(machine: FittedMachine, clean: Tensor, noisy: Tensor) -> dict[str, Any]:
    start = time.process_time()
    applied = [machine.apply_counting(image) for image in noisy]
    seconds = (time.process_time() - start) / len(clean)
    made = torch.stack([image for image, _ in applied])
    return {
        "psnr": psnr(made, clean, 1.0).tolist(),
        "ssim": ssim(made, clean, 1.0).tolist(),
        "psnr_noisy": psnr(noisy, clean, 1.0).tolist(),
        "ssim_noisy": ssim(noisy, clean, 1.0).tolist(),
        "seconds_per_image": seconds,
        "iterations": fmean(count for _, count in applied),
    }


def _count(machine: FittedMachine, size: int, clean: Tensor, seed: int) -> dict[str, Any]:
    """Count the distinct maps of pixels, of the first so many patches and of all."""
    centers = torch.stack([center(image, size) for image in clean])
    inputs = torch.cat([with_noise(centers, seed + 1 + i) for i in range(NUM_NOISES)])
    keys = machine.representations(inputs, MARGIN)
    # In any order but that of the images, so that the first of them are a fair sample.
    generator = torch.Generator().manual_seed(seed)
    keys = keys[torch.randperm(len(keys), generator=generator)]
    counts = [(n, count_distinct(keys[:n])) for n in COUNTED_AT if n < len(keys)]
    num_maps = count_distinct(keys)
    return {
        "num_patches": len(keys),
        "num_maps": num_maps,
        "maps_of_first": counts,
        # An expansion that is not linear in the input is the same for every input.
        "num_representations": num_maps if machine.expands_linearly else 1,
    }


def _crossings(machine: FittedMachine, seed: int) -> dict[str, Any]:
    """Count switches from the clean to the noisy neighborhoods, per pixel and noise level."""
    clean = neighborhoods(unseen_images())
    noisy = with_noise(clean, seed + 100)
    counts = {PATH_STEPS: 0.0, PATH_STEPS // 2: 0.0}
    num_switches = 0
    for start, end in zip(clean, noisy, strict=True):
        shares = torch.linspace(0, 1, PATH_STEPS + 1)[:, None, None]
        on = machine.switches(start + shares * (end - start))
        num_switches = on.shape[1]
        rms = float((end - start).square().mean().sqrt())
        for steps in counts:
            path = on[:: PATH_STEPS // steps]
            flips = int((path[1:] != path[:-1]).sum())
            counts[steps] += flips / start.numel() / (rms / NOISE_STD) / len(clean)
    return {
        "switches_per_pixel": num_switches / NEIGHBORHOOD**2,
        "crossings": counts[PATH_STEPS],
        "crossings_half_as_many_steps": counts[PATH_STEPS // 2],
    }


def _changes(
    machine: FittedMachine, other: FittedMachine, folder: RunFolder, slug: str, seed: int
) -> dict[str, Any]:
    """Compare atoms and filters between training sets and between inputs; keep some to show."""
    noisy = with_noise(neighborhoods(unseen_images()), seed)
    bases = {name: _bases(which, noisy) for name, which in (("A", machine), ("B", other))}
    filters = {name: _filters(which, noisy) for name, which in (("A", machine), ("B", other))}
    arrays = {}
    for i, name in enumerate(PIXELS):
        basis = bases["A"][i]
        strongest = basis.strengths.argsort(descending=True)[:SHOWN_ATOMS]
        arrays[f"{name}_atoms"] = basis.analysis[strongest].float()
        arrays[f"{name}_filter"] = filters["A"][i].float()
    folder.write_npz(f"atoms/{slug}.npz", **arrays)
    inputs = list(combinations(range(len(PIXELS)), 2))
    sets = range(len(PIXELS))
    return {
        "num_atoms": [len(basis.weights) for basis in bases["A"]],
        "replay_error": _replay_error(machine, noisy, bases["A"]),
        "atoms_between_sets": fmean(atom_change(bases["A"][i], bases["B"][i]) for i in sets),
        "filters_between_sets": fmean(
            filter_change(filters["A"][i], filters["B"][i]) for i in sets
        ),
        "atoms_between_inputs": fmean(atom_change(bases["A"][i], bases["A"][j]) for i, j in inputs),
        "filters_between_inputs": fmean(
            filter_change(filters["A"][i], filters["A"][j]) for i, j in inputs
        ),
    }


def _bases(machine: FittedMachine, noisy: Tensor) -> list[PixelBasis]:
    return [machine.basis_at(image, _MIDDLE) for image in noisy]


def _filters(machine: FittedMachine, noisy: Tensor) -> list[Float[Tensor, "height width"]]:
    """Return the row of L at the middle pixel: of the tangent where L is one."""
    unit = torch.zeros(NEIGHBORHOOD, NEIGHBORHOOD, dtype=torch.float64)
    unit[_MIDDLE] = 1
    return [machine.linear_map(image.double()).adjoint(unit) for image in noisy]


def _replay_error(machine: FittedMachine, noisy: Tensor, bases: list[PixelBasis]) -> float:
    made = machine.apply(noisy)[:, _MIDDLE[0], _MIDDLE[1]]
    errors = [abs(basis.value - float(value)) for basis, value in zip(bases, made, strict=True)]
    return max(errors)
