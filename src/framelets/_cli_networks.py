"""The commands about networks: explain, lint, audit, train."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from framelets._cli_options import (
    ArgumentsOption,
    ChannelsOption,
    CropOption,
    DeviceOption,
    JsonOption,
    KeyOption,
    NetworkArgument,
    RunOption,
    ScaleOption,
    SeedOption,
    SliceOption,
    WeightsOption,
    command_line,
    file_name,
    run_folder,
)
from framelets._cli_running import resumable, show
from framelets.commands.stages import shown_stages


def explain(
    network: NetworkArgument,
    at: Annotated[
        Path, typer.Option("--at", exists=True, help="Image, or scan for a shipped network.")
    ],
    versus: Annotated[
        str | None, typer.Option("--versus", help="A second network, to put beside it.")
    ] = None,
    weights: WeightsOption = None,
    versus_weights: Annotated[
        Path | None, typer.Option("--versus-weights", help="Weights of the second network.")
    ] = None,
    settings: ArgumentsOption = None,
    run: RunOption = None,
    channels: ChannelsOption = 1,
    slice_index: SliceOption = None,
    key: KeyOption = None,
    crop: CropOption = None,
    scale: ScaleOption = 1.0,
    views: Annotated[
        int | None, typer.Option("--views", min=2, help="Use only this many views of a scan.")
    ] = None,
    pixel: Annotated[
        list[str] | None,
        typer.Option("--pixel", help="ROW,COLUMN of an atom; found in the image by default."),
    ] = None,
    cut: Annotated[
        str | None, typer.Option("--cut", help="Module after which the encoder ends.")
    ] = None,
    num: Annotated[int, typer.Option("--num", min=1, help="Number of singular values.")] = 20,
    precision: Annotated[str, typer.Option("--precision", help="float32 or float64.")] = "float32",
    grid: Annotated[
        int, typer.Option("--grid", min=0, help="Pixels to click: rows and columns; 0 for none.")
    ] = 8,
    segment: Annotated[
        str, typer.Option("--segment", help="Walk along noise, scaling, singular; none.")
    ] = "noise",
    segment_norm: Annotated[
        float | None,
        typer.Option("--segment-norm", help="Its length; by default some tens of boundaries."),
    ] = None,
    boundaries: Annotated[
        int, typer.Option("--boundaries", min=1, help="Most boundaries of the walk.")
    ] = 24,
    null_space: Annotated[
        bool, typer.Option(help="Split the output by what the scan sees, if there is a scan.")
    ] = True,
    page_limit_mb: Annotated[
        float, typer.Option("--page-limit-mb", min=1, help="Most that the page may take.")
    ] = 15,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show what a network did to this image: frame, offset, spectrum, atoms, K_p, units."""
    from framelets.commands.explain import ExplainOptions
    from framelets.commands.explain import explain as run_explain
    from framelets.commands.instrument import InstrumentOptions

    _tell_foreign_code(network, versus)
    options = ExplainOptions(
        weights=weights,
        versus=versus,
        versus_weights=versus_weights,
        settings=tuple(settings or ()),
        channels=channels,
        slice_index=slice_index,
        key=key,
        crop=crop,
        scale=scale,
        num_views=views,
        pixels=tuple(pixel or ()),
        cut=cut,
        num_singular_values=num,
        precision=precision,
        interactive=InstrumentOptions(
            grid=grid,
            segment=segment,
            segment_norm=segment_norm,
            num_boundaries=boundaries,
            support=null_space,
            page_limit_mb=page_limit_mb,
        ),
    )
    with shown_stages() as stages:
        result = run_explain(
            network,
            at,
            run_folder(run, f"explain-{file_name(network)}"),
            options,
            seed=seed,
            device=device,
            command=command_line(),
            stages=stages,
        )
    show(result, as_json)


