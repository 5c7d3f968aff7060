"""Tune the methods of the convolution-framelet experiment on images that it does not test on."""

from collections.abc import Callable, Mapping
from statistics import fmean

from framelets.core import Result
from framelets.core.run_folder import RunFolder
from framelets.experiments.convolution_framelets_methods import (
    METHODS,
    TABLE,
    Ladder,
    Parameters,
    image_of,
    methods_for,
)
from framelets.experiments.convolution_framelets_problems import (
    PROBLEMS,
    TUNING_IMAGES,
    measure_all,
)
from framelets.experiments.options import ExperimentOptions
from framelets.metrics import psnr


def tune_convolution_framelets(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Find the parameters of highest mean PSNR over the tuning images, problem by problem.

    One parameter after the other walks uphill on its ladder of values, until none moves any more,
    from a first guess or from what was best for the problem before in the group. Finished searches
    are kept in the folder and not repeated.

    Args:
        folder: Receives `convolution_framelets.json`; its content is what the package ships.
        options: With `quick`, one image, and one walk along each ladder.
    """
    with folder.lock("convolution-framelets-tuning"):
        found: dict[str, dict[str, dict[str, float | int]]] = {}
        scores: dict[str, dict[str, float]] = {}
        guesses: dict[tuple[str, str], Parameters] = {}
        for name, problem in PROBLEMS.items():
            for method in methods_for(problem.group):
                ladders = METHODS[method].ladders_for(problem.group)
                if not ladders:
                    continue
                report = options.stages(f"{problem.title}, {method}")
                file = f"searches/{name}-{method}.json".replace(", ", "-").replace(" ", "-")
                if not folder.has(file):
                    first = guesses.get((problem.group, method), {})
                    folder.write_json(file, _search(name, method, ladders, first, options))
                search = folder.read_json(file)
                guesses[problem.group, method] = search["parameters"]
                found.setdefault(name, {})[method] = search["parameters"]
                scores.setdefault(name, {})[method] = search["psnr"]
                report(1.0)
        table = {
            "command": options.command,
            "images": TUNING_IMAGES,
            "psnr": scores,
            "parameters": found,
        }
        folder.write_json(TABLE, table)
    rows = [
        [name, method, f"{scores[name][method]:.2f}", *_as_text(parameters)]
        for name, methods in found.items()
        for method, parameters in methods.items()
    ]
    return Result(
        "parameters of the convolution-framelet experiment",
        table,
        tables=[("", ["problem", "method", "PSNR (dB)", "parameters"], rows)],
        files={"table": folder.file(TABLE)},
    )


def climb(
    ladders: Mapping[str, Ladder], score: Callable[[Parameters], float], num_rounds: int = 3
) -> tuple[dict[str, float | int], float]:
    """Move one parameter after the other to a better neighbor on its ladder, while there is one.

    Args:
        ladders: Values and first guesses.
        score: What to maximize; called once for each choice of values.
        num_rounds: Most times that every parameter has its turn.

    Returns:
        The best values found, and their score.
    """
    seen: dict[tuple[int, ...], float] = {}

    def score_at(places: dict[str, int]) -> float:
        key = tuple(places.values())
        if key not in seen:
            seen[key] = score({name: ladders[name].values[i] for name, i in places.items()})
        return seen[key]

    best = {name: ladder.guess for name, ladder in ladders.items()}
    for _ in range(num_rounds):
        before = dict(best)
        for name, ladder in ladders.items():
            for step in (-1, 1):
                while 0 <= best[name] + step < len(ladder.values):
                    moved = best | {name: best[name] + step}
                    if score_at(moved) <= score_at(best):
                        break
                    best = moved
        if best == before:
            break
    return {name: ladders[name].values[i] for name, i in best.items()}, score_at(best)


def _search(
    problem: str,
    method: str,
    ladders: Mapping[str, Ladder],
    first: Parameters,
    options: ExperimentOptions,
) -> dict[str, object]:
    ladders = {
        name: Ladder(ladder.values, ladder.values.index(first[name]) if first else ladder.guess)
        for name, ladder in ladders.items()
    }
    num_images = 1 if options.quick else None
    cases = measure_all(
        PROBLEMS[problem], options.seed, tuning=True, num_images=num_images
    ).values()
    tried: list[dict[str, float | int]] = []

    def score(parameters: Parameters) -> float:
        values = []
        for image, measured in cases:
            made = image_of(METHODS[method].run(measured, parameters))
            values.append(float(psnr(made, image, peak=1.0)))
        tried.append({**parameters, "psnr": fmean(values)})
        return fmean(values)

    best, mean = climb(ladders, score, num_rounds=1 if options.quick else 3)
    return {"parameters": best, "psnr": mean, "tried": tried}


def _as_text(parameters: Parameters) -> list[str]:
    return [", ".join(f"{name} {value:g}" for name, value in parameters.items())]
