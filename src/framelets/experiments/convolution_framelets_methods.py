"""The methods of the convolution-framelet experiment and the values their parameters may take.

Every parameter has a ladder of values and a first guess; `convolution_framelets.json` holds what
tuning found on the tuning images, for each problem. The package bm3d, which is not free for every
use, is never required: where it is installed, its rows appear.
"""

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import Identity
from framelets.experiments.convolution_framelets_problems import SIZE, Measured
from framelets.frames import ConvolutionFramelet, dct_local_basis
from framelets.solvers import (
    KeptMeasurement,
    Reconstruction,
    WaveletFrame,
    framelet_shrinkage,
    low_dimensional_manifold,
    total_variation,
)

TABLE = "convolution_framelets.json"
ALL_GROUPS = ("denoising", "inpainting", "deconvolution")
WINDOW = 8  # of the local cosines; the manifold models choose their own
NUM_UPDATES = 3
_NUM_COORDINATES = 12
_WAVELET, _NUM_LEVELS = "db4", 4
_TOLERANCE = 3e-3
_SMALL_WEIGHT = 1e-3

Parameters = Mapping[str, float | int]
"""Values of a method's parameters by name."""

Outcome = Tensor | Reconstruction
"""An image; from an iterative solver of this package, with how the iteration ended."""


@dataclass(frozen=True)
class Ladder:
    """Values that a parameter may take, ascending, and the place of the first guess."""

    values: tuple[float | int, ...]
    guess: int


@dataclass(frozen=True)
class Method:
    """A way to reconstruct.

    Attributes:
        run: From a measurement and parameters to an image.
        ladders: Parameters by name.
        groups: Problems that it is for.
        keeps: True if its weight is not needed where the measurement is kept exactly.
    """

    run: Callable[[Measured, Parameters], Outcome]
    ladders: Mapping[str, Ladder] = field(default_factory=dict)
    groups: tuple[str, ...] = ALL_GROUPS
    keeps: bool = False

    def ladders_for(self, group: str) -> dict[str, Ladder]:
        """Return the parameters that matter in a group of problems."""
        unused = {"weight"} if self.keeps and group == "inpainting" else set()
        return {name: ladder for name, ladder in self.ladders.items() if name not in unused}


def image_of(outcome: Outcome) -> Float[Tensor, "height width"]:
    """Return the image that a method made, clipped to black and white as every one is."""
    image = outcome.image if isinstance(outcome, Reconstruction) else outcome
    return image.clamp(0, 1)


def tuned_parameters(problem: str, method: str) -> Parameters:
    """Look up what tuning found for a problem and a method."""
    found: Parameters = _table()["parameters"][problem].get(method, {})
    return found


@cache
def _table() -> dict[str, Any]:
    path = Path(__file__).parent / TABLE
    if not path.is_file():
        raise FileNotFoundError(
            f"the table of tuned parameters {TABLE} does not come with this version; make it with "
            f"framelets reproduce convolution-framelets-tuning --run RUN and copy it to {path}"
        )
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


# Methods.


def _start(measured: Measured, _: Parameters) -> Tensor:
    return measured.start


def _nonlocal_means(measured: Measured, parameters: Parameters) -> Tensor:
    from skimage.restoration import denoise_nl_means

    sigma = measured.problem.noise
    image = denoise_nl_means(
        measured.measurement.numpy(),
        patch_size=5,
        patch_distance=10,
        h=parameters["strength"] * sigma,
        sigma=sigma,
        fast_mode=False,
    )
    return torch.from_numpy(image).to(measured.measurement)


