"""When a layer of an encoder-decoder reconstructs perfectly, and by how much it does not.

A linear layer with pooling Phi, un-pooling Phi~, encoder filters psi and decoder filters psi~ makes
D E^T x of its input x, with a skip (D E^T + S~ S^T) x. Let Psi have the columns j of stacked taps
psi_j1, psi_j2, ..., and Psi~ the columns k of stacked taps psi~_1k, psi~_2k, ..., with r taps for
each pair of channels. Sufficient for the identity, on periodic signals, are [1]

    pooling    Phi~ Phi^T = alpha I
    filters    Psi Psi~^T = I / (r alpha),    with a skip of the same filters I / (r (alpha + 1)).

The pooling condition leaves D E^T = alpha sum_k conv(psi~_ak) conv(flip(psi_kb)), blocks that the
Fourier transform makes diagonal. Given that condition, the layer is the identity if and only if

    alpha sum_k F(psi~_ak) conj F(psi_kb) = delta_ab,    with that skip alpha + 1 instead of alpha,

at every frequency of the signal (a Bezout identity; psi_kb takes channel b to channel k). This
involves no more of Psi Psi~^T than its sums over all pairs of taps of one distance.

Given the filter condition, D E^T is the mean of T_t^* Phi~ Phi^T T_t / alpha over the r taps t, T_t
the shift by t. Then it is enough, and necessary, that this mean over shifts of Phi~ Phi^T is
alpha I. Strided pooling with one tap for every place in a block satisfies that; Phi~ Phi^T itself
lacks rank.

A skip with filters Psi_s, Psi~_s of its own adds its share:

    r (alpha Psi Psi~^T + Psi_s Psi~_s^T) = I
    alpha sum_k F(psi~_ak) conj F(psi_kb) + sum_k F(psi~_s,ak) conj F(psi_s,kb) = delta_ab.

The mean over shifts and the two lines above are derived here. What counts in the end is the
distance |D E^T + S~ S^T - I|, given beside the conditions.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod

import torch
from jaxtyping import Float
from torch import Tensor

from framelets.core import Identity, LinearOperator

from ._filter_algebra import (
    aligned,
    by_frequency,
    mean_over_shifts,
    stacked_decoder,
    stacked_encoder,
    with_taps,
)
from ._reconstruction_obstacles import LayerCounts
from .encoder_decoder import EncoderDecoder
from .encoder_decoder_layer import Branch, EncoderDecoderLayer

_MAX_DENSE = 1024  # positions, or entries of an input, up to which matrices are dense


@dataclass(frozen=True)
class ReconstructionConditions:
    """By how much one layer misses each condition of perfect reconstruction.

    Every residual is a distance from the identity in the spectral norm, after scaling as written:
    0 where the condition holds. On periodic signals the distance is `frequency_residual` where the
    pooling condition holds, and `mean_pooling_residual` where the filter condition holds (unless
    the skip has filters of its own).

    Attributes:
        num_taps: r, taps for each pair of channels.
        in_channels: Channels of the layer's input.
        out_channels: Channels that the encoder filters make.
        num_positions: Positions of the input.
        num_pooled: Positions after the pooling, in all maps that it makes of one.
        skip: "none", "same filters" or "own filters".
        padding: What signals are beyond their ends.
        alpha: Best fit of Phi~ Phi^T by alpha I: its trace over the number of positions.
        pooling_residual: |Phi~ Phi^T - alpha I| / gain, where gain is alpha + 1 for a skip of the
            same filters, else alpha; infinite if that is 0.
        mean_pooling_residual: The same of the mean of Phi~ Phi^T over shifts by the taps.
        filter_residual: |r gain Psi Psi~^T - I|; for a skip of other filters as in the module.
        frequency_residual: The largest, over all frequencies, of the norms by which the condition
            on their sums is missed.
        distance: |D E^T + S~ S^T - I|, the largest error relative to the input.
        obstacles: What forbids one of the conditions, or keeps it from being enough, by the counts
            and the padding alone, in words.
    """

    num_taps: int
    in_channels: int
    out_channels: int
    num_positions: int
    num_pooled: int
    skip: str
    padding: str
    alpha: float
    pooling_residual: float
    mean_pooling_residual: float
    filter_residual: float
    frequency_residual: float
    distance: float
    obstacles: tuple[str, ...]

    def __str__(self) -> str:
        """Say each condition and by how much it is missed, one a line."""
        gain = "(alpha + 1)" if self.skip == "same filters" else "alpha"
        extra = " + that of the skip" if self.skip == "own filters" else ""
        rows = [
            ("pooling", f"Phi~ Phi^T = alpha I, alpha = {self.alpha:.4g}", self.pooling_residual),
            ("", "the same in the mean over the taps", self.mean_pooling_residual),
            ("filters", f"r {gain} Psi Psi~^T{extra} = I", self.filter_residual),
            ("", f"{gain} F(psi~) F(psi)^H{extra} = I", self.frequency_residual),
            ("layer", f"D E^T{' + S~ S^T' if self.skip != 'none' else ''} = I", self.distance),
        ]
        width = max(len(formula) for _, formula, _ in rows)
        skip = "no skip" if self.skip == "none" else f"skip with {self.skip}"
        return "\n".join(
            [
                f"{self.in_channels} -> {self.out_channels} channels, r = {self.num_taps} taps, "
                f"{self.num_positions} -> {self.num_pooled} positions, {skip}, "
                f"{self.padding} padding",
                *(f"  {name:<7}  {text:<{width}}  missed by {by:.2g}" for name, text, by in rows),
                *(f"  obstacle: {obstacle}" for obstacle in self.obstacles),
            ]
        )


@dataclass(frozen=True)
class NetworkConditions:
    """The conditions of every layer of a network, and what they come to.

    Attributes:
        layers: From the top down.
        distance: |B~ B^T - I| of the linear network: the largest error relative to the input.
    """

    layers: tuple[ReconstructionConditions, ...]
    distance: float

    def __str__(self) -> str:
        """List the layers, then the network."""
        parts = [f"layer {number}: {layer}" for number, layer in enumerate(self.layers, start=1)]
        return "\n".join([*parts, f"network: B~ B^T = I missed by {self.distance:.2g}"])


def reconstruction_conditions(
    encoder_filters: Float[Tensor, "channels in_channels *_"],
    decoder_filters: Float[Tensor, "in_channels channels *_"],
    pooling: LinearOperator | Tensor | None = None,
    unpooling: LinearOperator | Tensor | None = None,
    *,
    shape: Sequence[int],
    skip: bool = False,
    skip_encoder_filters: Tensor | None = None,
    skip_decoder_filters: Tensor | None = None,
    padding: str = "circular",
    origin: str = "first",
) -> ReconstructionConditions:
    """Check one layer, or a level of a trained network, without ReLU and biases.

    Beyond 1024 entries of the input the distance is found from products, from below: within 1 % of
    the truth with probability 0.99.

    Args:
        encoder_filters: psi, indexed (output, input channel, taps), as the weight of a convolution
            layer.
        decoder_filters: psi~, likewise; `decoder_filters_of` a convolution layer's weight.
        pooling: Phi^T, an operator, or for one axis a matrix; None: no pooling.
        unpooling: Phi~; None: the adjoint of the pooling.
        shape: Positions of the input, at most 1024. A pooling that treats all places alike does so
            on a small shape too.
        skip: Whether a skip stands beside the layer.
        skip_encoder_filters: Of the skip; default: `encoder_filters`.
        skip_decoder_filters: Of the skip; default: `decoder_filters`.
        padding: As for `EncoderDecoder`. It enters the distance; the conditions themselves are
            those of periodic signals.
        origin: As for `EncoderDecoder`.

    Raises:
        ValueError: If the filters do not fit, or there are too many positions.

    Example:
        >>> impulse = torch.ones(1, 1, 1)
        >>> halves = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
        >>> found = reconstruction_conditions(impulse, impulse, halves, 2 * halves.mT, shape=(4,))
        >>> found.alpha, found.filter_residual, found.distance
        (0.5, 0.5, 1.0)
    """
    network = EncoderDecoder.of_filters(
        shape,
        [encoder_filters],
        [decoder_filters],
        [pooling],
        [unpooling],
        skip=skip,
        skip_encoder_filters=None if skip_encoder_filters is None else [skip_encoder_filters],
        skip_decoder_filters=None if skip_decoder_filters is None else [skip_decoder_filters],
        relu=False,
        padding=padding,
        origin=origin,
    )
    return _conditions(network)


def network_conditions(network: EncoderDecoder) -> NetworkConditions:
    """Check every layer of a network, and the whole, without ReLU and biases.

    Args:
        network: Of layers with at most one skip, without pooling, and with poolings that do not
            depend on the features, on at most 1024 positions.

    Raises:
        ValueError: If a layer is of another form, or makes other channels than it takes.
    """
    linear = network.without_relu()
    found = []
    for layer, operators in zip(linear.layers, linear.at().layers, strict=True):
        channels, *shape = operators.main.input_shape
        alone = EncoderDecoder(
            [layer], shape, in_channels=channels, padding=network.padding, origin=network.origin
        )
        found.append(_conditions(alone))
    return NetworkConditions(tuple(found), _distance(linear))


def _conditions(network: EncoderDecoder) -> ReconstructionConditions:
    """Check a linear network of one layer."""
    (layer,) = network.layers
    in_channels, *shape = network.input_shape
    num_positions = prod(shape)
    if len(layer.skips) > 1 or any(skip.pooling is not None for skip in layer.skips):
        raise ValueError(
            "a layer must have at most one skip, without pooling, for the conditions to apply; "
            "look at the norm of frozen - Identity() at its input instead"
        )
    if network.output_shape != network.input_shape:
        raise ValueError(
            "a layer must make the channels that it takes to reconstruct, got "
            f"{network.output_shape[0]} from {in_channels}"
        )
    if num_positions > _MAX_DENSE:
        raise ValueError(
            f"shape must have at most {_MAX_DENSE} positions, got {tuple(shape)}; take a smaller "
            "one, as filters and most poolings treat all places alike"
        )
    pooling = EncoderDecoder(
        [EncoderDecoderLayer(Branch(pooling=layer.main.pooling, unpooling=layer.main.unpooling))],
        shape,
    ).at()
    positional = pooling.frozen.to_matrix()
    alpha = float(positional.trace()) / num_positions
    fitted = alpha * torch.eye(num_positions, dtype=positional.dtype)

    pairs = [
        aligned(part.encoder_filters, part.decoder_filters, in_channels, len(shape), network.origin)
        for part in (layer.main, *layer.skips)
    ]
    taps = [max(sizes) for sizes in zip(*(psi.shape[2:] for psi, _ in pairs), strict=True)]
    pairs = [
        (with_taps(psi, taps, network.origin), with_taps(dual, taps, network.origin))
        for psi, dual in pairs
    ]
    skip = "none"
    if layer.skips:
        main, other = pairs
        same = all(map(torch.equal, main, other))
        skip = "same filters" if same else "own filters"
    gain = alpha + 1 if skip == "same filters" else alpha
    filters = torch.zeros((), dtype=torch.float64)
    spectra = torch.zeros((), dtype=torch.complex128)
    for weight, (psi, dual) in zip((alpha, 1.0), pairs, strict=False):
        filters = filters + weight * stacked_encoder(psi) @ stacked_decoder(dual).mT
        spectra = spectra + weight * by_frequency(psi, dual, shape, network.origin)
    counts = LayerCounts(
        num_taps=prod(taps),
        in_channels=in_channels,
        out_channels=pairs[0][0].shape[0],
        skip_channels=pairs[1][0].shape[0] if layer.skips else 0,
        num_positions=num_positions,
        num_pooled=pooling.num_columns,
    )
    return ReconstructionConditions(
        num_taps=counts.num_taps,
        in_channels=in_channels,
        out_channels=counts.out_channels,
        num_positions=num_positions,
        num_pooled=counts.num_pooled,
        skip=skip,
        padding=network.padding,
        alpha=alpha,
        pooling_residual=_norm(positional - fitted) / abs(gain) if gain else inf,
        mean_pooling_residual=_norm(mean_over_shifts(positional, shape, taps) - fitted) / abs(gain)
        if gain
        else inf,
        filter_residual=_from_identity(prod(taps) * filters),
        frequency_residual=_from_identity(spectra),
        distance=_distance(network),
        obstacles=tuple(counts.obstacles(skip, network.padding)),
    )


def _from_identity(matrix: Tensor) -> float:
    """Return |M - I|, the largest of a batch."""
    return _norm(matrix - torch.eye(matrix.shape[-1], dtype=matrix.dtype))


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, ord=2).max())


def _distance(network: EncoderDecoder) -> float:
    """Return |B~ B^T - I| of a linear network that makes what it takes."""
    error = network.at().frozen - Identity()
    if prod(network.input_shape) <= _MAX_DENSE:
        return _norm(error.to_matrix())
    return error.norm(dtype=torch.float64)
