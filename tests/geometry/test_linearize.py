"""f(x) = L x + b, exactly, for every class of operation; and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from framelets.core.linear_function import apply_linear
from framelets.geometry import linearize
from framelets.networks import UNet

DTYPE = torch.float64


class Function(nn.Module):
    """A network written as one function of its layers and the image."""

    def __init__(self, function, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = function

    def forward(self, x):
        return self.function(self.layers, x)


def conv(inputs, outputs, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def attention(m, x):
    z = m["conv"](x)
    tokens = m["norm"](z.flatten(2).transpose(1, 2))
    tokens = tokens + m["attention"](tokens, tokens, tokens)[0]
    return m["last"](tokens.transpose(1, 2).reshape(z.shape))


def squeeze_excite(m, x):
    z = functional.silu(m["conv"](x))
    gate = torch.sigmoid(m["gate"](z.mean((2, 3))))
    return torch.tanh(m["last"](z * gate[:, :, None, None]))


def writes_to_views(m, x):
    z = m["conv"](x)
    out = torch.ones(1, 4, *x.shape[2:], dtype=x.dtype)
    out[:, :2] = z[:, 2:]
    view = out[:, 2]
    view += z[:, 0] * 3
    z[:, :, 2:4].relu_()
    x.mul_(2)  # the network may write to its input; the caller's image stays
    return torch.cat([out, z, functional.pad(z, (1, 1, 0, 0), value=1.5)[..., 2:], x], 1) - z.sum()


@torch.inference_mode()
def writes_in_inference_mode(m, x):
    y = m["conv"](x)
    y[:, :2].relu_()
    first, second = y.chunk(2, 1)
    y.mul_(3)
    return first + second


def writes_through_detached(m, x):
    y = m["conv"](x)
    y.detach().mul_(2)
    y.data.clamp_(min=-0.5)
    return torch.cat([y, functional.relu(y)], 1)


def real_times_phase(m, x):
    phase = torch.exp(1j * torch.linspace(0, 3, 64, dtype=x.dtype)).reshape(8, 8)
    z = torch.fft.fft2(functional.relu(m["conv"](x)) * phase + x * phase.conj())
    z.real.mul_(2)
    return torch.view_as_real(z.conj() * 1j)[:, 0].permute(0, 3, 1, 2)


def gated_units(m, x):
    a, b = m["conv"](x).chunk(2, 1)
    y = functional.gelu(a) * b + functional.silu(b) * a
    y = y + functional.glu(m["conv"](y.mean(1, keepdim=True)), 1)
    z = torch.sign(y) * functional.relu(y.abs() - 0.3)
    return torch.lerp(z, y, 0.3) + functional.logsigmoid(y) + 2**y + y**3 + y**1


def channels_last_block(m, x):
    low = m["conv"](functional.avg_pool2d(x, 2))
    y = functional.interpolate(low, scale_factor=2).permute(0, 2, 3, 1)
    y = m["norm"](y).permute(0, 3, 1, 2)
    return y - y.mean((2, 3), keepdim=True)


def standardizes(_, x):
    mean, std = x.mean(), x.std()
    y = (x - mean) / (std + 1e-6)
    return functional.hardswish(y) * std + mean + y / y.abs().max() + x / x.norm()


def complex_steps(m, x):
    k = torch.fft.fftshift(torch.fft.fft2(x, norm="ortho"), dim=(-2, -1))
    pairs = torch.view_as_real(k)[:, 0].permute(0, 3, 1, 2)
    pairs = pairs + functional.relu(m["conv"](pairs))
    z = torch.view_as_complex(pairs.permute(0, 2, 3, 1).contiguous())
    return torch.fft.ifft2(torch.fft.ifftshift(z, dim=(-2, -1)), norm="ortho").abs()


def root_sum_of_squares(_, x):
    y = x.repeat(1, 3, 1, 1) * torch.arange(1.0, 4, dtype=x.dtype)[None, :, None, None]
    return (y**2).sum(1, keepdim=True).sqrt() + (y * y).mean(1, keepdim=True).add(1e-3).sqrt()


def many_slopes(m, x):
    z = functional.elu(m["strided"](x))
    z = functional.pixel_shuffle(m["depthwise"](m["grouped"](z)), 2)
    z = functional.interpolate(z, size=(8, 8), mode="bicubic", align_corners=True)
    z = torch.where(x > 0, z, x)
    z = torch.maximum(z, x) + z.amax(dim=1, keepdim=True) + z.max(dim=3, keepdim=True)[0]
    z = functional.pad(z, (1, 2, 1, 1), mode="reflect")
    return functional.softplus(z.clamp(-0.5, 0.5)) + torch.roll(z, 1, 2) + z.flip(3).abs()


def resampling(m, x):
    z = functional.max_pool2d(m["conv"](x), 3, stride=2, padding=1)
    z = functional.relu6(functional.adaptive_avg_pool2d(z, 3))
    parts = [
        functional.interpolate(z, size=(6, 6), mode="nearest-exact"),
        functional.interpolate(z, size=(6, 6), mode="bilinear", align_corners=False),
        functional.fold(functional.unfold(z, 2), (3, 3), 2)
        .repeat_interleave(2, 2)
        .repeat(1, 1, 1, 2),
        functional.pad(z, (1, 2, 2, 1), mode="circular"),
        functional.pad(z, (1, 2, 2, 1), mode="replicate"),
    ]
    first, *_ = torch.cat(parts, 1).chunk(2, 1)
    return functional.softshrink(functional.leaky_relu(first, 0.1), 0.05)


def unrolled(m, x):
    matrix = torch.linspace(-1, 1, 640, dtype=x.dtype).sin().reshape(10, 64)

    def apply(value, adjoint):
        return value @ (matrix if adjoint else matrix.T)

    for _ in range(2):
        residual = apply_linear(x.flatten(-2), apply) - 1
        x = x - 0.1 * apply_linear(residual, apply, adjoint=True).unflatten(-1, (8, 8))
        x = x + m["last"](functional.relu(m["conv"](x)))
    return x


class Volume(nn.Sequential):
    """A 3-D network."""

    def __init__(self):
        super().__init__(
            nn.Conv3d(1, 4, 3, padding=1, stride=2),
            nn.InstanceNorm3d(4),
            nn.PReLU(4),
            nn.MaxPool3d(2),
            nn.ConvTranspose3d(4, 2, 2, stride=2),
            nn.ReLU6(),
            nn.ConvTranspose3d(2, 1, 3, stride=2, padding=1, output_padding=1),
        )


NETWORKS = {
    "attention": lambda: Function(
        attention,
        conv=conv(1, 8),
        norm=nn.LayerNorm(8),
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
        last=conv(8, 1),
    ),
    "squeeze-excite": lambda: Function(
        squeeze_excite, conv=conv(1, 4), gate=nn.Linear(4, 4), last=conv(4, 1, 1)
    ),
    "writes-to-views": lambda: Function(writes_to_views, conv=conv(1, 4, padding_mode="circular")),
    "inference-mode": lambda: Function(writes_in_inference_mode, conv=conv(1, 4)),
    "detached": lambda: Function(writes_through_detached, conv=conv(1, 4)),
    "phase": lambda: Function(real_times_phase, conv=conv(1, 1)),
    "gated-units": lambda: Function(gated_units, conv=conv(1, 4)),
    "channels-last": lambda: Function(channels_last_block, conv=conv(1, 3), norm=nn.LayerNorm(3)),
    "norms": lambda: nn.Sequential(
        conv(1, 4),
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.InstanceNorm2d(4),
        nn.RMSNorm(8),
        conv(4, 2),
        nn.Mish(),
        nn.GELU("tanh"),
    ),
    "standardizes": lambda: Function(standardizes),
    "root-sum-of-squares": lambda: Function(root_sum_of_squares),
    "many-slopes": lambda: Function(
        many_slopes,
        strided=nn.Conv2d(1, 8, 3, padding=2, dilation=2, stride=2),
        grouped=nn.Conv2d(8, 8, 3, padding=1, groups=4),
        depthwise=nn.Conv2d(8, 8, 3, padding=1, groups=8, stride=2),
    ),
    "resampling": lambda: Function(resampling, conv=conv(1, 4)),
    "unrolled": lambda: Function(unrolled, conv=conv(1, 4), last=conv(4, 1)),
    "volume": Volume,
    "complex": lambda: Function(complex_steps, conv=conv(2, 2)),
    **{
        f"unet-{pooling}-{normalization}": lambda p=pooling, n=normalization: UNet(
            width=3, depth=2, pooling=p, normalization=n
        )
        for pooling in ("average", "max", "dual-frame", "tight-frame")
        for normalization in ("batch", "group", "none")
    },
}
PIECEWISE_LINEAR = {
    "writes-to-views",
    "inference-mode",
    "detached",
    "phase",
    "resampling",
    "unrolled",
} | {name for name in NETWORKS if name.startswith("unet") and not name.endswith("group")}


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=NETWORKS)
def case(request, rng):
    """A network with random weights, in evaluation mode, and an image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[request.param]().to(DTYPE).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
            nn.init.normal_(module.weight, generator=rng)
            nn.init.normal_(module.bias, generator=rng)
    shape = (1, 1, 8, 8, 8) if request.param == "volume" else (1, 1, 8, 8)
    dtype = torch.complex128 if request.param == "complex" else DTYPE
    return request.param, network, torch.randn(shape, dtype=dtype, generator=rng)


