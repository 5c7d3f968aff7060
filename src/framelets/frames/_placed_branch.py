"""A branch of a layer at its place in a network: shapes known, parameters held, filters applied."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from framelets.core import LinearOperator

from .channel_convolution import (
    ChannelConvolution,
    correlate,
    flipped,
    origin_of,
    refuse_wrong_filters,
)
from .encoder_decoder_layer import Branch, PoolingAt
from .frame_expansion import BranchOperators
from .position_matrix import PositionMatrix


class Place(NamedTuple):
    """What goes into a branch, and how its filters lie."""

    name: str
    channels: int
    shape: tuple[int, ...]
    padding: str
    origin: str


class OnChannels(LinearOperator):
    """A pooling of positions applied to every channel; what it makes of one map become channels."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    def __init__(self, operator: LinearOperator, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.operator = operator
        self.input_shape = (channels, *shape)
        device = next((buffer.device for buffer in operator.buffers()), None)
        zeros = torch.zeros(self.input_shape, dtype=torch.float64, device=device)
        probe = operator(zeros)
        if probe.is_complex():
            raise ValueError(
                "poolings and un-poolings must be real, got one that makes complex coefficients of "
                "a real signal; take real and imaginary part as two maps"
            )
        pooled = probe.shape
        extra = len(pooled) - len(self.input_shape)
        if extra not in (0, 1) or pooled[0] != channels:
            raise ValueError(
                f"pooling must give {len(shape)} axes of positions, or one axis of maps before "
                f"them, got {tuple(pooled)} from {self.input_shape} (channels first)"
            )
        self.maps = pooled[1] if extra else 1
        self._has_maps = bool(extra)
        self._num_axes = len(shape)
        self.output_shape = (channels * self.maps, *pooled[1 + extra :])

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.operator(x)
        axis = -self._num_axes - 1
        return pooled.flatten(axis - 1, axis) if self._has_maps else pooled

    def adjoint(self, y: Tensor) -> Tensor:
        axis = -self._num_axes - 1
        return self.operator.adjoint(y.unflatten(axis, (-1, self.maps)) if self._has_maps else y)


