"""Open Image Denoise: the rebuilt networks against the native filter, and hostile archives."""

import struct

import numpy as np
import pyoidn
import pytest
import torch
from skimage.data import astronaut

from framelets.networks import open_image_denoise as module
from framelets.networks.open_image_denoise import WEIGHTS, open_image_denoise, read_tza

QUALITY = {"rt_ldr": pyoidn.OIDN_QUALITY_HIGH, "rt_ldr_small": pyoidn.OIDN_QUALITY_FAST}
QUALITY |= {name.replace("ldr", "hdr"): quality for name, quality in QUALITY.items()}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # OpenMP of torch and TBB of the native filter wait for each other on busy machines.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def noisy_photograph(height, width, peak=1.0):
    rng = np.random.default_rng(0)
    image = astronaut()[:height, 140 : 140 + width] / 255
    image = np.clip(image + 0.1 * rng.standard_normal(image.shape), 0, 1)
    return (peak * image).astype(np.float32)


def filter_natively(image, weights, *, srgb=False):
    output = np.empty_like(image)
    with pyoidn.Device() as device:
        device.commit()
        with pyoidn.Filter(device) as native:
            native.set_image("color", image, pyoidn.OIDN_FORMAT_FLOAT3)
            native.set_image("output", output, pyoidn.OIDN_FORMAT_FLOAT3)
            native.set_bool("hdr", "hdr" in weights)
            native.set_bool("srgb", srgb)
            native.set_float("inputScale", 1.0)
            native.set_quality(QUALITY[weights])
            native.commit()
            native.execute()
        assert device.get_error() is None
    return torch.from_numpy(output).movedim(-1, 0)


def archive(entries, table_offset=None, count=None, magic=0x41D7, version=2):
    """Write a tensor archive from (name, layout, letter, shape, offset, raw values)."""
    body, table = b"", b""
    for name, layout, letter, shape, offset, raw in entries:
        place = 12 + len(body) if offset is None else offset
        body += raw
        table += struct.pack("<H", len(name)) + name + struct.pack("<B", len(shape))
        table += struct.pack(f"<{len(shape)}I", *shape) + layout + letter + struct.pack("<Q", place)
    where = 12 + len(body) if table_offset is None else table_offset
    header = struct.pack("<HBBQ", magic, version, 0, where)
    return header + body + struct.pack("<I", len(entries) if count is None else count) + table


TWO_FLOATS = struct.pack("<2f", 1.5, -2)


def entry(name=b"a", layout=b"x", letter=b"f", shape=(2,), offset=None, raw=TWO_FLOATS):
    return (name, layout, letter, shape, offset, raw)


@pytest.mark.parametrize("shape", [(96, 128), (75, 91)], ids=str)
@pytest.mark.parametrize("weights", sorted(WEIGHTS))
def test_equals_the_native_filter(weights, shape):
    image = noisy_photograph(*shape, peak=3.0 if "hdr" in weights else 1.0)
    network = open_image_denoise(weights).double()

    ours = network(torch.from_numpy(image).double().movedim(-1, 0)[None])[0]

    native = filter_natively(image, weights).double()
    # The native filter computes in single precision; the inverse PU curve, an exponential of
    # slope 5 at encoded values near 1, makes the errors of a high dynamic range larger.
    tolerance = 1e-5 if "hdr" in weights else 2e-6
    assert torch.linalg.vector_norm(ours - native) <= tolerance * torch.linalg.vector_norm(native)


def test_equals_the_native_filter_on_encoded_colors():
    image = noisy_photograph(96, 80)
    network = open_image_denoise(transfer="none").double()

    ours = network(torch.from_numpy(image).double().movedim(-1, 0)[None])[0]

    native = filter_natively(image, "rt_ldr", srgb=True).double()
    assert torch.linalg.vector_norm(ours - native) <= 1e-6 * torch.linalg.vector_norm(native)


def test_denoises_a_photograph():
    clean = torch.from_numpy(astronaut()[:96, 140:236] / 255).movedim(-1, 0)
    noisy = torch.from_numpy(noisy_photograph(96, 96)).movedim(-1, 0)

    denoised = open_image_denoise(transfer="none")(noisy[None])[0]

    assert (denoised - clean).norm() < 0.6 * (noisy - clean).norm()


@pytest.mark.parametrize("transfer", ["pu", "srgb"])
def test_transfer_functions_invert_each_other(transfer):
    network = open_image_denoise("rt_ldr_small", transfer=transfer).double()
    colors = torch.linspace(0, 1, 4001, dtype=torch.float64) ** 3

    # The published constants join the pieces of the curves to 5 digits.
    torch.testing.assert_close(network.decode(network.encode(colors)), colors, rtol=1e-4, atol=1e-8)


