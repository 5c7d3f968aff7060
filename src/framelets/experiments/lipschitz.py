"""Does a small Lipschitz constant go with a small generalization gap? Measured, on one task.

The theory ties the Lipschitz constant K of a network to how well it generalizes [1]. Here one
denoising network is trained on growing sets of pairs, without and with two regularizations that aim
at K. Beside the gap (test minus training error) stand K_p over training and test images, what a
search finds for K, and what can be proved of it.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from statistics import fmean
from typing import Any

import torch
from torch import nn

from framelets.core import Result
from framelets.core.run_folder import RunFolder
from framelets.experiments.identity_start_task import NOISE
from framelets.experiments.lipschitz_figure import draw_figure
from framelets.experiments.lipschitz_table import judge, table
from framelets.experiments.lipschitz_task import (
    CROP,
    DEPTH,
    REGULARIZATIONS,
    WIDTH,
    FewPairsDenoising,
    mean_error,
)
from framelets.experiments.options import ExperimentOptions
from framelets.experiments.written_tables import as_csv, as_markdown
from framelets.geometry import lipschitz_bound, lipschitz_distribution, lipschitz_estimate
from framelets.training import RunConfig, train

NUM_PAIRS = (1, 4, 16, 64)
NUM_SEEDS = 2
NUM_STEPS = 300
BATCH_SIZE = 8
LEARNING_RATE = 3.2e-3
NUM_IMAGES = 8  # at which K_p is measured


def relate_lipschitz_to_gap(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Train on growing sets with each regularization, and measure errors and Lipschitz constants.

    What was trained and measured is kept in `metrics/`; an unfinished training goes on from its
    checkpoint.

    Args:
        folder: Receives `results.json`, `results.csv`, `results.md` and `figure.png`.
        options: With `quick`, two sizes, 10 steps and one seed.
    """
    sizes = NUM_PAIRS[:2] if options.quick else NUM_PAIRS
    seeds = [options.seed + i for i in range(1 if options.quick else NUM_SEEDS)]
    with folder.lock("reproduce"):
        records = [
            _run(folder, options, regularization, num_pairs, seed)
            for regularization in REGULARIZATIONS
            for num_pairs in sizes
            for seed in seeds
        ]
        tables, verdicts = [table(records)], judge(records)
        content = {
            "command": options.command,
            "quick": options.quick,
            "data": {"noise": NOISE, "crop": CROP},
            "network": {"width": WIDTH, "depth": DEPTH, "pooling": "average"},
            "training": {
                "num_steps": NUM_STEPS,
                "batch_size": BATCH_SIZE,
                "learning_rate": LEARNING_RATE,
                "weights of the penalties": REGULARIZATIONS,
            },
            "runs": records,
            "verdicts": verdicts,
        }
        folder.write_json("results.json", content)
        flat = [{k: v for k, v in r.items() if not isinstance(v, list)} for r in records]
        folder.write_text("results.csv", as_csv(flat))
        folder.write_text("results.md", as_markdown(tables, verdicts, options.command))
        figure = draw_figure(folder.file("figure.png"), records)
    return Result(
        "Lipschitz constants and the generalization gap",
        content,
        tables=tables,
        notes=verdicts,
        files={
            "results": folder.file("results.json"),
            "table": folder.file("results.md"),
            "figure": figure,
        },
    )


def _run(
    folder: RunFolder, options: ExperimentOptions, regularization: str, num_pairs: int, seed: int
) -> dict[str, Any]:
    slug = f"{regularization}-{num_pairs}-{seed}"
    report = options.stages(f"regularization {regularization}, {num_pairs} pairs, seed {seed}")
    name = f"metrics/{slug}.json"
    if not folder.has(name):
        num_steps = 10 if options.quick else NUM_STEPS
        task = FewPairsDenoising(
            num_pairs, regularization, lambda step: report(0.6 * step / num_steps)
        )
        config = RunConfig(
            network=regularization,
            seed=seed,
            num_steps=num_steps,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            warmup_steps=20,
            weight_decay=0.0,
            validate_every=num_steps,
            accelerator="cpu",
        )
        trained = train(
            task,
            config,
            RunFolder(folder.file(f"trainings/{slug}")),
            command=options.command,
            progress=False,
        )
        report(0.6)
        folder.write_json(
            name,
            {
                "regularization": regularization,
                "num_pairs": num_pairs,
                "seed": seed,
                **measure(task, trained.network, seed),
                "core_seconds_of_training": trained.core_seconds,
            },
        )
    report(1.0)
    found: dict[str, Any] = folder.read_json(name)
    return found


def measure(task: FewPairsDenoising, network: nn.Module, seed: int) -> dict[str, Any]:
    """Measure errors, the gap and Lipschitz constants of a trained network.

    Args:
        task: What it was trained on.
        network: The network.
        seed: Of its training.
    """
    network.eval().requires_grad_(False)
    training = task.training_pairs(seed)
    errors = {"training": mean_error(network, training)}
    errors["test"] = mean_error(network, task.test_pairs)
    rng = torch.Generator().manual_seed(seed)
    images = {"training": training[0][:NUM_IMAGES], "test": task.test_pairs[0][:NUM_IMAGES]}
    at_images = {
        which: lipschitz_distribution(network, of, relative_gap=0.1, generator=rng).lower.tolist()
        for which, of in images.items()
    }
    estimate = lipschitz_estimate(
        network, images["test"], num_restarts=2, num_steps=60, generator=rng
    )
    bound = lipschitz_bound(network, images["test"][:1])
    return {
        "training_error": errors["training"],
        "test_error": errors["test"],
        "gap": errors["test"] - errors["training"],
        "local_training": at_images["training"],
        "local_test": at_images["test"],
        "mean_local_training": fmean(at_images["training"]),
        "mean_local_test": fmean(at_images["test"]),
        "estimate": max(estimate.value, *at_images["training"], *at_images["test"]),
        "bound": bound.value,
    }
