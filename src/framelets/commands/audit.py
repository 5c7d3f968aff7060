"""Audit a network over a folder of images: its geometry at each, summary, thresholds, a page.

`images/NAME.json` of the run folder holds what was computed at one image and what it was made
with: the image's content, the network's weights and structure and its very output, and the
settings. It is reused only if all of this is the same. `images/NAME.npz` holds the pictures of the
worst images. `audit.json` and `audit.csv` hold everything, `audit.html` shows it.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from framelets.commands.audit_columns import COLUMNS
from framelets.commands.audit_findings import (
    audit_csv,
    audit_tables,
    judge,
    present_columns,
    summary,
    worst_images,
)
from framelets.commands.audit_image import (
    PERTURBATION,
    AuditScan,
    ImageAudit,
    audit_image,
    worst_perturbation,
)
from framelets.commands.devices import choose_device
from framelets.commands.lint import LintOptions, lint
from framelets.commands.network_images import ImageOptions, NetworkImage, read_network_image
from framelets.commands.stages import Stages, silent
from framelets.commands.task_scans import grid_of, read_scan, scan_words
from framelets.commands.user_networks import LoadedNetwork, load_network, parse_settings
from framelets.core import Result, RunFolder, choose, sha256_of
from framelets.networks import UnrolledNetwork
from framelets.report import write_audit
from framelets.tasks import TASKS

_PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
_SCHEMA = 1


@dataclass(frozen=True)
class AuditOptions:
    """What `audit` may vary.

    Attributes:
        weights: Weights file of a `module:callable`, or run folder of a network of the package.
        settings: Arguments of the callable, `key=value`.
        images: How images are read.
        precision: "float32" or "float64".
        scan: Split every output by the null space of this scan.
        boundaries: Count boundaries of linear regions, and find the nearest.
        segment: Length of the noise segment on which they are counted, over the image's norm.
        boundary_seconds: Time for the count at one image.
        num_worst: How many images to draw.
        max_lipschitz: Largest K_p that passes.
        max_offset_share: Largest |b| / |f(x)| that passes.
        max_replay_error: Largest replay error that passes.
    """

    weights: Path | None = None
    settings: tuple[str, ...] = ()
    images: ImageOptions = field(default_factory=ImageOptions)
    precision: str = "float32"
    scan: Path | None = None
    boundaries: bool = False
    segment: float = 1e-3
    boundary_seconds: float = 60.0
    num_worst: int = 3
    max_lipschitz: float | None = None
    max_offset_share: float | None = None
    max_replay_error: float | None = None


def audit(
    network: str,
    images: Path,
    run: Path,
    options: AuditOptions | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    command: str = "",
    stages: Stages = silent,
) -> Result:
    """Compute the geometry of a network at every image of a folder.

    Args:
        network: Shipped weights by name, or `module:callable`, whose code is run.
        images: Folder; hidden files and subfolders are left out.
        run: Run folder; what it holds of the same audit is reused.
        options: Everything else.
        seed: Seed of random starts and noise.
        device: Where to compute.
        command: The command line, for captions.
        stages: Told how far it is.

    Returns:
        The content of `audit.json`; `failures` names images and figures that miss a threshold.

    Raises:
        ValueError: If a name or option is wrong, or no image could be audited.
        OSError: If a file cannot be read or written.
    """
    options = options or AuditOptions()
    _refuse_wrong(options)
    dtype = choose("precision", options.precision, _PRECISIONS)
    where = choose_device(device)
    arguments = parse_settings(options.settings)
    if arguments and ":" not in network:
        raise ValueError("--set is for module:callable; shipped networks come as they are")
    loaded = load_network(network, options.weights, arguments if ":" in network else None)
    if isinstance(loaded.module, UnrolledNetwork):
        raise ValueError("the unrolled network takes a scan, not an image; audit another network")
    loaded.module.to(device=where, dtype=dtype)
    paths = _files_of(images)
    scan, scan_text = _scan(options.scan)
    what = ImageAudit(seed, options.boundaries, options.segment, options.boundary_seconds, scan)
    made_with = _made_with(loaded.module, options, seed)
    folder = RunFolder(run)
    with folder.lock("audit"):
        audited = _Audit(folder, loaded, what, options.images, made_with, where, dtype)
        found, failed = audited.all(paths, stages)
        if not found:
            raise ValueError(f"none of {len(paths)} files could be audited; {failed[0]['error']}")
        chosen = worst_images(found, options.num_worst)
        worst = audited.worst({path.name: path for path in paths}, chosen, stages)
        levels = _levels(network, options, seed, device, stages)
        limits = (options.max_lipschitz, options.max_offset_share, options.max_replay_error)
        failures, undecided = judge(found, *limits)
        content = {
            "command": command,
            "seed": seed,
            "network": loaded.name,
            "source": loaded.source,
            "num_parameters": loaded.num_parameters,
            "precision": options.precision,
            "folder": str(images),
            "scan": scan_text,
            "thresholds": {
                name: getattr(options, name)
                for name in ("max_lipschitz", "max_offset_share", "max_replay_error")
            },
            "columns": {name: asdict(COLUMNS[name]) for name in present_columns(found)},
            "images": found,
            "failed": failed,
            "summary": summary(found),
            "num_patterns": len({image["figures"]["pattern_digest"] for image in found}),
            "worst": worst,
            "perturbation": PERTURBATION,
            "levels": levels,
            "failures": failures,
            "undecided": undecided,
            "not_done": _not_done(found, options),
        }
        folder.write_json("audit.json", content)
        folder.write_text("audit.csv", audit_csv(found))
        folder.write_run_json(command, seed, stage="audit")
        stages("writing the page")(0.0)
        page = write_audit(run)
    return Result(
        f"audit of {loaded.name}",
        content | {"run": str(run), "report": str(page), "num_reused": audited.num_reused},
        tables=audit_tables(found, levels),
        notes=_notes(content, audited.num_reused),
        files={
            "report": page,
            "table": folder.file("audit.csv"),
            "everything": folder.file("audit.json"),
        },
    )


class _Audit:
    """One network, one run folder, image after image."""

    def __init__(
        self,
        folder: RunFolder,
        loaded: LoadedNetwork,
        what: ImageAudit,
        how: ImageOptions,
        made_with: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.folder, self.loaded, self.what, self.how = folder, loaded, what, how
        self.made_with, self.device, self.dtype = made_with, device, dtype
        self.num_reused = 0

    def all(
        self, paths: list[Path], stages: Stages
    ) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Audit every file; return what was found, and which files failed and why."""
        found, failed = [], []
        for number, path in enumerate(paths):
            progress = stages(f"{number + 1} of {len(paths)}, {path.name}")
            progress(0.0)
            try:
                image = self._read(path)
                made_with = self._made_with(path, image)
                table = self._stored(path, made_with)
                if table is None:
                    with _in_one_line():
                        computed = audit_image(self.loaded, image, self.what, progress)
                    table = {"image": path.name, "made_with": made_with, **computed}
                else:
                    self.num_reused += 1
            except _ImageError as error:
                failed.append({"image": path.name, "error": str(error)})
                continue
            self.folder.write_json(f"images/{path.name}.json", table)
            found.append({key: value for key, value in table.items() if key != "made_with"})
        return found, failed

    def worst(
        self, paths: dict[str, Path], chosen: dict[str, str], stages: Stages
    ) -> list[dict[str, Any]]:
        """Draw the chosen images with the perturbation that each is most sensitive to."""
        drawn = []
        for name, reason in chosen.items():
            image = self._read(paths[name])
            found = worst_perturbation(
                self.loaded, image, self.what.seed, stages(f"worst perturbation of {name}")
            )
            arrays = {
                key: getattr(found, key) for key in ("image", "output", "offset", "right", "left")
            }
            self.folder.write_npz(f"images/{name}.npz", **arrays)
            numbers = {
                key: getattr(found, key)
                for key in ("singular_value", "residual", "norm", "measured_gain")
            }
            drawn.append({"image": name, "reason": reason, **numbers})
        return drawn

    def _read(self, path: Path) -> NetworkImage:
        with _in_one_line():
            image = read_network_image(path, self.loaded, self.how)
            return replace(image, sample=image.sample.to(device=self.device, dtype=self.dtype))

    def _made_with(self, path: Path, image: NetworkImage) -> dict[str, Any]:
        with _in_one_line(), torch.no_grad():
            try:
                output = self.loaded.module(image.sample.unsqueeze(0))
            except (RuntimeError, IndexError) as error:  # a shape that does not fit
                reason = str(error).splitlines()[0]
                raise ValueError(
                    f"network {self.loaded.name} cannot take an image of shape "
                    f"{tuple(image.sample.shape)}: {reason}; see --crop and --channels"
                ) from None
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"network {self.loaded.name} must return one tensor, got "
                    f"{type(output).__name__}; wrap it in a callable that returns the image"
                )
        return self.made_with | {
            "image_sha256": sha256_of(path),
            "output_sha256": hashlib.sha256(_bytes(output)).hexdigest(),
        }

    def _stored(self, path: Path, made_with: dict[str, Any]) -> dict[str, Any] | None:
        name = f"images/{path.name}.json"
        if not self.folder.has(name):
            return None
        try:
            table = self.folder.read_json(name)
        except ValueError:
            return None
        same = isinstance(table, dict) and table.get("made_with") == made_with
        return table if same else None


