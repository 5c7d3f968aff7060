"""`framelets audit` on networks that others wrote: MONAI, fastMRI, trained Open Image Denoise."""

import json

import numpy as np
import pytest
import torch

from framelets import cli
from framelets.commands import audit as audit_module
from framelets.commands.user_networks import load_network

CODE = """
import importlib.util
from pathlib import Path

import torch

def monai(norm="batch", act="relu"):
    from monai.networks.nets import BasicUNet

    torch.manual_seed(0)
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, norm=norm, act=act,
                     features=(4, 4, 6, 6, 8, 4))

def fastmri(chans=4):
    # From its file alone: the package imports pandas and Lightning.
    (folder,) = importlib.util.find_spec("fastmri").submodule_search_locations
    file = Path(folder, "models", "unet.py")
    spec = importlib.util.spec_from_file_location("fastmri_unet", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    return module.Unet(in_chans=1, out_chans=1, chans=chans, num_pool_layers=2)

def denoiser():
    from framelets.networks.open_image_denoise import open_image_denoise

    return open_image_denoise("rt_ldr_small", transfer="none")
"""

CASES = {
    # Words of the command line, whether it is piecewise linear.
    "monai": ([], True),
    "monai-swish": (["--set", "act=swish"], False),
    "fastmri": ([], False),
    "denoiser": (["--channels", 3], True),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / f"peers_{tmp_path.name.replace('-', '_')}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.setattr(audit_module, "write_audit", lambda run: run / "audit.html")
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(images / f"{name}.npy", rng.random((16, 16)).astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_audits(case, folder, capsys):
    words, piecewise_linear = CASES[case]
    name = f"peers_{folder.name.replace('-', '_')}:{case.split('-')[0]}"
    words = ["audit", name, *words, "--images", folder / "images", "--run", folder / "run"]
    words += ["--precision", "float64", "--device", "cpu", "--worst", 1, "--json"]

    assert cli.main([str(word) for word in words]) == 0

    data = json.loads(capsys.readouterr().out)
    assert data["failed"] == []
    arguments = {"act": "swish"} if case == "monai-swish" else None
    network = load_network(name, arguments=arguments).module.double()
    network.requires_grad_(requires_grad=False)
    channels = 3 if case == "denoiser" else 1
    for image in data["images"]:
        figures = image["figures"]
        assert figures["replay_error"] < 1e-12
        assert figures["piecewise_linear"] == piecewise_linear
        pixels = torch.from_numpy(np.load(folder / "images" / image["image"])).double()
        sample = pixels.expand(1, channels, -1, -1)
        jacobian = torch.func.jacrev(network)(sample).reshape(-1, sample.numel())
        largest = float(torch.linalg.matrix_norm(jacobian, 2))
        assert figures["lipschitz_lower"] <= largest * (1 + 1e-9)
        assert largest <= figures["lipschitz_upper"] * (1 + 1e-9)
        output = float(network(sample).norm())
        assert figures["output_norm"] == pytest.approx(output, rel=1e-10)
        assert image["output_shape"] == [channels, 16, 16]
        assert figures["num_active"] <= figures["num_units"]
