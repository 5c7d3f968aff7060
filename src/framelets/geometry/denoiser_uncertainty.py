"""How wrong a denoiser may be at an image, from its Jacobian alone.

For y = x + noise, white and Gaussian with standard deviation sigma, and n pixels, Stein's unbiased
risk estimate of the squared error of a denoiser f needs no x [1]:

    SURE = |f(y) - y|^2 - n sigma^2 + 2 sigma^2 div f(y),    E SURE = E |f(y) - x|^2,

and neither does the unbiased estimate of its own squared distance from the true error [2]:

    E (SURE - |f(y) - x|^2)^2 = E [4 sigma^2 |f(y) - y|^2 + 4 sigma^4 tr(J J) - 2 n sigma^4].

If f is the denoiser of least mean squared error, f(y) = E(x | y), then by Tweedie's formula and its
derivative [3, 4]

    Cov(x | y) = sigma^2 J(y),

so that the diagonal of the Jacobian J gives the standard deviation of every pixel. A network is
such a denoiser only nearly. What it then must have, and is reported: a symmetric J, a diagonal
without negative entries, and a SURE whose mean is that of sigma^2 div f(y). Passing is no proof.

References:
    [1] C. M. Stein, "Estimation of the mean of a multivariate normal distribution", Annals of
        Statistics 9(6), 1981.
    [2] P. C. Bellec and C.-H. Zhang, "Second-order Stein: SURE for SURE and other applications in
        high-dimensional inference", Annals of Statistics 49(4), 2021.
    [3] B. Efron, "Tweedie's formula and selection bias", J. American Statistical Association
        106(496), 2011.
    [4] H. Manor and T. Michaeli, "On the posterior distribution in denoising: application to
        uncertainty quantification", ICLR 2024.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import LinearOperator
from framelets.core.spectral import diagonal
from framelets.geometry.divergence import divergence
from framelets.geometry.linearize import LocalMap


@dataclass(frozen=True)
class DenoiserUncertainty:
    """Expected error of a denoiser at an image; all numbers are per pixel where they can be.

    Attributes:
        noise_std: sigma.
        exact: True if divergence, variance and asymmetry come from the whole Jacobian; False if
            they are means over random probes.
        divergence: div f(y), with its standard error over the probes (0 if exact).
        divergence_standard_error: Over the probes.
        mean_squared_error: SURE / n, an estimate, unbiased over the noise; can be negative.
        mean_squared_error_deviation: Standard deviation of that estimate's distance from the true
            squared error per pixel, probes included; itself an estimate, NaN if its square came
            out negative.
        variance: sigma^2 diag J, the variance of every pixel for a denoiser of least mean squared
            error.
        variance_standard_error: Over the probes (0 if exact).
        num_negative: Entries of the variance below zero by more than three standard errors and what
            rounding makes, n eps times the largest entry (of J if exact, else of its diagonal).
        asymmetry: |J - J^T| / |J|, Frobenius norms; 0 for a denoiser of least mean squared error.
    """

    noise_std: float
    exact: bool
    divergence: float
    divergence_standard_error: float
    mean_squared_error: float
    mean_squared_error_deviation: float
    variance: Float[Tensor, "*sample"]
    variance_standard_error: Float[Tensor, "*sample"]
    num_negative: int
    asymmetry: float

    @property
    def standard_deviation(self) -> Float[Tensor, "*sample"]:
        """Root of the variance; NaN where the variance came out negative."""
        return self.variance.sqrt()

    @property
    def mean_variance(self) -> float:
        """sigma^2 div f(y) / n: equals SURE / n in the mean, for least mean squared error."""
        return self.noise_std**2 * self.divergence / self.variance.numel()

    def __str__(self) -> str:
        """Say every number with what it is worth."""
        source = "exact" if self.exact else "estimate from random probes"
        size = self.variance.numel()
        return "\n".join(
            [
                f"noise {self.noise_std:.4g}, {size} pixels; divergence {self.divergence:.5g} "
                f"+- {self.divergence_standard_error:.2g} ({source})",
                f"mean squared error {self.mean_squared_error:.4g} +- "
                f"{self.mean_squared_error_deviation:.2g} (SURE: estimate, unbiased for any "
                "weakly differentiable denoiser)",
                f"mean variance of a pixel {self.mean_variance:.4g} (if the denoiser has least "
                "mean squared error; both then agree in the mean)",
                f"J is asymmetric by {self.asymmetry:.2g} of its norm, {self.num_negative} of "
                f"{size} variances negative ({source}; both 0 for least mean squared error)",
            ]
        )


def denoiser_uncertainty(
    local: LocalMap,
    noise_std: float,
    *,
    exact: bool = False,
    num_probes: int = 64,
    generator: torch.Generator | None = None,
) -> DenoiserUncertainty:
    """Estimate the error of a denoiser at a noisy image, as a whole and pixel by pixel.

    Args:
        local: The denoiser at the noisy image y; real, with an output of the input's shape.
        noise_std: sigma, in the unit of the image, of white Gaussian noise.
        exact: Write the Jacobian as a dense matrix (at most 1 GB), one product for each pixel.
        num_probes: Random probes if not exact; of the variance, of the divergence and of the
            asymmetry each.
        generator: Source of the probes; default: seed 0.

    Returns:
        SURE, the map of variances, and how far the Jacobian is from one that warrants them.

    Raises:
        ValueError: If the noise is not positive, output and input differ in shape, or the exact
            Jacobian would not fit.
        TypeError: If the network is complex.

    Example:
        >>> from framelets.geometry import linearize
        >>> noisy = torch.ones(1, 1, 2, 2)
        >>> found = denoiser_uncertainty(linearize(lambda y: y / 2, noisy), 1.0, exact=True)
        >>> found.divergence, found.mean_squared_error, found.mean_variance
        (2.0, 0.25, 0.5)
    """
    if not noise_std > 0:
        raise ValueError(f"noise_std must be positive, got {noise_std}")
    if local.image.is_complex() or local.output.is_complex():
        raise TypeError(
            "local must be a real network, got complex; record it on real and imaginary parts as "
            "channels, with the noise of one of them"
        )
    if local.output.shape != local.image.shape:
        raise ValueError(
            f"a denoiser's output must have the input's shape {tuple(local.image.shape)}, got "
            f"{tuple(local.output.shape)}"
        )
    jacobian = local.tangent
    if exact:
        matrix = jacobian.to_matrix(dtype=local.image.dtype, device=local.image.device).double()
        entries = matrix.diagonal().reshape(local.image.shape)
        spread = torch.zeros_like(entries)
        trace, trace_error = float(entries.sum()), 0.0
        largest = float(matrix.abs().max())
        square = float((matrix * matrix.mT).sum())
        asymmetry = _ratio(matrix - matrix.mT, matrix)
    else:
        generator = generator or torch.Generator().manual_seed(0)
        probed = diagonal(
            jacobian,
            dtype=local.image.dtype,
            device=local.image.device,
            num_probes=num_probes,
            generator=generator,
        )
        entries, spread = probed.value.double(), probed.standard_error.double()
        largest = float(entries.abs().max())
        estimate = divergence(local, num_probes=num_probes, generator=generator)
        trace, trace_error = float(estimate.value.real), estimate.standard_error
        square, asymmetry = _probe_squares(jacobian, local.image, num_probes, generator)
    variance = noise_std**2
    num_pixels = local.image.numel()
    rounding = num_pixels * torch.finfo(local.image.dtype).eps * largest
    residual = float((local.output.double() - local.image.double()).square().sum())
    risk = residual - num_pixels * variance + 2 * variance * trace
    risk_square = 4 * variance * residual + 4 * variance**2 * square - 2 * num_pixels * variance**2
    risk_square += (2 * variance * trace_error) ** 2
    return DenoiserUncertainty(
        noise_std=noise_std,
        exact=exact,
        divergence=trace,
        divergence_standard_error=trace_error,
        mean_squared_error=risk / num_pixels,
        mean_squared_error_deviation=(
            math.sqrt(risk_square) / num_pixels if risk_square >= 0 else math.nan
        ),
        variance=variance * entries,
        variance_standard_error=variance * spread,
        num_negative=int((entries < -3 * spread - rounding).sum()),
        asymmetry=asymmetry,
    )


def _probe_squares(
    jacobian: LinearOperator, image: Tensor, num_probes: int, generator: torch.Generator
) -> tuple[float, float]:
    """Estimate tr(J J) and |J - J^T| / |J| from products with random vectors."""
    shape = (num_probes, *image.shape)
    probes = torch.randn(shape, dtype=image.dtype, device=generator.device, generator=generator)
    probes = probes.to(image.device)
    after, before = jacobian(probes).double(), jacobian.adjoint(probes).double()
    square = float((before * after).sum()) / num_probes
    # |J z| and |J^T z| have the same mean square: together they vary less.
    return square, math.sqrt(2) * _ratio(after - before, torch.cat([after, before]))


def _ratio(part: Tensor, whole: Tensor) -> float:
    size = float(torch.linalg.vector_norm(whole))
    return float(torch.linalg.vector_norm(part)) / size if size > 0 else 0.0
