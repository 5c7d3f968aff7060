"""Deep convolutional framelets: reconstruction, its conditions, low rank, training, sparsity."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from framelets.core import LinearOperator
from framelets.frames import (
    AveragePooling,
    ConvolutionFramelet,
    HaarFilterBank,
    HankelLifting,
    dct_local_basis,
    dct_nonlocal_basis,
    network_conditions,
)
from framelets.geometry import linearize
from framelets.networks import DeepConvolutionFramelets, FrameletLayer, UnrolledNetwork
from framelets.testing import assert_same_derivatives

assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
make = partial(DeepConvolutionFramelets, dtype=torch.float64)

NONLOCAL = ["average-high-pass", "dual-frame", "haar", "haar-packet", "identity"]
each_nonlocal_basis = pytest.mark.parametrize("nonlocal_basis", NONLOCAL)
each_local_basis = pytest.mark.parametrize("local_basis", ["dct", "haar", "pca", "random"])


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random_image(rng, *shape):
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def relative(made, true):
    return float(torch.linalg.vector_norm(made.detach() - true) / torch.linalg.vector_norm(true))


def matrices(layer, relu=False, first=True):
    """Return Psi and Psi~, one row a tap and one column a filter; of ReLU's pairs the first."""
    found = []
    for filters in (layer.analysis_filters, layer.synthesis_filters):
        outputs, inputs = filters.shape[:2]
        if relu:
            filters = filters[: outputs // 2, : inputs if first else inputs // 2]
        found.append(filters.detach().flatten(1).mT)
    return found


# Perfect reconstruction.


@each_nonlocal_basis
@each_local_basis
@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
def test_untrained_network_gives_its_input_back(
    nonlocal_basis, local_basis, skip, num_layers, relu, rng
):
    packet = nonlocal_basis == "haar-packet"  # multiplies the channels by four
    layer = FrameletLayer(
        (1, 2) if packet and num_layers > 1 else (2, 2),
        local_basis,
        nonlocal_basis,
        skip=skip and nonlocal_basis != "dual-frame",
    )
    image = random_image(rng, 2, 1, 8, 16)
    network = make([layer] * num_layers, relu=relu, examples=image)

    for signed in (image, -image):
        assert relative(network(signed), signed) < (1e-11 if relu else 1e-12)


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("size", [(5, 7), (3, 8), (2, 2)], ids=str)
def test_odd_sizes_and_several_channels(relu, size, rng):
    layers = [FrameletLayer((3, 2), "dct"), FrameletLayer((1, 3), "random", skip=True)]
    network = make(layers, 3, relu=relu)
    image = random_image(rng, 2, 3, *size)

    assert relative(network(image), image) < 1e-12


def test_bases_mix_from_layer_to_layer_and_any_tight_frame_will_do(rng):
    layers = [
        FrameletLayer((3, 3), "dct", "haar", skip=True),
        FrameletLayer((2, 1), "random", HaarFilterBank() * 1.3),
        FrameletLayer((1, 2), "haar", dct_nonlocal_basis(HankelLifting((3, 4), (1, 1)))),
    ]
    network = make(layers)
    image = random_image(rng, 1, 1, 12, 16)

    assert network.size_divisor == 4
    assert relative(network(image), image) < 1e-12


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("alpha", [1.0, 1.7])
@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_filters_meet_the_frame_conditions(alpha, skip, relu, rng):
    operator = math.sqrt(alpha) * HaarFilterBank()
    layers = [FrameletLayer((3, 1), "dct", operator, skip=skip), FrameletLayer((2, 2), skip=skip)]
    network = make(layers, relu=relu)
    image = random_image(rng, 1, 1, 6, 8)

    for i, (layer, taps, gain) in enumerate(zip(network.layers, (3, 4), (alpha, 1.0), strict=True)):
        psi, dual = matrices(layer, relu, first=i == 0)
        expected = torch.eye(len(psi), dtype=torch.float64) / (taps * (gain + skip))
        torch.testing.assert_close(psi @ dual.mT, expected, rtol=0, atol=1e-10)
        assert psi.shape[1] == taps * (1, 12)[i]  # q_l = r q_(l-1), the subbands counted
    assert relative(network(image), image) < 1e-12


@pytest.mark.parametrize("nonlocal_basis", ["haar-packet", "identity"])
@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_conditions_are_met_until_training_breaks_them(nonlocal_basis, skip):
    layers = [FrameletLayer((2, 2), "dct", nonlocal_basis, skip=skip), FrameletLayer((1, 2))]
    network = make(layers)

    met = network_conditions(network.encoder_decoder(4, 4))
    network.layers[1].analysis_filters.data *= 1.1
    broken = network_conditions(network.encoder_decoder(4, 4))

    assert met.distance < 1e-12
    assert all(layer.filter_residual < 1e-12 for layer in met.layers)
    assert broken.layers[0].filter_residual < 1e-12
    assert broken.layers[1].filter_residual == pytest.approx(0.1)
    assert broken.distance == pytest.approx(0.05 if skip else 0.1)


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_other_gain_than_the_conditions_say_is_not_the_identity(skip, rng):
    network = make([FrameletLayer(skip=skip)])
    with torch.no_grad():
        network.layers[0].synthesis_filters *= 2 if skip else 0.5
    image = random_image(rng, 1, 1, 4, 4)

    assert_close(network(image), (2 if skip else 0.5) * image)


def test_single_precision(rng):
    layers = [FrameletLayer((3, 3), "dct", "haar", skip=True), FrameletLayer()]
    network = DeepConvolutionFramelets(layers, relu=True)
    image = random_image(rng, 1, 1, 8, 8).float()

    assert network(image).dtype == torch.float32
    assert relative(network(image), image) < 1e-6


@pytest.mark.parametrize("threshold", [None, 0.0])
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
def test_linearized_it_is_the_identity(relu, threshold, rng):
    layers = [FrameletLayer((2, 2), "dct", "haar"), FrameletLayer((3, 1), skip=True)]
    network = make(layers, relu=relu, threshold=threshold)
    image = random_image(rng, 1, 1, 6, 8)

    local = linearize(network, image)

    identity = torch.eye(48, dtype=torch.float64)
    assert_close(local.frozen.to_matrix((1, 6, 8)), identity)
    assert_close(local.offset, torch.zeros(1, 6, 8, dtype=torch.float64))
    assert local.piecewise_linear


# Values by hand and second implementations.


def test_values_by_hand():
    filters = torch.tensor([[1.0, 1.0], [1.0, -1.0]])  # sum and difference of two neighbors
    network = make([FrameletLayer((1, 2), filters)])
    image = torch.tensor([[[[1.0, 2.0, 4.0, 8.0]]]], dtype=torch.float64)

    (coefficients,) = network.analysis(image)

    assert coefficients[0, 0].tolist() == [[3.0, 6.0, 12.0, 9.0]]
    assert coefficients[0, 1].tolist() == [[-1.0, -2.0, -4.0, 7.0]]
    dual = filters.to(torch.float64) / 4  # half for the filters' norm, half for the two taps
    assert_close(network.layers[0].synthesis_filters[:, 0, 0], dual)
    assert_close(network.synthesis([coefficients]), image)


def hankel(image, window):
    """Return the matrix with one row a position and one column (channel, tap), by shifts."""
    shifts = [(i, j) for i in range(window[0]) for j in range(window[1])]
    columns = [channel.roll((-i, -j), (0, 1)).flatten() for channel in image for i, j in shifts]
    return torch.stack(columns, dim=1)


def read_out(matrix, window, channels, shape):
    """Return the sums over the antidiagonals: the adjoint of `hankel`."""
    shifts = [(i, j) for i in range(window[0]) for j in range(window[1])]
    maps = matrix.mT.reshape(channels, len(shifts), *shape)
    return torch.stack(
        [sum(m.roll(s, (0, 1)) for m, s in zip(taps, shifts, strict=True)) for taps in maps]
    )


def test_equals_hankel_matrices_where_trained(rng):
    """A second implementation of two ReLU layers, Haar and skip, with filters of no structure."""
    layers = [FrameletLayer((2, 3), "dct", "haar", skip=True), FrameletLayer((3, 1))]
    network = make(layers, relu=True)
    for parameter in network.parameters():
        parameter.data = random_image(rng, *parameter.shape) / 3
    image = random_image(rng, 1, 4, 6)
    h = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    psi_0, dual_0 = matrices(network.layers[0])
    psi_1, dual_1 = matrices(network.layers[1])

    filtered = (hankel(image, (2, 3)) @ psi_0).mT.reshape(-1, 4, 6)
    blocks = filtered.reshape(-1, 2, 2, 3, 2)
    bands = torch.einsum("ai,crisj,bj->abcrs", h, blocks, h).relu()
    below = (hankel(bands[0, 0], (3, 1)) @ psi_1).relu()
    low = read_out(below @ dual_1.mT, (3, 1), len(bands[0, 0]), (2, 3)).relu()
    bands[0, 0] = low
    back = torch.einsum("ai,abcrs,bj->crisj", h, bands, h).reshape(-1, 4, 6)
    summed = (back + filtered.relu()).flatten(1).mT
    expected = read_out(summed @ dual_0.mT, (2, 3), 1, (4, 6))

    assert_close(network(image[None])[0], expected)


def test_one_layer_is_a_convolution_framelet(rng):
    lifting = HankelLifting((4, 6), (2, 3))
    phi = dct_nonlocal_basis(lifting)
    framelet = ConvolutionFramelet((4, 6), (2, 3), phi, dct_local_basis((2, 3)))
    network = make([FrameletLayer((2, 3), "dct", phi)])
    image = random_image(rng, 4, 6)

    (coefficients,) = network.analysis(image[None, None])

    assert_close(coefficients[0].flatten(1).mT, framelet(image))
    changed = coefficients * random_image(rng, *coefficients.shape)
    expected = framelet.inverse(changed[0].flatten(1).mT)
    assert_close(network.synthesis([changed])[0, 0], expected)


@each_nonlocal_basis
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_is_an_encoder_decoder_where_trained(nonlocal_basis, relu, skip, rng):
    skip = skip and nonlocal_basis != "dual-frame"
    layers = [FrameletLayer((1, 2), "dct", nonlocal_basis, skip=skip), FrameletLayer((2, 1))]
    network = make(layers, 2, relu=relu)
    for parameter in network.parameters():
        parameter.data = random_image(rng, *parameter.shape) / 3
    image = random_image(rng, 2, 4, 4)

    written_out = network.encoder_decoder(4, 4)

    assert_close(written_out(image), network(image[None])[0])
    expansion = written_out.at(image)
    assert_close(expansion.frozen(image), network(image[None])[0])


def test_dual_frame_is_the_dual_where_the_levels_below_change_their_input(rng):
    # s + Phi (3 b - Phi^T s) / 2 = f + P f for b = Phi^T f.
    network = make([FrameletLayer((1, 1), "dct", "dual-frame"), FrameletLayer((1, 1))])
    network.layers[1].synthesis_filters.data *= 3
    image = random_image(rng, 1, 1, 4, 6)

    assert_close(network(image), image + AveragePooling().gram(image))


def test_average_and_its_high_pass_are_orthogonal_parts(rng):
    network = make([FrameletLayer((1, 1), "dct", "average-high-pass")])
    image = random_image(rng, 1, 1, 4, 6)

    high, low = network.analysis(image)

    assert_close(high.square().sum() + low.square().sum(), image.square().sum())
    assert_close(AveragePooling()(high), torch.zeros_like(low))


def test_given_filters_may_be_redundant_and_have_a_dual_of_their_own(rng):
    filters = random_image(rng, 4, 7)
    dual = torch.linalg.pinv(filters).mT
    kernel = torch.eye(7, dtype=torch.float64) - torch.linalg.pinv(filters) @ filters
    other = dual + random_image(rng, 4, 7) @ kernel  # Psi Psi~^T = I all the same
    image = random_image(rng, 1, 1, 5, 6)

    for chosen in (None, other):
        network = make([FrameletLayer((2, 2), filters, dual_local_basis=chosen)])
        _, made = matrices(network.layers[0])
        assert_close(made, (dual if chosen is None else chosen) / 4)
        assert relative(network(image), image) < 1e-12


# Fewer channels.


@pytest.mark.parametrize("rank", [1, 3, 5, 6])
def test_adapted_layer_is_one_cadzow_step(rank, rng):
    image = random_image(rng, 7, 8)
    network = make([FrameletLayer((2, 3), "pca", num_channels=rank)], examples=image[None, None])
    left, values, right = torch.linalg.svd(hankel(image[None], (2, 3)), full_matrices=False)
    nearest = (left[:, :rank] * values[:rank]) @ right[:rank]

    expected = read_out(nearest, (2, 3), 1, (7, 8)) / 6

    assert_close(network(image[None, None])[0], expected)


@each_nonlocal_basis
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
def test_fewer_channels_lose_something(nonlocal_basis, relu, rng):
    pair = 2 if relu else 1
    image = random_image(rng, 1, 1, 8, 8)

    errors = []
    for count in (4, 3):
        layer = FrameletLayer((2, 2), "dct", nonlocal_basis, num_channels=pair * count)
        errors.append(relative(make([layer], relu=relu)(image), image))

    assert errors[0] < 1e-12
    assert errors[1] > 0.1


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
def test_image_of_low_rank_passes_few_channels(relu):
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in (8, 12))
    image = torch.cos(2 * math.pi * (rows[:, None] / 8 + columns / 6 + 0.1))
    image = image[None, None]  # two exponentials: rank 2
    pair = 2 if relu else 1

    def passed(num_channels, image):
        layer = FrameletLayer((3, 3), "pca", num_channels=pair * num_channels)
        return relative(make([layer], relu=relu, examples=image)(image), image)

    assert passed(2, image) < 1e-12
    assert passed(1, image) > 0.1


