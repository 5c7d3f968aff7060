"""The main job in one command: a real image, a scan, reconstructions, and the network explained."""

from pathlib import Path

from framelets.commands.devices import choose_device
from framelets.commands.explanation import ImageCard, write_explanation
from framelets.commands.instrument import InstrumentOptions
from framelets.commands.pixels import choose_pixels
from framelets.commands.reconstruction import write_reconstructions
from framelets.commands.shown_tables import explanation_note, explanation_table, metrics_table
from framelets.commands.simulate import SimulateConfig, chest_slice, simulate_scan
from framelets.commands.stages import Stages, silent
from framelets.commands.task_scans import chain_of, subject_at_scan
from framelets.commands.user_networks import load_network
from framelets.core import Result, RunFolder, choose
from framelets.report import write_report
from framelets.tasks import TASKS

METHODS = ("fbp", "tv", "unet", "unrolled")
EXPLAINED = "unet"
_NOTE = (
    "The shipped networks were trained on random images, some of them made from this CT volume by "
    "warping and mixing: this page shows how the methods work, not how well. framelets reproduce "
    "sparse-view-ct measures that, on a head and on measured scans that no network has seen."
)
_INTERACTIVE = InstrumentOptions(grid=3, num_pairs=2, num_boundaries=4, support=False)  # seconds
_WINDOW = (0.0, 0.027)  # 1/mm; about -1000 to 400 HU


def demo(
    task: str,
    run: Path,
    *,
    num_views: int = 60,
    size: int = 256,
    num_singular_values: int = 20,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
    stages: Stages = silent,
) -> Result:
    """Scan a slice of the chest CT, reconstruct it, explain the U-Net, and write the page.

    Args:
        task: Name of the task.
        run: Run folder.
        num_views: Views of the fan-beam scan.
        size: Rows and columns of the reconstruction.
        num_singular_values: How many singular triplets.
        seed: Seed of noise and random starts.
        device: Where to compute.
        command: The command line, for captions.
        stages: Told how far it is.

    Returns:
        Metrics, the explanation and where the page is.

    Raises:
        ValueError: If there is no such task.
        OSError: If the run folder cannot be written.
    """
    chosen = choose("task", task, TASKS)()
    where = choose_device(device)
    image, spacing_mm, source = chest_slice()
    config = SimulateConfig(num_views=num_views, image_size=size)
    stages("scanning")(0.0)
    made = simulate_scan(config, image, spacing_mm, seed)
    folder = RunFolder(run)
    with folder.lock("demo"):
        rows = write_reconstructions(
            folder,
            chosen,
            made.measurement,
            METHODS,
            made.grid,
            title=f"A chest from {num_views} X-ray views",
            data=source,
            reference=made.reference,
            words="simulated on a finer grid",
            window=_WINDOW,
            note=_NOTE,
            device=where,
            stages=stages,
        )
        network = load_network(f"{task}/{EXPLAINED}")
        subject = subject_at_scan(network, chosen, made.measurement, made.grid)
        content = write_explanation(
            folder,
            [subject],
            ImageCard(
                f"fbp of the scan of {source}, divided by its 99th percentile",
                "of the 99th percentile",
            ),
            choose_pixels(made.reference),
            command=command,
            seed=seed,
            num_singular_values=num_singular_values,
            chain=chain_of(made.measurement, made.grid),
            interactive=_INTERACTIVE,
            stages=stages,
        )
        folder.write_run_json(command, seed, stage="demo")
        stages("writing the page")(0.0)
        page = write_report(run)
    data = {"run": str(run), "report": str(page), "metrics": rows, "explanation": content}
    return Result(
        "demo",
        data,
        tables=[metrics_table(rows), explanation_table(content["networks"])],
        notes=[
            explanation_note(content["networks"]),
            _NOTE,
            "Research software, not a medical device.",
        ],
        files={"report": page},
    )