def lint(
    network: NetworkArgument,
    weights: WeightsOption = None,
    settings: ArgumentsOption = None,
    at: Annotated[
        Path | None, typer.Option("--at", help="Image; random numbers by default.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="Shape of the random numbers: 1,64,64.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=4, help="Length of each of their axes: 64.")
    ] = None,
    channels: ChannelsOption = 1,
    slice_index: SliceOption = None,
    key: KeyOption = None,
    crop: CropOption = None,
    scale: ScaleOption = 1.0,
    fix: Annotated[
        str | None, typer.Option("--fix", help="Rewrite it: tight-frame or dual-frame.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Weights file or folder for --fix.")
    ] = None,
    min_lower_bound: Annotated[
        float | None,
        typer.Option("--min-lower-bound", help="Exit with 1 if a lower frame bound is smaller."),
    ] = None,
    max_ratio: Annotated[
        float | None,
        typer.Option(
            "--max-ratio",
            help="Exit with 1 if the ratio of skip and un-pooling together, as in the table, "
            "is larger.",
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Check every pooling, un-pooling and skip: frame bounds, aliasing, checkerboards; fix them."""
    from framelets.commands.lint import LintOptions
    from framelets.commands.lint import lint as run_lint

    _tell_foreign_code(network)
    options = LintOptions(
        weights=weights,
        settings=tuple(settings or ()),
        at=at,
        input_shape=input_shape,
        size=size,
        channels=channels,
        slice_index=slice_index,
        key=key,
        crop=crop,
        scale=scale,
        fix=fix,
        output=output,
        min_lower_bound=min_lower_bound,
        max_ratio=max_ratio,
    )
    with shown_stages() as stages:
        result = run_lint(
            network, options, seed=seed, device=device, command=command_line(), stages=stages
        )
    show(result, as_json)
    failures = result.data["failures"]
    if failures:
        typer.echo(f"framelets: {network} fails: {'; '.join(failures)}", err=True)
        raise typer.Exit(1)


def audit(
    network: NetworkArgument,
    images: Annotated[
        Path,
        typer.Option("--images", exists=True, file_okay=False, help="Folder of images."),
    ],
    scan: Annotated[
        Path | None,
        typer.Option("--scan", exists=True, help="Split every output by this scan's null space."),
    ] = None,
    weights: WeightsOption = None,
    settings: ArgumentsOption = None,
    run: RunOption = None,
    channels: ChannelsOption = 1,
    slice_index: SliceOption = None,
    key: KeyOption = None,
    crop: CropOption = None,
    scale: ScaleOption = 1.0,
    boundaries: Annotated[
        bool, typer.Option("--boundaries", help="Count boundaries of linear regions; slow.")
    ] = False,
    segment: Annotated[
        float, typer.Option("--segment", help="Noise to count along, over the image's norm.")
    ] = 1e-3,
    boundary_seconds: Annotated[
        float, typer.Option("--boundary-seconds", help="Time for the count at one image.")
    ] = 60.0,
    worst: Annotated[int, typer.Option("--worst", min=0, help="How many images to draw.")] = 3,
    max_lipschitz: Annotated[
        float | None,
        typer.Option("--max-lipschitz", help="Exit with 1 if a K_p is larger for certain."),
    ] = None,
    max_offset_share: Annotated[
        float | None,
        typer.Option("--max-offset-share", help="Exit with 1 if an |b| / |f(x)| is larger."),
    ] = None,
    max_replay_error: Annotated[
        float | None,
        typer.Option("--max-replay-error", help="Exit with 1 if a replay error is larger."),
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="float32 or float64.")] = "float32",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compute the geometry at every image of a folder: table, worst images, page, thresholds."""
    from framelets.commands.audit import AuditOptions
    from framelets.commands.audit import audit as run_audit
    from framelets.commands.network_images import ImageOptions

    _tell_foreign_code(network)
    options = AuditOptions(
        weights=weights,
        settings=tuple(settings or ()),
        images=ImageOptions(channels, slice_index, key, crop, scale),
        precision=precision,
        scan=scan,
        boundaries=boundaries,
        segment=segment,
        boundary_seconds=boundary_seconds,
        num_worst=worst,
        max_lipschitz=max_lipschitz,
        max_offset_share=max_offset_share,
        max_replay_error=max_replay_error,
    )
    folder = run_folder(run, f"audit-{file_name(network)}")
    with resumable(folder), shown_stages() as stages:
        result = run_audit(
            network,
            images,
            folder,
            options,
            seed=seed,
            device=device,
            command=command_line(),
            stages=stages,
        )
    show(result, as_json)
    for failure in result.data["failures"]:
        typer.echo(f"framelets: {network} fails at {failure}", err=True)
    if result.data["failures"]:
        raise typer.Exit(1)


def train(
    config: Annotated[
        str, typer.Argument(help="TOML file, or the name of a config shipped with the package.")
    ],
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", "-o", help="Run folder; by default runs/train-NAME, where training goes on."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting that wins over the file, table.key=value."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed, instead of the file's.")
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a network; the same command again goes on where it was interrupted."""
    from framelets.commands.train import train as run_train

    # Not a new folder each time: the second call must find the first one's checkpoint.
    folder = run or Path("runs") / f"train-{file_name(config.removesuffix('.toml'))}"
    with resumable(folder):
        result = run_train(
            config,
            folder,
            settings=settings or [],
            seed=seed,
            device=device,
            command=command_line(),
            progress=sys.stderr.isatty(),
        )
    show(result, as_json)


def _tell_foreign_code(*names: str | None) -> None:
    for name in names:
        if name is not None and ":" in name:
            typer.echo(f"running your own code: {name}", err=True)
