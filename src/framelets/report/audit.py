"""Write the page of an audit: read what `framelets audit` left in a run folder, and nothing else.

It reads `audit.json`, `images/NAME.npz` of the worst images, and `run.json`;
`framelets.commands.audit` writes and describes them.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from framelets.core.run_folder import RunFolder
from framelets.report.figures import (
    Chart,
    Panel,
    Scale,
    distribution_chart,
    panel,
    plain_image,
    round_up,
    signed_panel,
)
from framelets.report.numbers import number, percent
from framelets.report.page import DISCLAIMER
from framelets.report.style import DARK, GRAY, LIGHT, SIGNED, gradient
from framelets.report.templates import template

_MOST_ROWS = 200
_MOST_OF_A_WINDOW = 4.0  # how much wider than an image's own window a shared one may be
_CHARTS = {
    "lipschitz_lower": "$K_p$, from certified to probable bound",
    "noise_gain": "noise gain (estimate)",
    "offset_share": "offset, |b| / |f(x)|",
    "active_share": "share of units that are on",
    "replay_error": "replay error",
    "num_boundaries": "boundaries on the segment of noise",
    "boundary_upper": "a boundary within this norm",
    "null_share": "share of |f|² in the null space",
    "null_offset_share": "share of |f|² that b puts there",
    "changed_share": "share of |f|² changed in the scan's view",
}
_LIMITS = {
    "lipschitz_lower": "max_lipschitz",
    "offset_share": "max_offset_share",
    "replay_error": "max_replay_error",
}


def write_audit(run_folder: str | os.PathLike[str]) -> Path:
    """Write `audit.html`, one self-contained page, into the run folder of an audit.

    Args:
        run_folder: The folder.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: If the folder holds no audit.
        ValueError: If a file of the folder is damaged.
    """
    path = Path(run_folder)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run folder {path}")
    folder = RunFolder(path)
    audit = folder.read_json("audit.json")
    page = {
        "audit": audit,
        "run": folder.read_json("run.json") if folder.has("run.json") else {},
        "rows": audit["images"][:_MOST_ROWS],
        "charts": [chart for name in _CHARTS if (chart := _chart_of(audit, name)) is not None],
        "worst": [_worst(folder, about) for about in audit["worst"]],
    }
    text = template("audit.html", figure=figure_text, symbols=symbols).render(
        page=page, light=LIGHT, dark=DARK, disclaimer=DISCLAIMER
    )
    folder.write_text("audit.html", text)
    return folder.file("audit.html")


def _chart_of(audit: dict[str, Any], name: str) -> Chart | None:
    figures = [image["figures"] for image in audit["images"]]
    figures = [figure for figure in figures if figure.get(name) is not None]
    if not figures:
        return None
    values = [float(figure[name]) for figure in figures]
    upper = None
    if name == "lipschitz_lower":
        upper = [
            figure["lipschitz_lower"] if figure["lipschitz_upper"] is None else
            figure["lipschitz_upper"]
            for figure in figures
        ]  # fmt: skip
    limit = audit["thresholds"].get(_LIMITS.get(name, ""))
    spread_out = min(values) > 0 and max(values) > 100 * min(values)
    return distribution_chart(
        values, _CHARTS[name], upper=upper, limit=limit, logarithmic=spread_out
    )


def _worst(folder: RunFolder, about: dict[str, Any]) -> dict[str, Any]:
    """Draw an image, what became of it, and the perturbation that it is most sensitive to."""
    arrays = folder.read_npz(f"images/{about['image']}.npz")
    x, y, b = (plain_image(arrays[name]) for name in ("image", "output", "offset"))
    of_image, of_output = _windows(x, y)
    signed = round_up(float(np.percentile(np.abs(b), 99.8)))
    scales = [(Scale(*of_output, "", gradient(GRAY)), "image and output")]
    if of_image != of_output:
        scales = [
            (Scale(*of_image, "", gradient(GRAY)), "image"),
            (Scale(*of_output, "", gradient(GRAY)), "output"),
        ]
    scales.append((Scale(-signed, signed, "", gradient(SIGNED)), "offset, zero white"))
    return {
        "about": about,
        "panels": [
            Panel("image x", panel(x, *of_image), "The image given to the network."),
            Panel("output f(x)", panel(y, *of_output), "The network's output."),
            Panel("offset b", signed_panel(b, signed), "The offset part of the output."),
            _vector(arrays["right"], "worst perturbation v", "Direction of most sensitivity."),
            _vector(arrays["left"], "its effect u", "What the perturbation does to the output."),
        ],
        "scales": scales,
    }


def _vector(array: np.ndarray, label: str, alt: str) -> Panel:
    vector = plain_image(array)
    # Singular vectors are tall in few places; on a linear scale only these would show.
    rooted = np.sign(vector) * np.sqrt(np.abs(vector))
    return Panel(label, signed_panel(rooted, float(np.abs(rooted).max()) or 1.0), alt)


def _windows(x: np.ndarray, y: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Choose the display windows of image and output: one, if it shows both."""
    own = []
    for image in (x, y):
        low, high = np.percentile(image, [0.5, 99.5])
        own.append((float(low), float(high)))
    low, high = min(own[0][0], own[1][0]), max(own[0][1], own[1][1])
    if high - low > _MOST_OF_A_WINDOW * min(end - start for start, end in own):
        return own[0], own[1]
    return (low, high), (low, high)


def figure_text(value: float | int | None, name: str) -> str:
    """Format a figure of an audit: shares as percent, counts whole, the rest with 4 digits."""
    if value is None:
        return number(None)
    if name == "num_boundaries":
        return f"{value:,.0f}"
    return percent(value) if name.endswith("_share") and value >= 0 else number(value, 4)


def symbols(text: str) -> Markup:
    """Set K_p, P_N and P_R as mathematics.

    Example:
        >>> str(symbols("K_p at least"))
        '<span class="math">K<sub>p</sub></span> at least'
    """
    pattern = r"\b([KP])_([pNR])\b"
    return Markup(re.sub(pattern, r'<span class="math">\1<sub>\2</sub></span>', str(escape(text))))
