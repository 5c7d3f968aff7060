"""Convolution framelets as regularization: denoising, inpainting and deconvolution of photographs.

A weighted l2 norm of the coefficients with the modes of a graph of windows (the low-dimensional
manifold model), the same reweighted, and an l1 norm with local cosines, beside the usual methods.
Images are the centers of scikit-image's photographs and micrographs, 128 x 128 pixels, in [0, 1];
noise is white and Gaussian, missing pixels are at random, blur wraps around the borders. All
parameters were tuned on images that are not among those tested (`convolution-framelets-tuning`).
"""

import time
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from framelets.core import Result
from framelets.core.run_folder import RunFolder
from framelets.experiments.convolution_framelets_figure import FIGURES, draw_figure
from framelets.experiments.convolution_framelets_methods import (
    METHODS,
    NUM_UPDATES,
    image_of,
    methods_for,
    tuned_parameters,
)
from framelets.experiments.convolution_framelets_problems import (
    PROBLEMS,
    TUNING_IMAGES,
    Measured,
    measure_all,
)
from framelets.experiments.convolution_framelets_table import (
    Scores,
    endings,
    judge,
    make_tables,
    summarize,
)
from framelets.experiments.options import ExperimentOptions
from framelets.experiments.written_tables import as_csv, as_markdown
from framelets.metrics import psnr, ssim
from framelets.solvers import Reconstruction

Cases = dict[str, tuple[Float[Tensor, "128 128"], Measured]]


def compare_convolution_framelets(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Reconstruct every test image by every method, measure, and check the published claim.

    Metrics of each problem and method lie in `metrics/`; what lies there already, of the same
    images, seed and parameters, is not computed again.

    Args:
        folder: Receives `results.json`, `results.csv`, `results.md` and `figure.png`.
        options: With `quick`, three images.
    """
    num_images = 3 if options.quick else None
    scores: Scores = {}
    names: list[str] = []
    with folder.lock("reproduce"):
        for name, problem in PROBLEMS.items():
            cases = measure_all(problem, options.seed, num_images=num_images)
            names = list(cases)
            for method in methods_for(problem.group):
                report = options.stages(f"{problem.title}, {method}")
                slug = f"{name}-{method}".replace(", ", "-").replace(" ", "-")
                file = f"metrics/{slug}.json"
                made_by = {
                    "parameters": dict(tuned_parameters(name, method)),
                    "images": list(cases),
                    "seed": options.seed,
                }
                found = folder.read_json(file) if folder.has(file) else {}
                if found.get("made_by") != made_by:
                    found = _measure(name, method, cases, report, folder, slug)
                    folder.write_json(file, found | {"made_by": made_by})
                scores.setdefault(name, {})[method] = found
                report(1.0)
        summary = summarize(scores)
        verdicts = [*judge(scores, quick=options.quick), *endings(scores, NUM_UPDATES)]
        content = {
            "command": options.command,
            "data": {
                "tested": names,
                "tuned on": TUNING_IMAGES,
                "source": "scikit-image's photographs and micrographs, centers, 128 x 128",
            },
            "quick": options.quick,
            "parameters": {
                name: {method: tuned_parameters(name, method) for method in scores[name]}
                for name in scores
            },
            "summary": summary,
            "scores": {
                name: {
                    method: {key: found[key] for key in ("psnr", "ssim", "seconds")}
                    for method, found in methods.items()
                }
                for name, methods in scores.items()
            },
            "verdicts": verdicts,
        }
        folder.write_json("results.json", content)
        tables = make_tables(scores)
        folder.write_text("results.csv", as_csv(summary))
        folder.write_text("results.md", as_markdown(tables, verdicts, options.command))
        figure = draw_figure(folder)
    return Result(
        "convolution framelets",
        content,
        tables=tables,
        notes=[
            f"Test images: {', '.join(names)}; tuned on {', '.join(TUNING_IMAGES)}.",
            *verdicts,
        ],
        files={
            "results": folder.file("results.json"),
            "table": folder.file("results.md"),
            "figure": figure,
        },
    )


def _measure(
    problem: str,
    method: str,
    cases: Cases,
    report: Callable[[float], None],
    folder: RunFolder,
    slug: str,
) -> dict[str, Any]:
    parameters = tuned_parameters(problem, method)
    found: dict[str, Any] = {"psnr": [], "ssim": [], "seconds": []}
    for index, (name, (reference, measured)) in enumerate(cases.items()):
        start = time.process_time()
        outcome = METHODS[method].run(measured, parameters)
        found["seconds"].append(time.process_time() - start)
        image = image_of(outcome)
        found["psnr"].append(float(psnr(image, reference, peak=1.0)))
        found["ssim"].append(float(ssim(image, reference, peak=1.0)))
        if isinstance(outcome, Reconstruction):
            found.setdefault("residual", []).append(float(outcome.residual))
            found.setdefault("converged", []).append(outcome.converged)
        if FIGURES.get(problem) == name:
            folder.write_npz(
                f"images/{slug}.npz",
                image=image,
                reference=reference,
                measurement=measured.measurement.clamp(0, 1),
            )
        report((index + 1) / len(cases))
    return found