class _ImageError(ValueError):
    """One image cannot be audited; the others can."""


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn what is wrong with one image into one line."""
    try:
        yield
    except (ValueError, TypeError, OSError, ArithmeticError, MemoryError) as error:
        raise _ImageError(" ".join(str(error).split()) or type(error).__name__) from error


def _refuse_wrong(options: AuditOptions) -> None:
    for name in ("max_lipschitz", "max_offset_share", "max_replay_error"):
        value = getattr(options, name)
        if value is not None and not value >= 0:
            raise ValueError(f"--{name.replace('_', '-')} must not be negative, got {value}")
    for name in ("segment", "boundary_seconds"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be positive")


def _files_of(images: Path) -> list[Path]:
    if not images.is_dir():
        raise NotADirectoryError(f"--images must be a folder of images, got {images}")
    paths = sorted(path for path in images.iterdir() if path.is_file() and path.name[0] != ".")
    if not paths:
        raise ValueError(f"folder {images} holds no files; framelets list names readable formats")
    return paths


def _scan(path: Path | None) -> tuple[AuditScan | None, str]:
    if path is None:
        return None, ""
    measurement = read_scan(path)
    grid, _ = grid_of(path, TASKS["sparse-view-ct"](), measurement)
    field_mm = max(grid.shape) * grid.pixel_spacing_mm
    return AuditScan(measurement, field_mm), f"{path.name} ({scan_words(measurement)})"


def _made_with(module: nn.Module, options: AuditOptions, seed: int) -> dict[str, Any]:
    """Say what a stored image must have been made with to be used again."""
    digest = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return {
        "schema": _SCHEMA,
        "network_sha256": digest.hexdigest(),
        "seed": seed,
        "precision": options.precision,
        "images": asdict(options.images),
        "scan_sha256": None if options.scan is None else sha256_of(options.scan),
        "boundaries": [options.segment, options.boundary_seconds] if options.boundaries else None,
    }


def _bytes(value: Tensor) -> bytes:
    flat = value.detach().cpu().resolve_conj().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _levels(
    network: str, options: AuditOptions, seed: int, device: str, stages: Stages
) -> dict[str, Any]:
    """Diagnose the poolings once, as `framelets lint` does, or say why that failed."""
    how = LintOptions(
        weights=options.weights, settings=options.settings, channels=options.images.channels
    )
    try:
        found = lint(network, how, seed=seed, device=device, stages=stages).data
    except (ValueError, TypeError, ArithmeticError) as error:
        return {"levels": [], "error": " ".join(str(error).split())}
    return {key: found[key] for key in ("image", "levels", "unpoolings")}


def _not_done(images: list[dict[str, Any]], options: AuditOptions) -> list[str]:
    """Say which answers are missing, and why."""
    said = []
    curved = [image["image"] for image in images if not image["figures"]["piecewise_linear"]]
    if not options.boundaries:
        said.append("Boundaries of linear regions were not looked for; --boundaries does it.")
    elif curved:
        said.append(
            "The network is not piecewise linear (its Jacobian is not L): it has no linear regions "
            "whose boundaries could be counted."
        )
    short = [
        f"{image['image']} ({100 * reached:.3g} %)"
        for image in images
        if (reached := image["figures"].get("boundaries_reached", 1.0)) < 1
    ]
    if short:
        said.append(
            f"The segment of noise was not followed to its end in {options.boundary_seconds:g} s "
            f"at {', '.join(short)}; the count is that of the part that was followed."
        )
    said += [
        f"Boundaries were not found at {image['image']}: {image['figures']['boundaries_error']}"
        for image in images
        if "boundaries_error" in image["figures"]
    ]
    unconverged = [
        image["image"] for image in images if not image["figures"].get("support_converged", True)
    ]
    if unconverged:
        said.append(f"Null-space solver not converged at {', '.join(unconverged)}.")
    if options.scan is None:
        said.append("What a measurement supports was not computed; --scan does it.")
    return said


def _notes(content: dict[str, Any], num_reused: int) -> list[str]:
    images, failed = content["images"], content["failed"]
    notes = [f"{failure['image']} failed: {failure['error']}" for failure in failed]
    if num_reused:
        notes.append(
            f"{num_reused} of {len(images)} images were computed before and reused: same image, "
            "network and settings."
        )
    notes += content["undecided"]
    notes += content["not_done"]
    if "error" in content["levels"]:
        notes.append(f"Poolings were not diagnosed: {content['levels']['error']}")
    notes.append(
        f"{content['num_patterns']} activation patterns in {len(images)} images. Every figure "
        "holds at its image only: no proof of robustness. Research software, not a medical device."
    )
    return notes