def test_transfer_functions_at_known_values():
    srgb = open_image_denoise("rt_ldr_small").double()
    colors = torch.tensor([0.0, 0.002, 0.21404114, 1.0, 1.5], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.02584, 0.5, 1.0, 1.0], dtype=torch.float64)

    torch.testing.assert_close(srgb.encode(colors), expected, rtol=1e-6, atol=1e-7)

    pu = open_image_denoise("rt_hdr_small").double()
    assert pu.encode(torch.tensor(65504.0, dtype=torch.float64)).item() == pytest.approx(1)


@pytest.mark.parametrize("transfer", ["none", "pu", "srgb"])
def test_derivatives_are_finite_at_black(transfer):
    network = open_image_denoise("rt_ldr_small", transfer=transfer)
    image = torch.zeros(1, 3, 16, 16, requires_grad=True)

    (gradient,) = torch.autograd.grad(network(image).sum(), image)

    assert gradient.isfinite().all()


def test_core_takes_any_size_and_batch():
    core = open_image_denoise("rt_ldr_small").core
    images = torch.rand(2, 3, 17, 33, generator=torch.Generator().manual_seed(0))

    together = core(images)

    assert together.shape == images.shape
    torch.testing.assert_close(together[1:], core(images[1:]))


def test_reads_an_archive():
    half = np.arange(4, dtype="<f2").tobytes()
    data = archive([entry(), entry(b"b.weight", b"oihw", b"h", (2, 1, 1, 2), raw=half)])

    tensors = read_tza(data + b"anything after it")

    assert list(tensors) == ["a", "b.weight"]
    assert tensors["a"].tolist() == [1.5, -2]
    assert tensors["b.weight"].tolist() == [[[[0, 1]]], [[[2, 3]]]]


def test_reads_an_archive_file(tmp_path):
    library = module._installed_library().read_bytes()
    digest = WEIGHTS["rt_ldr_small"].digest
    path = tmp_path / "weights.tza"
    path.write_bytes(module._find_archive(library, digest, "rt_ldr_small", path))

    state = open_image_denoise("rt_ldr_small", library=path).state_dict()

    for name, tensor in open_image_denoise("rt_ldr_small").state_dict().items():
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends at byte 0"),
        (archive([entry()], magic=0x1234), "no tensor archive"),
        (archive([entry()], version=3), "no tensor archive"),
        (archive([entry()], table_offset=2**63), "truncated or damaged"),
        (archive([entry()], count=2), "truncated or damaged"),
        (archive([entry()], count=2**32 - 1), "claims 4294967295 tensors"),
        (archive([entry()])[:-1], "truncated or damaged"),
        (archive([entry(offset=2**64 - 1)]), "places 'a' at bytes 18446744073709551615"),
        (archive([entry(b"w", b"oihw", shape=(2**32 - 1,) * 4)]), "places 'w'"),
        (archive([entry(offset=12), entry(b"b", offset=0)] * 9), "'a' twice"),
        (archive([entry(raw=bytes(400), shape=(100,)), entry(b"b", shape=(100,), offset=12)]),
         "overlap"),
        (archive([entry(b"\xff")]), "not text"),
        (archive([entry(layout=b"y")]), "layout 'y'"),
        (archive([entry(letter=b"O")]), "type 'O'"),
        (archive([entry(shape=(0,))]), r"shape \(0,\)"),
        (archive([entry(raw=struct.pack("<2f", float("nan"), 0))]), "NaN or infinite value in 'a'"),
    ],
)  # fmt: skip
def test_read_refuses_damaged_archives(data, message):
    with pytest.raises(ValueError, match=message):
        read_tza(data)


@pytest.mark.parametrize("length", [1, 11, 12, 100, 600000, 634000])
def test_read_refuses_truncated_weights(length):
    library = module._installed_library().read_bytes()
    data = module._find_archive(library, WEIGHTS["rt_ldr_small"].digest, "", None)

    with pytest.raises(ValueError, match=r"truncated or damaged|no tensor archive"):
        read_tza(data[:length])


def test_refuses_other_files(tmp_path):
    path = tmp_path / "other.so"
    path.write_bytes(b"\x7fELF" + struct.pack("<HBB", 0x41D7, 2, 0) * 5)
    with pytest.raises(ValueError, match=r"must hold the weights 'rt_ldr' .* got .*other\.so"):
        open_image_denoise(library=path)

    path = tmp_path / "other.tza"
    path.write_bytes(archive([entry()]))
    with pytest.raises(ValueError, match=r"enc_conv0\.weight of shape \(0, 3, 3, 3\), got none"):
        open_image_denoise(library=path)


def test_refuses_a_missing_package(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install pyoidn==2\.5\.1\.0"):
        open_image_denoise()


def test_refuses_unknown_names():
    with pytest.raises(ValueError, match=r"weights must be one of .* did you mean 'rt_ldr'"):
        open_image_denoise("rt_ldrr")
    with pytest.raises(ValueError, match=r"transfer must be one of none, pu, srgb"):
        open_image_denoise(transfer="gamma")


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8)], ids=str)
def test_forward_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(batch, 3, height, width\), got \("):
        open_image_denoise("rt_ldr_small")(torch.zeros(shape))