def relative(error, scale):
    return float(torch.linalg.vector_norm(error) / torch.linalg.vector_norm(scale))


def test_replays_the_network(case):
    _, network, image = case
    given = image.clone()

    local = linearize(network, given)

    assert torch.equal(given, image)
    torch.testing.assert_close(local.output, network(image.clone())[0], rtol=1e-14, atol=1e-14)
    assert relative(local.frozen(local.image) + local.offset - local.output, local.output) < 1e-12
    assert local.replay_error < 1e-12


def test_frozen_is_linear_with_an_exact_adjoint(case, rng):
    _, network, image = case
    local = linearize(network, image)
    u, v = torch.randn(2, *local.image.shape, dtype=image.dtype, generator=rng)
    w = torch.randn(local.output.shape, dtype=local.output.dtype, generator=rng)

    for operator in (local.frozen, local.tangent):
        image_of_sum = operator(2 * u - 3 * v)
        assert relative(image_of_sum - 2 * operator(u) + 3 * operator(v), image_of_sum) < 1e-12
        forward, backward = operator(u), operator.adjoint(w)
        gap = torch.vdot(forward.flatten(), w.flatten()).real
        gap = gap - torch.vdot(u.flatten(), backward.flatten()).real
        scale = torch.linalg.vector_norm(forward) * torch.linalg.vector_norm(w)
        assert float(gap.abs()) <= 1e-12 * float(scale)


