"""Numbers as a reader wants them: few digits, powers of ten written out."""

import math

from markupsafe import Markup


def number(value: float | None, digits: int = 3) -> Markup:
    """Format a number for a reader: 3 digits, powers of ten written out.

    Example:
        >>> str(number(0.00002)), str(number(1.3333)), str(number(123456.0, 6))
        ('2 &times; 10<sup>&minus;5</sup>', '1.33', '123456')
    """
    if value is None or not math.isfinite(value):
        return Markup("&ndash;")
    if value != 0 and not 1e-3 <= abs(value) < 1e5 and digits < 6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa} &times; 10<sup>{int(exponent)}</sup>"
    else:
        text = f"{value:.{digits}g}"
    return Markup(text.replace("-", "&minus;"))


def percent(value: float) -> str:
    """Format a share: one decimal below ten percent."""
    return f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"
