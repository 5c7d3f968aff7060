"""Pixel-driven back-projection with a free power of the distance to the source."""

from jaxtyping import Float
from torch import Tensor

from framelets.core.linear_operator import LinearOperator
from framelets.physics._engines import MatchedPair
from framelets.physics._pixel_driven import PixelProjections
from framelets.physics.ct_projector import MEMORY_LIMIT_BYTES, refuse_misplaced, refuse_other_than
from framelets.physics.image_grid import ImageGrid
from framelets.physics.scans import Scan


class BackProjector(LinearOperator):
    """Sum over the views what the detector shows where each pixel falls.

    (B g)(x) = sum over views of U^-power g(view, k(x)), with linear interpolation at the pixel's
    fractional detector index k(x) and U its depth seen from the source, 1 at the axis (always 1
    in a parallel beam). Nothing is multiplied by an angle step. A detector ends in zeros, to which
    the interpolation falls over one element. Filtered back-projection takes power 2 in a fan
    beam, differentiated back-projection power 1, a plain sum power 0. The adjoint is the exact
    transpose; both directions are differentiable.

    Example:
        >>> import torch
        >>> from framelets.physics import ImageGrid, ParallelBeamScan
        >>> scan = ParallelBeamScan(torch.tensor([0.0, 3.0]), 3, detector_spacing_mm=1.0)
        >>> BackProjector(scan, ImageGrid(1, 1, 1.0))(torch.ones(2, 3)).tolist()
        [[2.0]]
    """

    def __init__(
        self,
        scan: Scan,
        grid: ImageGrid,
        distance_power: int = 0,
        engine: str = "auto",
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        """Project the grid on the detector; matrices are built when first needed.

        Args:
            scan: Source and detector.
            grid: Pixels.
            distance_power: Power of 1/U: 0, 1 or 2.
            engine: As in `CTProjector`.
            memory_limit_bytes: As in `CTProjector`.

        Raises:
            ValueError: If the power is another, the source lies inside the image, no ray meets
                it, or the engine is unknown or exceeds the limit.
        """
        super().__init__()
        if distance_power not in (0, 1, 2):
            raise ValueError(f"distance_power must be 0, 1 or 2, got {distance_power}")
        refuse_misplaced(scan, grid)
        self.scan = scan
        self.grid = grid
        self.distance_power = distance_power
        self.input_shape = scan.shape
        self.output_shape = grid.shape
        projections = PixelProjections(scan, grid, distance_power)
        self._pair = MatchedPair(projections, engine, memory_limit_bytes)

    @property
    def engine(self) -> str:
        """The engine that was chosen; "auto" where it depends on the device."""
        return self._pair.engine

    def forward(
        self, sinogram: Float[Tensor, "*batch view detector"]
    ) -> Float[Tensor, "*batch height width"]:
        """Back-project a sinogram.

        Args:
            sinogram: One value for every view and detector element.

        Returns:
            The sum over the views at every pixel.

        Raises:
            ValueError: If the sinogram is not of the scan's shape.
            TypeError: If it is not of real floats.
        """
        refuse_other_than("sinogram", sinogram, self.scan.shape)
        return self._pair(sinogram, adjoint=False)

    def adjoint(
        self, image: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch view detector"]:
        """Spread every pixel over the detector elements that it was read from.

        Args:
            image: One value a pixel.

        Returns:
            The sinogram B* image.

        Raises:
            ValueError: If the image is not of the grid's shape.
            TypeError: If it is not of real floats.
        """
        refuse_other_than("image", image, self.grid.shape)
        return self._pair(image, adjoint=True)
