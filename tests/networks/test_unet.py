"""The U-Net: published sizes, a second implementation, the frame identities, homogeneity."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from framelets.frames import AveragePooling, frame_bounds
from framelets.geometry import linearize
from framelets.networks import UNet, linear_unet
from framelets.testing import assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

POOLINGS = ["average", "dual-frame", "max", "tight-frame"]
NORMALIZATIONS = ["batch", "group", "instance", "none"]
each_pooling = pytest.mark.parametrize("pooling", POOLINGS)
each_normalization = pytest.mark.parametrize("normalization", NORMALIZATIONS)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def randomized(network, rng):
    """Give every parameter and running statistic of a network a value that shows."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=rng) + 0.5)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            std = (2 / parameter[0].numel()) ** 0.5
            parameter.data = std * torch.randn(parameter.shape, generator=rng)
    return network.double().eval()


@pytest.mark.parametrize(
    ("pooling", "count"),
    [("average", 21_986_369), ("dual-frame", 21_986_369), ("tight-frame", 31_386_689)],
)
def test_published_parameter_counts(pooling, count):
    with torch.device("meta"):
        network = UNet(pooling=pooling)

    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_published_widths_of_the_tight_frame():
    with torch.device("meta"):
        network = UNet(pooling="tight-frame")
    channels = {
        name: (module.in_channels, module.out_channels)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    }

    first = [channels[f"encoders.{i}.convolution_0"] for i in range(4)]
    assert first == [(1, 64), (64, 128), (128, 256), (256, 512)]
    bottom = [channels[f"bottom.convolution_{i}"] for i in range(2)]
    assert bottom == [(512, 1024), (1024, 512)]
    decoders = [[channels[f"decoders.{i}.convolution_{j}"] for j in range(2)] for i in range(4)]
    assert decoders == [
        [(320, 64), (64, 64)],
        [(640, 128), (128, 64)],
        [(1280, 256), (256, 128)],
        [(2560, 512), (512, 256)],
    ]
    assert channels["last"] == (64, 1)


