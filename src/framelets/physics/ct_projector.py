"""Line integrals of an image along the rays of a two-dimensional CT scan."""

from jaxtyping import Float
from torch import Tensor

from framelets.core.linear_operator import LinearOperator
from framelets.physics._engines import MatchedPair
from framelets.physics._joseph import JosephRays
from framelets.physics.image_grid import ImageGrid
from framelets.physics.scans import FanBeamScan, Scan

MEMORY_LIMIT_BYTES = 1_000_000_000
"""What the matrices of one operator may take before `auto` computes weights on the fly."""


class CTProjector(LinearOperator):
    """Attenuation in 1/mm to line integrals along every ray, by Joseph's interpolation.

    (A f)(view, detector) = integral of f along the ray, in mm times the image's unit. The adjoint
    is exact, so it is a back-projection with interpolation along rays; `BackProjector` is the one
    to use in filtered back-projection. Both directions are differentiable, again and again.

    Example:
        >>> import torch
        >>> from framelets.physics import ImageGrid, ParallelBeamScan
        >>> scan = ParallelBeamScan(torch.tensor([0.0]), num_detectors=3, detector_spacing_mm=2.0)
        >>> CTProjector(scan, ImageGrid(3, 3, 2.0))(torch.ones(3, 3)).tolist()
        [[6.0, 6.0, 6.0]]
    """

    def __init__(
        self,
        scan: Scan,
        grid: ImageGrid,
        engine: str = "auto",
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    ) -> None:
        """Place the rays on the grid; matrices are built when first needed.

        Args:
            scan: Source and detector.
            grid: Pixels.
            engine: "sparse" keeps the matrix and its transpose, "numba" compiled loops, "torch"
                plain torch. "auto" is sparse within the memory limit, else numba on CPUs and
                torch elsewhere.
            memory_limit_bytes: Most that the two float32 matrices of "sparse" may take.

        Raises:
            ValueError: If the source lies inside the image, no ray meets it, or the engine is
                unknown or exceeds the limit.
        """
        super().__init__()
        refuse_misplaced(scan, grid)
        self.scan = scan
        self.grid = grid
        self.input_shape = grid.shape
        self.output_shape = scan.shape
        self._pair = MatchedPair(JosephRays(scan, grid), engine, memory_limit_bytes)

    @property
    def engine(self) -> str:
        """The engine that was chosen; "auto" where it depends on the device."""
        return self._pair.engine

    def forward(
        self, image: Float[Tensor, "*batch height width"]
    ) -> Float[Tensor, "*batch view detector"]:
        """Integrate an image along every ray.

        Args:
            image: Attenuation in 1/mm on the grid.

        Returns:
            The sinogram of line integrals.

        Raises:
            ValueError: If the image is not of the grid's shape.
            TypeError: If it is not of real floats.
        """
        refuse_other_than("image", image, self.grid.shape)
        return self._pair(image, adjoint=False)

    def adjoint(
        self, sinogram: Float[Tensor, "*batch view detector"]
    ) -> Float[Tensor, "*batch height width"]:
        """Add every ray's value to the pixels that it crosses, times the length in each.

        Args:
            sinogram: One value a ray.

        Returns:
            The image A* sinogram.

        Raises:
            ValueError: If the sinogram is not of the scan's shape.
            TypeError: If it is not of real floats.
        """
        refuse_other_than("sinogram", sinogram, self.scan.shape)
        return self._pair(sinogram, adjoint=True)


def refuse_other_than(name: str, tensor: Tensor, shape: tuple[int, int]) -> None:
    """Raise unless a tensor holds real floats and ends in the shape of a grid or a scan."""
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must hold real floats, got {tensor.dtype}; convert it first")
    if tuple(tensor.shape[-2:]) != shape:
        axes = "height, width" if name == "image" else "view, detector"
        raise ValueError(
            f"{name} must have shape (*batch, {axes}) ending in {shape}, got {tuple(tensor.shape)}"
        )


def refuse_misplaced(scan: Scan, grid: ImageGrid) -> None:
    """Raise if the source lies inside the image or no ray meets the image."""
    if isinstance(scan, FanBeamScan) and scan.source_to_isocenter_mm <= grid.radius_mm:
        raise ValueError(
            f"source_to_isocenter_mm must exceed the image's half diagonal {grid.radius_mm:.6g} "
            f"mm, got {scan.source_to_isocenter_mm}; the source would lie inside the image: "
            "check units, or make the grid smaller"
        )
    points, directions = scan.rays()
    distances = (points[..., 0] * directions[..., 1] - points[..., 1] * directions[..., 0]).abs()
    if float(distances.min()) >= grid.radius_mm:
        raise ValueError(
            f"scan has no ray within {grid.radius_mm:.6g} mm of the axis, where the image is; "
            "check that spacings and offsets are in mm"
        )
