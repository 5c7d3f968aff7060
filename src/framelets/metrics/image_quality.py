"""Image quality against a reference, one value a sample.

Definitions are those of torchmetrics. The peak is always stated by the caller: taken from the data,
it would differ from table to table. A mask limits a metric to a region, such as the circle that a
scanner sees.

References:
    [1] Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from
        error visibility to structural similarity", IEEE Trans. Image Processing 13(4), 2004.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_WINDOW = 11  # width in pixels of the Gaussian window of [1], whose standard deviation is 1.5


def psnr(
    reconstruction: Float[Tensor, "*batch height width"],
    reference: Float[Tensor, "*batch height width"],
    peak: float | Float[Tensor, "*#batch"],
    mask: Bool[Tensor, "*#batch height width"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Compute the peak signal-to-noise ratio 10 log10(peak^2 / mean (x^ - x)^2) in dB.

    Args:
        reconstruction: What was made.
        reference: What is held true.
        peak: Largest value of the range, in the unit of the images; one, or one a sample.
        mask: True where pixels count; all by default.

    Returns:
        One value a sample; infinite where the images are equal.

    Raises:
        ValueError: If shapes differ, a pixel is not finite, the peak is not positive, or a mask
            leaves no pixel.

    Example:
        >>> psnr(torch.full((4, 4), 0.1), torch.zeros(4, 4), peak=1.0).item()
        20.0
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    _check(reconstruction, reference, mask, peak)

    def of_sample(made: Tensor, true: Tensor, top: Tensor, kept: Tensor) -> Tensor:
        return peak_signal_noise_ratio(made[kept], true[kept], data_range=float(top))

    return _per_sample(of_sample, reconstruction, reference, peak, mask)


def ssim(
    reconstruction: Float[Tensor, "*batch height width"],
    reference: Float[Tensor, "*batch height width"],
    peak: float | Float[Tensor, "*#batch"],
    mask: Bool[Tensor, "*#batch height width"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Compute the mean structural similarity of [1], with its Gaussian window and constants.

    As in [1], windows that leave the image do not count: the mean is over all pixels but the five
    next to the border.

    Args:
        reconstruction: What was made.
        reference: What is held true.
        peak: Largest value of the range, in the unit of the images; one, or one a sample.
        mask: True at the centers of the windows that count.

    Returns:
        One value a sample, at most 1.

    Raises:
        ValueError: As `psnr`, or if the image is smaller than the window of 11 pixels, or the mask
            keeps border pixels only.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check(reconstruction, reference, mask, peak)
    if min(reference.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"ssim needs at least {_WINDOW} rows and columns, got {tuple(reference.shape[-2:])}"
        )

    border = _WINDOW // 2
    inner = slice(border, -border)
    if mask is not None and not mask[..., inner, inner].flatten(-2).any(-1).all():
        raise ValueError(f"mask must keep a pixel at least {border} pixels inside of every sample")

    def of_sample(made: Tensor, true: Tensor, top: Tensor, kept: Tensor) -> Tensor:
        # torchmetrics' own mean has counted the border or not, depending on its version.
        _, similarity = structural_similarity_index_measure(
            made[None, None], true[None, None], data_range=float(top), return_full_image=True
        )
        return similarity[0, 0, inner, inner][kept[inner, inner]].mean()

    return _per_sample(of_sample, reconstruction, reference, peak, mask)


def nmse(
    reconstruction: Float[Tensor, "*batch height width"],
    reference: Float[Tensor, "*batch height width"],
    mask: Bool[Tensor, "*#batch height width"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Compute the normalized mean squared error (||x^ - x|| / ||x||)^2.

    Args:
        reconstruction: What was made.
        reference: What is held true.
        mask: True where pixels count; all by default.

    Returns:
        One value a sample.

    Raises:
        ValueError: If shapes differ, a pixel is not finite, a mask leaves no pixel, or a reference
            is zero.

    Example:
        >>> nmse(torch.full((4, 4), 3.0), torch.full((4, 4), 2.0)).item()
        0.25
    """
    _check(reconstruction, reference, mask)
    if mask is not None:
        reconstruction, reference = reconstruction * mask, reference * mask
    energy = reference.square().sum(dim=(-2, -1))
    if not (energy > 0).all():
        raise ValueError("reference must not be zero in any sample; nmse divides by its norm")
    return (reconstruction - reference).square().sum(dim=(-2, -1)) / energy


def _per_sample(
    of_sample: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    reconstruction: Tensor,
    reference: Tensor,
    peak: float | Tensor,
    mask: Tensor | None,
) -> Tensor:
    *batch, height, width = reference.shape
    if mask is None:
        mask = torch.ones(height, width, dtype=torch.bool, device=reference.device)
    num_samples = math.prod(batch)
    samples = zip(
        reconstruction.reshape(num_samples, height, width),
        reference.reshape(num_samples, height, width),
        torch.as_tensor(peak, dtype=torch.float64).expand(batch).reshape(num_samples),
        mask.expand(reference.shape).reshape(num_samples, height, width),
        strict=True,
    )
    values = [of_sample(*sample) for sample in samples]
    return torch.stack(values).reshape(batch) if values else reference.new_zeros(batch)


def _check(
    reconstruction: Tensor,
    reference: Tensor,
    mask: Tensor | None,
    peak: float | Tensor = 1.0,
) -> None:
    shape = tuple(reference.shape)
    if tuple(reconstruction.shape) != shape or len(shape) < 2:
        raise ValueError(
            "reconstruction and reference must have the same shape (*batch, height, width), "
            f"got {tuple(reconstruction.shape)} and {shape}"
        )
    for name, image in (("reconstruction", reconstruction), ("reference", reference)):
        if not image.is_floating_point():
            raise TypeError(f"{name} must be real and floating point, got {image.dtype}")
        if not image.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    peaks = torch.as_tensor(peak)
    if not ((peaks > 0) & peaks.isfinite()).all():
        raise ValueError(f"peak must be positive, got {peak}; use the largest reference value")
    if mask is not None:
        if mask.dtype != torch.bool or mask.shape[-2:] != reference.shape[-2:]:
            raise ValueError(
                f"mask must be boolean of shape (*batch, {shape[-2]}, {shape[-1]}), "
                f"got {mask.dtype} {tuple(mask.shape)}"
            )
        if not mask.flatten(-2).any(-1).all():
            raise ValueError("mask must keep at least one pixel of every sample")
