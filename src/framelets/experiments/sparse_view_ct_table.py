"""Tables and verdicts of the sparse-view experiment, from the metrics of each image."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from framelets.core import Table
from framelets.tasks import SparseViewCT, model_card

Scores = dict[str, dict[int, dict[str, dict[str, list[float]]]]]
"""Case, number of views, method, metric: one value an image."""

_U_NETS = ("unet", "dual-frame-unet", "tight-frame-unet", "tight-frame-unet-narrow")
_AIM_DB = 3.0
_AIM_VIEWS = 60
_SPREAD = 2.0  # standard errors that a mean difference must exceed to be called one


def summarize(scores: Scores) -> list[dict[str, Any]]:
    """Give mean and standard deviation over the images, one record for each line of the table."""
    records = []
    for case, of_case in scores.items():
        for views, of_views in of_case.items():
            for method, metrics in of_views.items():
                record: dict[str, Any] = {"case": case, "views": views, "method": method}
                record["num_images"] = len(metrics["psnr"])
                for name in ("psnr", "ssim", "nmse", "residual"):
                    record[name] = fmean(metrics[name])
                    record[f"{name}_spread"] = stdev(metrics[name])
                record["seconds"] = metrics["seconds"][0]
                records.append(record)
    return records


def budgets(task: SparseViewCT) -> dict[str, dict[str, Any]]:
    """Give what each network cost: parameters, steps, batch, minutes of one core."""
    found = {}
    for method in task.networks:
        card = model_card(f"{task.name}/{method}")
        found[method] = {
            "num_parameters": card["num_parameters"],
            "num_steps": card["num_steps"],
            "batch_size": card["config"]["batch_size"],
            "core_minutes": card["core_seconds"] / 60,
        }
    return found


def judge(scores: Scores, *, quick: bool = False) -> list[str]:
    """Say of each aim whether it was met, with the numbers that decide it.

    Args:
        scores: Metrics of each image.
        quick: Too few images to decide anything: give the numbers only.
    """
    verdicts = [
        *_above_fbp(scores, quick),
        _unrolled_above_tv(scores, quick),
        *_order_of_poolings(scores),
    ]
    if not quick:
        return verdicts
    of_views = next(iter(next(iter(scores.values())).values()))
    num_images = len(next(iter(of_views.values()))["psnr"])
    return [f"Quick: {num_images} images; shows that it runs, proves nothing.", *verdicts]


def _above_fbp(scores: Scores, quick: bool) -> list[str]:
    verdicts = []
    for case, of_case in scores.items():
        gains = {m: fmean(_gain(of_case[_AIM_VIEWS], m, "fbp")) for m in _U_NETS}
        worst = min(gains, key=lambda m: gains[m])
        met = "met" if gains[worst] >= _AIM_DB else "missed"
        verdicts.append(
            f"{_aim(met, quick)} ({case}): every U-Net at least {_AIM_DB:g} dB above fbp at "
            f"{_AIM_VIEWS} views; the least gain is {gains[worst]:+.2f} dB ({worst})."
        )
    return verdicts


def _unrolled_above_tv(scores: Scores, quick: bool) -> str:
    case = next(name for name in scores if name.startswith("head") and "photons" in name)
    gains = {v: fmean(_gain(of_views, "unrolled", "tv")) for v, of_views in scores[case].items()}
    missed = [str(views) for views, gain in gains.items() if gain <= 0]
    word = "met" if not missed else f"missed at {' and '.join(missed)} views"
    listed = ", ".join(f"{gain:+.2f} dB at {views}" for views, gain in gains.items())
    aim = _aim(word, quick)
    return f"{aim} ({case}): unrolled above tv with tuned weight; {listed} views."


def _aim(outcome: str, quick: bool) -> str:
    return "Aim, not judged" if quick else f"Aim {outcome}"


def _order_of_poolings(scores: Scores) -> list[str]:
    verdicts = []
    for case, of_case in scores.items():
        words = []
        for better in _U_NETS[1:]:
            gains = [
                gain for of_views in of_case.values() for gain in _image_gains(of_views, better)
            ]
            # Views of one image are not independent: average them first, then count images.
            num_images = len(gains) // len(of_case)
            per_image = [fmean(gains[i::num_images]) for i in range(num_images)]
            mean, error = fmean(per_image), stdev(per_image) / math.sqrt(num_images)
            clear = abs(mean) > _SPREAD * error
            words.append(
                f"{better} {mean:+.2f} ± {error:.2f} dB"
                + ("" if clear else " (no clear difference)")
            )
        verdicts.append(f"Against unet, {case}, all views: {'; '.join(words)}.")
    return verdicts


def _image_gains(of_views: dict[str, dict[str, list[float]]], method: str) -> list[float]:
    return _gain(of_views, method, "unet")


def _gain(of_views: dict[str, dict[str, list[float]]], method: str, over: str) -> list[float]:
    pairs = zip(of_views[method]["psnr"], of_views[over]["psnr"], strict=True)
    return [one - other for one, other in pairs]


def make_tables(
    summary: Sequence[dict[str, Any]], budget: dict[str, dict[str, Any]]
) -> list[Table]:
    """Lay out one table a case, with views in columns of PSNR, and one of the budgets."""
    tables: list[Table] = []
    cases = list(dict.fromkeys(record["case"] for record in summary))
    for case in cases:
        records = [record for record in summary if record["case"] == case]
        views = sorted({record["views"] for record in records})
        methods = list(dict.fromkeys(record["method"] for record in records))
        columns = [
            "method",
            *(f"{v} views" for v in views),
            "SSIM",
            "NMSE",
            "residual",
            "s / image",
        ]
        shown = _AIM_VIEWS if _AIM_VIEWS in views else views[-1]
        rows = []
        for method in methods:
            own = {r["views"]: r for r in records if r["method"] == method}
            at = own[shown]
            psnrs = [f"{own[v]['psnr']:.2f} ± {own[v]['psnr_spread']:.2f}" for v in views]
            numbers = [f"{at['ssim']:.4f}", f"{at['nmse']:.2e}", f"{at['residual']:.1e}"]
            rows.append([method, *psnrs, *numbers, f"{at['seconds']:.2g}"])
        count = records[0]["num_images"]
        title = (
            f"{case}: PSNR in dB, mean ± spread over {count} images; SSIM, NMSE, residual "
            f"|Ax - y| / |y| and time at {shown} views"
        )
        tables.append((title, columns, rows))
    rows = [
        [
            method,
            f"{entry['num_parameters']:,}",
            entry["num_steps"],
            entry["batch_size"],
            f"{entry['core_minutes']:.1f}",
        ]
        for method, entry in budget.items()
    ]
    tables.append(
        (
            "Training budgets",
            ["network", "parameters", "steps", "images a step", "core minutes"],
            rows,
        )
    )
    return tables


def training_table(scores: Scores, others: dict[str, Scores]) -> Table:
    """Lay out by how much other trainings of the same networks differ from the shipped ones."""
    rows = []
    for label, of_label in others.items():
        for case, of_case in of_label.items():
            for method in next(iter(of_case.values())):
                cells = []
                for views, of_views in of_case.items():
                    shipped = scores[case][views][method]["psnr"]
                    gains = [
                        own - other
                        for own, other in zip(of_views[method]["psnr"], shipped, strict=True)
                    ]
                    error = stdev(gains) / math.sqrt(len(gains))
                    cells.append(f"{fmean(gains):+.2f} ± {error:.2f}")
                rows.append([f"{method} of {label}", case, *cells])
    all_views = next(iter(next(iter(others.values())).values()))
    title = (
        "Other trainings of the same networks: PSNR in dB above the shipped one, ± standard error"
    )
    return title, ["training", "data", *(f"{v} views" for v in all_views)], rows
