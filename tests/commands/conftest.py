"""A scan and networks small enough to run every command in seconds."""

import pytest
import torch

from framelets.commands.simulate import simulate
from framelets.networks import UNet
from framelets.tasks import SparseViewCT

SIZE = 32
VIEWS = 12


def tiny_network(task, name):
    if name == "unrolled":
        task = SparseViewCT()
        network = task.network(name)
    else:
        network = UNet(width=4, depth=1, residual=True, normalization="none")
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(requires_grad=False)


@pytest.fixture
def tiny_weights(monkeypatch):
    """Let the task have untrained small networks in place of its shipped ones."""
    monkeypatch.setattr(SparseViewCT, "trained", tiny_network)


@pytest.fixture(scope="session")
def scan(tmp_path_factory):
    """Path of a simulated scan of the chest CT, with its reference."""
    folder = tmp_path_factory.mktemp("scan")
    config = folder / "scan.toml"
    config.write_text(f"num_views = {VIEWS}\nimage_size = {SIZE}\n")
    simulate(config, folder / "scan.npz")
    return folder / "scan.npz"
