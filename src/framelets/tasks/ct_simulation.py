"""Sparse-view CT samples without end: random scans of random images, simulated on a finer grid.

A sample is simulated as a scanner would measure it: line integrals of an image on a grid
`refinement` times finer than the reconstruction's, Poisson noise of a stated number of photons per
ray, and filtered back-projection on the coarse grid. The reference is the pixel average of the
fine image. Every number of a scan that a measured one may have otherwise is drawn at random:
beam, magnification, pixel size, detector pitch and offset, first view, number of views, noise.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from framelets.core.linear_operator import LinearOperator
from framelets.data import CTMeasurement, TrainingImages
from framelets.physics import (
    CTProjector,
    FanBeamScan,
    ImageGrid,
    ParallelBeamScan,
    Scan,
    add_photon_noise,
    pixel_average,
)
from framelets.solvers import FilteredBackProjection
from framelets.tasks.preconditioner import RampPlateau

Batch = dict[str, Any]
"""What a network is trained on: `fbp` and `reference` (`batch 1 height width`, normalized); for an
unrolled network also `sinogram`, and the operators `projector` and `backward_map`."""

FILTER = "ram-lak"
"""Filter of every filtered back-projection of this task."""


@dataclass(frozen=True)
class SimulationConfig:
    """What training scans look like.

    Attributes:
        image_size: Rows and columns of a reconstruction.
        refinement: Pixels of the simulated image along each side of a reconstructed one.
        min_views: Fewest views; their number is drawn log-uniformly.
        max_views: Most views.
        min_pixel_spacing_mm: Smallest pixel of the reconstruction; with the attenuation of water,
            256 pixels of 1 mm stop all but e^-5 of the photons.
        max_pixel_spacing_mm: Largest pixel.
        min_photons_per_ray: Photons of the noisiest scans (drawn log-uniformly).
        max_photons_per_ray: Photons of the least noisy of the noisy scans.
        noise_free_fraction: Share of images without noise.
        images_per_scan: Images that go through the same scan at once.
    """

    image_size: int = 256
    refinement: int = 2
    min_views: int = 28
    max_views: int = 250
    min_pixel_spacing_mm: float = 0.3
    max_pixel_spacing_mm: float = 1.1
    min_photons_per_ray: float = 3e4
    max_photons_per_ray: float = 1e6
    noise_free_fraction: float = 0.25
    images_per_scan: int = 8


@dataclass(frozen=True)
class SimulatedScan:
    """Several images through one scan, normalized by one constant an image.

    Attributes:
        reference: Pixel averages of the images, over `scale`.
        sinogram: Noisy line integrals, over `scale`.
        fbp: Filtered back-projection of `sinogram`.
        scale: What each image was divided by, in 1/mm: `attenuation_scale` of its FBP.
        scan: Source and detector.
        grid: Pixels of `reference` and `fbp`.
    """

    reference: Float[Tensor, "batch height width"]
    sinogram: Float[Tensor, "batch view detector"]
    fbp: Float[Tensor, "batch height width"]
    scale: Float[Tensor, " batch"]
    scan: Scan
    grid: ImageGrid

    @cached_property
    def operators(self) -> tuple[CTProjector, LinearOperator]:
        """The scan as an operator on the grid, and a backward map; their matrices are kept."""
        fbp = FilteredBackProjection(self.scan, self.grid, FILTER)
        return CTProjector(self.scan, self.grid), fbp @ RampPlateau(self.scan, self.grid)

    def batch(self, chosen: Tensor | None = None) -> Batch:
        """Give some of the images (default: all) as a batch of an unrolled network."""
        images = slice(None) if chosen is None else chosen
        projector, backward_map = self.operators
        return {
            "fbp": self.fbp[images].unsqueeze(1),
            "reference": self.reference[images].unsqueeze(1),
            "sinogram": self.sinogram[images].unsqueeze(1),
            "projector": projector,
            "backward_map": backward_map,
        }


def attenuation_scale(
    fbp: Float[Tensor, "*batch height width"],
) -> Float[Tensor, " *batch"]:
    """Give the constant that a scan is divided by before a network sees it, in 1/mm.

    It is the 99th percentile of the filtered back-projection, about the attenuation of the densest
    common material. Within one scan it is a fixed number, so what a network does to the scaled
    image it does, up to this factor, to the scan: no reconstruction depends on the unit.

    Raises:
        ValueError: If the percentile is not positive: the image is empty.
    """
    scale = torch.quantile(fbp.flatten(-2), 0.99, dim=-1)
    if not (scale > 0).all():
        raise ValueError(
            "fbp must show an object: the 99th percentile of its attenuation is "
            f"{float(scale.min()):.3g} 1/mm; check the sinogram"
        )
    return scale


def simulate_scan(config: SimulationConfig, images: TrainingImages) -> SimulatedScan:
    """Draw a scan and images, and send these through it.

    Args:
        config: What scans look like.
        images: Images on the finer grid; their generator is the source of all randomness.

    Returns:
        `config.images_per_scan` simulated images.
    """
    generator = images.generator
    low, high = config.min_pixel_spacing_mm, config.max_pixel_spacing_mm
    spacing = low + (high - low) * float(torch.rand((), generator=generator))
    grid = ImageGrid(config.image_size, config.image_size, spacing)
    scan = draw_scan(config, grid, generator)
    fine_grid = grid.refined(config.refinement)
    image = images.batch(config.images_per_scan)
    # A group is projected once or twice: compiled loops cost less than building a matrix.
    sinogram = CTProjector(scan, fine_grid, engine="numba")(image)
    log_low, log_high = math.log(config.min_photons_per_ray), math.log(config.max_photons_per_ray)
    noisy = []
    for rays in sinogram:
        noise_free, share = torch.rand(2, generator=generator).tolist()
        if noise_free >= config.noise_free_fraction:
            photons = math.exp(log_low + (log_high - log_low) * share)
            rays = add_photon_noise(rays, photons, generator=generator)
        noisy.append(rays)
    return normalized(pixel_average(image, config.refinement), torch.stack(noisy), scan, grid)


def fixed_scan(
    num_views: int, num_images: int, seed: int, photons_per_ray: float | None = 1e5
) -> SimulatedScan:
    """Simulate a scan of a seed, to validate or tune on.

    Args:
        num_views: Number of views.
        num_images: Images that go through it.
        seed: Decides scan, images and noise.
        photons_per_ray: Of every image; None: no noise.
    """
    config = SimulationConfig(
        min_views=num_views,
        max_views=num_views,
        min_photons_per_ray=photons_per_ray or 1.0,
        max_photons_per_ray=photons_per_ray or 1.0,
        noise_free_fraction=0.0 if photons_per_ray else 1.0,
        images_per_scan=num_images,
    )
    size = config.image_size * config.refinement
    return simulate_scan(config, TrainingImages(size, size, torch.Generator().manual_seed(seed)))


def normalized(
    reference: Float[Tensor, "batch height width"],
    sinogram: Float[Tensor, "batch view detector"],
    scan: Scan,
    grid: ImageGrid,
) -> SimulatedScan:
    """Reconstruct by filtered back-projection and divide everything by the attenuation scale."""
    fbp = FilteredBackProjection(scan, grid, FILTER, engine="numba")(sinogram)
    scale = attenuation_scale(fbp)
    factor = scale[:, None, None]
    return SimulatedScan(reference / factor, sinogram / factor, fbp / factor, scale, scan, grid)


def draw_scan(config: SimulationConfig, grid: ImageGrid, generator: torch.Generator) -> Scan:
    """Draw a parallel-beam (two in five) or fan-beam scan that sees the grid's inner circle."""
    numbers = iter(torch.rand(8, generator=generator).tolist())

    def uniform(low: float, high: float) -> float:
        share: float = next(numbers)
        return low + (high - low) * share

    parallel = uniform(0.0, 1.0) < 0.4
    num_views = round(config.min_views * (config.max_views / config.min_views) ** uniform(0.0, 1.0))
    turn = math.pi if parallel and uniform(0.0, 1.0) < 0.5 else 2 * math.pi
    first = uniform(0.0, 2 * math.pi)
    angles = first + turn * torch.arange(num_views, dtype=torch.float64) / num_views
    radius = grid.width / 2 * grid.pixel_spacing_mm
    pitch = uniform(0.45, 1.2) * grid.pixel_spacing_mm  # at the rotation axis
    offset = uniform(-0.5, 0.5) * pitch
    if parallel:
        num_detectors = next_fast_len(2 * math.ceil(radius / pitch) + 3, real=True)
        return ParallelBeamScan(angles, num_detectors, pitch, offset)
    distance = radius * uniform(2.0, 6.0)
    magnification = uniform(1.1, 2.0)
    half_width = magnification * distance * math.tan(math.asin(radius / distance))
    num_detectors = next_fast_len(
        2 * math.ceil(half_width / (pitch * magnification)) + 3, real=True
    )
    return FanBeamScan(
        angles,
        num_detectors,
        pitch * magnification,
        distance,
        magnification * distance,
        offset * magnification,
    )


