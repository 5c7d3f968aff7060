"""Stages of a trained network as an encoder-decoder: the same values, and what is refused.

That its frame expansion is that of the recorded network is tested in `geometry/test_two_roads`.
"""

import pytest
import torch
from torch import nn

from framelets.frames import AveragePooling, HaarFilterBank, MaxPooling, encoder_decoder_of_stages


def conv(*channels, size=3, **options):
    return nn.Conv2d(*channels, size, padding=size // 2, **options)


def stage(before, inside, after, **options):
    """A stage with batch normalization that has seen something, and a dropout that is off."""
    normalization = nn.BatchNorm2d(inside)
    with torch.no_grad():
        normalization.running_mean.normal_()
        normalization.running_var.uniform_(0.5, 2)
        normalization.weight.normal_()
        normalization.bias.normal_()
    return nn.Sequential(
        nn.Sequential(conv(before, inside, **options), normalization, nn.ReLU()),
        nn.Dropout(),
        conv(inside, after, size=5, **options),
    )


class SmallUNet(nn.Module):
    """Two levels in plain torch; the skip stands first, as what comes up is stacked behind it."""

    def __init__(self, **options):
        super().__init__()
        self.encoders = nn.ModuleList([stage(2, 3, 4, **options), stage(4, 5, 6, **options)])
        self.bottom = stage(6, 7, 5, **options)
        self.decoders = nn.ModuleList(
            [stage(4 + 3, 6, 3, **options), stage(6 + 5, 4, 3, **options)]
        )
        self.last = conv(3, 2, size=1)

    def forward(self, x):
        first = self.encoders[0](x)
        second = self.encoders[1](nn.functional.avg_pool2d(first, 2))
        low = self.bottom(nn.functional.avg_pool2d(second, 2))
        up = nn.functional.interpolate(low, scale_factor=2)
        up = self.decoders[1](torch.cat([second, up], 1))
        up = nn.functional.interpolate(up, scale_factor=2)
        return self.last(self.decoders[0](torch.cat([first, up], 1)))


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("residual", [False, True])
def test_the_same_values(mode, residual):
    torch.manual_seed(0)
    network = SmallUNet(padding_mode=mode).double().eval()
    pooling = AveragePooling("mean")
    algebra = encoder_decoder_of_stages(
        network.encoders,
        network.bottom,
        network.decoders,
        network.last,
        shape=(8, 12),
        pooling=pooling,
        unpooling=4 * pooling.H,
        residual=residual,
    )
    image = torch.randn(3, 2, 8, 12, dtype=torch.float64)

    expected = image - network(image) if residual else network(image)

    torch.testing.assert_close(algebra(image), expected, rtol=1e-12, atol=1e-12)
    assert algebra.padding == mode


def small(**options):
    choices = {
        "encoders": [conv(1, 2)],
        "bottom": conv(2, 2),
        "decoders": [conv(4, 1)],
        "shape": (4, 4),
        "pooling": AveragePooling(),
    }
    return encoder_decoder_of_stages(**{**choices, **options})


def test_a_module_that_stands_twice_is_applied_twice():
    torch.manual_seed(0)
    relu, again = nn.ReLU(), conv(2, 2)
    bottom = nn.Sequential(conv(2, 2), relu, again, relu, again).double()
    encoder, decoder = conv(1, 2).double(), conv(4, 1).double()
    image = torch.randn(2, 1, 4, 4, dtype=torch.float64)

    algebra = small(encoders=[encoder], bottom=bottom, decoders=[decoder])

    first = encoder(image)
    pooling = AveragePooling()
    expected = decoder(torch.cat([first, pooling.H(bottom(pooling(first)))], 1))
    torch.testing.assert_close(algebra(image), expected, rtol=1e-12, atol=1e-12)


class Negative(nn.Sequential):
    """A container with a forward of its own."""

    def forward(self, x):
        return -super().forward(x)


class Standardized(nn.Conv2d):
    """A convolution that changes its weight before it applies it."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def test_refuses_subclasses_that_do_something_else():
    with pytest.raises(ValueError, match=r"got Sequential\.1 \(Negative\)"):
        small(bottom=nn.Sequential(conv(2, 2), Negative(conv(2, 2))))
    with pytest.raises(ValueError, match=r"got Standardized \(Standardized\)"):
        small(bottom=Standardized(2, 2, 3, padding=1))


def test_refuses_even_kernels():
    for size in (2, (3, 4)):
        with pytest.raises(ValueError, match="must have odd kernel sizes"):
            small(bottom=nn.Conv2d(2, 2, size, padding="same"))


def test_refuses_batch_normalization_without_statistics():
    normalization = nn.BatchNorm2d(2, track_running_stats=False)
    with pytest.raises(ValueError, match=r"Sequential\.1 must have running statistics"):
        small(bottom=nn.Sequential(conv(2, 2), normalization).eval())


def test_refuses_choices_that_a_filter_bank_has_no_place_for():
    wide = {"pooling": HaarFilterBank(), "decoders": [conv(10, 1)]}
    small(**wide)
    with pytest.raises(ValueError, match=r"HaarFilterBank must have .* got subtract=True"):
        small(subtract=True, **wide)
    with pytest.raises(ValueError, match=r"HaarFilterBank must have .* got an unpooling"):
        small(unpooling=AveragePooling().H, **wide)


def test_refuses_other_stages():
    with pytest.raises(ValueError, match=r"Sequential\.1 \(SiLU\); linearize such a network"):
        small(bottom=nn.Sequential(conv(2, 2), nn.SiLU()))
    with pytest.raises(ValueError, match=r"Sequential\.1 is in training mode"):
        small(bottom=nn.Sequential(conv(2, 2), nn.BatchNorm2d(2)))
    with pytest.raises(ValueError, match=r"got Sequential\.1 \(Dropout\)"):
        small(bottom=nn.Sequential(conv(2, 2), nn.Dropout()))
    with pytest.raises(ValueError, match="must have stride, dilation and groups 1"):
        small(bottom=conv(2, 2, stride=2))
    with pytest.raises(ValueError, match="and keep the size"):
        small(bottom=nn.Conv2d(2, 2, 3))
    with pytest.raises(ValueError, match=r"all be circular, got \['circular', 'zeros'\]"):
        small(bottom=conv(2, 2, padding_mode="circular"))
    with pytest.raises(ValueError, match=r"got \['reflect', 'zeros'\]"):
        small(bottom=conv(2, 2, padding_mode="reflect"))


def test_refuses_other_structures():
    with pytest.raises(ValueError, match="one stage a level each, got 1 and 2"):
        small(decoders=[conv(4, 1), conv(4, 1)])
    with pytest.raises(ValueError, match="must have a convolution"):
        small(bottom=nn.Identity())
    with pytest.raises(ValueError, match="needs a pooling that does not depend"):
        small(pooling=MaxPooling, unpooling=AveragePooling().H, subtract=True)
    with pytest.raises(ValueError, match="needs `last` to be a convolution without ReLU"):
        small(residual=True)
    with pytest.raises(ValueError, match=r"decoder_filters must take 2 channels"):
        small(decoders=[conv(5, 1)])
    with pytest.raises(ValueError, match="each of the 3 high subbands, got 4 channels"):
        small(pooling=HaarFilterBank())
