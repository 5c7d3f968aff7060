"""Encoder-decoder networks as the theory writes them: layers with pooling, filters, skips and ReLU.

With z^0 = x, layer l of k layers is [1]

    encoder   z^l = relu(E_l^T z^(l-1))              E_l = blocks (k, j) [Phi^l * psi^l_jk]
    skip      chi^l = relu(S_l^T z^(l-1))            S_l = blocks (k, j) [I * psi^l_jk]
    decoder   z~^(l-1) = relu(D_l z~^l + S~_l chi^l) D_l = blocks (j, k) [Phi~^l * psi~^l_jk],

where [Phi * psi] has the columns phi_i * psi, j counts the channels that a map makes and k those
that it takes, z~^k = z^k, and the output z~^0 has no ReLU. So the encoder correlates, then pools:
z^l_j = relu(Phi^T sum_k z_k * flip(psi_jk)); the decoder un-pools, then convolves:
z~_j = relu(sum_k (Phi~ z~_k) * psi~_jk + ...).

The network at an input x is a frame expansion B~(x) B(x)^T x: see `frame_expansion`.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import cast

import torch
from jaxtyping import Bool, Float, Inexact
from torch import Tensor, nn

from framelets.core import LinearOperator, refuse_unknown

from ._placed_branch import Place, parameter
from ._placed_layer import PlacedLayer
from .channel_convolution import PADDINGS
from .encoder_decoder_layer import Branch, EncoderDecoderLayer, PoolingAt
from .frame_expansion import FrameExpansion

Pooling = LinearOperator | Tensor | PoolingAt | None


class EncoderDecoder(nn.Module):
    """An encoder-decoder network of given layers.

    Filters and biases are parameters: copies of tensors, or the very parameters that were given.
    Signals are `*batch channel *shape`, in any floating-point type; complex ones too where there is
    no ReLU.

    Args:
        layers: The layers from the top, at full resolution, to the bottom.
        shape: Positions of the input: one to three axes.
        in_channels: Channels of the input.
        padding: "circular", as the theory has it, or "zeros", as most trained networks do.
        origin: The tap that stands at the sample: "first", as the theory has it, or "center", as in
            convolution layers with padding (for an even number the one before the middle).

    Raises:
        ValueError: If layers do not fit, or a choice is unknown.

    Example:
        >>> impulse = torch.ones(1, 1, 1)
        >>> halves = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
        >>> layer = EncoderDecoderLayer(Branch(impulse, impulse, halves, 2 * halves.mT))
        >>> network = EncoderDecoder([layer], (4,))
        >>> network(torch.tensor([[1.0, 3.0, 5.0, 9.0]])).tolist()
        [[2.0, 2.0, 7.0, 7.0]]
        >>> network.at().num_columns
        2
    """

    def __init__(
        self,
        layers: Sequence[EncoderDecoderLayer],
        shape: Sequence[int],
        *,
        in_channels: int = 1,
        padding: str = "circular",
        origin: str = "first",
    ) -> None:
        """Place the layers one below the other."""
        super().__init__()
        refuse_unknown("padding", padding, PADDINGS)
        refuse_unknown("origin", origin, ("center", "first"))
        if not layers:
            raise ValueError("layers must not be empty; give at least one EncoderDecoderLayer")
        self.padding, self.origin = padding, origin
        self.input_shape = (in_channels, *shape)
        placed = []
        channels, positions = in_channels, tuple(shape)
        for number, layer in enumerate(layers):
            place = Place(f"layers[{number}].main", channels, positions, padding, origin)
            placed.append(PlacedLayer(layer, place))
            channels, *rest = placed[-1].main.coefficient_shape
            positions = tuple(rest)
        self._layers = nn.ModuleList(placed)
        features = (channels, *positions)
        for layer_below in reversed(placed):
            features = layer_below.place_decoder(features)
        self.output_shape = features

    @classmethod
    def of_filters(
        cls,
        shape: Sequence[int],
        encoder_filters: Sequence[Float[Tensor, "_ _ *_"]],
        decoder_filters: Sequence[Float[Tensor, "_ _ *_"]],
        poolings: Sequence[Pooling] | None = None,
        unpoolings: Sequence[LinearOperator | Tensor | None] | None = None,
        *,
        skip: bool = False,
        skip_encoder_filters: Sequence[Float[Tensor, "_ _ *_"]] | None = None,
        skip_decoder_filters: Sequence[Float[Tensor, "_ _ *_"]] | None = None,
        relu: bool = True,
        padding: str = "circular",
        origin: str = "first",
    ) -> "EncoderDecoder":
        """Build the network of [1]: one skip a layer or none, ReLU everywhere but at the output.

        Args:
            shape: Positions of the input.
            encoder_filters: psi^l for each layer, indexed (output, input channel, taps).
            decoder_filters: psi~^l for each layer, indexed (output, input channel, taps).
            poolings: Phi^l transposed for each layer; default: no pooling.
            unpoolings: Phi~^l for each layer; default: the adjoints of the poolings.
            skip: Whether every layer has a skip.
            skip_encoder_filters: Of the skips, for each layer; default: `encoder_filters`.
            skip_decoder_filters: Of the skips, for each layer; default: `decoder_filters`.
            relu: False for the linear network.
            padding: As for the class.
            origin: As for the class.

        Raises:
            ValueError: If the sequences do not have one length, or filters do not fit.
        """
        num = len(encoder_filters)
        nothing: Sequence[None] = [None] * num
        if not skip and (skip_encoder_filters is not None or skip_decoder_filters is not None):
            raise ValueError("filters of skips are given but skip is False; set skip=True")
        parts: dict[str, Sequence[object]] = {
            "encoder_filters": [parameter(filters) for filters in encoder_filters],
            "decoder_filters": [parameter(filters) for filters in decoder_filters],
            "poolings": poolings or nothing,
            "unpoolings": unpoolings or nothing,
        }
        parts["skip_encoder_filters"] = skip_encoder_filters or parts["encoder_filters"]
        parts["skip_decoder_filters"] = skip_decoder_filters or parts["decoder_filters"]
        for name, part in parts.items():
            if len(part) != num or not num:
                raise ValueError(
                    f"{name} must have one entry a layer, as encoder_filters ({num}), "
                    f"got {len(part)}"
                )
        layers = []
        for i in range(num):
            psi, dual, pooling, unpooling, skip_psi, skip_dual = (
                cast(Tensor, part[i]) for part in parts.values()
            )
            main = Branch(psi, dual, pooling, unpooling, relu=relu)
            skips = (Branch(skip_psi, skip_dual, relu=relu),) if skip else ()
            layers.append(EncoderDecoderLayer(main, skips, relu=relu and i > 0))
        in_channels = encoder_filters[0].shape[1]
        return cls(layers, shape, in_channels=in_channels, padding=padding, origin=origin)

    @property
    def layers(self) -> tuple[EncoderDecoderLayer, ...]:
        """The layers, sharing this network's parameters."""
        return tuple(layer.as_layer() for layer in self._placed)

    @property
    def units(self) -> "Units":
        """How many ReLU units there are, layer by layer."""
        return Units(
            encoder=tuple(
                prod(layer.main.coefficient_shape) * layer.main.relu for layer in self._placed
            ),
            decoder=tuple(prod(layer.output_shape) * layer.relu for layer in self._placed),
            skip=tuple(
                sum(prod(skip.coefficient_shape) * skip.relu for skip in layer.skips)
                for layer in self._placed
            ),
        )

    def forward(self, signal: Inexact[Tensor, "*signal"]) -> Inexact[Tensor, "*output"]:
        """Apply the network, by convolutions.

        Args:
            signal: `*batch channel *shape`.

        Raises:
            ValueError: If the signal does not end in the network's input shape, or is complex and
                there is a ReLU.
        """
        return self._run(signal)

    def activation_pattern(self, signal: Float[Tensor, "*signal"]) -> Bool[Tensor, "*batch units"]:
        """Tell which units are on: those with a positive value before ReLU.

        From the top down the skips and the encoder of each layer, then the decoder from the
        bottom up.

        Args:
            signal: `*batch channel *shape`.
        """
        switches: list[Tensor] = []
        self._run(signal, switches)
        batch = signal.shape[: signal.ndim - len(self.input_shape)]
        empty = torch.zeros(*batch, 0, dtype=torch.bool, device=signal.device)
        return torch.cat([empty, *(on.reshape(*batch, -1) for on in switches)], dim=-1)

    def at(self, signal: Float[Tensor, "*sample"] | None = None) -> FrameExpansion:
        """Hold every switch at one input: the frame expansion B~(x) B(x)^T of the network there.

        Args:
            signal: One sample, `channel *shape`. May be left out where nothing depends on it: no
                ReLU, no pooling taken at the features.

        Raises:
            ValueError: If the signal has another shape, or is left out where it is needed.
        """
        if signal is None:
            units = self.units
            depends = any(units.encoder + units.decoder + units.skip) or any(
                branch.pooling_at is not None for layer in self._placed for branch in layer.branches
            )
            if depends:
                raise ValueError(
                    "signal must be given: ReLUs or poolings depend on it; take without_relu() "
                    "for the linear network"
                )
            signal = torch.zeros(self.input_shape, dtype=torch.float64, device=self._device)
        elif tuple(signal.shape) != self.input_shape:
            raise ValueError(
                f"signal must be one sample of shape {self.input_shape}, got {tuple(signal.shape)}"
            )
        with torch.no_grad():
            return self._hold(signal)

    def without_skips(self) -> "EncoderDecoder":
        """Return the network without its skips; it shares this one's parameters."""
        return self._with([replace(layer, skips=()) for layer in self.layers])

    def without_relu(self) -> "EncoderDecoder":
        """Return the network without its ReLUs; it shares this one's parameters."""
        return self._with(
            [
                replace(
                    layer,
                    main=replace(layer.main, relu=False),
                    skips=tuple(replace(skip, relu=False) for skip in layer.skips),
                    relu=False,
                )
                for layer in self.layers
            ]
        )

    def extra_repr(self) -> str:
        """Say the shapes and how filters lie."""
        return (
            f"input_shape={self.input_shape}, output_shape={self.output_shape}, "
            f"padding={self.padding!r}, origin={self.origin!r}"
        )

    @property
    def _placed(self) -> list[PlacedLayer]:
        return [cast(PlacedLayer, layer) for layer in self._layers]

    @property
    def _device(self) -> torch.device | None:
        return next((parameter.device for parameter in self.parameters()), None)

    def _with(self, layers: Sequence[EncoderDecoderLayer]) -> "EncoderDecoder":
        channels, *shape = self.input_shape
        return EncoderDecoder(
            layers, shape, in_channels=channels, padding=self.padding, origin=self.origin
        )

    def _run(self, signal: Tensor, switches: list[Tensor] | None = None) -> Tensor:
        if tuple(signal.shape[max(0, signal.ndim - len(self.input_shape)) :]) != self.input_shape:
            raise ValueError(
                f"signal must have shape (*batch, {', '.join(map(str, self.input_shape))}), "
                f"got {tuple(signal.shape)}"
            )
        units = self.units
        if signal.is_complex() and any(units.encoder + units.decoder + units.skip):
            raise ValueError("signal must be real where the network has a ReLU, got a complex one")

        def relu(values: Tensor) -> Tensor:
            if switches is not None:
                switches.append(values.detach() > 0)
            return nn.functional.relu(values)

        levels = []
        features = signal
        for layer in self._placed:
            values = [branch.encode(features)[0] for branch in layer.branches]
            switched = zip(values, layer.branches, strict=True)
            *skips, features = (relu(value) if branch.relu else value for value, branch in switched)
            levels.append(skips)
        for layer in reversed(self._placed):
            features = layer.decode(features, levels.pop())
            features = relu(features) if layer.relu else features
        return features

    def _hold(self, signal: Tensor) -> FrameExpansion:
        held, levels = [], []
        features = signal
        for layer in self._placed:
            branches, (*skips, features) = layer.hold_encoders(features)
            held.append(branches)
            levels.append(skips)
        layers = []
        for layer in reversed(self._placed):
            operators, features = layer.hold_decoder(features, levels.pop(), held.pop())
            layers.append(operators)
        return FrameExpansion(layers[::-1], self.input_shape, self.output_shape, signal.dtype)


@dataclass(frozen=True)
class Units:
    """How many ReLU units a network has, for each layer from the top.

    A network of n units computes at most 2^n different linear maps.

    Attributes:
        encoder: After the encoder of the layer.
        decoder: After the decoder of the layer; the top one has none as published.
        skip: In the skips of the layer.
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    skip: tuple[int, ...]

    @property
    def total(self) -> int:
        """All units."""
        return sum(self.encoder) + sum(self.decoder) + sum(self.skip)
