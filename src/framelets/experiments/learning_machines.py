"""Learning machines side by side: what each learns, adapts, expresses, and costs.

The talk of J. C. Ye and the theory of [1] compare kernel machines, perceptrons, frames, compressed
sensing, convolution framelets and deep encoder-decoders by five questions. Here all of them remove
the same Gaussian noise from the same photographs, and every answer is a measured figure held
against a stated threshold.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

import dataclasses
import functools
from typing import Any

from framelets.core import Result
from framelets.core.run_folder import RunFolder
from framelets.experiments.learning_machines_data import (
    DENOISED_SIZE,
    NOISE_STD,
    PIXEL_IMAGE,
    PIXELS,
    TEST_IMAGES,
    TEST_SIZE,
    TRAINING_SETS,
    neighborhoods,
    unseen_images,
    with_noise,
)
from framelets.experiments.learning_machines_figure import draw_figure
from framelets.experiments.learning_machines_kinds import make_kinds
from framelets.experiments.learning_machines_measure import MARGIN, NUM_NOISES, measure
from framelets.experiments.learning_machines_table import (
    RULES,
    answers,
    basis_table,
    growth_table,
    quality_table,
    summarize,
    summary_table,
    verdicts,
)
from framelets.experiments.options import ExperimentOptions
from framelets.experiments.written_tables import as_csv, as_markdown
from framelets.machines import Machine

_QUICK_IMAGES = 3
_QUICK_SIZE = 64


def compare_learning_machines(folder: RunFolder, options: ExperimentOptions) -> Result:
    """Fit and measure every machine, and lay out the five answers.

    What was measured of a machine lies in `measured/`; what lies there already, of the same
    settings, is not measured again.

    Args:
        folder: Receives `results.json`, `results.csv`, `results.md` and `figure.png`.
        options: With `quick`, three images and few training steps.
    """
    kinds = make_kinds(options.quick)
    num_images = _QUICK_IMAGES if options.quick else None
    found: dict[str, dict[str, Any]] = {}
    slugs: dict[str, str] = {}
    num_there = 0
    with folder.lock("reproduce"):
        noisy = with_noise(neighborhoods(unseen_images()), options.seed)
        folder.write_npz("atoms/inputs.npz", clean=neighborhoods(unseen_images()), noisy=noisy)
        for name, kind in kinds.items():
            for size, machine in kind.sizes.items():
                report = options.stages(f"{name}, {size}")
                slug = _slug(f"{name}-{size}{'-quick' if options.quick else ''}")
                made_by = {
                    "seed": options.seed,
                    "num_images": num_images or len(TEST_IMAGES),
                    "machine": _describe(machine),
                }
                file = f"measured/{slug}.json"
                own = folder.read_json(file) if folder.has(file) else {}
                if own.get("made_by") == made_by:
                    num_there += 1
                else:
                    own = measure(
                        kind,
                        size,
                        folder,
                        slug,
                        seed=options.seed,
                        num_images=num_images,
                        most_counted=_QUICK_SIZE if options.quick else TEST_SIZE,
                        report=report,
                    )
                    folder.write_json(file, own | {"made_by": made_by})
                found.setdefault(name, {})[size] = own
                report(1.0)
                if size == kind.main_size:
                    slugs[name] = slug
        content = {
            "command": options.command,
            "quick": options.quick,
            "data": {
                "training sets": {which: list(names) for which, names in TRAINING_SETS.items()},
                "test images": list(TEST_IMAGES[:num_images]),
                "denoised size": DENOISED_SIZE,
                "noise std": NOISE_STD,
                "pixels": {"image": PIXEL_IMAGE, **PIXELS},
            },
            "rules": RULES,
            "answers": {
                name: {
                    question: {"yes": yes, "figure": figure}
                    for question, (yes, figure) in answers(found[name][kind.main_size]).items()
                }
                for name, kind in kinds.items()
            },
            "measured": found,
        }
        folder.write_json("results.json", content)
        tables = [
            summary_table(found, kinds),
            basis_table(found, kinds),
            quality_table(found, kinds),
            growth_table(found, kinds),
        ]
        notes = [*_notes(options, num_there, folder), *RULES, *verdicts(found, kinds)]
        summary = summarize(found, kinds)
        folder.write_text("results.csv", as_csv(summary))
        folder.write_text("results.md", as_markdown(tables, notes, options.command))
        figure = draw_figure(folder, slugs)
    return Result(
        "learning machines",
        content,
        tables=tables,
        notes=notes,
        files={
            "results": folder.file("results.json"),
            "table": folder.file("results.md"),
            "figure": figure,
        },
    )


def _notes(options: ExperimentOptions, num_there: int, folder: RunFolder) -> list[str]:
    notes = []
    if num_there:
        notes.append(f"{num_there} machines had been measured in {folder.path} before.")
    if options.quick:
        notes.append("Quick: few images and training steps; shows that it runs, proves nothing.")
    return [
        *notes,
        f"Gaussian noise of standard deviation {255 * NOISE_STD:.0f}/255; fitted to "
        f"{', '.join(TRAINING_SETS['A'])} (the other training set: "
        f"{', '.join(TRAINING_SETS['B'])}); settings chosen on the lower quarters of the same "
        "images; no test image was trained on.",
        "A representation is the linear map that makes a pixel from its surroundings, told from "
        "others by the frequency response of its filter; pixels nearer to the border than "
        f"{MARGIN} are left out, and every image is counted with {NUM_NOISES} noise samples. A "
        "kernel machine has one, in the features of its kernel; its tangents, linear in the "
        'input, stand under "distinct filters".',
        "Crossings: units that switch between the clean image and the noisy one, over the number "
        "of pixels, for a root mean square change of one noise standard deviation a pixel.",
        "Seconds are those of one processor core.",
    ]


def _describe(machine: Machine) -> str:
    """Write the settings of a machine, the same in every process."""
    settings = []
    for field in dataclasses.fields(machine):  # type: ignore[arg-type]
        value = getattr(machine, field.name)
        if isinstance(value, functools.partial):
            value = (value.func.__qualname__, value.args, value.keywords)
        settings.append(f"{field.name}={value!r}")
    return f"{type(machine).__name__}({', '.join(settings)})"


def _slug(name: str) -> str:
    return name.replace(",", "").replace("+", "and").replace(" ", "-")
