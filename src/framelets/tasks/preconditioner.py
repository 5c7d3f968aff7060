"""The backward map of the unrolled network: filtered back-projection that does not overshoot.

With few views, B A is far from the identity if B is filtered back-projection. Each view writes a
line through the origin of the image's Fourier plane; an object of diameter D makes that line 1/D
wide, while the ramp filter weighs it for the whole gap to the next one, |w| pi / N wide for N
views. So B A multiplies what is measured at frequency |w| by about |w| / w_c, with
w_c = N / (pi D), once |w| exceeds w_c. Dividing by 1 + |w| / w_c leaves what is below and keeps
B A between 0 and about 1: the ramp turns into a plateau, as in the pseudoinverse of A, where lines
that do not overlap have the weight 1/D each.
"""

import math

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from framelets.core.linear_operator import LinearOperator
from framelets.physics import FanBeamScan, ImageGrid, Scan


class RampPlateau(LinearOperator):
    """Divide the detector's frequencies by 1 + |w| pi D / N; self-adjoint.

    D is the width of the grid and N the number of views. Detectors are padded with zeros to twice
    their length.

    Args:
        scan: Source and detector; in a fan beam w is the frequency at the rotation axis.
        grid: Pixels.
    """

    response: Tensor

    def __init__(self, scan: Scan, grid: ImageGrid) -> None:
        """Prepare the response."""
        super().__init__()
        self.input_shape = self.output_shape = scan.shape
        spacing_mm = scan.detector_spacing_mm
        if isinstance(scan, FanBeamScan):
            spacing_mm /= scan.magnification
        diameter_mm = max(grid.shape) * grid.pixel_spacing_mm
        self._num_samples = next_fast_len(2 * scan.num_detectors, real=True)
        frequencies = torch.fft.rfftfreq(self._num_samples, d=spacing_mm)
        response = 1 / (1 + frequencies * (math.pi * diameter_mm / scan.num_views))
        self.register_buffer("response", response, persistent=False)

    def forward(
        self, sinogram: Float[Tensor, "*batch view detector"]
    ) -> Float[Tensor, "*batch view detector"]:
        """Filter every view."""
        num_detectors = sinogram.shape[-1]
        spectrum = torch.fft.rfft(sinogram, n=self._num_samples)
        filtered: Tensor = torch.fft.irfft(
            spectrum * self.response.to(sinogram), n=self._num_samples
        )
        return filtered[..., :num_detectors]

    def adjoint(
        self, sinogram: Float[Tensor, "*batch view detector"]
    ) -> Float[Tensor, "*batch view detector"]:
        """Filter every view: zero padding, a real even response and cropping are self-adjoint."""
        return self.forward(sinogram)