def test_a_batch_is_replayed_like_its_samples(case, rng):
    _, network, image = case
    local = linearize(network, image, memory_limit_bytes=200_000)
    samples = torch.randn(2, 3, *local.image.shape, dtype=image.dtype, generator=rng)

    images = local.frozen(samples)
    pulled = local.frozen.adjoint(images)

    for i in range(2):
        for j in range(3):
            single = local.frozen(samples[i, j])
            torch.testing.assert_close(images[i, j], single, rtol=1e-12, atol=1e-12)
            single = local.frozen.adjoint(images[i, j])
            torch.testing.assert_close(pulled[i, j], single, rtol=1e-12, atol=1e-12)


def test_frozen_is_synthesis_after_analysis(case, rng):
    _, network, image = case
    local = linearize(network, image)
    v = torch.randn(local.image.shape, dtype=image.dtype, generator=rng)
    w = torch.randn(local.output.shape, dtype=local.output.dtype, generator=rng)

    both = local.synthesis(local.analysis(v))

    assert relative(both - local.frozen(v), local.frozen(v)) < 1e-12
    pulled = local.analysis.adjoint(local.synthesis.adjoint(w))
    assert relative(pulled - local.frozen.adjoint(w), pulled) < 1e-12


def test_tangent_is_the_jacobian(case, rng):
    name, network, image = case
    local = linearize(network, image)
    v = torch.randn(image.shape, dtype=image.dtype, generator=rng)
    if name in ("inference-mode", "detached"):  # autograd is blind there; differences are not
        with torch.no_grad():
            difference = network(image + 1e-6 * v) - network(image - 1e-6 * v)
        assert relative(local.tangent(v[0]) - difference[0] / 2e-6, difference / 2e-6) < 1e-8
        return
    w = torch.randn(1, *local.output.shape, dtype=local.output.dtype, generator=rng)

    def call(x):
        return network(x.clone())

    _, push = torch.autograd.functional.jvp(call, image, v)
    _, pull = torch.autograd.functional.vjp(call, image, w)

    assert relative(local.tangent(v[0]) - push[0], push) < 1e-10
    assert relative(local.tangent.adjoint(w[0]) - pull[0], pull) < 1e-10


