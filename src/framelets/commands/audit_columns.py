"""The figures of an audit: what each is called, what it means and what it is worth."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One figure of every image.

    Attributes:
        label: Its name for people.
        worth: "exact" (maybe up to a certified error), "certified lower bound", "certified upper
            bound", "probabilistic bound" or "estimate".
        meaning: What it is, in one sentence.
        worst: 1 if large is bad, -1 if small is bad, 0 if neither.
        shown: Whether it is a column of the printed table.
    """

    label: str
    worth: str
    meaning: str
    worst: int = 0
    shown: bool = True


FIGURES = {
    "replay_error": Column(
        "replay error", "exact", "|f(x) - (L x + b)| / |f(x)|: how exactly L and b are f", 1
    ),
    "input_norm": Column("|x|", "exact", "norm of the image", shown=False),
    "output_norm": Column("|f(x)|", "exact", "norm of the output", shown=False),
    "linear_norm": Column("|L x|", "exact", "norm of the linear part", shown=False),
    "offset_norm": Column("|b|", "exact", "norm of the offset", shown=False),
    "offset_share": Column(
        "offset", "exact", "|b| / |f(x)|: above 1 where L x and b cancel in part", 1
    ),
    "lipschitz_lower": Column(
        "K_p at least",
        "certified lower bound",
        "norm of the Jacobian here: a change of the image with this gain was found",
        1,
    ),
    "lipschitz_upper": Column(
        "K_p at most",
        "probabilistic bound",
        "the same from above, with probability 0.99 over a random start; at this image only",
        1,
    ),
    "noise_gain": Column(
        "noise gain", "estimate", "root mean square of |J z| / |z| over 8 white images z", 1
    ),
    "active_share": Column("units on", "exact", "share of the units that are on"),
}
"""Of every audit."""

BOUNDARIES = {
    "num_boundaries": Column(
        "boundaries",
        "exact",
        "boundaries of linear regions that a segment of white noise crosses, as far as it was "
        "followed (boundaries_reached); their positions are solved for, not sampled",
    ),
    "boundaries_reached": Column(
        "segment followed", "exact", "share of the segment that was followed in time", -1, False
    ),
    "segment_norm": Column("segment", "exact", "norm of the segment of noise", shown=False),
    "boundary_lower": Column(
        "boundary beyond",
        "certified lower bound",
        "no boundary of a linear region is nearer; a norm, to hold against |x|",
        -1,
    ),
    "boundary_probable_lower": Column(
        "probably beyond", "probabilistic bound", "the same with probability 0.99", -1
    ),
    "boundary_upper": Column(
        "boundary within",
        "certified upper bound",
        "a boundary was met at this distance, a norm",
        -1,
    ),
}
"""With --boundaries, of piecewise-linear networks."""

_PROJECTED = "exact up to support_error"

SUPPORT = {
    "null_share": Column(
        "null space",
        _PROJECTED,
        "share of |f|^2 that the scan cannot see, P_N f",
        1,
    ),
    "null_linear_share": Column(
        "P_N L x", _PROJECTED, "the part of it that is linear in the image", 1
    ),
    "null_offset_share": Column("P_N b", _PROJECTED, "the part of it that the offset carries", 1),
    "null_cross_share": Column(
        "cross term", _PROJECTED, "twice the inner product of these two", 0, False
    ),
    "changed_share": Column(
        "changed in view",
        _PROJECTED,
        "|P_R f - A^+ A x|^2 / |f|^2: what the network changed of what the scan sees",
        1,
    ),
    "undecided_share": Column(
        "undecided",
        _PROJECTED,
        "share of |f|^2 that neither range nor null space owns",
    ),
    "support_error": Column(
        "error of these",
        "certified upper bound",
        "largest error of the four parts of f, over |f|; singular values well below a share "
        "(support_threshold) of |A| count as null",
        1,
    ),
}
"""With --scan."""

COLUMNS = FIGURES | BOUNDARIES | SUPPORT
"""Every figure of an image by its name in audit.json and audit.csv, in the order of the columns."""
