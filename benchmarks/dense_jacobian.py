"""Twenty singular triplets against the dense Jacobian and its decomposition, at 64 x 64 pixels.

The Jacobian is made as is usual: one backward pass for every pixel of the output. Both ways find
the same triplets of the trained Open Image Denoise U-Net at a photograph, in one channel. Seconds
are CPU seconds of one thread, which other programs on the machine hardly change.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from skimage.data import astronaut
from torch import Tensor

from benchmarks.measure import Row, print_rows
from framelets.geometry import linearize, spectrum
from framelets.networks.open_image_denoise import open_image_denoise

SIZE = 64
NUM_TRIPLETS = 20
TOLERANCE = 1e-4
"""Of the residuals; singular values then agree to about its square."""


def measure() -> list[Row]:
    """Find the triplets either way."""
    photograph = torch.from_numpy(astronaut()[100 : 100 + SIZE, 200 : 200 + SIZE]) / 255
    noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    image = (photograph.mean(dim=-1) + 0.1 * noise).clamp(0, 1)[None, None]
    network = open_image_denoise(transfer="none").requires_grad_(False)

    def gray(values: Tensor) -> Tensor:
        result: Tensor = network(values.expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True)
        return result

    triplets, seconds = _timed(
        lambda: spectrum(linearize(gray, image).tangent, num=NUM_TRIPLETS, tolerance=TOLERANCE)
    )
    jacobian, dense_seconds = _timed(lambda: _dense_jacobian(gray, image))
    (_, dense, right), decomposition_seconds = _timed(lambda: torch.linalg.svd(jacobian))
    values = triplets.values
    found = triplets.right.reshape(NUM_TRIPLETS, -1)
    # The dense way's first 20 vectors, as a subspace: vectors of close values may mix.
    gap = float((values - dense[:NUM_TRIPLETS]).abs().max() / dense[0])
    kept = torch.linalg.vector_norm(found @ right[: NUM_TRIPLETS + 5].T, dim=-1)
    whole = dense_seconds + decomposition_seconds
    case = f"denoiser, {NUM_TRIPLETS} triplets at {SIZE} x {SIZE}"
    return [
        Row("dense_jacobian", case, "recording and triplets", seconds, "s CPU"),
        Row("dense_jacobian", case, "one backward pass a pixel", dense_seconds, "s CPU"),
        Row("dense_jacobian", case, "its decomposition", decomposition_seconds, "s CPU"),
        Row("dense_jacobian", case, "ours / the dense way", seconds / whole, "", 0.1),
        Row("dense_jacobian", case, "largest difference of values / s_1", gap, "", TOLERANCE),
        Row(
            "dense_jacobian",
            case,
            f"largest part of a vector outside the dense way's first {NUM_TRIPLETS + 5}",
            float((1 - kept.square()).clamp(min=0).sqrt().max()),
            "",
        ),
    ]


def _dense_jacobian(function: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    point = image.clone().requires_grad_()
    output = function(point).flatten()
    rows = [torch.autograd.grad(value, point, retain_graph=True)[0] for value in output]
    return torch.stack(rows).flatten(1)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return call(), time.process_time() - start


if __name__ == "__main__":
    torch.set_num_threads(1)
    print_rows(measure())
