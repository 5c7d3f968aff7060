"""Partitions of small networks, region by region, against regioncam (single precision).

regioncam knows dense layers: convolutions on 8x8 images are handed to it as matrices.
"""

import numpy as np
import pytest
import regioncam
import torch
from torch import nn

from framelets.geometry import partition_plane, partition_segment

SHAPE = (1, 8, 8)


def encoder_decoder():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 3, 4, stride=4),
        nn.ReLU(),
        nn.Conv2d(3, 1, 3, padding=1),
    )


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return encoder_decoder().eval().requires_grad_(False)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def send(peer, network):
    """Send a partition of regioncam through the layers of a network."""
    shape = SHAPE
    for layer in network:
        if isinstance(layer, nn.ReLU):
            peer.relu()
        elif isinstance(layer, nn.LeakyReLU):
            peer.leaky_relu(layer.negative_slope)
        else:
            units = torch.eye(int(np.prod(shape))).reshape(-1, *shape)
            constant = layer(torch.zeros(1, *shape))
            peer.linear((layer(units) - constant).flatten(1).numpy(), constant.flatten().numpy())
            shape = constant.shape[1:]


def test_the_pieces_of_a_segment(network, rng):
    points = 2 * torch.randn(2, 64, generator=rng)
    peer = regioncam.Regioncam1D.through_points(points.numpy())
    start, end = torch.from_numpy(np.array(peer.activations(1))).reshape(2, 1, *SHAPE)
    send(peer, network)

    partition = partition_segment(network, start, end - start)

    theirs = np.sort(np.array(peer.inputs).ravel().astype(float))
    theirs = (theirs - theirs[0]) / (theirs[-1] - theirs[0])
    assert partition.num_pieces == peer.num_edges > 100
    np.testing.assert_allclose(partition.piece_ends.numpy(), theirs, atol=2e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_regions_of_a_plane(network, seed):
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(1, 64, generator=rng) + 0.08 * torch.randn(3, 64, generator=rng)
    peer = regioncam.Regioncam.through_points(points.numpy())
    corners = torch.from_numpy(np.array(peer.vertex_activations(1))).double()
    center = corners.mean(0)
    rows, columns = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    images = [center - columns - rows / 2, center + columns - rows / 2, center + rows]
    send(peer, network)

    partition = partition_plane(
        network,
        [image.reshape(1, *SHAPE) for image in images],
        half_width=float(torch.linalg.vector_norm(rows)),
    )

    assert partition.num_regions == peer.num_faces > 50
    theirs = np.sort([face.area for face in peer.faces])
    np.testing.assert_allclose(np.sort(partition.areas), theirs, rtol=2e-3, atol=1e-5)