class TrainingScans:
    """Training batches as a function of seed and step.

    Simulated scans are numbered; number n is drawn from a generator seeded by (seed, n). Step s
    draws from the `pool_size` scans that end at s // steps_per_scan, so that each scan serves
    `pool_size * steps_per_scan` steps in a row and never comes back. They are kept in memory.

    Args:
        config: What scans look like.
        pool_size: Scans that a batch is drawn from.
        steps_per_scan: Steps until the oldest scan of the pool is replaced.
    """

    def __init__(self, config: SimulationConfig, pool_size: int, steps_per_scan: int) -> None:
        """Simulate nothing yet."""
        self._config = config
        self._pool_size = pool_size
        self._steps_per_scan = steps_per_scan
        self._kept: dict[tuple[int, int], SimulatedScan] = {}

    @cached_property
    def _images(self) -> TrainingImages:
        size = self._config.image_size * self._config.refinement
        return TrainingImages(size, size, torch.Generator())

    def scan(self, number: int, seed: int) -> SimulatedScan:
        """Simulate the scan of a number, or recall it."""
        if (number, seed) not in self._kept:
            self._images.generator.manual_seed(_mix(seed, number, 1))
            self._kept[number, seed] = simulate_scan(self._config, self._images)
        return self._kept[number, seed]

    def pool(self, step: int, seed: int) -> list[SimulatedScan]:
        """Give the scans of a step, and forget those that are older."""
        last = step // self._steps_per_scan + self._pool_size - 1
        numbers = range(last - self._pool_size + 1, last + 1)
        pool = [self.scan(number, seed) for number in numbers]
        for key in [key for key in self._kept if key[0] < numbers[0]]:
            del self._kept[key]
        return pool

    def crops(self, step: int, num_crops: int, crop_size: int, seed: int) -> Batch:
        """Cut random squares from random images of the pool, turned and mirrored at random."""
        pool = self.pool(step, seed)
        generator = torch.Generator().manual_seed(_mix(seed, step, 2))
        pairs = []
        for scan_index, image_index, top, left, turns, mirror in _draws(
            num_crops, pool[0].reference.shape, crop_size, len(pool), generator
        ):
            scan = pool[scan_index]
            pair = torch.stack([scan.fbp[image_index], scan.reference[image_index]])
            pair = pair[:, top : top + crop_size, left : left + crop_size].rot90(turns, (1, 2))
            pairs.append(pair.flip(2) if mirror else pair)
        fbp, reference = torch.stack(pairs, dim=1).unsqueeze(2)
        return {"fbp": fbp, "reference": reference}

    def whole(self, step: int, num_images: int, seed: int) -> Batch:
        """Take several whole images of one scan of the pool; the scans take turns."""
        pool = self.pool(step, seed)
        generator = torch.Generator().manual_seed(_mix(seed, step, 3))
        scan = pool[step % len(pool)]
        return scan.batch(torch.randperm(len(scan.fbp), generator=generator)[:num_images])


