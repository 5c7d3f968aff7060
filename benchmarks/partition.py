"""Every boundary on a segment of images through the shipped tight-frame U-Net: time and memory.

The segment starts at a filtered back-projection of 60 views, 256 x 256, and has a total norm of
20 HU: noise, scaling of the image, and the way towards another image. In a process of its own for
each direction, since the peak of its memory is that of its whole life. What a breakpoint costs is
compared in CPU time with the network's own forward pass in double precision, which exact positions
need; that in single precision stands beside it.
"""

import resource
import sys
import time
from functools import partial

import torch
from torch import Tensor, nn

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

    start, start_cpu = time.perf_counter(), time.process_time()
    partition = partition_segment(network, image, direction)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    torch.set_num_threads(1)  # on which a forward pass takes the least CPU time
    double = load_shipped(NETWORK).eval().requires_grad_(False).double()
    passes = interleave(
        {
            "single": partial(_infer, network, image),
            "double": partial(_infer, double, image.double()),
        },
        REPEATS,
    )
    each = cpu_seconds / max(1, len(partition.positions))
    case = f"{name}, total norm {NORM_HU:g} HU, one run"
    return [
        Row("partition", case, "boundaries", partition.num_boundaries, ""),
        Row("partition", case, "time", seconds, "s", 60 * MINUTES),
        Row("partition", case, "peak memory of the process", peak, "GiB", 8.0),
        Row("partition", case, "CPU time a breakpoint", 1e3 * each, "ms"),
        Row(
            "partition",
            case,
            "the same / a forward pass in double precision",
            each / passes["double"].cpu,
            "",
            1.0,
        ),
        Row(
            "partition",
            case,
            "the same / a forward pass in single precision",
            each / passes["single"].cpu,
            "",
        ),
        Row("partition", case, "replay error", partition.replay_error, ""),
    ]


@torch.inference_mode()
def _infer(network: nn.Module, image: Tensor) -> Tensor:
    result: Tensor = network(image)
    return result


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    print_rows(measure(sys.argv[1]))
