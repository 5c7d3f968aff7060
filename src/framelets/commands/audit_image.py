"""The figures of an audit at one image, and the pictures of a bad one."""

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.commands.explanation import Subject, linearized
from framelets.commands.network_images import NetworkImage
from framelets.commands.stages import Progress
from framelets.commands.task_scans import scan_projector
from framelets.commands.user_networks import LoadedNetwork
from framelets.data import CTMeasurement
from framelets.geometry import (
    LocalMap,
    boundary_distance,
    local_figures,
    null_space,
    partition_segment,
    spectrum,
)

PERTURBATION = 0.01
"""Norm of the perturbation that the worst images are tried with, as a share of the image's."""

_MEMORY_LIMIT_BYTES = 2 * 1024**3


@dataclass(frozen=True, eq=False)
class AuditScan:
    """A scan whose null space the outputs are split by.

    Attributes:
        measurement: The scan; of its sinogram only the shape counts.
        field_mm: Length of the longer side of an image whose file does not give a spacing.
    """

    measurement: CTMeasurement
    field_mm: float


@dataclass(frozen=True)
class ImageAudit:
    """What is computed at every image.

    Attributes:
        seed: Of random starts and noise.
        boundaries: Whether to count and to find boundaries of linear regions.
        segment: Length of the noise segment on which they are counted, as a share of the image's
            norm.
        boundary_seconds: Time after which the count stops and says how far it got.
        scan: The scan whose null space to split the output by, or None.
    """

    seed: int = 0
    boundaries: bool = False
    segment: float = 1e-3
    boundary_seconds: float = 60.0
    scan: AuditScan | None = None


def audit_image(
    network: LoadedNetwork, image: NetworkImage, audit: ImageAudit, progress: Progress
) -> dict[str, Any]:
    """Compute the figures of a network at an image.

    Args:
        network: The network.
        image: The image, in the type and on the device of the network.
        audit: What to compute.
        progress: Told how far it is.

    Returns:
        `figures` (plain values by name, which `audit_columns.COLUMNS` describes), `shape`,
        `output_shape`, `words`, `seconds`.

    Raises:
        ValueError: If the network cannot take the image, or the scan does not fit it.
        TypeError: If the network returns something else than one real image, for `scan`.
    """
    start = time.perf_counter()
    optional = int(audit.boundaries) + int(audit.scan is not None)
    share = 1 / (1 + optional)
    local = linearized(Subject(network, image.sample))
    figures: dict[str, Any] = asdict(
        local_figures(local, seed=audit.seed, progress=lambda done: progress(share * done))
    )
    if audit.scan is not None:
        figures |= _support(local, image, audit.scan)
        progress(2 * share)
    if audit.boundaries and local.piecewise_linear:
        try:
            figures |= _boundaries(network.module, image.sample, audit)
        except (ValueError, TypeError) as error:  # too large, or it jumps: the rest still holds
            figures["boundaries_error"] = " ".join(str(error).split())
    progress(1.0)
    return {
        "words": image.words,
        "shape": list(local.image.shape),
        "output_shape": list(local.output.shape),
        "figures": figures,
        "seconds": time.perf_counter() - start,
    }


def _boundaries(module: nn.Module, sample: Tensor, audit: ImageAudit) -> dict[str, Any]:
    batch = sample.unsqueeze(0)
    generator = torch.Generator().manual_seed(audit.seed)
    noise = torch.randn(batch.shape, dtype=torch.float64, generator=generator).to(batch.device)
    size = float(torch.linalg.vector_norm(sample))
    noise *= audit.segment * size / torch.linalg.vector_norm(noise)
    found = partition_segment(
        module,
        batch,
        noise,
        memory_limit_bytes=_MEMORY_LIMIT_BYTES,
        time_limit_s=audit.boundary_seconds,
    )
    nearest = boundary_distance(module, batch, generator=generator)
    return {
        "num_boundaries": found.num_boundaries,
        "boundaries_reached": found.reached,
        "segment_norm": found.direction_norm,
        "boundary_lower": nearest.lower,
        "boundary_probable_lower": nearest.probable_lower,
        "boundary_upper": nearest.upper if nearest.upper < math.inf else None,
    }