class PlacedBranch(nn.Module):
    """A branch whose shapes are known. Filters and biases are parameters, shared where given so."""

    def __init__(self, branch: Branch, place: Place) -> None:
        super().__init__()
        self.place = place
        name = place.name
        self.encoder_filters = parameter(branch.encoder_filters)
        self.decoder_filters = parameter(branch.decoder_filters)
        self.encoder_bias = parameter(branch.encoder_bias)
        self.relu = branch.relu
        self.filtered = place.channels
        if self.encoder_filters is not None:
            _refuse_filters(f"{name}: encoder_filters", self.encoder_filters, place)
            self.filtered = self.encoder_filters.shape[0]
        if self.encoder_bias is not None and self.encoder_bias.shape != (self.filtered,):
            raise ValueError(
                f"{name}: encoder_bias must have shape ({self.filtered},), one number a channel, "
                f"got {tuple(self.encoder_bias.shape)}"
            )
        pooling = _operator(branch.pooling)
        self.pooling_at: PoolingAt | None = None
        if isinstance(pooling, LinearOperator) or pooling is None:
            self.pooling = self._placed(pooling)
        else:
            self.pooling_at = pooling
            probe = torch.zeros(self.filtered, *place.shape, dtype=torch.float64)
            self.pooling = self._placed(pooling(probe))
        unpooling = _operator(branch.unpooling)
        if unpooling is None and self.pooling_at is not None:
            raise ValueError(f"{name}: unpooling must be given where pooling depends on features")
        if unpooling is not None and not isinstance(unpooling, LinearOperator):
            raise TypeError(f"{name}: unpooling must be a linear operator or a matrix")
        self._unpooling = unpooling
        self.coefficient_shape = (self.filtered, *place.shape)
        if self.pooling is not None:
            self.coefficient_shape = self.pooling.output_shape

    def as_branch(self, **changes: Any) -> Branch:  # noqa: ANN401
        """Return what this was made of, sharing its parameters."""
        fixed = None if self.pooling is None else self.pooling.operator
        pooling = fixed if self.pooling_at is None else self.pooling_at
        parts = {
            "encoder_filters": self.encoder_filters,
            "decoder_filters": self.decoder_filters,
            "pooling": pooling,
            "unpooling": self._unpooling,
            "encoder_bias": self.encoder_bias,
            "relu": self.relu,
        }
        return Branch(**{**parts, **changes})

    def place_decoder(self, shape: tuple[int, ...]) -> None:
        """Let coefficients of this shape, channels first, come up; done once."""
        name = self.place.name
        self.decoder_shape = shape
        maps = self.pooling.maps if self.pooling is not None else 1
        if shape[0] % maps:
            raise ValueError(
                f"{name}: the channels that come up must be a multiple of the {maps} maps that "
                f"the pooling makes, got {shape[0]}"
            )
        adjoint = self._unpooling.H if self._unpooling is not None else None
        if adjoint is None and self.pooling is not None:
            adjoint = self.pooling.operator
        channels = shape[0] // maps
        self.unpooling: LinearOperator | None = None
        if adjoint is not None:
            placed = OnChannels(adjoint, channels, self.place.shape)
            if placed.output_shape != shape:
                raise ValueError(
                    f"{name}: unpooling must take coefficients {shape} (channels first) to "
                    f"positions {self.place.shape}; its adjoint makes {placed.output_shape}"
                )
            self.unpooling = placed.H
        self.decoded_channels = channels
        if self.decoder_filters is not None:
            place = self.place._replace(channels=channels)
            _refuse_filters(f"{name}: decoder_filters", self.decoder_filters, place)
            self.decoded_channels = self.decoder_filters.shape[0]

    def encode(self, features: Tensor) -> tuple[Tensor, LinearOperator | None]:
        """Filter and pool; return the values before ReLU, and the pooling."""
        filtered = features
        if self.encoder_filters is not None:
            origin = origin_of(self.encoder_filters.shape[2:], self.place.origin)
            filtered = correlate(features, self.encoder_filters, origin, self.place.padding)
        if self.encoder_bias is not None:
            filtered = filtered + on_positions(self.encoder_bias, filtered, self.place.shape)
        pooling: LinearOperator | None = self.pooling
        if self.pooling_at is not None:
            pooling = self.pooling_at(filtered)
        return (filtered if pooling is None else pooling(filtered)), pooling

    def decode(self, coefficients: Tensor) -> Tensor:
        """Un-pool and filter."""
        features = coefficients if self.unpooling is None else self.unpooling(coefficients)
        if self.decoder_filters is None:
            return features
        filters, origin = _decoder(self.decoder_filters, self.place.origin)
        return correlate(features, filters, origin, self.place.padding)

    def hold(self, features: Tensor) -> tuple[BranchOperators, Tensor]:
        """Hold the switches at the features; return also the coefficients there."""
        values, pooling = self.encode(features)
        mask = values > 0 if self.relu else None
        constant = None
        if self.encoder_bias is not None:
            bias = on_positions(self.encoder_bias.detach(), values, self.place.shape)
            bias = bias.expand(self.filtered, *self.place.shape)
            constant = bias if pooling is None else pooling(bias)
            constant = constant if mask is None else constant * mask
        operators = BranchOperators(
            self._encoder_filter(),
            pooling,
            mask,
            constant,
            self.unpooling,
            self._decoder_filter(),
            input_shape=(self.place.channels, *self.place.shape),
            coefficient_shape=self.coefficient_shape,
            decoder_shape=self.decoder_shape,
        )
        return operators, values if mask is None else values * mask

    def _encoder_filter(self) -> ChannelConvolution | None:
        if self.encoder_filters is None:
            return None
        origin = origin_of(self.encoder_filters.shape[2:], self.place.origin)
        return ChannelConvolution(self.encoder_filters, origin, self.place.padding)

    def _decoder_filter(self) -> ChannelConvolution | None:
        if self.decoder_filters is None:
            return None
        filters, origin = _decoder(self.decoder_filters, self.place.origin)
        return ChannelConvolution(filters, origin, self.place.padding)

    def _placed(self, pooling: LinearOperator | None) -> OnChannels | None:
        if pooling is None:
            return None
        return OnChannels(pooling, self.filtered, self.place.shape)


def parameter(values: Tensor | None) -> nn.Parameter | None:
    """Make a parameter of a tensor; a parameter stays the one that it is."""
    if values is None or isinstance(values, nn.Parameter):
        return values
    return nn.Parameter(values.detach().clone())


def _operator(
    pooling: LinearOperator | Tensor | PoolingAt | None,
) -> LinearOperator | PoolingAt | None:
    return PositionMatrix(pooling) if isinstance(pooling, Tensor) else pooling


def _decoder(filters: Tensor, origin: str) -> tuple[Tensor, tuple[int, ...]]:
    return flipped(filters, origin_of(filters.shape[2:], origin))


def on_positions(bias: Tensor, features: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Give a bias the axes of positions, and the type of the features."""
    return bias.to(features).reshape(-1, *[1] * len(shape))


def _refuse_filters(name: str, filters: Tensor, place: Place) -> None:
    refuse_wrong_filters(name, filters)
    if filters.ndim - 2 != len(place.shape):
        raise ValueError(
            f"{name} must have {len(place.shape)} axes of taps for positions {place.shape}, "
            f"got shape {tuple(filters.shape)}"
        )
    if filters.shape[1] != place.channels:
        raise ValueError(
            f"{name} must take {place.channels} channels, got shape {tuple(filters.shape)} "
            "(output channel, input channel, taps)"
        )
