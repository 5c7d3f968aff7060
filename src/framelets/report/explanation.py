"""The part of the page that explains a network at one image: geometry.json to what is shown."""

import math
from typing import Any

import numpy as np
from markupsafe import Markup

from framelets.core.run_folder import RunFolder
from framelets.report.figures import (
    Panel,
    Scale,
    activity_chart,
    crop_around,
    panel,
    plain_image,
    round_up,
    signed_panel,
    spectrum_chart,
)
from framelets.report.instrument import instrument_of
from framelets.report.numbers import number
from framelets.report.style import GRAY, SIGNED, gradient

_ATOM_RADIUS = 20
_NUM_VECTORS = 6
_MOST_OF_A_WINDOW = 4.0  # how much wider than an image's own window a shared one may be
_EXACT = {"float32": 1e-4, "float64": 1e-11}


def explanation_of(folder: RunFolder, geometry: dict[str, Any]) -> dict[str, Any]:
    """Turn what `explain` left in a run folder into panels, charts and words for the page."""
    arrays = folder.read_npz("geometry.npz")
    chained = "baseline.columns" in arrays
    pixels = geometry.get("pixels", [])
    image = geometry.get("image", {})
    networks = [
        _network(
            _of(arrays, f"{index}.")
            | {f"baseline_{k}": a for k, a in _of(arrays, "baseline.").items()},
            about | {"baseline": geometry.get("baseline", {}).get("name", "baseline")},
            pixels,
            image,
        )
        for index, about in enumerate(geometry["networks"])
    ]
    spectra = [network["about"]["spectrum"] for network in networks]
    chart = spectrum_chart(
        [spectrum["values"] for spectrum in spectra],
        [spectrum["residuals"] for spectrum in spectra],
        [network["name"] for network in networks],
    )
    return {
        "networks": networks,
        "pixels": pixels,
        "baseline": geometry.get("baseline", {}).get("name", "") if chained else "",
        "spectrum_chart": chart,
        "data": image.get("description", ""),
        "unit": image.get("unit", ""),
        "source": {"command": geometry.get("command", ""), "seed": geometry.get("seed")},
    }


def instruments_of(
    folder: RunFolder, geometry: dict[str, Any], largest_radius: int | None = None
) -> list[dict[str, Any] | None]:
    """Collect what lets a reader work each network, its atoms cut to a radius."""
    arrays = folder.read_npz("geometry.npz")
    unit = geometry.get("image", {}).get("unit", "")
    return [
        instrument_of(_of(arrays, f"{index}."), about, unit, largest_radius)
        for index, about in enumerate(geometry["networks"])
    ]


def _of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


def _network(
    arrays: dict[str, np.ndarray],
    about: dict[str, Any],
    pixels: list[dict[str, Any]],
    image: dict[str, Any],
) -> dict[str, Any]:
    layers = about["activity"]
    from_scan = about.get("input_is_scan", False)
    units, active = sum(x["num_units"] for x in layers), sum(x["num_active"] for x in layers)
    return {
        "name": about["name"],
        "about": about,
        "notes": _notes(arrays),
        "exact": about["replay_error"] <= _EXACT.get(about.get("precision", ""), 1e-4),
        "decomposition": _decomposition(arrays, image, from_scan),
        "levels": [level | _reading(level) for level in about.get("frame_levels", [])],
        "widest": max((level["upper"] for level in about.get("frame_levels", [])), default=1.0),
        "vectors": _vectors(arrays, about["spectrum"]["values"], from_scan),
        "overview": _overview(arrays, pixels, image),
        "atoms": [_atoms_at(arrays, about, pixel, i) for i, pixel in enumerate(pixels)],
        "activity_chart": activity_chart(
            [layer["name"] or layer["kind"] for layer in layers],
            [layer["num_active"] for layer in layers],
            [layer["num_units"] for layer in layers],
        )
        if layers
        else None,
        "num_units": units,
        "num_active": active,
    }


