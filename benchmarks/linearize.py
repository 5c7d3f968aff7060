"""What an exact explanation costs, against one forward pass and against autograd's own products.

A U-Net of width 32 and depth 4 at one image of 256 x 256, single precision. One product with the
frozen map or its adjoint is compared, vector for vector, with a forward pass of as many images in
inference mode and channels-last layout. Memory is that of all tensors which the recording keeps
alive, over that of the activations: the outputs of all layers, each storage counted once.
"""

import gc
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import NUM_THREADS, Row, interleave, print_rows
from framelets.geometry import linearize
from framelets.networks import UNet

SIZE = 256
REPEATS = {1: 15, 8: 5}


def measure() -> list[Row]:
    """Time the products for batches of 1 and 8, and weigh the recording."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = UNet(in_channels=1, out_channels=1, width=32, depth=4).eval().requires_grad_(False)
    image = torch.rand(1, 1, SIZE, SIZE, generator=generator)
    activations = _activation_bytes(network, image)
    before = _living_bytes()
    local_map = linearize(network, image)
    recording = _living_bytes() - before
    forward_network = network.to(memory_format=torch.channels_last)
    rows = [
        Row("linearize", "memory", "recording / activations", recording / activations, "", 1.5),
        Row("linearize", "memory", "recording", recording / 2**20, "MiB"),
        Row("linearize", "accuracy", "replay error", local_map.replay_error, ""),
    ]
    for batch, repeats in REPEATS.items():
        vectors = torch.randn(batch, 1, SIZE, SIZE, generator=generator)
        images = image.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        timings = interleave(
            {
                "forward": partial(_infer, forward_network, images),
                "frozen @ V": partial(_infer, local_map.frozen, vectors),
                "frozen.H @ U": partial(_infer, local_map.frozen.adjoint, vectors),
                "torch.func.jvp": partial(torch.func.jvp, network, (images,), (vectors,)),
                "linearize": partial(linearize, network, image),
            },
            repeats,
        )
        case = f"batch {batch}, median of {repeats}"
        forward, jvp = timings["forward"].wall, timings["torch.func.jvp"].wall
        rows.append(Row("linearize", case, "one forward pass", 1e3 * forward, "ms"))
        for name, goal in (("frozen @ V", 1.15), ("frozen.H @ U", 1.3)):
            wall = timings[name].wall
            rows.append(Row("linearize", case, f"{name} / forward pass", wall / forward, "", goal))
            rows.append(Row("linearize", case, f"{name} / torch.func.jvp", wall / jvp, "", 0.5))
        recorded = timings["linearize"].wall * batch / forward
        rows.append(Row("linearize", case, "recording / forward pass of one", recorded, ""))
    return rows


@torch.inference_mode()
def _infer(function: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = function(x)
    return result


def _activation_bytes(network: nn.Module, image: Tensor) -> int:
    storages: dict[int, int] = {}
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            kept.append(output)
            storage = output.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(keep) for leaf in leaves]
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    return sum(storages.values())


def _living_bytes() -> int:
    gc.collect()
    # The type itself: isinstance would ask lazy objects for their class and wake them.
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    print_rows(measure())