def reference_unet(state, image, pooling, normalization):
    """Apply a U-Net written a second time: recursive, with its own poolings, from its weights."""

    def normalize(x, path):
        if normalization == "none":
            return x
        weight, bias = (state[f"{path}.{name}"][:, None, None] for name in ("weight", "bias"))
        if normalization == "batch":
            mean, variance = (state[f"{path}.running_{name}"] for name in ("mean", "var"))
            scaled = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        else:
            size = {"instance": 1, "group": min(8, x.shape[1])}[normalization]
            groups = x.reshape(x.shape[0], x.shape[1] // size, -1)
            mean = groups.mean(2, keepdim=True)
            variance = groups.var(2, keepdim=True, correction=0)
            scaled = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
        return weight * scaled + bias

    def stage(x, path):
        for i in range(2):
            weight, bias = (state[f"{path}.convolution_{i}.{name}"] for name in ("weight", "bias"))
            x = functional.conv2d(x, weight, bias, padding=1)
            x = normalize(x, f"{path}.normalization_{i}").clamp(min=0)
        return x

    def spread(x):
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    def level(x, i):
        if f"encoders.{i}.convolution_0.weight" not in state:
            return stage(x, "bottom")
        skip = stage(x, f"encoders.{i}")
        n, channels, height, width = skip.shape
        blocks = skip.reshape(n, channels, height // 2, 2, width // 2, 2)
        if pooling == "max":
            branches = [spread(level(blocks.amax((3, 5)), i + 1))]
        elif pooling == "tight-frame":
            signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=x.dtype)
            bands = torch.einsum("nchawb,ia,jb->ijnchw", blocks, signs, signs) / 2
            low = level(bands[0, 0], i + 1)
            branches = [
                torch.einsum("nchw,a,b->nchawb", band, signs[a], signs[b]).reshape(skip.shape) / 2
                for a, b, band in [
                    (0, 0, low),
                    (0, 1, bands[0, 1]),
                    (1, 0, bands[1, 0]),
                    (1, 1, bands[1, 1]),
                ]
            ]
        else:
            pooled = blocks.mean((3, 5))
            low = level(pooled, i + 1)
            branches = [spread(low - pooled if pooling == "dual-frame" else low) / 4]
        return stage(torch.cat([skip, *branches], 1), f"decoders.{i}")

    output = functional.conv2d(level(image, 0), state["last.weight"], state["last.bias"])
    return image - output


@each_pooling
@each_normalization
def test_equals_a_second_implementation(pooling, normalization, rng):
    network = UNet(
        2, 2, width=8, depth=2, pooling=pooling, normalization=normalization, residual=True
    )
    network = randomized(network, rng)
    image = torch.randn(2, 2, 8, 12, dtype=torch.float64, generator=rng)

    expected = reference_unet(network.state_dict(), image, pooling, normalization)

    assert_close(network(image), expected)


@each_pooling
@pytest.mark.parametrize("size", [(1, 1), (5, 8), (8, 7), (3, 17)], ids=str)
def test_odd_sizes_repeat_the_last_row_and_column(pooling, size, rng):
    network = randomized(UNet(width=4, depth=2, pooling=pooling), rng)
    image = torch.randn(1, 1, *size, dtype=torch.float64, generator=rng)
    rows, columns = (torch.arange(-(-n // 4) * 4).clamp(max=n - 1) for n in size)

    output = network(image)

    assert output.shape == image.shape
    extended = network(image[..., rows, :][..., columns])
    assert_close(output, extended[..., : size[0], : size[1]])


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("normalization", ["mean", "orthonormal"])
@pytest.mark.parametrize("pooling", ["dual-frame", "tight-frame"])
def test_repaired_linear_networks_are_the_identity(pooling, normalization, depth, rng):
    network = linear_unet(pooling, depth, normalization, dtype=torch.float64)
    image = torch.randn(2, 1, 9, 16, dtype=torch.float64, generator=rng)

    assert_close(network(image), image)


@pytest.mark.parametrize(("normalization", "share"), [("orthonormal", 1), ("mean", 0.25)])
def test_plain_linear_block_counts_low_frequencies_twice(normalization, share, rng):
    image = torch.randn(2, 1, 6, 8, dtype=torch.float64, generator=rng)
    means = image.reshape(2, 1, 3, 2, 4, 2).mean((3, 5))
    projected = means.repeat_interleave(2, -1).repeat_interleave(2, -2)  # P f

    output = linear_unet("average", 1, normalization, dtype=torch.float64)(image)

    assert_close(output, image + share * projected)


@pytest.mark.parametrize(("normalization", "share"), [("orthonormal", 1 / 2), ("mean", 1 / 5)])
def test_dual_frame_block_is_the_dual_where_the_bottom_changes_its_input(normalization, share, rng):
    # b = 3 Phi^T f instead of Phi^T f: f + 2 Phi Phi^T f / 2, or f + 2 N A f / 5.
    network = linear_unet("dual-frame", 1, normalization, dtype=torch.float64)
    network.bottom.convolution_0.weight.data *= 3
    image = torch.randn(2, 1, 6, 8, dtype=torch.float64, generator=rng)
    projected = AveragePooling().gram(image)

    expected = image + 2 * share * projected
    assert_close(network(image), expected)


def test_tight_frame_block_scales_the_low_subband_alone(rng):
    network = linear_unet("tight-frame", dtype=torch.float64)
    network.bottom.convolution_0.weight.data *= 3
    image = torch.randn(2, 1, 6, 8, dtype=torch.float64, generator=rng)

    expected = image + AveragePooling().gram(image)  # (s + P 3 f + (I - P) f) / 2
    assert_close(network(image), expected)


def test_max_block_copies_the_largest_pixel():
    image = torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]])

    assert linear_unet("max")(image).flatten().tolist() == [5.0, 6.0, 8.0, 7.0]


def test_residual_subtracts_the_output(rng):
    plain = randomized(UNet(width=4, depth=1), rng)
    residual = UNet(width=4, depth=1, residual=True).double().eval()
    residual.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, 7, 6, dtype=torch.float64, generator=rng)

    assert_close(residual(image), image - plain(image))


@each_pooling
@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("residual", [False, True], ids=["direct", "residual"])
def test_bias_free_network_is_homogeneous(pooling, normalization, residual, rng):
    network = UNet(
        width=4,
        depth=2,
        pooling=pooling,
        normalization=normalization,
        bias_free=True,
        residual=residual,
    )
    network = randomized(network, rng)
    image = torch.randn(2, 1, 9, 8, dtype=torch.float64, generator=rng)

    for factor in (0.0, 1e-3, 7.0, 1e6):
        expected = factor * network(image)
        error = torch.linalg.vector_norm(network(factor * image) - expected)
        assert error <= 1e-13 * torch.linalg.vector_norm(expected)


@each_pooling
@pytest.mark.parametrize("normalization", ["group", "instance"])
def test_bias_free_network_with_its_own_scale_ignores_the_scale(pooling, normalization, rng):
    network = UNet(width=8, depth=2, pooling=pooling, normalization=normalization, bias_free=True)
    network = randomized(network, rng)
    image = torch.randn(2, 1, 9, 8, dtype=torch.float64, generator=rng)

    # Up to epsilon = 1e-5 beside standard deviations of order one.
    assert_close(network(7 * image), network(image), rtol=1e-3, atol=1e-4)


