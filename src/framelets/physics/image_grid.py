"""Where the pixels of an image lie, and what one coarse pixel sees of a finer image."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ImageGrid:
    """Square pixels around the rotation axis, which is the origin of (x, y) in mm.

    x grows with the column index and y against the row index: row 0 is the top of the image, where
    y is greatest. Pixel (row, column) has its center at

        x = (column - (width - 1) / 2) pixel_spacing_mm,
        y = ((height - 1) / 2 - row) pixel_spacing_mm,

    so an image of odd size has a pixel on the axis and one of even size has it between four pixels.

    Attributes:
        height: Number of rows.
        width: Number of columns.
        pixel_spacing_mm: Side of a pixel.

    Example:
        >>> ImageGrid(height=2, width=3, pixel_spacing_mm=0.5).pixel_centers_mm()[0, 0].tolist()
        [-0.5, 0.25]
    """

    height: int
    width: int
    pixel_spacing_mm: float

    def __post_init__(self) -> None:
        """Refuse sizes that no image has."""
        for name in ("height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 pixel, got {getattr(self, name)}")
        refuse_unless_positive("pixel_spacing_mm", self.pixel_spacing_mm)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    @property
    def radius_mm(self) -> float:
        """Radius of the smallest disk around the axis that holds every pixel."""
        return math.hypot(self.height, self.width) / 2 * self.pixel_spacing_mm

    def pixel_centers_mm(self) -> Float[Tensor, "{self.height} {self.width} 2"]:
        """List the (x, y) of every pixel center, in float64."""
        x = torch.arange(self.width, dtype=torch.float64) - (self.width - 1) / 2
        y = (self.height - 1) / 2 - torch.arange(self.height, dtype=torch.float64)
        centers = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return centers * self.pixel_spacing_mm

    def refined(self, factor: int) -> "ImageGrid":
        """Cut every pixel into factor x factor pixels; `pixel_average` leads back.

        Measurements simulated on the finer grid do not share the coarse grid's discretization.
        """
        if factor < 1:
            raise ValueError(f"factor must be a whole number of at least 1, got {factor}")
        return ImageGrid(self.height * factor, self.width * factor, self.pixel_spacing_mm / factor)


def pixel_average(
    image: Float[Tensor, "*batch height width"], factor: int
) -> Float[Tensor, "*batch height//{factor} width//{factor}"]:
    """Average an image over blocks of factor x factor pixels.

    The average keeps the integral over a coarse pixel, so the reference of a scan that was
    simulated on `grid.refined(factor)` is the pixel average of the fine image.

    Args:
        image: Image on the finer grid.
        factor: Fine pixels along each side of a coarse one.

    Returns:
        The image on the coarse grid.

    Raises:
        ValueError: If the factor does not divide height and width.

    Example:
        >>> pixel_average(torch.tensor([[1.0, 2.0], [3.0, 6.0]]), 2).tolist()
        [[3.0]]
    """
    if factor < 1 or image.ndim < 2 or any(size % factor for size in image.shape[-2:]):
        raise ValueError(
            f"image must have height and width divisible by factor {factor}, "
            f"got shape {tuple(image.shape)}; pad or crop it first"
        )
    height, width = image.shape[-2] // factor, image.shape[-1] // factor
    blocks = image.unflatten(-1, (width, factor)).unflatten(-3, (height, factor))
    average: Tensor = blocks.mean(dim=(-3, -1))
    return average


def refuse_unless_positive(name: str, value: float) -> None:
    """Raise unless a length is finite and greater than zero."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number greater than 0, got {value}")