def test_layers_of_low_rank_follow_the_features_of_the_examples(rng):
    # Each layer keeps what its own features need: the second has rank 2 of 18 columns.
    rows = torch.arange(8, dtype=torch.float64)[:, None]
    image = torch.cos(2 * math.pi * rows / 8 + 0.3).expand(8, 6)[None, None]
    layers = [
        FrameletLayer((3, 3), "pca", num_channels=2),
        FrameletLayer((3, 3), "pca", "haar", num_channels=2),
    ]

    network = make(layers, examples=image)

    assert relative(network(image), image) < 1e-12
    other = random_image(rng, 1, 1, 8, 6)
    assert relative(network(other), other) > 0.1


# Training.


@each_nonlocal_basis
@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
def test_a_step_of_training_lowers_the_loss(nonlocal_basis, relu, rng):
    layers = [FrameletLayer((2, 2), "dct", nonlocal_basis), FrameletLayer((1, 2))]
    network = make(layers, relu=relu, threshold=0.01)
    clean = torch.ones(4, 1, 8, 8, dtype=torch.float64) * random_image(rng, 4, 1, 1, 1)
    noisy = clean + 0.3 * random_image(rng, 4, 1, 8, 8)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)

    def step():
        loss = (network(noisy) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad.abs().max() > 0, name
        optimizer.step()
        return float(loss.detach())

    losses = [step() for _ in range(4)]

    assert all(after < before for before, after in pairwise(losses))


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
def test_derivatives(relu, rng):
    layers = [FrameletLayer((2, 2), "dct", "haar", skip=True), FrameletLayer((2, 1), "random")]
    network = make(layers, relu=relu, threshold=0.05)
    for parameter in network.parameters():
        parameter.data += 0.1 * random_image(rng, *parameter.shape)

    assert_same_derivatives(network, None, random_image(rng, 1, 1, 4, 4))


# Sparsity.


def test_thresholds_spare_what_a_constant_image_is_made_of(rng):
    layers = [FrameletLayer((3, 3), "dct", "haar", skip=True), FrameletLayer((2, 2), "haar")]
    for relu in (False, True):
        network = make(layers, relu=relu, threshold=10.0)
        constant = torch.full((1, 1, 8, 8), -3.0, dtype=torch.float64)

        assert_close(network(constant), constant)
        # Of noise only the means survive: the sparing channels are few.
        noise = random_image(rng, 1, 1, 8, 8)
        assert torch.linalg.vector_norm(network(noise)) < torch.linalg.vector_norm(noise)
        spared = [int((t == 0).sum()) for t in network.thresholds]
        assert spared == [2 if relu else 1, 0, 0, 0, 2 if relu else 1]


def test_thresholds_keep_the_mean_of_a_constant_that_many_channels_carry():
    # The constant stands twice in these filters; at random all filters respond to it.
    dct = dct_local_basis((2, 2))
    twice = torch.cat([dct, dct[:, :1]], dim=1)
    constant = torch.full((1, 1, 4, 4), 2.0, dtype=torch.float64)
    for basis, num_spared in ((twice, 2), ("random", 4)):
        network = make([FrameletLayer((2, 2), basis)], threshold=0.3)

        assert_close(network(constant), constant)
        assert int((network.thresholds[0] == 0).sum()) == num_spared


def test_threshold_is_soft_and_never_negative():
    filters = torch.ones(1, 1)
    network = make([FrameletLayer((1, 1), filters)], threshold=1.0)
    image = torch.tensor([[[[-3.0, -0.5, 0.0, 0.5, 3.0]]]], dtype=torch.float64)

    assert network(image).tolist() == image.tolist()  # the only channel is that of constants
    network.thresholds[0].data.fill_(1.0)
    assert network(image).flatten().tolist() == [-2.0, 0.0, 0.0, 0.0, 2.0]
    network.thresholds[0].data.fill_(-1.0)
    assert network(image).tolist() == image.tolist()


def test_thresholds_take_noise_off(rng):
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    clean = ((rows - 15).hypot(columns - 12) < 9).to(torch.float64)[None, None]
    noisy = clean + 0.2 * random_image(rng, *clean.shape)

    network = make([FrameletLayer((4, 4), "dct")], threshold=2 * 0.2)

    error, before = relative(network(noisy), clean), relative(noisy, clean)
    assert error < 0.6 * before


class _Half(LinearOperator):
    """See a fixed half of the pixels."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x):
        return x * self.mask

    def adjoint(self, y):
        return y * self.mask


def test_unrolled_it_is_iterative_soft_thresholding(rng):
    """With orthonormal coefficients, here two levels of Haar, the iteration with dense matrices."""
    haar = FrameletLayer((1, 1), torch.ones(1, 1), "haar")
    network = make([haar, haar], threshold=0.03)
    for threshold in network.thresholds:
        threshold.data.fill_(0.03)
    mask = (torch.rand(8, 8, generator=rng) < 0.5).to(torch.float64)
    measurement = mask * random_image(rng, 8, 8)

    unrolled = UnrolledNetwork(network, num_iterations=5, initial_step_size=0.9).double()
    made = unrolled(measurement[None, None], _Half(mask))

    units = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
    analysis = torch.cat([maps.flatten(1) for maps in network.analysis(units)], 1).detach().mT
    assert_close(analysis @ analysis.mT, torch.eye(64, dtype=torch.float64))
    step = float(unrolled.step_sizes[0].detach())
    x = step * measurement.flatten()
    for _ in range(5):
        z = analysis @ (x - step * mask.flatten() * (mask.flatten() * x - measurement.flatten()))
        x = analysis.mT @ (z.sign() * (z.abs() - 0.03).clamp(min=0))
    assert_close(made.flatten(), x)


def test_iteration_fills_in_missing_pixels(rng):
    phase = 2 * math.pi / 16 * torch.arange(16, dtype=torch.float64)
    clean = torch.cos(phase[:, None] + 2 * phase)[None, None]
    mask = (torch.rand(16, 16, generator=rng) < 0.6).to(torch.float64)
    network = make([FrameletLayer((8, 8), "dct")], threshold=0.03)
    unrolled = UnrolledNetwork(network, num_iterations=50)

    with torch.no_grad():
        made = unrolled(mask * clean, _Half(mask))

    assert relative(made, clean) < 0.1 * relative(mask * clean, clean)


# Refusals.


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"local_basis": "cosine"}, "local_basis must be one of dct, haar, pca, random"),
        ({"nonlocal_basis": "harr"}, "nonlocal_basis must be one of .*did you mean 'haar'"),
        ({"nonlocal_basis": "dual-frame", "skip": True}, "skip must be False for .*'dual-frame'"),
        ({"nonlocal_basis": AveragePooling()}, r"T\* T = alpha I.* off by"),
        ({"local_basis": "pca"}, "layer 0: local_basis='pca' needs examples"),
        ({"window": (0, 2)}, r"window must have at least one tap, got \(0, 2\)"),
        ({"num_channels": 0}, "num_channels must be at least 1, got 0"),
        ({"num_channels": 5}, "layer 0: there are 4 filters for 5 channels"),
        ({"local_basis": torch.ones(3, 3)}, r"one row a tap of the \(2, 2\) window .4 rows"),
        ({"local_basis": torch.ones(4, 4)}, "filters must span all 4 taps, got rank 1"),
        (
            {"local_basis": torch.eye(4), "dual_local_basis": 2 * torch.eye(4)},
            r"dual_local_basis must satisfy Psi Psi~\^T = I, and is off by 2",
        ),
        (
            {"local_basis": torch.eye(4), "dual_local_basis": torch.eye(4)[:, :3]},
            r"must match the \(4, 4\) entries .* got \(4, 3\)",
        ),
    ],
    ids=str,
)
def test_refuses_wrong_layers(layer, message):
    with pytest.raises(ValueError, match=message):
        make([FrameletLayer(**layer)])


def test_refuses_wrong_networks():
    with pytest.raises(ValueError, match="must be at least one, got 0 layers"):
        make([])
    with pytest.raises(ValueError, match="threshold must be finite and not negative, got -1"):
        make([FrameletLayer()], threshold=-1.0)
    with pytest.raises(ValueError, match=r"positive and even, .* got 7"):
        make([FrameletLayer(num_channels=7)], relu=True)
    with pytest.raises(ValueError, match="no thresholds, this network does"):
        make([FrameletLayer()], threshold=0.1).encoder_decoder(4, 4)
    with pytest.raises(ValueError, match=r"height width.*got an operator on"):
        make([FrameletLayer(nonlocal_basis=HankelLifting((4, 4), (2, 2), num_channels=2))])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 4), r"shape \(batch, 1, height, width\), got \(4, 4\)"),
        ((1, 2, 4, 4), r"shape \(batch, 1, height, width\), got \(1, 2, 4, 4\)"),
        ((1, 1, 4, 6), r"multiples of 4, got \(1, 1, 4, 6\); pad or crop it first"),
    ],
)
def test_refuses_wrong_images(shape, message):
    network = make([FrameletLayer(nonlocal_basis="haar")] * 2)

    with pytest.raises(ValueError, match=message):
        network(torch.zeros(shape, dtype=torch.float64))


def test_refuses_coefficients_of_another_network(rng):
    network = make([FrameletLayer(nonlocal_basis="haar")])
    coefficients = network.analysis(random_image(rng, 1, 1, 4, 4))

    with pytest.raises(ValueError, match=r"coefficients must be 4 tensors.*got 3"):
        network.synthesis(coefficients[1:])


def test_refuses_features_of_another_size_than_the_basis(rng):
    layer = FrameletLayer(nonlocal_basis=dct_nonlocal_basis(HankelLifting((4, 4), (1, 1))))

    with pytest.raises(ValueError, match=r"\(16,\) positions, the features have \(4, 6\)"):
        make([layer])(random_image(rng, 1, 1, 4, 6))