@each_normalization
def test_bias_free_network_has_no_additive_parameter(normalization):
    network = UNet(width=4, depth=1, normalization=normalization, bias_free=True)
    tensors = network.state_dict()

    assert all(name.endswith(("weight", "running_std")) for name in tensors)


@each_pooling
@each_normalization
def test_gradients_are_finite_on_a_blank_image(pooling, normalization):
    network = UNet(width=4, depth=1, pooling=pooling, normalization=normalization, bias_free=True)

    network(torch.zeros(2, 1, 4, 4)).sum().backward()

    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@each_pooling
@each_normalization
@pytest.mark.parametrize("bias_free", [False, True], ids=["biased", "bias-free"])
def test_derivatives(pooling, normalization, bias_free, rng):
    network = UNet(
        width=2, depth=1, pooling=pooling, normalization=normalization, bias_free=bias_free
    )
    network = randomized(network, rng)
    image = torch.randn(1, 1, 6, 5, dtype=torch.float64, generator=rng)

    assert_same_derivatives(network, None, image)


@each_pooling
def test_features_are_channels_last(pooling):
    network = UNet(width=4, depth=2, pooling=pooling)
    formats = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _module, inputs, _output: formats.append(
                    inputs[0].is_contiguous(memory_format=torch.channels_last)
                )
            )

    network(torch.zeros(2, 1, 8, 8))

    assert formats == [True] * 11


identity = partial(UNet, normalization="none", init="identity")
each_residual = pytest.mark.parametrize("residual", [False, True], ids=["direct", "residual"])


@each_pooling
@each_residual
@pytest.mark.parametrize("bias_free", [False, True], ids=["biased", "bias-free"])
@pytest.mark.parametrize("channels", [1, 3])
def test_identity_start_gives_the_input_back(pooling, residual, bias_free, channels, rng):
    network = identity(
        channels, channels, 6, 2, pooling=pooling, residual=residual, bias_free=bias_free
    )
    image = torch.randn(2, channels, 9, 8, dtype=torch.float64, generator=rng)

    single = image.float()
    torch.testing.assert_close(network(single), single, rtol=0, atol=1e-6)
    assert_close(network.double()(image), image)


@each_pooling
@each_residual
def test_identity_start_is_linearized_to_the_identity(pooling, residual, rng):
    network = identity(width=4, depth=2, pooling=pooling, residual=residual).double()
    image = torch.randn(1, 1, 4, 8, dtype=torch.float64, generator=rng)

    local = linearize(network, image)

    assert_close(local.frozen.to_matrix((1, 4, 8)), torch.eye(32, dtype=torch.float64))
    assert_close(local.offset, torch.zeros(1, 4, 8, dtype=torch.float64))


@each_pooling
@each_residual
def test_identity_start_trains_its_path_first_and_then_all(pooling, residual, rng):
    network = identity(width=4, depth=2, pooling=pooling, residual=residual).double()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    clean = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=rng)
    noisy = clean + 0.1 * torch.randn(clean.shape, dtype=torch.float64, generator=rng)
    reached = []
    for _ in range(2):
        optimizer.zero_grad()
        functional.mse_loss(network(noisy), clean).backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        reached.append({name for name, g in gradients.items() if g.abs().max() > 0})
        optimizer.step()

    path = {"last"} if residual else {"last", "encoders.0", "decoders.0"}
    assert reached[0] == {n for n in gradients if any(n.startswith(f"{p}.") for p in path)}
    assert reached[1] == set(gradients)


def test_identity_start_leaves_the_other_filters_as_they_were_drawn():
    networks = []
    for init in ("random", "identity"):
        torch.manual_seed(0)
        networks.append(UNet(width=6, depth=1, normalization="none", init=init).state_dict())

    for name, drawn in networks[0].items():
        start = 2 if name.split(".")[0] in ("encoders", "decoders") else 0
        if not name.startswith("last"):
            assert torch.equal(networks[1][name][start:], drawn[start:])


@each_normalization
def test_residual_identity_start_takes_any_normalization(normalization, rng):
    network = UNet(
        width=8, depth=1, normalization=normalization, residual=True, init="identity"
    ).double()
    image = torch.randn(2, 1, 6, 8, dtype=torch.float64, generator=rng)

    assert_close(network(image), image)  # in training mode too


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations.add(str(func.overloadpacket).removeprefix("aten."))
        return func(*args, **(kwargs or {}))