def test_says_whether_frozen_is_the_jacobian(case):
    name, network, image = case

    local = linearize(network, image)

    assert local.piecewise_linear == (name in PIECEWISE_LINEAR)
    assert (local.tangent is local.frozen) == local.piecewise_linear


def test_one_relu_by_hand():
    # f(x) = max(2 x + 1, 0): at x = (3, -4) the first unit is on and adds 1, the second is off.
    network = nn.Sequential(nn.Conv1d(1, 1, 1), nn.ReLU())
    nn.init.constant_(network[0].weight, 2)
    nn.init.constant_(network[0].bias, 1)

    local = linearize(network, torch.tensor([[[3.0, -4.0]]]))

    assert local.frozen(torch.tensor([[1.0, 1.0]])).tolist() == [[2.0, 0.0]]
    assert local.offset.tolist() == [[1.0, 0.0]]
    (layer,) = local.activation_pattern.layers
    assert (layer.name, layer.kind, layer.packed.tolist()) == ("1", "relu", [1])


def test_instance_norm_keeps_the_mean_subtraction_linear():
    # Freezing only the scale, L x is the normalized image itself and nothing cancels against b.
    image = torch.tensor([[[1.0, 2.0, 3.0, 6.0]]], dtype=DTYPE)

    local = linearize(nn.InstanceNorm1d(1, eps=0.0), image)

    assert float(local.offset.abs().max()) == 0
    torch.testing.assert_close(local.frozen(local.image), local.output)
    assert float(local.frozen(torch.ones(1, 4, dtype=DTYPE)).abs().max()) < 1e-15
    # The Jacobian, in contrast, is blind to the image: scaling it changes nothing.
    assert float(local.tangent(local.image).abs().max()) < 1e-14


def test_evaluated_batch_norm_is_folded():
    network = nn.Sequential(conv(1, 2), nn.BatchNorm2d(2), nn.ReLU()).to(DTYPE).eval()
    network[1].running_var.fill_(4)

    local = linearize(network, torch.ones(1, 1, 4, 4, dtype=DTYPE))

    assert [type(link.step).__name__ for link in local.frozen._program.links] == [
        "Convolution",
        "Scale",
    ]


def test_bias_free_network_is_homogeneous(rng):
    network = UNet(width=4, depth=2, normalization="none", bias_free=True).to(DTYPE).eval()
    image = torch.randn(1, 1, 8, 8, dtype=DTYPE, generator=rng)

    local, scaled = linearize(network, image), linearize(network, 3 * image)

    assert float(local.offset.abs().max()) == 0
    assert local.activation_pattern == scaled.activation_pattern
    assert hash(local.activation_pattern) == hash(scaled.activation_pattern)
    torch.testing.assert_close(scaled.output, 3 * local.output)


