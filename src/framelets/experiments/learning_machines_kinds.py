"""The learning machines of the experiment, each in three sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

from framelets.machines import (
    ConvolutionFrameletMachine,
    FrameMachine,
    KernelMachine,
    Machine,
    RandomPerceptronMachine,
    SparseFrameMachine,
    deep_framelet_machine,
    encoder_decoder_machine,
    perceptron_machine,
)


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        sizes: Machines by what their size is; the middle one is compared with the other kinds.
        expansion: What its expansion is, in words.
        count_size: Height and width of the image centers on which representations are counted;
            smaller where a system must be solved for each.
    """

    sizes: Mapping[str, Machine]
    expansion: str
    count_size: int = 256

    @property
    def main_size(self) -> str:
        """The size that is compared with the other kinds."""
        names = list(self.sizes)
        return names[len(names) // 2]


def make_kinds(quick: bool = False) -> dict[str, Kind]:
    """Return all kinds by name, in the order of the table.

    Args:
        quick: Train for a few steps only.
    """
    few = 40 if quick else None
    kernel_patches = (100, 200, 400) if quick else (500, 1000, 2000)
    crops = 2 if quick else 8
    return {
        "kernel machine": Kind(
            {f"{n} patches": KernelMachine(num_patches=n) for n in kernel_patches},
            "functions k(x_i, .), fixed; tangent changes smoothly",
            count_size=96,
        ),
        "perceptron, random hidden layer": Kind(
            {f"{n} units": RandomPerceptronMachine(n) for n in (16, 64, 256)},
            "piecewise linear; hidden layer drawn, not learned",
        ),
        "single-layer perceptron": Kind(
            {f"{n} units": perceptron_machine(n, num_steps=few or 1000) for n in (16, 64, 256)},
            "piecewise linear",
        ),
        "frame": Kind(
            {f"{n} levels": FrameMachine(num_levels=n) for n in (1, 2, 3)},
            "one linear map",
        ),
        "compressed sensing with frame": Kind(
            {f"{n} levels": SparseFrameMachine(num_levels=n, num_crops=crops) for n in (1, 2, 3)},
            "piecewise linear; atoms of the frame are selected",
            count_size=72,
        ),
        "convolution framelets": Kind(
            {
                f"{n}x{n} taps": ConvolutionFrameletMachine(window=(n, n), num_crops=crops)
                for n in (4, 5, 6)
            },
            "linear for a basis that changes smoothly, or jumps, with the input",
            count_size=72,
        ),
        "deep convolutional framelets + CS": Kind(
            {f"{n} layers": deep_framelet_machine(n, num_steps=few or 600) for n in (1, 2, 3)},
            "piecewise linear",
        ),
        "deep encoder-decoder": Kind(
            {f"width {n}": encoder_decoder_machine(n, num_steps=few or 1500) for n in (4, 8, 16)},
            "piecewise linear",
        ),
    }
