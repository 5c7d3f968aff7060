"""Write the page of a run folder: read what the stages left there, and nothing else.

The page shows what the folder has and leaves out the rest. It reads:

- `run.json`: command, seed, versions, machine of the last stage.
- `reconstruction.npz`: `measurement` (view, detector), `reference` and one array a method, all
  optional; `metadata`, JSON text, with `data`, `unit`, `window` [low, high], `spacing_mm` (pixel
  size), `medical`, `measurement` (what was acquired, in words), `scan` (a table of facts about it),
  `reference` (what is held true, in words), `note` (what a reader of the metrics must know) and
  `methods`, a table from method to its `label` and what it is in `words`, whose order is that of
  the page.
- `metrics.json`: `rows`, a table from method to numbers, and `baseline`, one of the methods.
- `geometry.json` and `geometry.npz`: `framelets.commands.explanation` writes and describes them.
- `log.csv`: the training log.
"""

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from framelets.core.run_folder import RunFolder
from framelets.report.explanation import explanation_of, instruments_of
from framelets.report.figures import (
    Panel,
    Scale,
    panel,
    plain_image,
    round_up,
    signed_panel,
    training_chart,
)
from framelets.report.instrument import RADII
from framelets.report.numbers import number
from framelets.report.style import DARK, GRAY, LIGHT, SIGNED, gradient
from framelets.report.templates import template

DISCLAIMER = "Research software, not a medical device."

_METRICS = {
    "psnr_db": ("PSNR (dB)", 1, ".2f"),
    "ssim": ("SSIM", 1, ".4f"),
    "nmse": ("NMSE", -1, ""),
    "seconds": ("time (s)", 0, ""),
    "num_parameters": ("parameters", 0, ",.0f"),
}
"""Label, which way is better (1 higher, -1 lower, 0 neither), format (if empty, three digits)."""


def write_report(run_folder: str | os.PathLike[str]) -> Path:
    """Write `report.html`, one self-contained page, into a run folder.

    Args:
        run_folder: The folder; whatever stages ran there are shown.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: If there is no such folder, or it holds nothing to show.
        ValueError: If a file of the folder is damaged.
    """
    path = Path(run_folder)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run folder {path}")
    folder = RunFolder(path)
    page = _page_of(folder)
    folder.write_text("report.html", _within_limit(folder, page))
    return folder.file("report.html")


def _within_limit(folder: RunFolder, page: dict[str, Any]) -> str:
    """Render the page; cut the atoms that its reader can call up until it is small enough."""
    geometry = folder.read_json("geometry.json") if page["explanation"] else {"networks": []}
    limit = 1e6 * geometry.get("page_limit_mb", math.inf)
    text = ""
    for radius in RADII:
        instruments = instruments_of(folder, geometry, radius) if page["explanation"] else []
        text = template("page.html").render(
            page=page,
            instruments=instruments,
            cut_to=radius,
            limit_mb=geometry.get("page_limit_mb"),
            smallest=radius == RADII[-1],
            light=LIGHT,
            dark=DARK,
            disclaimer=DISCLAIMER,
        )
        if len(text.encode()) <= limit or not any(instruments):
            break
    return text


def _page_of(folder: RunFolder) -> dict[str, Any]:
    run = folder.read_json("run.json") if folder.has("run.json") else {}
    arrays = folder.read_npz("reconstruction.npz") if folder.has("reconstruction.npz") else {}
    metadata = json.loads(str(arrays.pop("metadata"))) if "metadata" in arrays else {}
    metrics = folder.read_json("metrics.json") if folder.has("metrics.json") else {}
    geometry = folder.read_json("geometry.json") if folder.has("geometry.json") else {}
    has_log = folder.has("log.csv")
    if not (arrays or metrics or geometry or has_log):
        raise FileNotFoundError(
            f"run folder {folder.path} holds nothing to show; run framelets reconstruct, explain "
            "or train on it first"
        )
    source = {"command": run.get("command", ""), "seed": run.get("seed")}
    explanation = explanation_of(folder, geometry) if geometry else None
    data = metadata.get("data") or (explanation or {}).get("data", "")
    return {
        "title": metadata.get("title") or _title(arrays, explanation),
        "data": data,
        "medical": bool(metadata.get("medical", geometry.get("image", {}).get("medical", True))),
        "source": source,
        "run": run,
        "scan": _scan_of(arrays, metadata),
        "reconstructions": _reconstructions_of(arrays, metadata, metrics),
        "metrics": _metrics_of(metrics, metadata),
        "explanation": explanation,
        "training": _training_of(folder) if has_log else None,
    }


