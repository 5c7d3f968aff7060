"""Twenty leading singular triplets of a network at a 512 x 512 photograph: time and memory.

In a process of its own, since the peak of its memory is that of its whole life. The network is the
trained Open Image Denoise U-Net ("denoiser"), or a U-Net of width 32 and depth 4 with seeded
weights ("unet").
"""

import resource
import sys
import time

import torch
from skimage.data import astronaut
from torch import Tensor, nn

from benchmarks.measure import NUM_THREADS, Row, print_rows
from framelets.geometry import linearize, spectrum
from framelets.networks import UNet
from framelets.networks.open_image_denoise import open_image_denoise

NUM_TRIPLETS = 20
TOLERANCE = 1e-2


def measure(name: str) -> list[Row]:
    """Find the triplets once.

    Args:
        name: "unet" or "denoiser".

    Returns:
        Time, peak memory and the largest residual.
    """
    network, image = network_and_image(name)
    start = time.perf_counter()
    operator = linearize(network, image).frozen
    triplets = spectrum(operator, num=NUM_TRIPLETS, tolerance=TOLERANCE)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    case = f"{name}, {NUM_TRIPLETS} triplets at 512 x 512, one run"
    return [
        Row("spectrum", case, "time", seconds, "s"),
        Row("spectrum", case, "peak memory of the process", peak, "GiB", 4.0),
        Row("spectrum", case, "largest residual", triplets.residuals.max().item(), "", TOLERANCE),
        Row("spectrum", case, "products", triplets.num_products, ""),
        Row("spectrum", case, "s_20 / s_1", (triplets.values[-1] / triplets.values[0]).item(), ""),
    ]


def network_and_image(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network and the photograph as it takes it.

    Args:
        name: "unet" or "denoiser".
    """
    torch.manual_seed(0)
    photograph = torch.from_numpy(astronaut()).movedim(-1, 0)[None] / 255
    noise = torch.randn(photograph.shape, generator=torch.Generator().manual_seed(0))
    image = (photograph + 0.1 * noise).clamp(0, 1)
    if name == "denoiser":
        return open_image_denoise(transfer="none").requires_grad_(False), image
    network = UNet(in_channels=1, out_channels=1, width=32, depth=4)
    return network.eval().requires_grad_(False), image.mean(dim=1, keepdim=True)


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    print_rows(measure(sys.argv[1]))