def test_patterns_tell_regions_apart(rng):
    network = UNet(width=4, depth=2).to(DTYPE).eval()
    image = torch.randn(1, 1, 8, 8, dtype=DTYPE, generator=rng)

    here, there = linearize(network, image), linearize(network, -image)

    assert here.activation_pattern != there.activation_pattern
    assert here.activation_pattern.digest() != there.activation_pattern.digest()
    pattern = here.activation_pattern
    assert 0 < pattern.num_active < pattern.num_units
    assert pattern.num_units == sum(layer.num_units for layer in pattern.layers)


def test_the_cut_is_the_bottom_with_every_skip():
    network = UNet(width=4, depth=2).eval()

    local = linearize(network, torch.ones(1, 1, 16, 16))

    assert local.cut.startswith("bottom")
    assert [shape[2] for shape in local.coefficient_shapes] == [16, 8, 4]


def test_the_cut_is_no_token_and_no_average(rng):
    network = Function(channels_last_block, conv=conv(1, 3), norm=nn.LayerNorm(3))
    image = torch.randn(1, 1, 16, 16, generator=rng)

    local = linearize(network, image)

    assert (local.cut, local.coefficient_shapes) == ("layers.conv", [(1, 3, 8, 8)])
    assert len(local.levels()) == 1


def test_rounded_values_are_part_of_the_pattern():
    image = torch.tensor([[[0.2, 1.4]]])

    here, there = (linearize(lambda x: torch.round(x) + x, image + c) for c in (0, 3))

    assert here.activation_pattern != there.activation_pattern


def test_a_map_that_returns_its_input_is_not_overwritten(rng):
    image = torch.randn(1, 1, 8, 8, generator=rng)

    def network(x):
        same = apply_linear(x, lambda value, _: value.view(value.shape))
        return functional.relu(same) + x

    local = linearize(network, image)
    before = local.image.clone()
    local.frozen(local.image)

    assert torch.equal(local.image, before)
    assert local.replay_error < 1e-6


def test_synthesis_of_a_complex_cut_is_only_real_linear(rng):
    class Transform(nn.Module):
        def forward(self, x):
            return torch.fft.fft2(x)

    class Conjugate(nn.Module):
        def forward(self, z):
            return z.conj() * 2j

    network = nn.Sequential(Transform(), Conjugate())

    local = linearize(network, torch.randn(1, 1, 4, 4, generator=rng), cut="0")

    assert local.synthesis.real_linear


def test_the_cut_may_be_named(rng):
    network = nn.Sequential(conv(1, 2), nn.ReLU(), conv(2, 3), nn.ReLU(), conv(3, 1)).to(DTYPE)
    image = torch.randn(1, 1, 6, 6, dtype=DTYPE, generator=rng)

    local = linearize(network, image, cut="1")

    assert (local.cut, local.coefficient_shapes) == ("1", [(1, 2, 6, 6)])
    assert relative(local.synthesis(local.analysis(local.image)) + local.offset - local.output,
                    local.output) < 1e-12  # fmt: skip


def test_training_afterwards_changes_nothing(rng):
    network = nn.Sequential(conv(1, 2), nn.ReLU(), nn.Flatten(2), nn.Linear(16, 3)).to(DTYPE)
    image = torch.randn(1, 1, 4, 4, dtype=DTYPE, generator=rng)
    local = linearize(network, image)
    before = local.frozen(local.image)

    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)

    torch.testing.assert_close(local.frozen(local.image), before)


def test_forward_adapts_the_call():
    class Denoiser(nn.Module):
        def forward(self, x, sigma):
            return functional.relu(x * sigma), sigma

    image = torch.tensor([[[1.0, -2.0]]])

    local = linearize(Denoiser(), image, forward=lambda network, x: network(x, 0.5)[0])

    assert local.output.tolist() == [[0.5, 0.0]]