def scan_of(measurement: CTMeasurement) -> Scan:
    """Give source and detector of a measurement."""
    m = measurement
    if m.source_to_isocenter_mm is None or m.source_to_detector_mm is None:
        return ParallelBeamScan(
            m.view_angles, m.sinogram.shape[-1], m.detector_spacing_mm, m.detector_offset_mm
        )
    return FanBeamScan(
        m.view_angles,
        m.sinogram.shape[-1],
        m.detector_spacing_mm,
        m.source_to_isocenter_mm,
        m.source_to_detector_mm,
        m.detector_offset_mm,
        m.axis_offset_mm,
    )


def measurement_of(sinogram: Float[Tensor, "*batch view detector"], scan: Scan) -> CTMeasurement:
    """Put a sinogram and its scan together."""
    beam = (sinogram, scan.view_angles, scan.detector_spacing_mm)
    if isinstance(scan, ParallelBeamScan):
        return CTMeasurement(*beam, detector_offset_mm=scan.detector_offset_mm)
    return CTMeasurement(
        *beam,
        scan.source_to_isocenter_mm,
        scan.source_to_detector_mm,
        scan.detector_offset_mm,
        scan.axis_offset_mm,
    )


def _draws(
    num: int, shape: torch.Size, crop_size: int, num_scans: int, generator: torch.Generator
) -> Iterator[list[int]]:
    batch, height, width = shape
    highs = (num_scans, batch, height - crop_size + 1, width - crop_size + 1, 4, 2)
    columns = [torch.randint(high, (num,), generator=generator).tolist() for high in highs]
    yield from (list(row) for row in zip(*columns, strict=True))


def _mix(*numbers: int) -> int:
    """Make one seed of several numbers; different ones give different seeds, for all that counts.

    Example:
        >>> _mix(0, 1, 2) == _mix(0, 2, 1)
        False
    """
    mixed = 0
    for number in numbers:
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return mixed