def _support(local: LocalMap, image: NetworkImage, scan: AuditScan) -> dict[str, Any]:
    """Split the output by the null space of a scan, with A x in the place of the measurement."""
    if local.output.shape != local.image.shape or local.image.is_complex():
        raise ValueError(
            f"--scan is for networks from a real image to one of the same shape, got "
            f"{tuple(local.image.shape)} and {tuple(local.output.shape)}"
        )
    height, width = local.image.shape[-2:]
    projector = scan_projector(scan.measurement, (height, width), _spacing_mm(image, scan))
    measured = projector(local.image.to(torch.float64))
    found = null_space(local, projector, measured)
    energy = found.energy or 1.0
    _, contradiction, linear, offset = (part / energy for part in found.energies)
    return {
        "null_share": found.null_share,
        "null_linear_share": linear,
        "null_offset_share": offset,
        "null_cross_share": found.cross_term / energy,
        "changed_share": contradiction,
        "undecided_share": found.undecided / energy,
        "support_error": max(found.errors),
        "support_threshold": found.threshold,
        "support_converged": found.converged,
    }


def _spacing_mm(image: NetworkImage, scan: AuditScan) -> float:
    if image.spacing_mm is None:
        return scan.field_mm / max(image.file_shape)
    rows, columns = image.spacing_mm
    if not math.isclose(rows, columns, rel_tol=1e-3):
        raise ValueError(
            f"--scan needs rows and columns equally far apart, got {rows:.4g} and {columns:.4g} mm;"
            " resample the image"
        )
    return rows


@dataclass(frozen=True, eq=False)
class WorstPerturbation:
    """The direction in which an image is most sensitive, tried on the network.

    Attributes:
        image: x.
        output: f(x).
        offset: b.
        right: v, of norm one, with |J v| nearly K_p.
        left: J v / |J v|.
        singular_value: |J v|; a certified lower bound of K_p.
        residual: How near v is to a singular vector, over `singular_value`.
        norm: Norm of the perturbation that was tried.
        measured_gain: |f(x + d) - f(x)| / |d| of d = norm v or -norm v, the larger; measured.
    """

    image: Float[Tensor, "*sample"]
    output: Float[Tensor, "*output"]
    offset: Float[Tensor, "*output"]
    right: Float[Tensor, "*sample"]
    left: Float[Tensor, "*output"]
    singular_value: float
    residual: float
    norm: float
    measured_gain: float


def worst_perturbation(
    network: LoadedNetwork, image: NetworkImage, seed: int, progress: Progress
) -> WorstPerturbation:
    """Find the worst small perturbation of an image, and try it on the network.

    Args:
        network: The network.
        image: The image, in the type and on the device of the network.
        seed: Of the random start.
        progress: Told how far it is.
    """
    local = linearized(Subject(network, image.sample))
    generator = torch.Generator(image.sample.device).manual_seed(seed)
    found = spectrum(local.tangent, 1, generator=generator, progress=progress)
    right = found.right[0]
    norm = PERTURBATION * float(torch.linalg.vector_norm(local.image))
    steps = norm * torch.stack([right, -right])
    gains = []
    with torch.no_grad():
        for step in steps:
            change = network.module((local.image + step).unsqueeze(0)) - local.output
            gains.append(float(torch.linalg.vector_norm(change)) / norm if norm > 0 else 0.0)
    return WorstPerturbation(
        image=local.image,
        output=local.output,
        offset=local.offset,
        right=right,
        left=found.left[0],
        singular_value=float(found.values[0]),
        residual=float(found.residuals[0]),
        norm=norm,
        measured_gain=max(gains),
    )
