"""Encoder-decoders against the theory's formulas, written out from the definitions."""

from functools import partial

import pytest
import torch

from framelets.frames import (
    AveragePooling,
    Branch,
    EncoderDecoder,
    EncoderDecoderLayer,
    HaarFilterBank,
    MaxPooling,
    PositionMatrix,
    StridedPooling,
)
from framelets.testing import assert_adjoint

assert_close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-11)
assert_closer = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)

PUBLISHED = {"channels": (1, 3, 4, 5), "shape": (16,)}  # positions 16, 8, 4, 2
SEVERAL_INPUTS = {"channels": (2, 3, 2), "shape": (12,)}
IMAGES = {"channels": (2, 3, 4), "shape": (8, 12)}
NETWORKS = {"published": PUBLISHED, "several inputs": SEVERAL_INPUTS, "images": IMAGES}
each_network = pytest.mark.parametrize("name", NETWORKS)
each_skip = pytest.mark.parametrize("skip", ["none", "same", "own"])
each_relu = pytest.mark.parametrize("relu", [False, True])


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def means(size):
    """The matrix that averages pairs of samples."""
    return torch.kron(torch.eye(size // 2), torch.tensor([[0.5, 0.5]])).double()


def build(name, skip, relu, rng, **options):
    """Random filters of three taps along every axis, mean pooling, random un-pooling."""
    channels, shape = NETWORKS[name]["channels"], NETWORKS[name]["shape"]
    num, taps = len(channels) - 1, (3,) * len(shape)

    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=rng)

    def encoders():
        return [random(channels[i + 1], channels[i], *taps) for i in range(num)]

    def decoders():
        return [random(channels[i], channels[i + 1], *taps) for i in range(num)]

    own = {}
    if skip == "own":
        # With other numbers of channels in the skips.
        own["skip_encoder_filters"] = [random(i + 2, channels[i], *taps) for i in range(num)]
        own["skip_decoder_filters"] = [random(channels[i], i + 2, *taps) for i in range(num)]
    sizes = [[n // 2**i for n in shape] for i in range(num)]
    if len(shape) == 1:
        poolings = [means(n) for (n,) in sizes]
        unpoolings = [random(n, n // 2) for (n,) in sizes]
    else:
        poolings = [AveragePooling("mean")] * num
        unpoolings = [
            PositionMatrix(random(h * w, h * w // 4), (h // 2, w // 2), (h, w)) for h, w in sizes
        ]
    network = EncoderDecoder.of_filters(
        shape,
        encoders(),
        decoders(),
        poolings,
        unpoolings,
        skip=skip != "none",
        relu=relu,
        **own,
        **options,
    )
    signal = random(*network.input_shape)
    return network.requires_grad_(False), signal


def by_definition(filters, positions, shape, transposed):
    """Write the blocks [Phi * psi_jk], with columns phi_i * psi_jk, by Fourier transform."""
    axes = tuple(range(-len(shape), 0))
    columns = positions.mT.reshape(-1, *shape)  # one phi_i each
    spectra = torch.fft.fftn(columns, dim=axes)
    response = torch.fft.fftn(filters, s=shape, dim=axes)
    blocks = torch.fft.ifftn(response.unsqueeze(2) * spectra, dim=axes).real
    blocks = blocks.flatten(3)  # (j, k, i, position)
    order = (1, 3, 0, 2) if transposed else (0, 3, 1, 2)
    rows = filters.shape[1 if transposed else 0] * positions.shape[0]
    return blocks.permute(*order).reshape(rows, -1)


@each_network
@each_skip
def test_matrices_by_their_definition(name, skip, rng):
    network, _ = build(name, skip, relu=False, rng=rng)

    for layer, operators in zip(network.layers, network.at().layers, strict=True):
        _, *shape = operators.main.input_shape
        branches = [layer.main, *layer.skips]
        held = [operators.main, *operators.skips]
        for branch, part in zip(branches, held, strict=True):
            phi = dual = torch.eye(torch.Size(shape).numel(), dtype=torch.float64)
            if branch.pooling is not None:
                phi = branch.pooling.to_matrix(shape).mT
                dual = branch.unpooling.to_matrix()
            down = by_definition(branch.encoder_filters, phi, shape, transposed=True)
            up = by_definition(branch.decoder_filters, dual, shape, transposed=False)
            assert_closer(part.encoder_matrix(), down)
            assert_closer(part.decoder_matrix(), up)


@each_network
@each_skip
@each_relu
def test_convolutions_are_the_matrices(name, skip, relu, rng):
    # z = relu(E^T z), chi = relu(S^T z), z~ = relu(D z~ + S~ chi), no ReLU at the output.
    network, signal = build(name, skip, relu, rng)
    held = network.without_relu().at().layers
    switch = torch.relu if relu else (lambda values: values)
    features, levels = signal.flatten(), []
    for layer in held:
        levels.append([switch(part.encoder_matrix().mT @ features) for part in layer.skips])
        features = switch(layer.main.encoder_matrix().mT @ features)
    for number, layer in reversed(list(enumerate(held))):
        features = layer.main.decoder_matrix() @ features
        for part, coefficients in zip(layer.skips, levels.pop(), strict=True):
            features = features + part.decoder_matrix() @ coefficients
        features = switch(features) if number else features

    assert_closer(network(signal).flatten(), features)


@each_network
@each_skip
@each_relu
def test_frame_expansion_is_the_network_and_its_jacobian(name, skip, relu, rng):
    network, signal = build(name, skip, relu, rng)
    expansion = network.at(signal)

    product = expansion.synthesis_matrix() @ expansion.analysis_matrix().mT
    jacobian = torch.autograd.functional.jacobian(network, signal)

    assert_close(product @ signal.flatten(), network(signal).flatten())
    assert_close(product, jacobian.reshape(product.shape))
    assert torch.equal(expansion.offset, torch.zeros(network.output_shape, dtype=torch.float64))


@each_network
@each_skip
@each_relu
def test_operators_are_the_matrices(name, skip, relu, rng):
    network, signal = build(name, skip, relu, rng)
    expansion = network.at(signal)

    assert_closer(expansion.analysis.to_matrix(), expansion.analysis_matrix().mT)
    assert_closer(expansion.synthesis.to_matrix(), expansion.synthesis_matrix())
    assert expansion.analysis.output_shape == (expansion.num_columns,)


@each_network
@each_skip
@pytest.mark.parametrize("padding", ["circular", "zeros"])
@pytest.mark.parametrize("origin", ["first", "center"])
def test_other_paddings_and_origins(name, skip, padding, origin, rng):
    network, signal = build(name, skip, True, rng, padding=padding, origin=origin)
    expansion = network.at(signal)

    product = expansion.synthesis_matrix() @ expansion.analysis_matrix().mT

    assert_close(product @ signal.flatten(), network(signal).flatten())
    assert_close(expansion.frozen.to_matrix(), product)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
@each_network
def test_adjoints(name, dtype, rng):
    network, signal = build(name, "own", True, rng)
    expansion = network.at(signal)

    for operator in (expansion.analysis, expansion.synthesis, expansion.frozen):
        assert_adjoint(operator, None, dtype, generator=rng)


def test_blocks_from_bottom_to_top(rng):
    # B = [E1 S1 E2 S2 E3 S3, E1 S1 E2 S2 S3 SS3, E1 S1 S2 SS2, S1 SS1], B~ likewise.
    network, signal = build("published", "same", True, rng)
    expansion = network.at(signal)
    layers = expansion.layers
    e1, e2, e3 = (part.main.encoder_matrix() for part in layers)
    d1, d2, d3 = (part.main.decoder_matrix() for part in layers)
    s1, s2, s3 = (part.skips[0].encoder_matrix() for part in layers)
    t1, t2, t3 = (part.skips[0].decoder_matrix() for part in layers)
    m1, m2, m3 = (torch.diag(part.main.mask.flatten().double()) for part in layers)
    k1, k2, k3 = (torch.diag(part.skips[0].mask.flatten().double()) for part in layers)
    assert layers[0].mask is None
    n1, n2 = (torch.diag(part.mask.flatten().double()) for part in layers[1:])

    assert_close(
        expansion.analysis_matrix(),
        torch.cat(
            [e1 @ m1 @ e2 @ m2 @ e3 @ m3, e1 @ m1 @ e2 @ m2 @ s3 @ k3, e1 @ m1 @ s2 @ k2, s1 @ k1],
            1,
        ),
    )
    assert_close(
        expansion.synthesis_matrix(),
        torch.cat([d1 @ n1 @ d2 @ n2 @ d3, d1 @ n1 @ d2 @ n2 @ t3, d1 @ n1 @ t2, t1], 1),
    )
    assert expansion.coefficient_shapes == [(5, 2), (5, 4), (4, 8), (3, 16)]


def test_columns_of_the_published_example(rng):
    for skip, columns in (("none", 10), ("same", 110)):
        network, _ = build("published", skip, relu=False, rng=rng)
        expansion = network.at()
        assert expansion.num_columns == columns
        assert expansion.analysis_matrix().shape == (16, columns)
        assert expansion.synthesis_matrix().shape == (16, columns)


def test_by_hand():
    # x * flip(psi) = x[i] + 2 x[i + 1] = (5, 8, 11, 6); means (6.5, 8.5); un-pooled by the adjoint
    # (3.25, 3.25, 4.25, 4.25); * psi~ = z[i] - z[i - 1] = (-1, 0, 1, 0).
    network = EncoderDecoder.of_filters(
        (4,), [torch.tensor([[[1.0, 2.0]]])], [torch.tensor([[[1.0, -1.0]]])], [means(4).float()]
    )
    signal = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    (layer,) = network.at(signal).layers

    assert network(signal).tolist() == [[-1.0, 0.0, 1.0, 0.0]]
    assert layer.main.encoder_matrix().mT.tolist() == [[0.5, 1.5, 1.0, 0.0], [1.0, 0.0, 0.5, 1.5]]
    assert layer.main.decoder_matrix().mT.tolist() == [[0.5, 0.0, -0.5, 0.0], [-0.5, 0.0, 0.5, 0.0]]
    assert network(-signal).tolist() == [[0.0, 0.0, 0.0, 0.0]]


@each_network
@each_skip
def test_homogeneous_for_positive_factors_only(name, skip, rng):
    network, signal = build(name, skip, True, rng)
    output = network(signal)

    for factor in (0.0, 1e-3, 7.0):
        assert_close(network(factor * signal), factor * output)
    assert torch.linalg.vector_norm(network(-signal) + output) > 0.1 * torch.linalg.vector_norm(
        output
    )


def test_batches_and_types(rng):
    network, signal = build("images", "same", True, rng)
    batch = torch.stack([signal, 2 * signal, -signal]).reshape(3, 1, *signal.shape)

    assert_closer(network(batch)[2, 0], network(-signal))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        low = network(batch.to(dtype))
        assert low.dtype == dtype
        error = torch.linalg.vector_norm(low.double() - network(batch))
        assert error < tolerance * torch.linalg.vector_norm(network(batch))


def test_complex_signals_of_a_linear_network(rng):
    network, signal = build("images", "same", False, rng)

    assert_closer(network(signal * (2 - 3j)), network(signal) * (2 - 3j))


def test_units_and_patterns(rng):
    # 8 samples, three taps, channels 1, 2, 4: units 8 + 8 in the encoder, 8 in the decoder, and
    # with skips 16 + 16 more.
    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=rng)

    network = EncoderDecoder.of_filters(
        (8,),
        [random(2, 1, 3), random(4, 2, 3)],
        [random(1, 2, 3), random(2, 4, 3)],
        [means(8), means(4)],
        skip=True,
    )
    plain = network.without_skips()
    signals = random(20000, 1, 8)

    assert (plain.units.encoder, plain.units.decoder, plain.units.skip) == ((8, 8), (0, 8), (0, 0))
    assert (network.units.total, plain.units.total) == (56, 24)
    patterns = network.activation_pattern(signals), plain.activation_pattern(signals)
    with_skip, without = (len(torch.unique(bits(pattern))) for pattern in patterns)
    assert 1000 < without < with_skip <= len(signals)
    assert torch.equal(network.activation_pattern(signals[5]), patterns[0][5])
    # The encoder's units are the same with the skip: its patterns refine those of the encoder.
    shared = patterns[0][:, 16:24], patterns[1][:, :8]
    assert torch.equal(*shared)


def bits(pattern):
    weights = 2 ** torch.arange(pattern.shape[-1])
    return (pattern * weights).sum(-1)


def test_two_units_show_all_four_patterns():
    # (x_0 + 2 x_1, 2 x_0 + x_1) takes any two signs: the bound 2^units is reached.
    network = EncoderDecoder.of_filters(
        (2,), [torch.tensor([[[1.0, 2.0]]])], [torch.tensor([[[1.0, 0.5]]])]
    )
    angles = torch.arange(12) * torch.pi / 6 + 0.1
    signals = torch.stack([angles.cos(), angles.sin()], dim=-1)[:, None]

    patterns = network.activation_pattern(signals)

    assert network.units.total == 2
    assert patterns.unique(dim=0).tolist() == [
        [False, False],
        [False, True],
        [True, False],
        [True, True],
    ]


@pytest.fixture
def small(rng):
    """A network of 4 + 6 units in the encoder and 4 in the decoder, with many signals."""

    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=rng)

    network = EncoderDecoder.of_filters(
        (2,), [random(2, 1, 2), random(3, 2, 2)], [random(1, 2, 2), random(2, 3, 2)]
    )
    return network.requires_grad_(False), random(400, 1, 2)


def test_linear_maps_are_counted_by_their_patterns(small):
    network, signals = small
    patterns = [tuple(pattern) for pattern in network.activation_pattern(signals).tolist()]
    of_pattern, of_signal = {}, []
    for signal, pattern in zip(signals, patterns, strict=True):
        jacobian = torch.autograd.functional.jacobian(network, signal).flatten()
        of_pattern.setdefault(pattern, jacobian)
        assert_closer(jacobian, of_pattern[pattern])  # constant inside a region
        of_signal.append(hash(tuple((1e9 * jacobian).round().long().tolist())))

    # Patterns that let nothing through have one map, zero; all others differ.
    zero = {p for p, jacobian in of_pattern.items() if not jacobian.any()}
    assert len(set(of_signal)) == len(set(patterns) - zero) + bool(zero)
    assert len(set(of_signal)) > 8


def test_a_region_is_convex_and_its_map_constant(small):
    network, signals = small
    patterns = network.activation_pattern(signals)
    first, *others = (signals[(patterns == pattern).all(-1)] for pattern in patterns[:3])

    for inside in (first, *others):
        middle = (inside[0] + inside[-1]) / 2
        assert not torch.equal(inside[0], inside[-1])
        there, here = (network.activation_pattern(signal) for signal in (inside[0], middle))
        assert torch.equal(there, here)
        jacobian, other = (network.at(signal).frozen.to_matrix() for signal in (inside[0], middle))
        assert torch.equal(jacobian, other)
        assert_closer(network(middle), (jacobian @ middle.flatten()).reshape(middle.shape))


def test_a_skip_can_make_patterns_fewer():
    # More units, and a larger bound; but a skip that outweighs what comes up settles the decoder's
    # signs. Filters of skip and layer are the same here; psi~ > 0, and weak un-pooling of any sign.
    rng = torch.Generator().manual_seed(0)
    positions = torch.eye(8, dtype=torch.float64)

    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=rng)

    network = EncoderDecoder.of_filters(
        (8,),
        [random(2, 1, 3), random(4, 2, 3)],
        [random(1, 2, 3).abs(), random(2, 4, 3).abs()],
        [positions, positions],
        [0.01 * random(8, 8), 0.01 * random(8, 8)],
        skip=True,
    )
    signals = random(5000, 1, 8)

    decoder_with, decoder_without = (
        net.activation_pattern(signals)[:, -16:] for net in (network, network.without_skips())
    )

    assert len(torch.unique(bits(decoder_with))) < len(torch.unique(bits(decoder_without))) / 2


def test_max_pooling_is_taken_at_the_features(rng):
    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=rng)

    nearest = 2 * AveragePooling("orthonormal").H
    network = EncoderDecoder.of_filters(
        (8, 4),
        [random(3, 1, 3, 3), random(4, 3, 3, 3)],
        [random(1, 3, 3, 3), random(3, 4, 3, 3)],
        [MaxPooling, MaxPooling],
        [nearest, nearest],
        skip=True,
    )
    signal = random(1, 8, 4)
    expansion = network.at(signal)
    convolve = network.at(signal).layers[0].main.encoder_filter

    expected = torch.relu(torch.nn.functional.max_pool2d(convolve(signal), 2))
    assert_close(expansion.layers[0].main.encoder(signal), expected)
    product = expansion.synthesis_matrix() @ expansion.analysis_matrix().mT
    jacobian = torch.autograd.functional.jacobian(network, signal)

    assert_close(product @ signal.flatten(), network(signal).flatten())
    assert_close(product, jacobian.reshape(product.shape))


def test_a_filter_bank_makes_channels(rng):
    # Haar pooling makes four maps of each channel; the next layer takes them as channels.
    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=rng)

    bank = HaarFilterBank()
    filters = [random(2, 1, 2, 2), random(3, 8, 1, 1)]
    duals = [random(1, 2, 2, 2), random(8, 3, 1, 1)]
    network = EncoderDecoder.of_filters((4, 6), filters, duals, [bank, None], relu=False)
    signal = random(1, 4, 6)

    filtered = network.at().layers[0].main.encoder_filter(signal)
    first = network.at().layers[0].main.encoder(signal)

    assert network.at().coefficient_shapes == [(3, 2, 3)]
    assert first.shape == (8, 2, 3)
    assert_closer(first[4:], bank(filtered[1]))
    product = network.at().synthesis_matrix() @ network.at().analysis_matrix().mT
    assert_close(product @ signal.flatten(), network(signal).flatten().detach())


def test_biases_make_the_offset(rng):
    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=rng)

    def layer(inside, outside, top):
        main = Branch(
            random(outside, inside, 3),
            random(inside, outside, 3),
            pooling=means(16 if top else 8),
            encoder_bias=random(outside),
            relu=True,
        )
        skip = Branch(random(2, inside, 3), random(inside, 2, 1), None, None, random(2), relu=True)
        return EncoderDecoderLayer(main, (skip,), random(inside), relu=not top)

    network = EncoderDecoder([layer(1, 3, True), layer(3, 4, False)], (16,), origin="center")
    signal = random(1, 16)
    expansion = network.at(signal)

    jacobian = torch.autograd.functional.jacobian(network, signal).reshape(16, 16)
    assert_close(expansion.frozen.to_matrix(), jacobian)
    offset = network(signal).flatten() - jacobian @ signal.flatten()
    assert_close(expansion.offset.flatten(), offset.detach())
    assert torch.linalg.vector_norm(offset) > 1


def test_parameters_are_shared_where_given_so(rng):
    network, signal = build("published", "same", True, rng)
    plain = network.without_skips()
    with torch.no_grad():
        network.layers[0].main.decoder_filters.zero_()

    assert torch.equal(plain(signal), torch.zeros_like(signal))
    assert torch.equal(network(signal), torch.zeros_like(signal))


def test_held_operators_stay_when_parameters_change(rng):
    network, signal = build("published", "same", True, rng)
    expansion = network.at(signal)
    before = expansion.frozen(signal)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()

    assert torch.equal(expansion.frozen(signal), before)
    assert torch.linalg.vector_norm(before) > 0


def test_gradients_reach_the_filters(rng):
    network, signal = build("published", "own", True, rng)
    network.requires_grad_(True)

    network(signal).square().sum().backward()

    assert all(float(p.grad.abs().max()) > 0 for p in network.parameters())


def test_refuses_layers_that_do_not_fit():
    one, two = torch.ones(1, 1, 3), torch.ones(2, 2, 3)
    of_filters = partial(EncoderDecoder.of_filters, (4,))
    with pytest.raises(ValueError, match="layers must not be empty"):
        EncoderDecoder([], (4,))
    with pytest.raises(ValueError, match=r"layers\[1\].main: encoder_filters must take 1 channels"):
        of_filters([one, two], [one, two])
    with pytest.raises(ValueError, match=r"decoder_filters must take 1 channels, got .*2, 2, 3"):
        of_filters([one], [two])
    with pytest.raises(ValueError, match=r"must have 1 axes of taps for positions \(4,\)"):
        of_filters([torch.ones(1, 1, 3, 3)], [one])
    with pytest.raises(ValueError, match=r"decoder_filters must have one entry a layer, .*got 2"):
        of_filters([one], [one, one])
    with pytest.raises(ValueError, match=r"unpooling must take coefficients \(1, 2\)"):
        of_filters([one], [one], [means(4)], [torch.ones(4, 3)])
    with pytest.raises(ValueError, match="skip is False; set skip=True"):
        of_filters([one], [one], skip_encoder_filters=[one])
    with pytest.raises(ValueError, match="the decoder must make 1 channels"):
        of_filters([one], [one], skip=True, skip_decoder_filters=[torch.ones(2, 1, 3)])
    with pytest.raises(ValueError, match=r"encoder_bias must have shape \(1,\)"):
        EncoderDecoder([EncoderDecoderLayer(Branch(one, encoder_bias=torch.ones(2)))], (4,))
    with pytest.raises(ValueError, match=r"decoder_bias must have shape \(1,\)"):
        EncoderDecoder([EncoderDecoderLayer(Branch(one), (), torch.ones(2))], (4,))
    with pytest.raises(ValueError, match="unpooling must be given where pooling depends"):
        EncoderDecoder([EncoderDecoderLayer(Branch(pooling=MaxPooling))], (4, 4))
    with pytest.raises(ValueError, match="did you mean 'circular'"):
        of_filters([one], [one], padding="circle")
    with pytest.raises(ValueError, match="origin must be one of center, first"):
        of_filters([one], [one], origin="middle")


def test_refuses_signals_that_do_not_fit():
    impulse = torch.ones(1, 1, 1)
    network = EncoderDecoder.of_filters((4,), [impulse], [impulse])
    with pytest.raises(ValueError, match=r"signal must have shape \(\*batch, 1, 4\), got \(1, 5\)"):
        network(torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"one sample of shape \(1, 4\), got \(2, 1, 4\)"):
        network.at(torch.zeros(2, 1, 4))
    with pytest.raises(ValueError, match="take without_relu"):
        network.at()
    with pytest.raises(ValueError, match="signal must be real"):
        network(torch.zeros(1, 4, dtype=torch.complex64))


def test_refuses_complex_poolings():
    impulse = torch.ones(1, 1, 1)
    fourier = PositionMatrix(torch.fft.fft(torch.eye(4, dtype=torch.complex128)))
    with pytest.raises(ValueError, match="poolings and un-poolings must be real"):
        EncoderDecoder.of_filters((4,), [impulse], [impulse], [fourier], relu=False)
    with pytest.raises(ValueError, match="poolings and un-poolings must be real"):
        EncoderDecoder.of_filters((4,), [impulse], [impulse], None, [fourier], relu=False)


def test_refuses_large_matrices(rng):
    network, signal = build("published", "same", True, rng)
    with pytest.raises(ValueError, match="dense 16 x 110 matrix takes 14080 bytes"):
        network.at(signal).analysis_matrix(max_bytes=14000)
    with pytest.raises(ValueError, match="matrix takes"):
        network.at(signal).synthesis_matrix(max_bytes=100)


def test_strided_pooling_sorts_the_samples():
    # One shifted impulse a channel and one pixel of every block: a permutation.
    impulses = torch.eye(4).reshape(4, 1, 2, 2)
    network = EncoderDecoder.of_filters(
        (4, 6), [impulses], [impulses.transpose(0, 1)], [StridedPooling()], relu=False
    )
    matrix = network.at().analysis_matrix()

    assert torch.equal(matrix.sum(0), torch.ones(24).double())
    assert torch.equal(matrix.mT @ matrix, torch.eye(24).double())
    assert torch.equal(network.at().synthesis_matrix(), matrix)
