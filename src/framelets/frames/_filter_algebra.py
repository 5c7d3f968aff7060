"""Filters of a layer as matrices: stacked taps, and one matrix a frequency."""

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from .channel_convolution import origin_of, wrapped


def stacked_encoder(
    filters: Float[Tensor, "channels in_channels *taps"],
) -> Float[Tensor, "rows channels"]:
    """Write Psi: column j stacks the taps of psi_j1, psi_j2, ..."""
    return filters.flatten(1).mT


def stacked_decoder(
    filters: Float[Tensor, "in_channels channels *taps"],
) -> Float[Tensor, "rows channels"]:
    """Write Psi~: column k stacks the taps of psi~_1k, psi~_2k, ..."""
    return filters.flatten(2).transpose(1, 2).flatten(0, 1)


def by_frequency(
    encoder: Float[Tensor, "channels in_channels *taps"],
    decoder: Float[Tensor, "in_channels channels *taps"],
    shape: Sequence[int],
    origin: str,
) -> Complex[Tensor, "frequencies in_channels in_channels"]:
    """Compute sum_k F(psi~_ak) conj F(psi_kb) at every frequency of signals of one shape."""
    axes = tuple(range(2, 2 + len(shape)))
    place = origin_of(encoder.shape[2:], origin)
    # Both have the same taps at the same places, so that where they stand cancels.
    spectra = [
        torch.fft.fftn(wrapped(filters, place, tuple(shape))[0], s=tuple(shape), dim=axes)
        for filters in (encoder, decoder)
    ]
    below, above = (spectrum.flatten(2).movedim(2, 0) for spectrum in spectra)
    return torch.matmul(above, below.conj())


def aligned(
    encoder: Tensor | None, decoder: Tensor | None, in_channels: int, num_axes: int, origin: str
) -> tuple[Tensor, Tensor]:
    """Give a pair of filters the same taps, with zeros where one is shorter; None is an impulse."""
    channels = in_channels if encoder is None else encoder.shape[0]
    one = [1] * num_axes
    if encoder is None:
        encoder = torch.eye(channels, dtype=torch.float64).reshape(channels, channels, *one)
    if decoder is None:
        decoder = torch.eye(channels, dtype=torch.float64).reshape(channels, channels, *one)
    pair = encoder.detach().double(), decoder.detach().double()
    taps = [max(sizes) for sizes in zip(*(filters.shape[2:] for filters in pair), strict=True)]
    return with_taps(pair[0], taps, origin), with_taps(pair[1], taps, origin)


def with_taps(filters: Tensor, taps: Sequence[int], origin: str) -> Tensor:
    """Put zeros around filters, so that the tap at the sample stays there.

    The decoder is a true convolution, whose tap at the sample is the same as the encoder's.
    """
    margins: list[int] = []  # nn.functional.pad starts at the last axis
    before = origin_of(filters.shape[2:], origin)
    after = origin_of(taps, origin)
    for size, new, old_place, place in reversed(
        list(zip(filters.shape[2:], taps, before, after, strict=True))
    ):
        margins += [place - old_place, new - size - (place - old_place)]
    return nn.functional.pad(filters, margins)


def mean_over_shifts(matrix: Tensor, shape: Sequence[int], taps: Sequence[int]) -> Tensor:
    """Return the mean of T_t* M T_t over all taps t."""
    axes = tuple(range(len(shape)))
    positions = matrix.reshape(*shape, *shape)
    total: Tensor = torch.zeros_like(positions)
    for tap in product(*(range(count) for count in taps)):
        total += positions.roll((*tap, *tap), (*axes, *(axis + len(shape) for axis in axes)))
    return total.reshape(matrix.shape) / prod(taps)
