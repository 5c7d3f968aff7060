"""Sparse-view computed tomography: few views, streaks, and networks that take them away.

Filtered back-projection of 30 to 240 views shows streaks; a U-Net learns the streaks (residual
learning) from the reconstruction alone, and one network serves all numbers of views [1]. Its
pooling is plain, dual-frame or tight-frame. The unrolled network alternates a step toward the
measured line integrals, preconditioned by filtered back-projection, with a frame U-Net.

Before a network sees it, a scan is divided by one constant, `attenuation_scale` of its filtered
back-projection; the result is multiplied by it again.

References:
    [1] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from framelets.core.choices import refuse_unknown
from framelets.data import CTMeasurement
from framelets.metrics import nmse, psnr, ssim
from framelets.networks import UNet, UnrolledNetwork
from framelets.physics import CTProjector, ImageGrid, Scan, add_photon_noise
from framelets.solvers import FilteredBackProjection
from framelets.tasks.ct_simulation import (
    FILTER,
    Batch,
    SimulatedScan,
    SimulationConfig,
    TrainingScans,
    attenuation_scale,
    fixed_scan,
    measurement_of,
    scan_of,
)
from framelets.tasks.preconditioner import RampPlateau
from framelets.tasks.shipped import load_state
from framelets.tasks.tuned_total_variation import TUNED_PHOTONS, tuned_total_variation

LOSSES = ("mean-squared-error", "log-mean-squared-error")
"""Known losses. The logarithm, taken for each image, weighs all images alike: it is the PSNR up to
sign and constants, whereas the mean squared error is that of the images with fewest views."""

_ERROR_FLOOR = 1e-5  # below it, 50 dB, an image is good enough to be left alone
VALIDATION_VIEWS = (30, 60, 90, 120)
"""Numbers of views that validation averages over."""

_VALIDATION_SEED = 2**31 - 1  # no training batch has it
_POOLINGS = {
    "unet": "average",
    "dual-frame-unet": "dual-frame",
    "tight-frame-unet": "tight-frame",
    "tight-frame-unet-narrow": "tight-frame",
}


_DATA = {
    "source": "random images drawn on the fly by framelets.data.TrainingImages from the chest CT "
    "of the package slicerio, photographs of the package scikit-image and drawn objects; scans "
    "simulated by framelets.physics",
    "license": "slicerio MIT; scikit-image BSD-3-Clause, its photographs public domain or CC0",
    "never trained on": "the head CT and the Helsinki Tomography Challenge scans of evaluation",
}


@dataclass(frozen=True)
class NetworkConfig:
    """Size and kind of the networks; without normalization they are piecewise linear.

    Attributes:
        width: Channels of the first level of the U-Nets.
        narrow_width: The same of `tight-frame-unet-narrow`, which has about as many parameters
            as `unet`.
        depth: Poolings of the U-Nets.
        normalization: Normalization of the U-Nets.
        unrolled_width: Channels of the first level of the unrolled network's regularizers,
            tight-frame U-Nets.
        unrolled_depth: Their poolings.
        unrolled_iterations: Iterations of the unrolled network; each has its own regularizer.
    """

    width: int = 11
    narrow_width: int = 9
    depth: int = 4
    normalization: str = "none"
    unrolled_width: int = 8
    unrolled_depth: int = 3
    unrolled_iterations: int = 8


@dataclass(frozen=True)
class SparseViewCTConfig:
    """Settings of the task.

    Attributes:
        simulation: What training scans look like.
        networks: Size and kind of the networks.
        loss: One of `LOSSES`.
        crop_size: Side in pixels of the squares that the U-Nets are trained on.
        pool_size: Simulated scans that the crops of one step come from.
        steps_per_scan: Steps until the oldest scan of the pool is replaced.
        validation_images: Images for each of `VALIDATION_VIEWS`.
    """

    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    networks: NetworkConfig = field(default_factory=NetworkConfig)
    loss: str = "mean-squared-error"
    crop_size: int = 128
    pool_size: int = 8
    steps_per_scan: int = 6
    validation_images: int = 4

    def __post_init__(self) -> None:
        """Refuse an unknown loss."""
        refuse_unknown("loss", self.loss, LOSSES)


class SparseViewCT:
    """Sparse-view CT as a task: simulation, networks, loss, baselines, metrics.

    Args:
        config: Settings; the defaults are those of the shipped weights.
    """

    name = "sparse-view-ct"
    baselines = ("fbp", "tv")
    networks = (*_POOLINGS, "unrolled")
    methods = (*baselines, *networks)

    def __init__(self, config: SparseViewCTConfig | None = None) -> None:
        """Simulate nothing yet."""
        self.config = config = config or SparseViewCTConfig()
        self._scans = TrainingScans(config.simulation, config.pool_size, config.steps_per_scan)
        self._validation: list[SimulatedScan] = []
        self._trained: dict[str, nn.Module] = {}

    # Training.

    @property
    def card(self) -> dict[str, Any]:
        """What the model card says of the task."""
        return {"data": _DATA, "task_config": asdict(self.config)}

    def network(self, name: str) -> nn.Module:
        """Build an untrained network.

        Raises:
            ValueError: If the task has no such network.
        """
        refuse_unknown("network", name, self.networks)
        config = self.config.networks
        if name == "unrolled":
            width, depth = config.unrolled_width, config.unrolled_depth
            num_iterations = config.unrolled_iterations
            regularizers = [
                _unet("tight-frame", width, depth, config) for _ in range(num_iterations)
            ]
            for regularizer in regularizers:
                # No constant either: the untrained network makes data steps only.
                for parameter in regularizer.last.parameters():
                    nn.init.zeros_(parameter)
            return UnrolledNetwork(regularizers, num_iterations)
        width = config.narrow_width if name.endswith("narrow") else config.width
        return _unet(_POOLINGS[name], width, config.depth, config)

    def training_batch(self, step: int, batch_size: int, seed: int) -> Batch:
        """Draw the batch of a step: crops of many scans, or whole images of one (crop size 0)."""
        size = self.config.crop_size
        if size == 0:
            return self._scans.whole(step, batch_size, seed)
        return self._scans.crops(step, batch_size, size, seed)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Compute the loss of a batch in normalized attenuation."""
        error: Tensor = _apply(network, batch) - batch["reference"]
        if self.config.loss == "mean-squared-error":
            return error.square().mean()
        return (error.square().mean((1, 2, 3)) + _ERROR_FLOOR).log().mean()

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measure PSNR (peak: largest reference value) on fixed seeded scans: see `fixed_scan`.

        Returns:
            The mean over `VALIDATION_VIEWS` as "psnr", each as "psnr_30" and so on, the same for
            filtered back-projection as "fbp_psnr", all in dB.
        """
        network.eval()
        device = next(network.parameters()).device
        unrolled = isinstance(network, UnrolledNetwork)
        made, simple = {}, []
        for views, scan in zip(VALIDATION_VIEWS, self.validation_scans(), strict=True):
            peak = scan.reference.amax((-2, -1))
            batch = scan.batch() if unrolled else {"fbp": scan.fbp.unsqueeze(1)}
            moved = {name: part.to(device) for name, part in batch.items()}
            reconstruction = _apply(network, moved)[:, 0].cpu()
            made[f"psnr_{views}"] = float(psnr(reconstruction, scan.reference, peak).mean())
            simple.append(float(psnr(scan.fbp, scan.reference, peak).mean()))
        mean = sum(made.values()) / len(made)
        return {"psnr": mean, **made, "fbp_psnr": sum(simple) / len(simple)}

    def validation_scans(self) -> list[SimulatedScan]:
        """Simulate the scans of validation, or recall them."""
        if not self._validation:
            self._validation = [
                fixed_scan(views, self.config.validation_images, _VALIDATION_SEED + views)
                for views in VALIDATION_VIEWS
            ]
        return self._validation

    # Reconstruction.

    def simulate(
        self,
        image: Float[Tensor, "*batch fine_height fine_width"],
        scan: Scan,
        fine_grid: ImageGrid,
        photons_per_ray: float | None = 1e5,
        generator: torch.Generator | None = None,
    ) -> CTMeasurement:
        """Send images on a finer grid through a scan.

        Args:
            image: Attenuation in 1/mm.
            scan: Source and detector.
            fine_grid: Pixels of the image; finer than those of the reconstruction.
            photons_per_ray: Photons that reach a detector element if nothing is in the way; None:
                no noise.
            generator: Source of the noise.

        Returns:
            The measurement, which says its photons.
        """
        sinogram = CTProjector(scan, fine_grid, engine="numba")(image)
        if photons_per_ray is not None:
            sinogram = add_photon_noise(sinogram, photons_per_ray, generator=generator)
        measurement = measurement_of(sinogram, scan)
        return replace(measurement, photons_per_ray=photons_per_ray or 0.0)

    def reconstruct(
        self,
        measurement: CTMeasurement,
        method: str,
        grid: ImageGrid | None = None,
        *,
        network: nn.Module | None = None,
        photons_per_ray: float | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Float[Tensor, "*batch height width"]:
        """Reconstruct attenuation in 1/mm.

        Args:
            measurement: The scan.
            method: One of `methods`.
            grid: Pixels; default: `default_grid` of the scan.
            network: Weights to use in place of the shipped ones.
            photons_per_ray: Noise that the weight of total variation is chosen for, 0: none;
                default: what the measurement says, or `TUNED_PHOTONS` if it says nothing.
            progress: Called with the share done, from 0 to 1.

        Raises:
            ValueError: If the method is unknown, or the scan shows no object.
        """
        refuse_unknown("method", method, self.methods)
        grid = grid or self.default_grid(measurement)
        if method == "tv":
            photons = measurement.photons_per_ray if photons_per_ray is None else photons_per_ray
            photons = TUNED_PHOTONS if photons is None else photons or None
            return tuned_total_variation(measurement, grid, photons, progress=progress)
        if method == "fbp":
            fbp = FilteredBackProjection(scan_of(measurement), grid, FILTER)
            return fbp(measurement.sinogram)
        network = network or self.trained(method)
        problem = self.network_problem(measurement, grid, method)
        parts = []
        with torch.inference_mode():
            for i in range(len(problem.input)):
                parts.append(problem.forward(network, problem.input[i : i + 1])[0, 0])
                if progress is not None:
                    progress((i + 1) / len(problem.input))
        batch = measurement.sinogram.shape[:-2]
        return torch.stack(parts).reshape(*batch, *grid.shape) * problem.scale.reshape(*batch, 1, 1)

    def network_problem(
        self, measurement: CTMeasurement, grid: ImageGrid | None, method: str
    ) -> "NetworkProblem":
        """Give what a network is applied to, so that it can be explained at this very scan.

        Args:
            measurement: The scan.
            grid: Pixels; default: `default_grid` of the scan.
            method: One of `networks`.
        """
        refuse_unknown("network", method, self.networks)
        grid = grid or self.default_grid(measurement)
        scan = scan_of(measurement)
        fbp = FilteredBackProjection(scan, grid, FILTER)
        sinogram = measurement.sinogram.reshape(-1, 1, *scan.shape)
        start = fbp(sinogram)
        scale = attenuation_scale(start)
        factor = scale[:, :, None, None]
        if method != "unrolled":
            return NetworkProblem(start / factor, scale, _of_image)
        projector = CTProjector(scan, grid)
        backward_map = fbp @ RampPlateau(scan, grid)

        def of_sinogram(network: nn.Module, y: Tensor) -> Tensor:
            output: Tensor = network(y, projector, start=fbp(y), backward_map=backward_map)
            return output

        return NetworkProblem(sinogram / factor, scale, of_sinogram)

    def trained(self, method: str) -> nn.Module:
        """Load the shipped weights of a network, once."""
        if method not in self._trained:
            network = self.network(method)
            network.load_state_dict(load_state(f"{self.name}/{method}"))
            self._trained[method] = network.eval().requires_grad_(False)
        return self._trained[method]

    def default_grid(self, measurement: CTMeasurement) -> ImageGrid:
        """Cover the square around the disk that every view sees whole."""
        size = self.config.simulation.image_size
        radius = scan_of(measurement).field_of_view_radius_mm
        if radius <= 0:
            raise ValueError("the scan has no field of view around its axis; give grid")
        return ImageGrid(size, size, 2 * radius / size)

    def metrics(
        self,
        reconstruction: Float[Tensor, "*batch height width"],
        reference: Float[Tensor, "*batch height width"],
        mask: Bool[Tensor, "*#batch height width"] | None = None,
    ) -> dict[str, Tensor]:
        """Compute PSNR in dB, SSIM (peak of both: largest reference value) and NMSE.

        Args:
            reconstruction: What was made.
            reference: What is held true.
            mask: True where pixels count.
        """
        peak = reference.amax((-2, -1))
        return {
            "psnr": psnr(reconstruction, reference, peak, mask),
            "ssim": ssim(reconstruction, reference, peak, mask),
            "nmse": nmse(reconstruction, reference, mask),
        }


@dataclass(frozen=True)
class NetworkProblem:
    """A network's input at a scan.

    Attributes:
        input: Normalized filtered back-projection, or normalized sinogram (unrolled network).
        scale: What normalization divided by, in 1/mm.
        forward: Applies a network to such an input; gives normalized attenuation.
    """

    input: Float[Tensor, "batch 1 rows columns"]
    scale: Float[Tensor, "batch 1"]
    forward: Callable[[nn.Module, Tensor], Tensor]


def _of_image(network: nn.Module, image: Tensor) -> Tensor:
    output: Tensor = network(image)
    return output


def _unet(pooling: str, width: int, depth: int, config: NetworkConfig) -> UNet:
    network = UNet(
        width=width,
        depth=depth,
        pooling=pooling,
        residual=True,
        normalization=config.normalization,
        pooling_normalization="orthonormal",
    )
    nn.init.zeros_(network.last.weight)  # start from the identity: nothing is a streak yet
    return network


def _apply(network: nn.Module, batch: Batch) -> Tensor:
    """Reconstruct a batch; with a sinogram in it, by an unrolled network."""
    fbp = batch["fbp"]
    if "sinogram" in batch:
        y, projector, backward_map = (batch[k] for k in ("sinogram", "projector", "backward_map"))
        output: Tensor = network(y, projector, start=fbp, backward_map=backward_map)
    else:
        output = network(fbp)
    return output