def _notes(arrays: dict[str, np.ndarray]) -> list[str]:
    notes = []
    if any(np.iscomplexobj(arrays[name]) for name in ("image", "output")):
        notes.append("The images are complex; pictures show magnitudes.")
    if any(arrays[name].shape[0] > 1 for name in ("image", "output")):
        notes.append("Of several channels, pictures show the first.")
    if any(arrays[name].ndim > 3 for name in ("image", "output")):
        notes.append("Of a volume, pictures show the first slice.")
    return notes


def _decomposition(
    arrays: dict[str, np.ndarray], image: dict[str, Any], from_scan: bool
) -> dict[str, Any]:
    x, y, linear, offset = (plain_image(arrays[k]) for k in ("image", "output", "linear", "offset"))
    unit = image.get("unit", "")
    of_image, of_output = _windows(x, y, from_scan)
    if image.get("window"):
        low, high = image["window"]
        of_image = of_output = (float(low), float(high))
    signed = round_up(float(np.percentile(np.abs(offset), 99.8)))
    given = (
        Panel("scan y", panel(x, *of_image, aspect=1.0), "The scan given to the network.")
        if from_scan
        else Panel("image x", panel(x, *of_image), "The image given to the network.")
    )
    scales = [(Scale(*of_output, unit, gradient(GRAY)), "output and linear part")]
    if of_image == of_output:
        scales = [(scales[0][0], "image, output and linear part")]
    else:
        what = "scan y" if from_scan else "image x"
        own = Scale(*of_image, "" if from_scan else unit, gradient(GRAY))
        scales.insert(0, (own, f"{what}, on a scale of its own"))
    scales.append((Scale(-signed, signed, unit, gradient(SIGNED)), "offset, zero white"))
    return {
        "panels": [
            given,
            Panel("output", panel(y, *of_output), "The network's output."),
            Panel("linear part", panel(linear, *of_output), "The linear part of the output."),
            Panel("offset b", signed_panel(offset, signed), "The offset part of the output."),
        ],
        "scales": scales,
    }


