"""Expressivity: how many linear maps U-Nets could choose from, choose from, and what it is worth.

The theory [1] bounds the number of linear representations of an encoder-decoder by a power of two
that grows with channels, depth and skips, and the talk of J. C. Ye says in words that expressivity
grows with them. Here U-Nets of several widths and depths, with skips and without, learn the same
denoising on 64 x 64 patches with the same budget. Of each are measured the counted bound, the
activation patterns and linear maps that patches of unseen images meet, the boundaries that a
segment of noise crosses, and the PSNR on unseen images.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from dataclasses import asdict
from typing import Any

from framelets.core import Result
from framelets.core.run_folder import RunFolder
from framelets.experiments.expressivity_figure import draw_figure
from framelets.experiments.expressivity_measure import (
    COARSE_RESOLUTION,
    MARGIN,
    PERIOD,
    SEGMENT_STD,
    Budget,
    Design,
    measure,
)
from framelets.experiments.expressivity_table import (
    growth_table,
    main_table,
    summarize,
    verdicts,
)
from framelets.experiments.learning_machines_data import NOISE_STD, TEST_IMAGES, TRAINING_SETS
from framelets.experiments.options import ExperimentOptions
from framelets.experiments.written_tables import as_csv, as_markdown

WIDTHS = (4, 8, 16)
DEPTHS = (1, 2, 3)
MIDDLE = (8, 2)
"""Width and depth that the others are compared with."""

NUM_SEEDS = 2
_QUICK = Budget(num_steps=20, num_images=2, num_counted=1, num_segments=1)


def designs() -> list[Design]:
    """Return the networks of the sweep: every width, then every other depth, with and without."""
    width, depth = MIDDLE
    sizes = [(w, depth) for w in WIDTHS] + [(width, d) for d in DEPTHS if d != depth]
    return [Design(w, d, skip) for w, d in sizes for skip in (True, False)]


def measure_expressivity(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Train the networks, count, and lay the counts beside the bounds and the PSNR.

    What was measured of a network lies in `measured/`; what lies there already, of the same
    settings, is not measured again, and an unfinished training goes on from its checkpoint.

    Args:
        folder: Receives `results.json`, `results.csv`, `results.md` and `figure.png`.
        options: With `quick`, the first and the middle width, one seed and few steps.
    """
    budget = _QUICK if options.quick else Budget()
    chosen = designs()[:4] if options.quick else designs()
    seeds = [options.seed + i for i in range(1 if options.quick else NUM_SEEDS)]
    found: dict[Design, list[dict[str, Any]]] = {design: [] for design in chosen}
    num_there = 0
    with folder.lock("reproduce"):
        for seed in seeds:
            for design in chosen:
                report = options.stages(f"{design}, seed {seed}")
                made_by = {"seed": seed, "design": asdict(design), "budget": asdict(budget)}
                file = f"measured/{design.slug}-{seed}.json"
                own = folder.read_json(file) if folder.has(file) else {}
                if own.get("made_by") == made_by:
                    num_there += 1
                else:
                    own = measure(design, budget, seed, folder, report)
                    folder.write_json(file, own | {"made_by": made_by})
                    own = folder.read_json(file)
                found[design].append(own)
                report(1.0)
        tables = [main_table(found), growth_table(found)]
        notes = [*_notes(options, budget), *verdicts(found)]
        content = {
            "command": options.command,
            "quick": options.quick,
            "budget": asdict(budget),
            "seeds": seeds,
            "data": {
                "training images": list(TRAINING_SETS["A"]),
                "test images": list(TEST_IMAGES[: budget.num_images]),
                "noise std": NOISE_STD,
            },
            "measured": {str(design): runs for design, runs in found.items()},
            "notes": notes,
        }
        folder.write_json("results.json", content)
        folder.write_text("results.csv", as_csv(summarize(found)))
        folder.write_text("results.md", as_markdown(tables, notes, options.command))
        figure = draw_figure(folder.file("figure.png"), found, MIDDLE)
    return Result(
        "expressivity",
        content,
        tables=tables,
        notes=[*_reused(num_there, folder), *notes],
        files={
            "results": folder.file("results.json"),
            "table": folder.file("results.md"),
            "figure": figure,
        },
    )


def _reused(num_there: int, folder: RunFolder) -> list[str]:
    return [f"{num_there} networks had been measured in {folder.path} before."] * bool(num_there)


def _notes(options: ExperimentOptions, budget: Budget) -> list[str]:
    notes = []
    if options.quick:
        notes.append("Quick: few networks and steps; shows that it runs, proves nothing.")
    return [
        *notes,
        f"Gaussian noise of standard deviation {255 * NOISE_STD:.0f}/255; every network is trained "
        f"for {budget.num_steps} steps of {budget.batch_size} crops of "
        f"{', '.join(TRAINING_SETS['A'])}; no test image was trained on.",
        "Bound: certified, counted from the units, as an exponent of 2; of a 64 x 64 patch, and of "
        "the units that can reach one pixel.",
        "The skips of these U-Nets hand features across and add no units, so that the bound is the "
        "same with and without them; skips of the theory have filters and units of their own.",
        f"Patterns and maps met: exact counts on patches of noisy test images, {PERIOD} pixels "
        "apart, at one place of the pooling grid; lower bounds of how many there are. A map is the "
        "filter that makes the middle pixel; a pattern is that of all units that can reach it. "
        f"Pixels nearer to the border than {MARGIN} are left out.",
        "Everywhere: maps at all places of the pooling grid, which are 4^depth functions. Coarse: "
        f"their frequency responses are told apart in steps of {COARSE_RESOLUTION:g} only.",
        f"Crossings: boundaries of all units along {budget.num_segments} segments in the direction "
        "of noise, exact, per pixel and for a root mean square change of one noise standard "
        f"deviation a pixel; counted over {SEGMENT_STD:g} of it.",
    ]
