"""Does a U-Net that starts as the identity train better? Four starts of one network, by the steps.

Convolution framelets reconstruct perfectly before anything is learned. The U-Net with
`init="identity"` does the same by one path; here it is trained beside the usual random start and
beside residual learning, the common way to the same end, with and without its last layer at zero.
All see the same crops and the same noise; each has its own learning rate, found on images cut from
the training photographs.
"""

import math
from statistics import fmean, stdev
from typing import Any

import torch

from framelets.core import Identity, Result, Table
from framelets.core.run_folder import RunFolder
from framelets.experiments.identity_start_figure import draw_curves
from framelets.experiments.identity_start_task import (
    CROP,
    DEPTH,
    HELD_OUT,
    NOISE,
    STARTS,
    WIDTH,
    PhotographDenoising,
)
from framelets.experiments.options import ExperimentOptions
from framelets.experiments.written_tables import as_csv, as_markdown
from framelets.metrics import psnr
from framelets.solvers import total_variation
from framelets.training import RunConfig, train
from framelets.training.loop import LOG, read_log

NUM_STEPS = 700
NUM_SEEDS = 3
NUM_TUNING_SEEDS = 2
BATCH_SIZE = 8
SHOWN_STEPS = (20, 60, 200)

_RATES = (-5, -4)  # powers of sqrt(10): 3.2e-3 and 1e-2
_EXTREME_RATES = (-8, -2)
_WEIGHTS = [0.02 * 1.25**power for power in range(12)]  # of total variation


