"""Reconstruct one scan by several methods and write images and metrics into a run folder."""

import dataclasses
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.commands.stages import Stages, silent
from framelets.commands.task_scans import scan_facts, scan_words
from framelets.core import RunFolder
from framelets.data import CTMeasurement
from framelets.physics import ImageGrid
from framelets.tasks import TUNED_PHOTONS, SparseViewCT

METHODS_IN_WORDS = {
    "fbp": "filtered back-projection",
    "tv": "total variation, its weight tuned on simulated scans",
    "unet": "U-Net after fbp, average pooling",
    "dual-frame-unet": "U-Net after fbp, dual-frame pooling",
    "tight-frame-unet": "U-Net after fbp, tight-frame pooling",
    "tight-frame-unet-narrow": "tight-frame-unet, narrowed to about the parameters of unet",
    "unrolled": "steps toward the measurement, each followed by a tight-frame U-Net",
}
"""What the methods are; every table, page and option calls them by the names on the left."""


def write_reconstructions(
    folder: RunFolder,
    task: SparseViewCT,
    measurement: CTMeasurement,
    methods: Sequence[str],
    grid: ImageGrid,
    *,
    title: str,
    data: str,
    reference: Float[Tensor, "*batch height width"] | None = None,
    words: str = "",
    window: tuple[float, float] | None = None,
    note: str = "",
    device: torch.device | None = None,
    stages: Stages = silent,
) -> dict[str, dict[str, Any]]:
    """Write `reconstruction.npz` and `metrics.json`, which `framelets.report.page` describes.

    Args:
        folder: Run folder, locked by the caller.
        task: The task whose methods these are.
        measurement: The scan.
        methods: Names of methods; the first baseline among them is compared with.
        grid: Pixels.
        title: Title of the page.
        data: What was scanned, in words.
        reference: What is held true, if known.
        words: What is known of the acquisition beside its geometry.
        window: Display window in 1/mm; from the images by default.
        note: What a reader of the metrics must know.
        device: Where to compute.
        stages: Told how far it is.

    Returns:
        The metrics, one table a method.
    """
    images: dict[str, Tensor] = {}
    rows: dict[str, dict[str, Any]] = {}
    moved = measurement
    if device is not None and device.type != "cpu":
        moved = dataclasses.replace(measurement, sinogram=measurement.sinogram.to(device))
    for method in methods:
        progress = stages(method)
        network = task.trained(method) if method in task.networks else None
        if network is not None and device is not None:
            network = network.to(device)
        start = time.perf_counter()
        image = task.reconstruct(moved, method, grid, network=network, progress=progress)
        seconds = time.perf_counter() - start
        images[method] = image.detach().cpu()
        parameters = sum(p.numel() for p in network.parameters()) if network is not None else 0
        rows[method] = {"seconds": round(seconds, 4), "num_parameters": parameters}
        if reference is not None:
            rows[method] |= _scores(task, images[method], reference)
    classical = [method for method in methods if method in task.baselines]
    metadata = {
        "title": title,
        "data": data,
        "unit": "1/mm",
        "window": window or _window(images, reference),
        "medical": True,
        "note": " ".join(part for part in (note, assumed_photons(measurement, methods)) if part),
        "measurement": ", ".join(part for part in (scan_words(measurement), words) if part),
        "scan": scan_facts(measurement),
        "reference": "pixel average of the finer object",
        "spacing_mm": grid.pixel_spacing_mm,
        "methods": {m: {"label": m, "words": METHODS_IN_WORDS.get(m, "")} for m in methods},
    }
    arrays = {**images, "measurement": measurement.sinogram}
    if reference is not None:
        arrays["reference"] = reference
    folder.write_npz("reconstruction.npz", **arrays, metadata=json.dumps(metadata))
    baseline = classical[0] if classical else None
    folder.write_json("metrics.json", {"baseline": baseline, "rows": rows})
    return rows


def assumed_photons(measurement: CTMeasurement, methods: Sequence[str]) -> str:
    """Say which noise was assumed, if a method needs to know it and the scan does not say."""
    if "tv" not in methods or measurement.photons_per_ray is not None:
        return ""
    return (
        f"The scan does not say its photons_per_ray: the weight of tv is that of "
        f"{TUNED_PHOTONS:,.0f}."
    )


def _scores(task: SparseViewCT, image: Tensor, reference: Tensor) -> dict[str, float]:
    found = {name: float(value.mean()) for name, value in task.metrics(image, reference).items()}
    return {"psnr_db": found.pop("psnr"), **found}


def _window(images: dict[str, Tensor], reference: Tensor | None) -> tuple[float, float]:
    shown = reference if reference is not None else next(iter(images.values()))
    return 0.0, max(1e-9, float(np.percentile(shown.numpy(), 99.7)))