def _title(arrays: dict[str, np.ndarray], explanation: dict[str, Any] | None) -> str:
    names = [network["name"] for network in explanation["networks"]] if explanation else []
    if names:
        return "What " + " and ".join(names) + " did to this image"
    return "Reconstruction" if arrays else "Training run"


def _scan_of(arrays: dict[str, np.ndarray], metadata: dict[str, Any]) -> dict[str, Any] | None:
    if "measurement" not in arrays:
        return None
    sinogram = plain_image(arrays["measurement"])
    views, detectors = sinogram.shape
    low, high = float(np.nanmin(sinogram)), float(np.nanmax(sinogram))
    alt = f"Sinogram of {views} views and {detectors} detector elements."
    return {
        "views": views,
        "detectors": detectors,
        "words": metadata.get("measurement", ""),
        "facts": metadata.get("scan", {}),
        "panels": [Panel("the scan", panel(sinogram, low, high, aspect=1.6), alt)],
        "scale": Scale(low, high, "line integral of attenuation", gradient(GRAY)),
    }


def _reconstructions_of(
    arrays: dict[str, np.ndarray], metadata: dict[str, Any], metrics: dict[str, Any]
) -> dict[str, Any] | None:
    labels = _labels(metadata)
    found = [name for name in arrays if name not in ("measurement", "reference")]
    order = [name for name in labels if name in found]
    order += [name for name in found if name not in labels]
    if not order:
        return None
    images = {name: plain_image(arrays[name]) for name in order}
    reference = plain_image(arrays["reference"]) if "reference" in arrays else None
    shown = reference if reference is not None else images[order[0]]
    low, high = metadata.get("window") or _percentile_window(shown)
    unit = metadata.get("unit", "")
    rows = metrics.get("rows", {})
    panels = [
        Panel(
            labels.get(name, name),
            panel(image, low, high),
            f"Reconstruction by {labels.get(name, name)}.",
            _score(rows.get(name, {})),
        )
        for name, image in images.items()
    ]
    result: dict[str, Any] = {"scale": Scale(low, high, unit, gradient(GRAY)), "errors": None}
    if reference is not None:
        words = metadata.get("reference", "held true")
        panels.insert(0, Panel("reference", panel(reference, low, high), "Reference image.", words))
        errors = {n: i - reference for n, i in images.items() if i.shape == reference.shape}
        if errors:
            result["errors"] = _error_row(errors, labels, metrics.get("baseline"), unit)
    return result | {"panels": panels}


def _error_row(
    errors: dict[str, np.ndarray], labels: dict[str, str], baseline: str | None, unit: str
) -> dict[str, Any]:
    # The baseline sets the scale: a better method must look better, a worse one saturates.
    first = errors[baseline] if baseline in errors else next(iter(errors.values()))
    scale = round_up(float(np.percentile(np.abs(first), 99)))
    panels = [
        Panel(
            labels.get(name, name),
            signed_panel(error, scale),
            f"Error map of {labels.get(name, name)}.",
            Markup("RMS {}").format(number(float(np.sqrt(np.mean(error**2))))),
        )
        for name, error in errors.items()
    ]
    return {"panels": panels, "scale": Scale(-scale, scale, unit, gradient(SIGNED))}


