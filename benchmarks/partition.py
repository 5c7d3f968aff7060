"""Every boundary on a segment of images through the shipped tight-frame U-Net: time and memory.

The segment starts at a filtered back-projection of 60 views, 256 x 256, and has a total norm of
20 HU: noise, the same as scaling the image, and towards another image. In a process of its own for
each direction, since the peak of its memory is that of its whole life. A forward pass is the
network's own in double precision, which the partition needs; that in single precision stands
beside it.
"""

import resource
import sys
import time

import torch
from torch import nn

from benchmarks.measure import NUM_THREADS, Row, interleave, print_rows
from framelets.data.packaged import WATER_ATTENUATION
from framelets.geometry import partition_segment
from framelets.tasks import load_shipped
from framelets.tasks.ct_simulation import fixed_scan

NETWORK = "sparse-view-ct/tight-frame-unet"
NORM_HU = 20.0
DIRECTIONS = ("noise", "scaling", "another image")
MINUTES = 10.0
REPEATS = 3


def measure(name: str) -> list[Row]:
    """Follow one segment.

    Args:
        name: One of `DIRECTIONS`.
    """
    scan = fixed_scan(num_views=60, num_images=2, seed=1)
    image, another = scan.fbp.float()[:, None, None]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    direction = {"noise": noise, "scaling": image, "another image": another - image}[name]
    length = NORM_HU / 1000 * WATER_ATTENUATION / float(scan.scale[0])
    direction = direction * (length / torch.linalg.vector_norm(direction))
    network = load_shipped(NETWORK).eval().requires_grad_(False)

    start = time.perf_counter()
    partition = partition_segment(network, image, direction)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    single = nn.Sequential(network)
    double = nn.Sequential(load_shipped(NETWORK).eval().requires_grad_(False).double())
    with torch.inference_mode():
        passes = interleave(
            {"single": lambda: single(image), "double": lambda: double(image.double())}, REPEATS
        )
    each = seconds / max(1, len(partition.positions))
    case = f"{name}, total norm {NORM_HU:g} HU, one run"
    return [
        Row("partition", case, "boundaries", partition.num_boundaries, ""),
        Row("partition", case, "time", seconds, "s", 60 * MINUTES),
        Row("partition", case, "peak memory of the process", peak, "GiB", 8.0),
        Row("partition", case, "time a breakpoint", 1e3 * each, "ms"),
        Row(
            "partition",
            case,
            "time a breakpoint / forward pass in double precision",
            each / passes["double"].wall,
            "",
            1.0,
        ),
        Row(
            "partition",
            case,
            "time a breakpoint / forward pass in single precision",
            each / passes["single"].wall,
            "",
        ),
        Row("partition", case, "replay error", partition.replay_error, ""),
    ]


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    print_rows(measure(sys.argv[1]))