def compare_starts(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Train one U-Net from each of `STARTS` on noisy photographs, and compare the curves.

    The learning rate of a start is the best of a grid, a factor sqrt(10) apart and extended until
    the best is no end of it, in the mean of two seeds on the tuning images. What was trained is
    kept in `metrics/`; an unfinished training goes on from its checkpoint.

    Args:
        folder: Receives `results.json`, `results.csv`, `results.md` and `figure.png`.
        options: With `quick`, 40 steps, one seed and no search.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    rates: dict[str, float] = {}
    seeds = [options.seed + i for i in range(1 if options.quick else NUM_SEEDS)]
    with folder.lock("reproduce"):
        for start in STARTS:
            power = -5 if options.quick else _best_rate(folder, options, start)
            rates[start] = _rate(power)
            runs[start] = [_run(folder, options, start, power, seed) for seed in seeds]
        baselines = _baselines(folder)
        records = _summarize(runs, rates)
        table = _table(runs, rates, baselines)
        verdicts = _judge(runs)
        content = {
            "command": options.command,
            "quick": options.quick,
            "data": {"held out": HELD_OUT, "noise": NOISE, "crop": CROP},
            "network": {"width": WIDTH, "depth": DEPTH, "pooling": "average"},
            "batch_size": BATCH_SIZE,
            "learning_rates": rates,
            "baselines": baselines,
            "runs": runs,
            "verdicts": verdicts,
        }
        folder.write_json("results.json", content)
        folder.write_text("results.csv", as_csv(records))
        folder.write_text("results.md", as_markdown([table], verdicts, options.command))
        figure = draw_curves(folder.file("figure.png"), runs, baselines)
    return Result(
        "start as the identity",
        content,
        tables=[table],
        notes=verdicts,
        files={
            "results": folder.file("results.json"),
            "table": folder.file("results.md"),
            "figure": figure,
        },
    )


# Training.


def _best_rate(folder: RunFolder, options: ExperimentOptions, start: str) -> int:
    scores: dict[int, float] = {}

    def score(power: int) -> float:
        if power not in scores:
            seeds = [options.seed + i for i in range(NUM_TUNING_SEEDS)]
            runs = [_run(folder, options, start, power, seed) for seed in seeds]
            scores[power] = fmean(
                run["figures"]["tuning"] if run["finished"] else -math.inf for run in runs
            )
        return scores[power]

    best = max(_RATES, key=score)
    for step in (-1, 1):
        while _EXTREME_RATES[0] <= best + step <= _EXTREME_RATES[1] and score(best + step) > score(
            best
        ):
            best += step
    return best


def _rate(power: int) -> float:
    return float(f"{math.sqrt(10) ** power:.2g}")


def _run(
    folder: RunFolder, options: ExperimentOptions, start: str, power: int, seed: int
) -> dict[str, Any]:
    rate = _rate(power)
    slug = f"{start.replace(', ', '-')}-{rate:g}-{seed}"
    report = options.stages(f"start {start}, learning rate {rate:g}, seed {seed}")
    name = f"metrics/{slug}.json"
    if not folder.has(name):
        num_steps = 40 if options.quick else NUM_STEPS
        folder.write_json(
            name,
            _train(
                PhotographDenoising(lambda step: report(step / num_steps)),
                RunConfig(
                    network=start,
                    seed=seed,
                    num_steps=num_steps,
                    batch_size=BATCH_SIZE,
                    learning_rate=rate,
                    warmup_steps=20,
                    weight_decay=0.0,
                    validate_every=20,
                    accelerator="cpu",
                ),
                RunFolder(folder.file(f"trainings/{slug}")),
                options.command,
            ),
        )
    report(1.0)
    found: dict[str, Any] = folder.read_json(name)
    return found


def _train(
    task: PhotographDenoising, config: RunConfig, folder: RunFolder, command: str
) -> dict[str, Any]:
    torch.manual_seed(config.seed)  # as the loop does: this is the network that it starts from
    untrained = task.validate(task.network(config.network))
    try:
        result = train(task, config, folder, command=command, progress=False)
    except ValueError as error:
        if "not finite" not in str(error):
            raise
        return {"finished": False, "reason": str(error)}
    lines = read_log(folder.file(LOG))
    curve = [(line["step"], line["validation_psnr"]) for line in lines if "validation_psnr" in line]
    return {
        "finished": True,
        "curve": [(0, untrained["psnr"]), *curve],
        "figures": result.figures,
        "num_parameters": result.num_parameters,
        "core_seconds": result.core_seconds,
    }


def _baselines(folder: RunFolder) -> dict[str, float]:
    """Measure the noisy photographs, and total variation with the weight tuned as the rates are."""
    if folder.has("metrics/baselines.json"):
        found: dict[str, float] = folder.read_json("metrics/baselines.json")
        return found
    task = PhotographDenoising()

    def tv(weight: float, which: str) -> float:
        noisy, clean = getattr(task, which)
        made = total_variation(noisy[:, 0], Identity(), weight, operator_norm=1.0).image
        return float(psnr(made, clean[:, 0], 1.0).mean())

    weight = max(_WEIGHTS, key=lambda weight: tv(weight, "tuning"))
    noisy, clean = task.held_out
    measured = {
        "noisy": float(psnr(noisy[:, 0], clean[:, 0], 1.0).mean()),
        "total variation": tv(weight, "held_out"),
        "weight of total variation": weight,
    }
    folder.write_json("metrics/baselines.json", measured)
    return measured


# Tables.


def _summarize(
    runs: dict[str, list[dict[str, Any]]], rates: dict[str, float]
) -> list[dict[str, Any]]:
    """Give mean and spread over the seeds, one record for each start and step."""
    records = []
    for start, of_start in runs.items():
        for points in zip(*(run["curve"] for run in of_start), strict=True):
            values = [value for _, value in points]
            records.append(
                {
                    "start": start,
                    "learning_rate": rates[start],
                    "step": int(points[0][0]),
                    "psnr": fmean(values),
                    "psnr_lowest": min(values),
                    "psnr_highest": max(values),
                }
            )
    return records


def _table(
    runs: dict[str, list[dict[str, Any]]], rates: dict[str, float], baselines: dict[str, float]
) -> Table:
    some = next(iter(runs.values()))
    last = int(some[0]["curve"][-1][0])
    steps = [0, *(step for step in SHOWN_STEPS if step < last), last]
    columns = ["start", "learning rate", *(f"step {step}" for step in steps)]
    columns += ["spread over photographs", "core seconds"]
    rows = []
    for start, of_start in runs.items():
        curves = [dict(run["curve"]) for run in of_start]
        cells = [_mean_and_spread([curve[step] for curve in curves]) for step in steps]
        photographs = [fmean(run["figures"][name] for run in of_start) for name in HELD_OUT]
        seconds = fmean(run["core_seconds"] for run in of_start)
        row = [start, f"{rates[start]:g}", *cells, f"{stdev(photographs):.2f}", f"{seconds:.0f}"]
        rows.append(row)
    for name in ("noisy", "total variation"):
        rows.append([name, "-", *["-"] * (len(steps) - 1), f"{baselines[name]:.2f}", "-", "-"])
    title = (
        f"PSNR in dB on {len(HELD_OUT)} held-out photographs, noise {NOISE:g} of the range; mean ± "
        f"spread over {len(some)} seeds; U-Net of {some[0]['num_parameters']:,} parameters, "
        f"{BATCH_SIZE} crops of {CROP} x {CROP} a step"
    )
    return title, columns, rows


def _mean_and_spread(values: list[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


def _judge(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Say how far each start is from others at the end, and how early it gets there."""
    verdicts = [_compare(runs, start, "random") for start in runs if start != "random"]
    return verdicts + [_compare(runs, start, "residual") for start in runs if "identity" in start]


def _compare(runs: dict[str, list[dict[str, Any]]], start: str, other: str) -> str:
    # One seed is the same crops and noise for all starts.
    pairs = list(zip(runs[start], runs[other], strict=True))
    gains = [
        [one["figures"][name] - two["figures"][name] for one, two in pairs] for name in HELD_OUT
    ]
    mean = fmean(map(fmean, gains))
    by_seed = [fmean(of_photographs) for of_photographs in zip(*gains, strict=True)]
    errors = {"photographs": _standard_error([fmean(of_seeds) for of_seeds in gains])}
    if len(pairs) > 1:
        errors["seeds"] = _standard_error(by_seed)
    clear = "" if abs(mean) > 2 * max(errors.values()) else ", no clear difference"
    listed = " and ".join(f"{error:.2f} over {what}" for what, error in errors.items())
    target = fmean(two["curve"][-1][1] for _, two in pairs)
    curve = zip(*(one["curve"] for one, _ in pairs), strict=True)
    reached = [int(at[0][0]) for at in curve if fmean(value for _, value in at) >= target]
    when = f"after {reached[0]} steps" if reached else "not reached"
    return (
        f"{start} against {other} at the end: {mean:+.2f} dB (standard error {listed}){clear}; "
        f"ahead in {sum(gain > 0 for gain in by_seed)} of {len(by_seed)} seeds; the last PSNR of "
        f"{other}: {when}."
    )


def _standard_error(values: list[float]) -> float:
    return stdev(values) / math.sqrt(len(values))
