"""Local bases of a layer of convolution framelets, and their duals.

A local basis Psi has one row for each tap of each input channel, channel-major as the columns of
`HankelLifting` are, and one column a filter. With r taps, p channels and the gain alpha of the
non-local basis, its dual satisfies

    Psi Psi~^T = I / (r alpha)

where there are q >= r p filters [1]. Fewer cannot; then Psi Psi~^T is the projection onto their
span, over r alpha. That cuts the rank of the layer's Hankel matrix down to q [2], but only before
the result is read out: the Hankel matrix of the signal that the layer makes can have a higher rank.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
    [2] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
"""

from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import refuse_unknown
from framelets.frames import (
    HankelLifting,
    dct_local_basis,
    dual_filters,
    haar_local_basis,
    pca_local_basis,
)

LOCAL_BASES = ("dct", "haar", "pca", "random")

Matrix = Float[Tensor, "tap filter"]


class Place(NamedTuple):
    """Where a local basis stands."""

    name: str
    window: tuple[int, int]
    channels: int


def make_local_basis(
    basis: str | Tensor,
    place: Place,
    num_filters: int | None,
    examples: Float[Tensor, "batch channel height width"] | None,
    generator: torch.Generator,
) -> Matrix:
    """Build Psi.

    Args:
        basis: One of `LOCAL_BASES`, or filters `tap filter`: of all channels, or of one, then
            applied to each channel by itself.
        place: Name of the layer for messages, window and input channels.
        num_filters: Keep the leading ones; None: all, r p of a basis by name.
        examples: Features that principal components are taken of.
        generator: Source of random filters.
    """
    num_taps, channels = prod(place.window), place.channels
    size = num_taps * channels
    wanted = size if num_filters is None else num_filters
    if isinstance(basis, Tensor):
        _refuse_wrong_filters(basis, place)
        made = basis.detach().to(torch.float64)
        filters = made if len(made) == size else _on_each_channel(made, channels)
        wanted = filters.shape[1] if num_filters is None else num_filters
    else:
        refuse_unknown("local_basis", basis, LOCAL_BASES)
        if basis == "random":
            return _random(size, wanted, generator)
        if basis == "pca":
            filters = _principal(place, examples)
        else:
            make = dct_local_basis if basis == "dct" else haar_local_basis
            filters = _on_each_channel(make(place.window), channels)
    if wanted > filters.shape[1]:
        raise ValueError(
            f"{place.name}: there are {filters.shape[1]} filters for {wanted} channels; lower "
            "num_channels, take local_basis='random' or give the filters"
        )
    return filters[:, :wanted]


def make_dual(filters: Matrix, given: Tensor | None, place: Place, gain: float) -> Matrix:
    """Build Psi~, scaled: from a given dual with Psi Psi~^T = I, or the canonical one."""
    num_taps, enough = prod(place.window), filters.shape[1] >= filters.shape[0]
    if given is None:
        # The pseudo-inverse of fewer filters gives the projection onto their span.
        dual = dual_filters(filters) if enough else torch.linalg.pinv(filters).mT
        return dual / (num_taps * gain)
    dual = given.detach().to(torch.float64)
    if len(dual) == num_taps:
        dual = _on_each_channel(dual, place.channels)
    if dual.shape != filters.shape:
        raise ValueError(
            f"{place.name}: dual_local_basis must match the {tuple(filters.shape)} entries of the "
            f"local basis, tap by filter, got {tuple(dual.shape)}"
        )
    error = float((filters @ dual.mT - torch.eye(len(filters), dtype=dual.dtype)).norm())
    if enough and not error <= 1e-6:
        raise ValueError(
            f"{place.name}: dual_local_basis must satisfy Psi Psi~^T = I, and is off by "
            f"{error:.1e}; leave it out for the canonical dual"
        )
    return dual / (num_taps * gain)


def _on_each_channel(filters: Matrix, channels: int) -> Float[Tensor, "_ _"]:
    """Apply filters to every channel by itself; filter-major, so that the leading ones are coarse.

    Entry ((channel, tap), (filter, channel)) is that of the filter at the tap.
    """
    unit = torch.eye(channels, dtype=filters.dtype)
    return torch.einsum("tf,cd->ctfd", filters, unit).flatten(2).flatten(0, 1)


def _principal(place: Place, examples: Tensor | None) -> Matrix:
    if examples is None:
        raise ValueError(
            f"{place.name}: local_basis='pca' needs examples to take principal components of; "
            "give examples=images"
        )
    lifting = HankelLifting(examples.shape[-2:], place.window, num_channels=place.channels)
    return pca_local_basis(lifting, examples)


def _random(size: int, num_filters: int, generator: torch.Generator) -> Matrix:
    """Draw orthonormal filters, or, if there are more than taps, a Parseval frame."""
    shape = (max(size, num_filters), min(size, num_filters))
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    orthonormal: Tensor = torch.linalg.qr(values).Q
    return orthonormal if num_filters <= size else orthonormal.mT


def _refuse_wrong_filters(filters: Tensor, place: Place) -> None:
    num_taps = prod(place.window)
    rows = (num_taps, num_taps * place.channels)
    if filters.ndim != 2 or filters.shape[0] not in rows or not filters.is_floating_point():
        raise ValueError(
            f"{place.name}: local_basis must be real, one row a tap of the {place.window} window "
            f"({rows[0]} rows, or {rows[1]} for {place.channels} channels) and one column a "
            f"filter, got {filters.dtype} of shape {tuple(filters.shape)}"
        )