def _metrics_of(metrics: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any] | None:
    rows = metrics.get("rows")
    if not rows:
        return None
    labels = _labels(metadata)
    order = [n for n in labels if n in rows] + [n for n in rows if n not in labels]
    present = {key for row in rows.values() for key in row}
    keys = [key for key in _METRICS if key in present]
    keys += sorted(key for key in present if key not in _METRICS)
    baseline = metrics.get("baseline") if metrics.get("baseline") in rows else None
    columns = [_METRICS.get(key, (key, 0, "")) for key in keys]
    best = {
        key: max(rows, key=lambda n: way * _mean(rows[n].get(key), -math.inf * way))
        for key, (_, way, _) in zip(keys, columns, strict=True)
        if way
    }
    table = []
    for name in order:
        cells = []
        for key, (_, way, form) in zip(keys, columns, strict=True):
            value = _mean(rows[name].get(key))
            verdict = ""
            if way and baseline and name != baseline and math.isfinite(value):
                difference = way * (value - _mean(rows[baseline].get(key)))
                verdict = "better" if difference > 0 else "worse" if difference < 0 else ""
            text = format(value, form) if form and math.isfinite(value) else number(value)
            cells.append({"text": text, "best": best.get(key) == name, "verdict": verdict})
        label = labels.get(name, name)
        table.append({"label": label, "baseline": name == baseline, "cells": cells})
    ways = {way for _, way, _ in columns}
    return {
        "heading": "Figures of merit" if ways - {0} else "Time and size",
        "better": _better(columns),
        "legend": _legend(metadata),
        "columns": [label for label, _, _ in columns],
        "table": table,
        "baseline": labels.get(baseline, baseline) if baseline else None,
        "headline": _headline(rows, labels, baseline),
        "note": metadata.get("note", ""),
    }


def _better(columns: Sequence[tuple[str, int, str]]) -> str:
    """Say which way the columns get better, "" if none does."""
    words = []
    for way, name in ((1, "higher"), (-1, "lower")):
        labels = [label.removesuffix(" (dB)") for label, this_way, _ in columns if this_way == way]
        if labels:
            words.append(f"{name} for {' and '.join(labels)}")
    return f"Better is {', '.join(words)}" if words else ""


def _legend(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    """Say what each method is, where the folder tells it."""
    methods = metadata.get("methods", {}).items()
    return [(about["label"], about["words"]) for _, about in methods if about.get("words")]


def _headline(
    rows: dict[str, Any], labels: dict[str, str], baseline: str | None
) -> dict[str, str] | None:
    scores = {n: _mean(row.get("psnr_db")) for n, row in rows.items()}
    scores = {name: score for name, score in scores.items() if math.isfinite(score)}
    if baseline not in scores or len(scores) < 2:
        return None
    best = max(scores, key=scores.__getitem__)
    gain = scores[best] - scores[baseline]
    return {
        "value": f"{scores[best]:.1f} dB",
        "label": f"PSNR of {labels.get(best, best)}, the best",
        "note": f"{gain:+.1f} dB against {labels.get(baseline, baseline)}",
    }


def _training_of(folder: RunFolder) -> dict[str, Any] | None:
    rows = list(csv.DictReader(folder.read_text("log.csv").splitlines()))
    losses = [(int(row["step"]), float(row["loss"])) for row in rows if row.get("loss")]
    scores = [
        (int(row["step"]), float(row["validation_psnr"]))
        for row in rows
        if row.get("validation_psnr")
    ]
    if not losses:
        return None
    steps, values = zip(*losses, strict=True)
    return {"chart": training_chart(steps, values, scores), "steps": steps[-1]}


def _labels(metadata: dict[str, Any]) -> dict[str, str]:
    methods = metadata.get("methods", {})
    return {name: about.get("label", name) for name, about in methods.items()}


def _mean(value: object, missing: float = math.nan) -> float:
    """Read a metric, which is a number or a table with its mean."""
    if isinstance(value, dict):
        value = value.get("mean")
    return float(value) if isinstance(value, (int, float)) else missing


def _score(row: dict[str, Any]) -> str:
    value = _mean(row.get("psnr_db"))
    return f"{value:.1f} dB" if math.isfinite(value) else ""


def _percentile_window(image: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(image, [0.5, 99.5])
    return float(low), float(high)
