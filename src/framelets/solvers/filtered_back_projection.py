"""Filtered back-projection of parallel and flat-detector fan-beam sinograms.

References:
    A. C. Kak and M. Slaney, "Principles of computerized tomographic imaging", 1988, chapter 3.
    G. T. Gullberg, C. R. Crawford and B. M. W. Tsui, "Reconstruction algorithm for fan beam with a
    displaced center-of-rotation", IEEE Trans. Medical Imaging 5(1), 1986.
"""

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from framelets.core.linear_operator import LinearOperator
from framelets.physics import BackProjector, ImageGrid, ParallelBeamScan, Scan
from framelets.physics.ct_projector import MEMORY_LIMIT_BYTES, refuse_other_than
from framelets.solvers.ramp_filter import ramp_response
from framelets.solvers.view_weights import ray_weights


class FilteredBackProjection(LinearOperator):
    """Invert a scan: weigh the rays, filter along the detector, back-project by pixels.

    Parallel beam:  f(x) = sum over views of step (g * h)(u(x)).
    Fan beam:       f(x) = sum over views of step U^-2 ((share w g) * h)(u(x)),

    with w(u) = R / sqrt(R^2 + u^2) (1 + t u / R^2), u on the detector shrunk to the axis, R the
    distance from source to axis, U the depth of x over R, t the scan's axis offset, h the ramp
    filter, and steps and shares from `ray_weights`.
    Line integrals of attenuation in 1/mm come back in 1/mm. The detector must see all of the object
    in every view: truncated sides, as of a half-fan scan, are taken as empty. The adjoint is exact
    and both directions are differentiable.

    Example:
        >>> from framelets.physics import ImageGrid, ParallelBeamScan
        >>> scan = ParallelBeamScan(torch.arange(90) * torch.pi / 90, 65, detector_spacing_mm=1.0)
        >>> disk = 2 * (20.0**2 - scan.detector_positions_mm**2).clamp(min=0).sqrt()
        >>> fbp = FilteredBackProjection(scan, ImageGrid(65, 65, 1.0))
        >>> round(fbp(disk.expand(90, 65))[24:41, 24:41].mean().item(), 2)
        1.0
    """

    response: Tensor
    weights: Tensor

    def __init__(
        self,
        scan: Scan,
        grid: ImageGrid,
        filter_name: str = "ram-lak",
        cutoff: float = 1.0,
        engine: str = "auto",
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        """Prepare weights, filter and back-projector.

        Args:
            scan: Source and detector.
            grid: Pixels.
            filter_name: "ram-lak", "shepp-logan", "cosine", "hamming" or "hann".
            cutoff: Where the window ends, over the highest frequency that the detector samples.
            engine: Of the back-projection, as in `physics.CTProjector`.
            memory_limit_bytes: As in `physics.CTProjector`.

        Raises:
            ValueError: If a choice is unknown, the scan has fewer than 2 different views, the
                source lies inside the image or no ray meets it.
        """
        super().__init__()
        self.scan = scan
        self.grid = grid
        self.input_shape = scan.shape
        self.output_shape = grid.shape
        power = 0 if isinstance(scan, ParallelBeamScan) else 2
        self.back_projector = BackProjector(scan, grid, power, engine, memory_limit_bytes)
        weights = ray_weights(scan)
        spacing_mm = scan.detector_spacing_mm
        if not isinstance(scan, ParallelBeamScan):
            spacing_mm /= scan.magnification
            radius_mm, gamma = scan.source_to_isocenter_mm, scan.fan_angles
            shift = scan.axis_offset_mm / radius_mm
            weights = weights * gamma.cos() * (1 + shift * gamma.tan())
        self._num_samples = next_fast_len(2 * scan.num_detectors, real=True)
        response = ramp_response(self._num_samples, spacing_mm, filter_name, cutoff)
        self.register_buffer("response", response, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(
        self, sinogram: Float[Tensor, "*batch view detector"]
    ) -> Float[Tensor, "*batch height width"]:
        """Reconstruct an image.

        Args:
            sinogram: Line integrals.

        Returns:
            The image, in the sinogram's unit over mm.

        Raises:
            ValueError: If the sinogram is not of the scan's shape.
            TypeError: If it is not of real floats.
        """
        refuse_other_than("sinogram", sinogram, self.scan.shape)
        return self.back_projector(self._filter(sinogram * self.weights.to(sinogram)))

    def adjoint(
        self, image: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch view detector"]:
        """Apply the transpose: project by pixels, filter, weigh.

        Args:
            image: One value a pixel.

        Returns:
            A sinogram.

        Raises:
            ValueError: If the image is not of the grid's shape.
            TypeError: If it is not of real floats.
        """
        refuse_other_than("image", image, self.grid.shape)
        return self._filter(self.back_projector.adjoint(image)) * self.weights.to(image)

    def _filter(self, sinogram: Tensor) -> Tensor:
        # Zero padding, a real even response and cropping: this is its own adjoint.
        precise = sinogram.to(torch.promote_types(sinogram.dtype, torch.float32))
        spectrum = torch.fft.rfft(precise, n=self._num_samples) * self.response.to(precise)
        filtered: Tensor = torch.fft.irfft(spectrum, n=self._num_samples)
        return filtered[..., : self.scan.num_detectors].to(sinogram.dtype)
