"""Tables that several commands show."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from framelets.core import Table

_COLUMNS = {
    "psnr_db": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".4f"),
    "nmse": ("NMSE", ".3g"),
    "seconds": ("time (s)", ".3g"),
    "num_parameters": ("parameters", ",d"),
}


def metrics_table(rows: dict[str, dict[str, Any]]) -> Table:
    """Show metrics, one method a row; columns that no method fills are left out."""
    keys = [key for key in _COLUMNS if any(row.get(key) is not None for row in rows.values())]
    body = [
        [
            name,
            *("-" if row.get(k) is None else format(row[k], _COLUMNS[k][1]) for k in keys),
        ]
        for name, row in rows.items()
    ]
    return "", ["method", *[_COLUMNS[key][0] for key in keys]], body


def explanation_table(networks: Sequence[dict[str, Any]]) -> Table:
    """Show the main numbers of explained networks side by side."""
    lines: list[tuple[str, Any]] = [
        ("replay error", lambda n: f"{n['replay_error']:.2g}"),
        ("offset |b| / |f(x)|", lambda n: f"{n['norms']['offset'] / n['norms']['output']:.3f}"),
        ("linear |Lx| / |f(x)|", lambda n: f"{n['norms']['linear'] / n['norms']['output']:.3f}"),
        ("sigma_1 of L, residual", _largest),
        ("K_p here, at least", lambda n: f"{n['lipschitz']['lower']:.4g}{_from_scan(n)}"),
        ("K_p here, at most*", _upper),
        ("frame bounds", _bounds),
        ("units switched on", _active),
        ("parameters", lambda n: f"{n['num_parameters']:,}"),
    ]
    body = [[label, *[show(network) for network in networks]] for label, show in lines]
    return "", ["", *[network["name"] for network in networks]], body


def explanation_note(networks: Sequence[dict[str, Any]]) -> str:
    """Say what the upper figures of `explanation_table` are worth."""
    probability = networks[0]["lipschitz"]["probability"]
    return f"* with probability {probability}; at this image only, no proof of robustness"


def _largest(network: dict[str, Any]) -> str:
    found = network["spectrum"]
    return f"{found['values'][0]:.4g}, {found['residuals'][0]:.1g}"


def _upper(network: dict[str, Any]) -> str:
    bounds = network["lipschitz"]
    if bounds["upper"] is None:
        return "-"
    return f"{bounds['upper']:.4g}{_from_scan(network)}"


def _from_scan(network: dict[str, Any]) -> str:
    return " (from scan to image)" if network.get("input_is_scan") else ""


def _bounds(network: dict[str, Any]) -> str:
    bounds = Counter(f"{x['lower']:.3g}..{x['upper']:.3g}" for x in network["frame_levels"])
    words = [f"{text} ({count} level{'s' if count > 1 else ''})" for text, count in bounds.items()]
    return ", ".join(words) or "-"


def _active(network: dict[str, Any]) -> str:
    units = sum(layer["num_units"] for layer in network["activity"])
    active = sum(layer["num_active"] for layer in network["activity"])
    return f"{100 * active / units:.0f} % of {units:,}" if units else "-"