def test_float32_error_is_rounding(rng):
    network = UNet(width=8, depth=3).eval()

    local = linearize(network, torch.randn(1, 1, 32, 32, generator=rng))

    assert local.replay_error < 1e-5
    assert local.frozen.input_dtype == torch.float32


IMAGE = torch.ones(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("network", "image", "message"),
    [
        (lambda x: x * torch.relu(x), IMAGE, r"'mul' in the network multiplies two tensors"),
        (lambda x: x * x.mean().item(), IMAGE, r"'_local_scalar_dense' .* takes a Python number"),
        (torch.linalg.inv, IMAGE, r"'linalg_inv_ex' in the network has no rule"),
        (lambda x: x / torch.relu(x), IMAGE, "divides by a tensor that depends on the image"),
        (lambda x: x**2, IMAGE, "returns a product of two tensors"),
        (lambda x: torch.relu(x * x), IMAGE, "'relu' .* reads a product of two tensors"),
        (lambda x: torch.add(x, 1, out=torch.empty(0)), IMAGE, "writes to out="),
        (nn.InstanceNorm2d(1, track_running_stats=True), IMAGE, "in training mode"),
        (lambda x: x.var(3), IMAGE, "is a statistic of the image, used as a signal"),
        (lambda x: (x, x), IMAGE, r"one tensor, got tuple; choose one with forward=lambda"),
        (lambda _: torch.ones(3), IMAGE, "does not come from its input"),
        (nn.Dropout(), IMAGE, r"evaluation mode, got Dropout.*call network.eval\(\)"),
        (nn.Identity(), torch.ones(2, 1, 4, 4), r"batch axis of one.*got \(2, 1, 4, 4\)"),
        (nn.Identity(), torch.full((1, 4), torch.nan), "must be finite, got NaN"),
        (conv(1, 1), IMAGE.double(), r"network's type torch.float32, got torch.float64"),
        (conv(1, 1), IMAGE.int(), "floating point or complex, got torch.int32"),
    ],
)
def test_linearize_refuses(network, image, message):
    with pytest.raises((ValueError, TypeError), match=message):
        linearize(network, image)


def test_linearize_refuses_with_the_place_in_the_network():
    network = nn.Sequential(conv(1, 1), Function(lambda _, x: torch.linalg.inv(x)))

    with pytest.raises(ValueError, match=r"'linalg_inv_ex' in 1 has no rule"):
        linearize(network, IMAGE)


def test_linearize_refuses_an_unknown_cut():
    with pytest.raises(ValueError, match=r"cut must be a module .* got 'nowhere'; there are 0"):
        linearize(nn.Sequential(conv(1, 1)), IMAGE, cut="nowhere")


def test_operators_refuse_other_shapes_and_types():
    local = linearize(conv(1, 1), IMAGE)

    with pytest.raises(
        ValueError, match=r"x must have shape \(\*batch, 1, 4, 4\), got \(1, 5, 4\)"
    ):
        local.frozen(torch.ones(1, 5, 4))
    with pytest.raises(TypeError, match=r"recorded, got torch\.float64"):
        local.frozen(torch.ones(1, 4, 4, dtype=DTYPE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrix_norm_and_export_take_the_type_of_the_recording(dtype):
    network = torch.nn.Conv2d(1, 1, 1, bias=False).to(dtype)
    torch.nn.init.constant_(network.weight, -3.0)
    frozen = linearize(network, torch.ones(1, 1, 2, 2, dtype=dtype)).frozen

    matrix = frozen.to_matrix()

    assert matrix.dtype == dtype
    torch.testing.assert_close(matrix, -3 * torch.eye(4, dtype=dtype))
    assert frozen.norm() == pytest.approx(3.0, rel=1e-5)
    assert (frozen.to_scipy() @ np.ones(4)).tolist() == pytest.approx([-3.0] * 4)
