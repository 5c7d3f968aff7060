"""What Hankel matrices cost by FFT, against forming them and multiplying.

All windows of an image of 512 x 512, and of 8 complex channels of 256 x 256. The Gram matrix H* H
and one product H* (H v) are made either way, in turns. The peak of the memory that a process takes
for one of them is measured in a process of its own, as Linux counts it. Times are those of one
thread, in CPU seconds, which other programs on the machine hardly change.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Row, interleave, print_rows, run_apart
from framelets.frames import HankelLifting

GOAL = 0.1
REPEATS = 5


@dataclass(frozen=True)
class Case:
    """Sizes of a lifting; channels are complex."""

    size: int
    window: int
    num_channels: int | None
    dtype: torch.dtype
    boundary: str

    def calls(self, size: int) -> dict[str, Callable[[], Tensor]]:
        """Return what to measure, by name, on images of a size."""
        lifting = HankelLifting(
            (size, size),
            (self.window, self.window),
            num_channels=self.num_channels,
            boundary=self.boundary,
        )
        generator = torch.Generator().manual_seed(0)
        signal = torch.randn(lifting.input_shape, dtype=self.dtype, generator=generator)
        taps = torch.randn(lifting.num_columns, dtype=self.dtype, generator=generator)
        matrix = lifting.matrix(signal)
        return {
            "gram fft": matrix.gram_matrix,
            "gram dense": partial(_dense_gram, lifting, signal),
            "product fft": partial(matrix.gram, taps),
            "product dense": partial(_dense_product, lifting, signal, taps),
        }


CASES = {
    f"{name}, {boundary}": Case(*sizes, boundary)
    for name, sizes in {
        "512 x 512, window 15 x 15, float32": (512, 15, None, torch.float32),
        "512 x 512, window 15 x 15, float64": (512, 15, None, torch.float64),
        "8 x 256 x 256, window 7 x 7, complex64": (256, 7, 8, torch.complex64),
        "8 x 256 x 256, window 7 x 7, complex128": (256, 7, 8, torch.complex128),
    }.items()
    for boundary in ("wrap", "valid")
}


def measure() -> list[Row]:
    """Time and weigh either way in every case."""
    rows = []
    for name, case in CASES.items():
        timings = interleave(case.calls(case.size), REPEATS)
        for quantity, symbol in (("gram", "H* H"), ("product", "H* (H v)")):
            fft, dense = (f"{quantity} {way}" for way in ("fft", "dense"))
            seconds = timings[fft].cpu
            ratio = seconds / timings[dense].cpu
            rows.append(Row("hankel", name, f"{symbol} by FFT, CPU time", 1e3 * seconds, "ms"))
            rows.append(Row("hankel", name, f"{symbol}: CPU time, FFT / dense", ratio, "", GOAL))
            (ours,), (theirs,) = (run_apart("hankel", name, way) for way in (fft, dense))
            ratio = ours.value / theirs.value
            rows.append(Row("hankel", name, f"{symbol}: memory, FFT / dense", ratio, "", GOAL))
    return rows


def measure_peak(name: str, call: str) -> list[Row]:
    """Weigh one call in this process, after a small one has loaded what it needs."""
    case = CASES[name]
    case.calls(2 * case.window)[call]()
    function = case.calls(case.size)[call]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew here
    before = _status("VmRSS")
    function()
    return [Row("hankel", name, f"peak of {call}", (_status("VmHWM") - before) / 2**10, "MiB")]


def _dense_gram(lifting: HankelLifting, signal: Tensor) -> Tensor:
    matrix = lifting(signal)
    return matrix.mH @ matrix


def _dense_product(lifting: HankelLifting, signal: Tensor, taps: Tensor) -> Tensor:
    matrix = lifting(signal)
    return matrix.mH @ (matrix @ taps)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_rows(measure_peak(*sys.argv[1:]) if sys.argv[1:] else measure())