@each_pooling
@each_normalization
def test_is_made_of_few_plain_operations(pooling, normalization):
    network = UNet(width=4, depth=1, pooling=pooling, normalization=normalization, residual=True)
    image = torch.zeros(1, 1, 5, 6)
    with torch.no_grad(), _Recorder() as recorder:
        network.eval()(image)

    allowed = {"convolution", "relu", "cat", "replication_pad2d", "slice", "sub"} | {
        "average": {"avg_pool2d", "upsample_nearest2d", "div"},
        "dual-frame": {"avg_pool2d", "upsample_nearest2d", "div"},
        "max": {"max_pool2d_with_indices", "upsample_nearest2d"},
        "tight-frame": {"expand", "_to_copy"},
    }[pooling]
    allowed |= {
        "batch": {"native_batch_norm", "_native_batch_norm_legit_no_training", "empty"},
        "none": set(),
    }.get(normalization, {"native_group_norm"})
    assert recorder.operations <= allowed


@pytest.mark.parametrize(
    ("pooling", "normalization", "bounds"),
    [
        ("average", "mean", (1, 1.25)),
        ("average", "orthonormal", (1, 2)),
        ("dual-frame", "mean", (1, 1.25)),
        ("dual-frame", "orthonormal", (1, 2)),
        ("max", "mean", (1, 2)),
        ("tight-frame", "mean", (2, 2)),
    ],
)
def test_frame_levels(pooling, normalization, bounds):
    network = UNet(width=4, depth=2, pooling=pooling, pooling_normalization=normalization)
    names = [name for name, _ in network.named_modules()]

    levels = network.frame_levels()

    assert [level.name for level in levels] == ["poolings.0", "poolings.1"]
    for level in levels:
        assert level.name in names
        assert frame_bounds(level.analysis_operator, (4, 6)) == pytest.approx(bounds, abs=1e-13)


@pytest.mark.slow
@each_pooling
def test_learns_to_denoise(pooling):
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    network = UNet(width=8, depth=2, pooling=pooling, residual=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    def batch():
        squares = torch.randn(16, 1, 2, 2, generator=rng).repeat_interleave(8, 2)
        clean = squares.repeat_interleave(8, 3)
        return clean, clean + 0.5 * torch.randn(clean.shape, generator=rng)

    for _ in range(60):
        clean, noisy = batch()
        loss = functional.mse_loss(network(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    clean, noisy = batch()
    with torch.inference_mode():
        error = functional.mse_loss(network.eval()(noisy), clean)
    assert error < 0.4 * functional.mse_loss(noisy, clean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "dualframe"}, "pooling must be one of .*; did you mean 'dual-frame'"),
        ({"normalization": "layer"}, "normalization must be one of batch, group, instance, none"),
        ({"pooling_normalization": "sum"}, "pooling_normalization must be one of mean, ortho"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"in_channels": 2, "residual": True}, "equal in_channels and out_channels, got 2 and 1"),
        ({"init": "zero"}, "init must be one of identity, random, got 'zero'"),
        ({"init": "identity"}, "init='identity' needs normalization='none', got 'batch'"),
        (
            {"init": "identity", "normalization": "none", "in_channels": 2},
            "init='identity' needs equal in_channels and out_channels, got 2 and 1",
        ),
        (
            {"init": "identity", "normalization": "none", "width": 1},
            "init='identity' needs a width of at least 2, two channels for each .* got 1",
        ),
    ],
)
def test_refuses_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNet(**{"width": 2, "depth": 1} | arguments)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (1, 2, 4, 4), (1, 1, 0, 4)], ids=str)
def test_refuses_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"shape \(batch, 1, height, width\), got \("):
        UNet(width=2, depth=1)(torch.zeros(shape))


@pytest.mark.parametrize("bias_free", [False, True])
def test_refuses_an_image_too_small_to_normalize(bias_free):
    network = UNet(width=2, depth=2, normalization="instance", bias_free=bias_free)

    network(torch.zeros(1, 1, 4, 5))
    with pytest.raises(ValueError, match=r"larger than 4 pixels.*instance.*got \(1, 1, 4, 4\)"):
        network(torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_without_skips_the_output_comes_through_the_bottom(pooling):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(width=4, depth=2, pooling=pooling, normalization="none", skip=False)
    network = network.double().eval()
    image = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    network.bottom.register_forward_hook(lambda _module, _inputs, output: 0 * output)

    assert torch.equal(network(image), network(image + 1))
    assert network.decoders[0].convolution_0.in_channels == 4
    bounds = [frame_bounds(level.analysis_operator, (16, 16)) for level in network.frame_levels()]
    assert [lower for lower, _ in bounds] == pytest.approx([0, 0], abs=1e-12)


def test_skip_refuses_poolings_that_hand_features_across():
    with pytest.raises(ValueError, match=r"skip=False needs a pooling of average, max"):
        UNet(width=2, depth=1, pooling="tight-frame", skip=False)
    with pytest.raises(ValueError, match=r"init='identity' needs skip=True"):
        UNet(width=2, depth=1, normalization="none", init="identity", skip=False)
