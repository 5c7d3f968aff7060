"""A layer at its place in a network: what is run, and what is held at an input."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from ._placed_branch import Place, PlacedBranch, on_positions, parameter
from .encoder_decoder_layer import EncoderDecoderLayer
from .frame_expansion import BranchOperators, LayerOperators


class PlacedLayer(nn.Module):
    """A layer whose shapes are known."""

    def __init__(self, layer: EncoderDecoderLayer, place: Place) -> None:
        super().__init__()
        name = place.name.removesuffix(".main")
        self.main = PlacedBranch(layer.main, place)
        self._skips = nn.ModuleList(
            PlacedBranch(skip, place._replace(name=f"{name}.skips[{i}]"))
            for i, skip in enumerate(layer.skips)
        )
        self.decoder_bias = parameter(layer.decoder_bias)
        self.relu = layer.relu
        self._place = place._replace(name=name)

    @property
    def skips(self) -> list[PlacedBranch]:
        return [cast(PlacedBranch, skip) for skip in self._skips]

    @property
    def branches(self) -> list[PlacedBranch]:
        """The skips, then the main branch: the order in which they run."""
        return [*self.skips, self.main]

    def place_decoder(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.main.place_decoder(shape)
        channels = self.main.decoded_channels
        for skip in self.skips:
            skip.place_decoder(skip.coefficient_shape)
            if skip.decoded_channels != channels:
                raise ValueError(
                    f"{skip.place.name}: the decoder must make {channels} channels, as that of "
                    f"the main branch, got {skip.decoded_channels}"
                )
        bias = self.decoder_bias
        if bias is not None and bias.shape != (channels,):
            raise ValueError(
                f"{self._place.name}: decoder_bias must have shape ({channels},), one number a "
                f"channel, got {tuple(bias.shape)}"
            )
        self.output_shape = (channels, *self._place.shape)
        return self.output_shape

    def decode(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the sum of all branches and the bias, before ReLU."""
        features = self.main.decode(features)
        for skip, coefficients in zip(self.skips, skips, strict=True):
            features = features + skip.decode(coefficients)
        if self.decoder_bias is not None:
            features = features + on_positions(self.decoder_bias, features, self._place.shape)
        return features

    def hold_encoders(self, features: Tensor) -> tuple[list[BranchOperators], list[Tensor]]:
        """Hold all branches at the features; return also their coefficients, main ones last."""
        pairs = [branch.hold(features) for branch in self.branches]
        return [operators for operators, _ in pairs], [values for _, values in pairs]

    def hold_decoder(
        self, features: Tensor, skips: Sequence[Tensor], branches: Sequence[BranchOperators]
    ) -> tuple[LayerOperators, Tensor]:
        """Hold the decoder at what comes up; return also what it makes of it."""
        features = self.decode(features, skips)
        mask = features > 0 if self.relu else None
        constant = None
        if self.decoder_bias is not None:
            bias = on_positions(self.decoder_bias.detach(), features, self._place.shape)
            constant = bias.expand(features.shape) if mask is None else bias * mask
        *others, main = branches
        operators = LayerOperators(main, tuple(others), mask, constant)
        return operators, features if mask is None else features * mask

    def as_layer(self) -> EncoderDecoderLayer:
        """Return what this was made of, sharing its parameters."""
        skips = tuple(skip.as_branch() for skip in self.skips)
        return EncoderDecoderLayer(self.main.as_branch(), skips, self.decoder_bias, self.relu)