def _bm3d(measured: Measured, _: Parameters) -> Tensor:
    bm3d = importlib.import_module("bm3d")
    noisy, sigma = measured.measurement.double().numpy(), measured.problem.noise
    try:
        if measured.problem.group == "denoising":
            image = bm3d.bm3d(noisy, sigma)
        else:
            impulse = torch.zeros_like(measured.measurement, dtype=torch.float64)
            impulse[SIZE // 2, SIZE // 2] = 1
            kernel = measured.operator(impulse)[
                1:, 1:
            ].numpy()  # an odd size, so that it has a center
            image = bm3d.bm3d_deblurring(noisy[..., None], sigma, kernel)  # takes channels alone
    except AttributeError as error:
        raise ValueError(
            f"the installed bm3d does not run with the other packages ({error}); mend or remove "
            "it: without it, its rows are left out"
        ) from error
    return torch.from_numpy(np.asarray(image)).to(measured.measurement).reshape(SIZE, SIZE)


def _total_variation(measured: Measured, parameters: Parameters) -> Reconstruction:
    # The tolerance is small: of a blurred or interpolated start much would be left otherwise, which
    # is a regularization of its own. Missing pixels: so small a weight that smaller ones change
    # nothing to be seen, and then the nearest image with the measured pixels.
    missing = measured.problem.group == "inpainting"
    result = total_variation(
        measured.measurement,
        measured.operator,
        _SMALL_WEIGHT if missing else parameters["weight"],
        num_iterations=5000,
        tolerance=1e-6,
        start=measured.start,
        operator_norm=1.0,
    )
    if not missing:
        return result
    image = KeptMeasurement(measured.operator, measured.measurement).nearest(result.image)
    return Reconstruction(
        image, result.objective, result.residual, result.num_iterations, result.converged
    )


def _wavelets(undecimated: bool) -> Callable[[Measured, Parameters], Reconstruction]:
    def run(measured: Measured, parameters: Parameters) -> Reconstruction:
        frame = WaveletFrame((SIZE, SIZE), _WAVELET, _NUM_LEVELS, undecimated=undecimated)
        levels = frame.levels
        relative = torch.where(levels > 0, 2.0 ** (parameters["slope"] * (1 - levels)), 0.0)
        return framelet_shrinkage(
            measured.measurement,
            measured.operator,
            None if measured.problem.group == "inpainting" else parameters["weight"],
            frame,
            relative_weights=relative,
            start=measured.start,
            num_iterations=400,
            tolerance=_TOLERANCE,
        )

    return run


@cache
def _cosines() -> tuple[ConvolutionFramelet, Float[Tensor, " filter"]]:
    """Return the framelets of local cosines, and the frequency of each filter."""
    window = (WINDOW, WINDOW)
    basis = dct_local_basis(window)
    frame = ConvolutionFramelet((SIZE, SIZE), window, Identity(), basis)
    # The norm of a filter's differences to the tap below and to the right; 0 for the constant one.
    filters = basis.mT.unflatten(-1, window)
    squares = sum(filters.diff(dim=axis).square().sum((-2, -1)) for axis in (-2, -1))
    frequency = torch.as_tensor(squares).sqrt()
    return frame, torch.where(frequency > 1e-6, frequency, 0.0)


def _shrink_cosines(measured: Measured, parameters: Parameters) -> Reconstruction:
    frame, frequency = _cosines()
    return framelet_shrinkage(
        measured.measurement,
        measured.operator,
        None if measured.problem.group == "inpainting" else parameters["weight"],
        frame,
        relative_weights=torch.where(frequency > 0, frequency ** parameters["slope"], 0.0),
        start=measured.start,
        num_iterations=400,
        tolerance=_TOLERANCE,
    )


def _manifold(reweighting: str) -> Callable[[Measured, Parameters], Reconstruction]:
    def run(measured: Measured, parameters: Parameters) -> Reconstruction:
        width = int(parameters["window"])
        return low_dimensional_manifold(
            measured.measurement,
            measured.operator,
            None if measured.problem.group == "inpainting" else parameters["weight"],
            measured.start,
            window=(width, width),
            reweighting=reweighting,
            num_neighbors=int(parameters["num_neighbors"]),
            num_coordinates=min(_NUM_COORDINATES, width**2),
            num_updates=NUM_UPDATES,
            tolerance=1e-4 if measured.problem.group == "deconvolution" else 1e-3,
        )

    return run


def _powers(base: float, low: int, high: int, guess: float) -> Ladder:
    values = tuple(float(f"{base**power:.3g}") for power in range(low, high + 1))
    return Ladder(values, min(range(len(values)), key=lambda i: abs(np.log(values[i] / guess))))


_MANIFOLD = {
    "window": Ladder((3, 4, 6, 8, 10), 3),
    "num_neighbors": Ladder((3, 5, 10, 20, 40), 2),
}

METHODS: dict[str, Method] = {
    "start": Method(_start),
    "non-local means": Method(
        _nonlocal_means,
        {"strength": Ladder((0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2), 4)},
        ("denoising",),
    ),
    "bm3d": Method(_bm3d, groups=("denoising", "deconvolution")),
    "tv": Method(_total_variation, {"weight": _powers(1.5, -28, 0, 1e-2)}, keeps=True),
    "wavelets": Method(
        _wavelets(undecimated=False),
        {"weight": _powers(1.5, -24, 2, 3e-2), "slope": Ladder((0, 0.5, 1, 1.5, 2, 2.5), 1)},
        keeps=True,
    ),
    "undecimated wavelets": Method(
        _wavelets(undecimated=True),
        {"weight": _powers(1.5, -24, 2, 3e-2), "slope": Ladder((1, 1.5, 2, 2.5, 3, 3.5, 4), 2)},
        keeps=True,
    ),
    "framelets, l1": Method(
        _shrink_cosines,
        {"weight": _powers(1.5, -24, 2, 3e-2), "slope": Ladder((0, 0.5, 1, 1.5, 2), 2)},
        keeps=True,
    ),
    "ldmm": Method(
        _manifold("none"), {"weight": _powers(2.0, -16, 4, 0.3)} | _MANIFOLD, keeps=True
    ),
    "reweighted, published": Method(
        _manifold("published"), {"weight": _powers(2.0, -16, 4, 0.3)} | _MANIFOLD, keeps=True
    ),
    "reweighted, inverse": Method(
        _manifold("inverse"), {"weight": _powers(2.0, -24, 0, 1e-2)} | _MANIFOLD, keeps=True
    ),
}
"""Every method by name, in the order of the table."""


def methods_for(group: str) -> list[str]:
    """Name the methods for a group of problems that can run here."""
    return [
        name
        for name, method in METHODS.items()
        if group in method.groups
        and (name != "bm3d" or importlib.util.find_spec("bm3d") is not None)
    ]
