"""Tables and verdicts of the convolution-framelet experiment, from the metrics of each image."""

import math
from statistics import fmean, median, stdev
from typing import Any, NamedTuple

from framelets.core import Table
from framelets.experiments.convolution_framelets_problems import PROBLEMS

Scores = dict[str, dict[str, dict[str, list[Any]]]]
"""Problem, method, metric: one value an image."""

_MANIFOLD, _PUBLISHED, _INVERSE = "ldmm", "reweighted, published", "reweighted, inverse"
_FRAMELETS = ("framelets, l1", _MANIFOLD, _PUBLISHED, _INVERSE)
_CLAIMED = ("missing-90", "missing-95")
_SPREAD = 2.0  # standard errors that a mean difference must exceed to be called one


class Difference(NamedTuple):
    """Mean of paired differences of PSNR in dB, and its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        """Write both."""
        return f"{self.mean:+.2f} ± {self.error:.2f}"

    @property
    def word(self) -> str:
        """Say whether it is one."""
        if abs(self.mean) <= _SPREAD * self.error:
            return "no clear difference"
        return "above" if self.mean > 0 else "below"


def difference(scores: Scores, problem: str, method: str, other: str) -> Difference:
    """Compare two methods image by image."""
    of_problem = scores[problem]
    pairs = zip(of_problem[method]["psnr"], of_problem[other]["psnr"], strict=True)
    gains = [one - two for one, two in pairs]
    return Difference(fmean(gains), stdev(gains) / math.sqrt(len(gains)))


def summarize(scores: Scores) -> list[dict[str, Any]]:
    """Give mean and standard deviation over the images, one record a problem and method."""
    records = []
    for problem, methods in scores.items():
        for method, metrics in methods.items():
            record: dict[str, Any] = {
                "problem": problem,
                "method": method,
                "num_images": len(metrics["psnr"]),
            }
            for name in ("psnr", "ssim"):
                record[name] = fmean(metrics[name])
                record[f"{name}_spread"] = stdev(metrics[name])
            versus = difference(scores, problem, method, _MANIFOLD)
            record["above_ldmm"], record["above_ldmm_error"] = versus
            record["seconds"] = fmean(metrics["seconds"])
            records.append(record)
    return records


def make_tables(scores: Scores) -> list[Table]:
    """Lay out one table a group of problems, and one of the paired differences."""
    tables: list[Table] = []
    for group in dict.fromkeys(problem.group for problem in PROBLEMS.values()):
        names = [name for name in scores if PROBLEMS[name].group == group]
        titles = [PROBLEMS[name].title for name in names]
        columns = ["method", *titles, *(f"SSIM, {title}" for title in titles), "CPU s / image"]
        rows = []
        for method in scores[names[0]]:
            own = [scores[name][method] for name in names]
            rows.append(
                [
                    method,
                    *(f"{fmean(m['psnr']):.2f} ± {stdev(m['psnr']):.2f}" for m in own),
                    *(f"{fmean(m['ssim']):.3f}" for m in own),
                    f"{fmean(s for m in own for s in m['seconds']):.2g}",
                ]
            )
        count = len(scores[names[0]][_MANIFOLD]["psnr"])
        title = f"{group.capitalize()}: PSNR in dB, mean ± spread over {count} images; mean SSIM"
        tables.append((title, columns, rows))
    columns = ["method", *(PROBLEMS[name].title for name in scores)]
    every = dict.fromkeys(method for methods in scores.values() for method in methods)
    rows = [
        [
            method,
            *(
                str(difference(scores, name, method, _MANIFOLD)) if method in scores[name] else "-"
                for name in scores
            ),
        ]
        for method in every
        if method != _MANIFOLD
    ]
    title = "PSNR above ldmm in dB, image by image: mean ± standard error"
    return [*tables, (title, columns, rows)]


def judge(scores: Scores, *, quick: bool = False) -> list[str]:
    """Check the published claim, and say where framelets stand among the methods."""
    count = len(scores[_CLAIMED[0]][_MANIFOLD]["psnr"])
    return [
        *([f"Quick: {count} images; shows that it runs, proves nothing."] if quick else []),
        _claim(scores, _PUBLISHED, "the published rule"),
        _claim(scores, _INVERSE, "inverse weights, a rule of ours"),
        *(_best(scores, name) for name in scores),
    ]


def endings(scores: Scores, num_updates: int) -> list[str]:
    """Say how iterations ended that did not converge."""
    changes = [
        change
        for methods in scores.values()
        for method in (_MANIFOLD, _PUBLISHED, _INVERSE)
        for change in methods[method]["residual"]
    ]
    other = [
        (problem, method, metrics["converged"].count(False))
        for problem, methods in scores.items()
        for method, metrics in methods.items()
        if method not in (_MANIFOLD, _PUBLISHED, _INVERSE) and not all(metrics.get("converged", []))
    ]
    named = "; ".join(
        f"{method}, {PROBLEMS[p].title}: {count} images" for p, method, count in other
    )
    return [
        f"The manifold models stop after {num_updates} graphs, not where nothing changes: the last "
        f"graph changed the image by {100 * median(changes):.1f} % (median), at most "
        f"{100 * max(changes):.1f} %.",
        f"Other iterations that ended before they met their tolerance: {named or 'none'}.",
    ]


def _claim(scores: Scores, method: str, rule: str) -> str:
    found = {name: difference(scores, name, method, _MANIFOLD) for name in _CLAIMED}
    words = {versus.word for versus in found.values()}
    verdict = {frozenset({"above"}): "seen", frozenset({"below"}): "reversed"}.get(
        frozenset(words), "not seen at every rate" if "above" in words else "not seen"
    )
    listed = ", ".join(f"{versus} dB at {PROBLEMS[n].title}" for n, versus in found.items())
    return (
        f"Published claim, reweighted above plain ldmm at high missing rates: {verdict} with "
        f"{rule}; {listed}."
    )


def _best(scores: Scores, problem: str) -> str:
    means = {method: fmean(m["psnr"]) for method, m in scores[problem].items()}
    ours = max((m for m in _FRAMELETS), key=lambda m: means[m])
    other = max((m for m in means if m not in _FRAMELETS), key=lambda m: means[m])
    versus = difference(scores, problem, ours, other)
    return (
        f"{PROBLEMS[problem].title}: best framelets ({ours}) against the best other method "
        f"({other}): {versus} dB ({versus.word})."
    )
