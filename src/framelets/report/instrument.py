"""The part of the page that its reader can work: pixels to click, a segment to walk along.

`page.js` draws it from one block of data for each network. The atoms come as
`framelets.commands.atom_store` left them, one byte a pixel, all in one block that is deflated; the
browser inflates it by itself. If the page would be too large, atoms are cut to a smaller radius.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int8
from markupsafe import Markup

from framelets.report.figures import Panel, Scale, panel, plain_image, round_up, signed_panel
from framelets.report.style import GRAY, SIGNED, gradient, palette

RADII = (None, 32, 24, 16, 12, 8)
"""To what atoms are cut, in this order until the page is small enough; None is as they are."""

_MAPS = {
    "determined": ("A⁺y", "What the measurement determines."),
    "contradiction": (
        Markup("P<sub>R</sub>f &minus; A⁺y"),
        "Where the network contradicts the measurement.",
    ),
    "null_linear": (
        Markup("P<sub>N</sub>Lx"),
        "Null space content that depends linearly on the input.",
    ),
    "null_offset": (Markup("P<sub>N</sub>b"), "Null space content carried by the offset."),
}


def instrument_of(
    arrays: dict[str, np.ndarray],
    about: dict[str, Any],
    unit: str = "",
    largest_radius: int | None = None,
) -> dict[str, Any] | None:
    """Collect what the page needs to let its reader work a network.

    Args:
        arrays: Those of the network.
        about: Its table of geometry.json.
        unit: Unit of its values.
        largest_radius: Cut atoms to this radius.

    Returns:
        `grid`, `segment` and `support` as they are in the table, `data` for the script, `panels` of
        the four maps; None if `explain` left nothing of it.
    """
    if "grid" not in about and "support" not in about:
        return None
    nothing = {"missing": "explain did not compute it"}
    grid, segment = about.get("grid", nothing), about.get("segment", nothing)
    support = about.get("support")
    data: dict[str, Any] = {}
    if "atom_data" in arrays and len(arrays["atom_data"]):
        blob, places, values = cut_atoms(
            arrays["atom_data"], arrays["atom_places"], arrays["atom_values"], largest_radius
        )
        height, width = plain_image(arrays["output"]).shape
        data = {
            "grid": grid,
            "segment": segment,
            "support": support,
            "height": height,
            "width": width,
            "palette": base64.b64encode(palette(SIGNED)).decode("ascii"),
            "atoms": base64.b64encode(zlib.compress(blob.tobytes(), 9)).decode("ascii"),
            "places": places.tolist(),
            "values": [[float(f"{value:.5g}") for value in row] for row in values],
        }
    return {
        "grid": grid,
        "segment": segment,
        "support": support,
        "data": _script_data(data) if data else "",
        "maps": _maps(arrays, unit) if support else None,
        "channels": max(arrays["output"].shape[0], arrays["image"].shape[0]),
    }


def cut_atoms(
    data: Int8[np.ndarray, " byte"],
    places: np.ndarray,
    values: Float[np.ndarray, "atom 3"],
    largest_radius: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut atoms smaller and count the energy that is left.

    Args:
        data: The bytes of all atoms.
        places: Where each lies, as `AtomStore.to_arrays` describes.
        values: Peak, kept share of energy and sum of each.
        largest_radius: To cut to; None leaves everything as it is.

    Returns:
        The three again.
    """
    if largest_radius is None:
        return data, places, values
    parts, new_places, new_values, size = [], [], [], 0
    for place, (peak, kept, total) in zip(places.tolist(), values.tolist(), strict=True):
        start, top, left, height, width, row, column, radius = place
        atom = data[start : start + height * width].reshape(height, width)
        radius = min(radius, largest_radius)
        rows = slice(max(0, row - radius - top), max(0, row + radius + 1 - top))
        columns = slice(max(0, column - radius - left), max(0, column + radius + 1 - left))
        cut = atom[rows, columns]
        energy, left_over = (float((a.astype(np.float64) ** 4).sum()) for a in (atom, cut))
        parts.append(cut.ravel())
        new_places.append(
            [size, top + rows.start, left + columns.start, *cut.shape, row, column, radius]
        )
        new_values.append([peak, kept * (left_over / energy if energy else 1.0), total])
        size += cut.size
    return np.concatenate(parts), np.array(new_places), np.array(new_values)


def _script_data(data: dict[str, Any]) -> Markup:
    # Nothing in it may end the script element.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _maps(arrays: dict[str, np.ndarray], unit: str) -> dict[str, Any]:
    images = {name: plain_image(arrays[name]) for name in _MAPS}
    low, high = (float(v) for v in np.percentile(images["determined"], [0.5, 99.5]))
    others = [np.abs(images[name]) for name in _MAPS if name != "determined"]
    scale = round_up(float(np.percentile(np.stack(others), 99.8)))
    panels = [
        Panel(
            label,
            panel(images[name], low, high)
            if name == "determined"
            else signed_panel(images[name], scale),
            alt,
        )
        for name, (label, alt) in _MAPS.items()
    ]
    return {
        "panels": panels,
        "scales": [
            (Scale(low, high, unit, gradient(GRAY)), "A⁺y"),
            (Scale(-scale, scale, unit, gradient(SIGNED)), "the other three, zero white"),
        ],
    }
