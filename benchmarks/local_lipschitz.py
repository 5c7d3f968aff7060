"""K_p, the norm of the Jacobian, at a 512 x 512 photograph: from below and above, time and memory.

In a process of its own, as for the spectrum and with its networks and its image.
"""

import resource
import sys
import time

import torch

from benchmarks.measure import NUM_THREADS, Row, print_rows
from benchmarks.spectrum import network_and_image
from framelets.geometry import linearize, local_lipschitz

GAP = 0.01
MINUTES = 10.0


def measure(name: str) -> list[Row]:
    """Find both bounds once.

    Args:
        name: "unet" or "denoiser".
    """
    network, image = network_and_image(name)
    start = time.perf_counter()
    bounds = local_lipschitz(linearize(network, image), relative_gap=GAP)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    case = f"{name}, K_p at 512 x 512, one run"
    return [
        Row("local_lipschitz", case, "time", seconds, "s", 60 * MINUTES),
        Row("local_lipschitz", case, "peak memory of the process", peak, "GiB", 4.0),
        Row("local_lipschitz", case, "lower bound, certified", bounds.lower, ""),
        Row(
            "local_lipschitz",
            case,
            f"upper over lower bound, less 1 (probability {bounds.probability:g})",
            bounds.upper / bounds.lower - 1,
            "",
            GAP,
        ),
    ]


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    print_rows(measure(sys.argv[1]))
