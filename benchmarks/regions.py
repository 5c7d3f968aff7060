"""Exact regions of a plane through three 8 x 8 images, against regioncam.

regioncam knows dense layers alone, in single precision: convolutions are handed to it as matrices.
Seconds are CPU seconds, medians of several runs in turns.
"""

from functools import partial

import numpy as np
import regioncam
import torch
from torch import Tensor, nn

from benchmarks.measure import NUM_THREADS, Row, interleave, print_rows
from framelets.geometry import PlanePartition, linearize, partition_plane

SHAPE = (1, 8, 8)
REPEATS = 5


def measure() -> list[Row]:
    """Cut the plane either way, and compare the areas of the regions."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.AvgPool2d(2),
        nn.ConvTranspose2d(6, 3, 4, stride=4),
        nn.ReLU(),
        nn.Conv2d(3, 1, 3, padding=1),
    ).requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    points = torch.randn(1, 64, generator=rng) + 0.2 * torch.randn(3, 64, generator=rng)
    layers = _as_matrices(network)
    calls = {
        "ours": partial(_ours, network, points),
        "regioncam": partial(_theirs, layers, points),
    }
    times = interleave(calls, REPEATS)
    ours, theirs = _ours(network, points), _theirs(layers, points)
    areas = np.sort([face.area for face in theirs.faces])
    same = ours.num_regions == len(areas)
    difference = np.abs(np.sort(ours.areas) - areas).max() / areas.max() if same else np.inf
    case = f"a plane of 8 x 8 images, median of {REPEATS}"
    return [
        Row("regions", case, "regions", ours.num_regions, ""),
        Row("regions", case, "regions more or fewer than regioncam's", 1 - same, "", 0.0),
        Row("regions", case, "largest difference of areas / largest area", difference, "", 1e-4),
        Row("regions", case, "ours", 1e3 * times["ours"].cpu, "ms CPU"),
        Row("regions", case, "ours / regioncam", times["ours"].cpu / times["regioncam"].cpu, ""),
    ]


def _as_matrices(network: nn.Sequential) -> list[nn.Module | tuple[np.ndarray, np.ndarray]]:
    layers: list[nn.Module | tuple[np.ndarray, np.ndarray]] = []
    image = torch.zeros(1, *SHAPE)
    for layer in network:
        if isinstance(layer, nn.ReLU | nn.LeakyReLU):
            layers.append(layer)
        else:
            local = linearize(layer, image)
            matrix, constant = local.frozen.to_matrix(), local.offset.flatten()
            layers.append((matrix.mT.contiguous().numpy(), constant.numpy()))
        image = layer(image)
    return layers


def _ours(network: nn.Module, points: Tensor) -> PlanePartition:
    peer = regioncam.Regioncam.through_points(points.numpy())
    corners = torch.from_numpy(np.array(peer.vertex_activations(1))).double()
    rows, columns = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    center = corners.mean(0)
    images = [center - columns - rows / 2, center + columns - rows / 2, center + rows]
    return partition_plane(
        network,
        [image.reshape(1, *SHAPE) for image in images],
        half_width=float(torch.linalg.vector_norm(rows)),
    )


def _theirs(
    layers: list[nn.Module | tuple[np.ndarray, np.ndarray]], points: Tensor
) -> regioncam.Regioncam:
    peer = regioncam.Regioncam.through_points(points.numpy())
    for layer in layers:
        if isinstance(layer, nn.LeakyReLU):
            peer.leaky_relu(layer.negative_slope)
        elif isinstance(layer, tuple):
            peer.linear(*layer)
        else:
            peer.relu()
    return peer


if __name__ == "__main__":
    torch.set_num_threads(NUM_THREADS)
    print_rows(measure())
