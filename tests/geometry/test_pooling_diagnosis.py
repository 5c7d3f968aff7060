"""What poolings forget, fold down and count twice, against dense matrices and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn import functional

from framelets.frames import pooling_levels
from framelets.geometry import diagnose_poolings, frame_levels, linearize
from framelets.networks import UNet

DTYPE = torch.float64
MEAN_ALIASING = 1 - (1 / 2 + 1 / math.pi) ** 2


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def draw(*shape, rng):
    return torch.randn(1, *shape, dtype=DTYPE, generator=rng)


def diagnose(network, image):
    return diagnose_poolings(linearize(network, image))


def nearest(low):
    return functional.interpolate(low, scale_factor=2, mode="nearest")


def plain(image):
    return torch.cat([image, nearest(functional.avg_pool2d(image, 2))], dim=1)


def plain_bilinear(image):
    low = functional.interpolate(functional.avg_pool2d(image, 2), scale_factor=2, mode="bilinear")
    return torch.cat([low, image], dim=1)


def plain_max(image):
    return torch.cat([image, nearest(functional.max_pool2d(image, 2))], dim=1)


def sum_of_both(image):
    return image + nearest(functional.avg_pool2d(image, 2))


def dual(image):
    low = functional.avg_pool2d(image, 2)
    return torch.cat([image, nearest(low) - nearest(low)], dim=1)


def dense_pair(network, image):
    """Return R as a dense matrix: the sum of the branches of a network that only joins them."""

    def branches(x):
        return network(x).reshape(-1, *image.shape[2:]).sum(0)

    matrix = torch.func.jacrev(branches)(image)
    return matrix.reshape(image.numel(), image.numel())


def best_error(matrix):
    identity = np.eye(len(matrix))
    found = minimize_scalar(
        lambda w: np.linalg.norm(w * matrix - identity, 2), bounds=(0, 2), method="bounded"
    )
    return found.fun


@pytest.mark.parametrize("network", [plain, plain_max, sum_of_both, dual])
def test_ratio_and_error_are_those_of_the_dense_matrix(network, rng):
    image = draw(1, 8, 12, rng=rng)
    matrix = dense_pair(network, image).numpy()
    values = np.linalg.svd(matrix, compute_uv=False)

    (found,) = diagnose(network, image)

    assert found.completion == "network"
    assert found.ratio == pytest.approx(values[0] / values[-1], rel=1e-9)
    assert found.error == pytest.approx(best_error(matrix), abs=1e-4)


def test_overlapping_interpolation_is_taken_as_periodic(rng):
    # At the border bilinear interpolation repeats pixels; further inside, a larger map is better.
    image = draw(1, 24, 24, rng=rng)
    values = np.linalg.svd(dense_pair(plain_bilinear, image).numpy(), compute_uv=False)

    (found,) = diagnose(plain_bilinear, image)

    assert found.ratio == pytest.approx(values[0] / values[-1], rel=0.02)
    # By hand: a constant is counted twice, the pattern + - + - of every row and column once.
    assert found.ratio >= 2 - 1e-9


@pytest.mark.parametrize(
    ("network", "bounds", "ratio", "error"),
    [
        (plain, (1, 1.25), 2, 1 / 3),  # I + P: w = 2/3
        (dual, (1, 1.25), 1, 0),
        (plain_max, (1, 2), 2 + math.sqrt(3), None),  # I + 1 e^T for a block of four
    ],
)
def test_numbers_by_hand(network, bounds, ratio, error, rng):
    (found,) = diagnose(network, draw(2, 8, 8, rng=rng))

    assert (found.level.lower, found.level.upper) == pytest.approx(bounds)
    assert found.ratio == pytest.approx(ratio)
    if error is not None:
        assert found.error == pytest.approx(error, abs=1e-5)


def dense_pair_of_channels(network, image):
    """The same where each channel is joined with its own skip."""

    def branches(x):
        return network(x).reshape(-1, *image.shape[1:]).sum(0)

    return torch.func.jacrev(branches)(image).reshape(image.numel(), image.numel())


def test_every_channel_of_a_depthwise_pooling_counts(rng):
    # The mean in one channel, half of one pixel in the other: |A|^2 = 1/4 in both.
    down = nn.Conv2d(2, 2, 2, stride=2, groups=2, bias=False).to(DTYPE).requires_grad_(False)
    down.weight[0] = 0.25
    down.weight[1] = torch.tensor([[0.5, 0.0], [0.0, 0.0]])

    def network(image):
        return torch.cat([image, nearest(down(image))], dim=1)

    image = draw(2, 8, 8, rng=rng)
    matrix = dense_pair_of_channels(network, image).numpy()
    values = np.linalg.svd(matrix, compute_uv=False)

    (found,) = diagnose(network, image)

    assert found.completion == "network"
    assert found.ratio == pytest.approx(values[0] / values[-1], rel=1e-9)
    assert found.error == pytest.approx(best_error(matrix), abs=1e-4)
    assert found.ratio > 2.1  # I + P of the first channel has 2


BLUR = torch.tensor([1.0, 2.0, 1.0], dtype=DTYPE) / 4


@pytest.mark.parametrize(
    "pooling",
    [
        lambda image: functional.avg_pool2d(image, 3, 2, 1),
        lambda image: functional.conv2d(
            image, torch.outer(BLUR, BLUR).expand(2, 1, 3, 3), stride=2, padding=1, groups=2
        ),
    ],
    ids=["mean of 3x3", "blur"],
)
def test_poolings_of_overlapping_windows_are_brought_back_by_the_network(pooling, rng):
    def network(image):
        return torch.cat([image, nearest(pooling(image))], dim=1)

    image = draw(2, 24, 24, rng=rng)
    matrix = dense_pair_of_channels(network, image).numpy()
    values = np.linalg.svd(matrix, compute_uv=False)

    (found,) = diagnose(network, image)

    assert found.completion == "network"
    assert found.ratio == pytest.approx(values[0] / values[-1], rel=0.02)  # but for the border
    assert found.ratio > 1.3 * found.level.upper / found.level.lower


def test_overlapping_maxima_have_no_pair(rng):
    def network(image):
        return torch.cat([image, nearest(functional.max_pool2d(image, 3, 2, 1))], dim=1)

    (found,) = diagnose(network, draw(1, 8, 8, rng=rng))

    assert found.completion == "adjoint"
    assert found.ratio == found.level.upper / found.level.lower


def test_the_error_of_a_pair_without_weight_is_that_of_the_table_of_frames(rng):
    image = draw(1, 8, 8, rng=rng)
    table = {
        (level.pooling, level.unpooling): level
        for level in pooling_levels(image[0, 0])
        if level.skip
    }

    # The table has R - I; here R = I + A* A, A* A having 1/4 and 1 on the low frequencies.
    for normalization in ("mean", "orthonormal"):
        network = UNet(width=2, depth=1, pooling_normalization=normalization).to(DTYPE).eval()
        (found,) = diagnose(network, image)
        excess = table[f"average ({normalization})", "adjoint"].reconstruction_error
        assert found.ratio == pytest.approx(1 + excess)
        assert found.error == pytest.approx(excess / (2 + excess), abs=1e-5)


@pytest.mark.parametrize(
    ("pooling", "normalization", "bounds", "ratio"),
    [
        ("average", "mean", (1, 1.25), 1.25),
        ("average", "orthonormal", (1, 2), 2),
        ("dual-frame", "mean", (1, 1.25), 1),
        ("dual-frame", "orthonormal", (1, 2), 1),
        ("tight-frame", "mean", (2, 2), 1),
    ],
)
def test_levels_of_a_unet(pooling, normalization, bounds, ratio, rng):
    network = UNet(width=3, depth=2, pooling=pooling, pooling_normalization=normalization)

    levels = diagnose(network.to(DTYPE).eval(), draw(1, 16, 24, rng=rng))

    assert len(levels) == 2
    for level in levels:
        assert level.completion == "network"
        assert level.level.skip
        assert not level.learned
        assert (level.level.lower, level.level.upper) == pytest.approx(bounds)
        assert level.ratio == pytest.approx(ratio, abs=1e-9)
        assert level.error == pytest.approx((ratio - 1) / (ratio + 1), abs=1e-5)
        assert level.aliasing == pytest.approx(MEAN_ALIASING)  # of LL too


def test_an_unpooling_that_mixes_channels_is_taken_as_the_pseudo_inverse(rng):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 2, 2, stride=2)

        def forward(self, image):
            return torch.cat([self.up(functional.avg_pool2d(image, 2).relu()), image], dim=1)

    (found,) = diagnose(Network().to(DTYPE), draw(2, 8, 8, rng=rng))

    assert found.completion == "pseudo-inverse"
    assert (found.ratio, found.error) == pytest.approx((2, 1 / 3), abs=1e-5)  # I + P


def test_a_learned_pooling_by_its_weights_over_all_channels(rng):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)

        def forward(self, image):
            image = image.relu()
            return torch.cat([image, self.up(self.down(image).relu())], dim=1)

    network = Network().to(DTYPE)
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=rng)
    image = draw(3, 10, 10, rng=rng)
    matrix = torch.func.jacrev(network.down)(image).reshape(4 * 25, 300)

    (found,) = diagnose(network, image)

    upper = 1 + float(torch.linalg.matrix_norm(matrix.detach(), 2)) ** 2
    assert found.learned
    assert found.operation == "convolution 3x3, stride 2"
    assert (found.level.lower, found.level.upper) == pytest.approx((1, upper), rel=2e-3)
    assert found.completion == "adjoint"
    assert found.ratio == pytest.approx(upper, rel=2e-3)
    assert found.error == pytest.approx((upper - 1) / (upper + 1), rel=2e-3)


def test_without_a_skip_a_pooling_forgets(rng):
    (found,) = diagnose(nn.AvgPool2d(2), draw(1, 8, 8, rng=rng))

    assert (found.level.lower, found.level.upper) == pytest.approx((0, 0.25))
    assert found.level.num_coefficients == found.level.num_entries / 4
    assert (found.ratio, found.error) == (math.inf, 1)


# Aliasing: the share of the energy from above the new Nyquist frequency.


def integrated(filters, factor):
    """Integrate |response|^2 of one-dimensional filters on a fine grid of frequencies."""
    frequencies = (np.arange(20000) + 0.5) / 20000 * np.pi
    response = np.exp(-1j * np.outer(frequencies, np.arange(filters.shape[-1]))) @ filters.mT
    energy = (np.abs(response) ** 2).sum(-1)
    return energy[frequencies >= np.pi / factor].sum() / energy.sum()


@pytest.mark.parametrize(
    ("pooling", "aliasing"),
    [
        (nn.AvgPool2d(2), MEAN_ALIASING),
        (nn.MaxPool2d(2), 3 / 4),
        (lambda image: image[..., ::2, ::2] * 1.0, 1 / 2),  # rows, then columns: two levels
        (nn.AvgPool2d(1, stride=2), 3 / 4),
        (nn.AvgPool2d(1, stride=3), 8 / 9),
    ],
    ids=["mean", "max", "slices", "strided", "every third"],
)
def test_aliasing_by_hand(pooling, aliasing, rng):
    for found in diagnose(pooling, draw(2, 12, 12, rng=rng)):
        assert found.aliasing == pytest.approx(aliasing, abs=1e-12)


@pytest.mark.parametrize(("taps", "factor"), [(2, 2), (3, 2), (5, 2), (3, 3), (4, 3)])
def test_aliasing_is_the_integral(taps, factor, rng):
    layer = nn.Conv1d(2, 3, taps, stride=factor).to(DTYPE)
    nn.init.normal_(layer.weight, generator=rng)

    (found,) = diagnose(layer, draw(2, 24, rng=rng))

    filters = layer.weight.detach().flatten(0, 1).numpy()
    assert found.aliasing == pytest.approx(integrated(filters, factor), abs=1e-3)


def test_a_low_pass_filter_before_sampling_aliases_less(rng):
    layer = nn.Conv1d(1, 1, 3, stride=2, bias=False).to(DTYPE)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[0.25, 0.5, 0.25]]]))

    (found,) = diagnose(layer, draw(1, 16, rng=rng))

    # |a(w)|^2 = cos^4(w/2): the integral over the band is 3 pi/16 + 1/2, over all 3 pi/8.
    assert found.aliasing == pytest.approx(1 - (3 * math.pi / 16 + 1 / 2) / (3 * math.pi / 8))


# What is found to be a level.


def test_anisotropic_strides_are_levels(rng):
    network = nn.Sequential(nn.Conv3d(1, 2, (3, 3, 1), (2, 2, 1), (1, 1, 0)), nn.ReLU())

    (found,) = diagnose(network.to(DTYPE), draw(1, 8, 8, 4, rng=rng))

    assert found.operation == "convolution 3x3x1, stride 2x2x1"


def test_all_phases_of_a_row_forget_nothing_and_cropping_is_no_level(rng):
    def network(image):
        cropped = image[..., 1:5, 1:5].relu()
        return torch.cat([cropped[..., ::2, :], cropped[..., 1::2, :]], dim=1)

    (found,) = diagnose(network, draw(1, 8, 8, rng=rng))

    assert (found.level.lower, found.level.upper, found.level.skip) == (1, 1, False)
    assert (found.ratio, found.error) == pytest.approx((1, 0), abs=1e-6)


def test_a_rearrangement_by_views_is_one_level(rng):
    def network(image):
        low = functional.avg_pool2d(-image, 2)
        batch, channels, height, width = image.shape
        blocks = image.reshape(batch, channels, height // 2, 2, width // 2, 2)
        return blocks.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // 2, width // 2) + low

    mean, found = diagnose(network, draw(1, 8, 8, rng=rng))

    assert (mean.operation, found.operation) == ("average pooling 2x2", "rearrangement 2x2")
    # A permutation, beside the negative image at full resolution: I + I.
    assert (found.level.lower, found.level.upper) == pytest.approx((2, 2))


def test_functions_are_named_by_what_they_follow(rng):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 2, 3, padding=1)
            self.second = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, image):
            features = functional.avg_pool2d(self.first(image).relu(), 2)
            return functional.avg_pool2d(self.second(features).relu(), 2)

    local = linearize(Network().to(DTYPE), draw(1, 8, 8, rng=rng))

    names = [level.name for level in frame_levels(local)]
    assert names == ["avg_pool2d after first", "avg_pool2d after second"]