def _windows(
    x: np.ndarray, y: np.ndarray, from_scan: bool
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Choose the display windows of what was given and of the output: one, if it shows both."""
    of_output = _percentiles(y)
    if from_scan:
        return (float(x.min()), float(x.max())), of_output
    of_image = _percentiles(x)
    low, high = min(of_image[0], of_output[0]), max(of_image[1], of_output[1])
    narrower = min(window[1] - window[0] for window in (of_image, of_output))
    if high - low > _MOST_OF_A_WINDOW * narrower:
        return of_image, of_output
    return (low, high), (low, high)


def _percentiles(image: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(image, [0.5, 99.5])
    return float(low), float(high)


def _reading(level: dict[str, Any]) -> dict[str, str]:
    """Say in words what the frame bounds of a level mean."""
    lower, upper = level["lower"], level["upper"]
    if lower <= 1e-6 * upper:
        return {"reading": "loses part of the signal: something maps to zero", "grade": "bad"}
    if math.isclose(lower, upper, rel_tol=1e-3):
        if math.isclose(upper, 1, rel_tol=1e-3):
            return {"reading": "Parseval: keeps every signal's energy as it is", "grade": "good"}
        return {"reading": "tight: weighs all signals alike", "grade": "good"}
    ratio = f"{upper / lower:.3g}"
    return {
        "reading": f"keeps everything, but weighs some signals {ratio} times others",
        "grade": "fair",
    }


def _vectors(
    arrays: dict[str, np.ndarray], values: list[float], from_scan: bool
) -> list[list[Panel]]:
    pairs = []
    for i, value in enumerate(values[: min(_NUM_VECTORS, len(arrays.get("right", [])))]):
        pair = []
        for name, symbol, words in (("right", "v", "taken up"), ("left", "u", "given out")):
            vector = _square_root(plain_image(arrays[name][i]))
            scale = float(np.abs(vector).max()) or 1.0
            aspect = 1.0 if from_scan and name == "right" else None
            label = Markup("{}<sub>{}</sub>").format(symbol, i + 1)
            note = Markup("&sigma;<sub>{}</sub> = {}").format(i + 1, number(value, 4))
            alt = f"Singular vector {symbol}{i + 1}, {words} by the network."
            uri = panel(vector, -scale, scale, SIGNED, aspect)
            pair.append(Panel(label, uri, alt, note if name == "left" else ""))
        pairs.append(pair)
    return pairs


def _overview(
    arrays: dict[str, np.ndarray], pixels: list[dict[str, Any]], image: dict[str, Any]
) -> dict[str, Any]:
    y = plain_image(arrays["output"])
    low, high = image.get("window") or _percentiles(y)
    height, width = y.shape
    marks = [
        {
            "letter": chr(ord("A") + i),
            "left": f"{100 * (pixel['column'] + 0.5) / width:.2f}",
            "top": f"{100 * (pixel['row'] + 0.5) / height:.2f}",
        }
        for i, pixel in enumerate(pixels)
    ]
    return {"panel": Panel("where", panel(y, low, high), "Where the pixels lie."), "marks": marks}


def _atoms_at(
    arrays: dict[str, np.ndarray], about: dict[str, Any], pixel: dict[str, Any], index: int
) -> dict[str, Any]:
    """Draw the atoms of one pixel: the network's, then those of the chains from the scan."""
    panels = [
        _atom(arrays[kind][index], pixel, label, alt)
        for kind, label, alt in (
            ("rows", "row of L", "Weights of the input pixels."),
            ("columns", "column of L", "Trace of one input pixel."),
        )
        if kind in arrays
    ]
    behind = "network" if about.get("input_is_scan") else f"{about['baseline']} and network"
    chains = [("baseline", about["baseline"]), ("chain", behind)]
    for kind, who in chains:
        if f"{kind}_columns" in arrays:
            label, alt = f"point response, {who}", f"Image of a point at this pixel, {who}."
            panels.append(_atom(arrays[f"{kind}_columns"][index], pixel, label, alt))
    for kind, who in chains:
        if f"{kind}_rows" in arrays:
            weights = _square_root(plain_image(arrays[f"{kind}_rows"][index]))
            scale = float(np.abs(weights).max()) or 1.0
            uri = panel(weights, -scale, scale, SIGNED, aspect=1.0)
            alt = f"Weights of the rays that make this pixel, {who}."
            panels.append(Panel(f"rays used, {who}", uri, alt))
    return {"letter": chr(ord("A") + index), "pixel": pixel, "panels": panels}


def _atom(array: np.ndarray, pixel: dict[str, Any], label: str, alt: str) -> Panel:
    atom = plain_image(array)
    row, column = pixel["row"], pixel["column"]
    shown = _square_root(crop_around(atom, row, column, _ATOM_RADIUS))
    scale = float(np.abs(shown).max()) or 1.0
    note = Markup("center {}, sum {}, 90 % within {} px").format(
        number(float(atom[row, column])), number(float(atom.sum())), _reach(atom, row, column)
    )
    return Panel(label, signed_panel(shown, scale), alt, note)


def _square_root(array: np.ndarray) -> np.ndarray:
    # Atoms and singular vectors are tall in few places; on a linear scale only these would show.
    rooted: np.ndarray = np.sign(array) * np.sqrt(np.abs(array))
    return rooted


def _reach(atom: np.ndarray, row: int, column: int, share: float = 0.9) -> int:
    """Return the smallest radius in pixels around a pixel that holds a share of the energy."""
    rows, columns = np.indices(atom.shape)
    radius = np.hypot(rows - row, columns - column).ravel()
    order = np.argsort(radius, kind="stable")
    energy = np.cumsum(atom.ravel()[order] ** 2)
    if energy[-1] == 0:
        return 0
    return math.ceil(float(radius[order][np.searchsorted(energy, share * energy[-1])]))
