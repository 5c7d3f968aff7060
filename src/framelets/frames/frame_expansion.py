"""An encoder-decoder at one input, as a frame expansion: B(x), B~(x), written out or as operators.

With Sigma^l the diagonal masks of the encoder's ReLUs, Sigma~^l of the decoder's and Sigma_S^l of
the skips' at the input x, the network is [1]

    f(x) = B~(x) B(x)^T x = sum_i <b_i(x), x> b~_i(x)        (+ an offset, where there are biases)

    B(x)  = [E1 Sigma1 ... Ek Sigmak, E1 Sigma1 ... E(k-1) Sigma(k-1) Sk Sigma_Sk, ..., S1 Sigma_S1]
    B~(x) = [D1 Sigma~1 D2 ... Dk, D1 Sigma~1 ... D(k-1) Sigma~(k-1) S~k, ..., S~1],

columns from the bottom of the network to the top. Without ReLU every mask is the identity. Sigmak,
which may stand on either side, belongs to B here.

Coefficients and the rows and columns of matrices are channel-major: the positions of the first
channel in row-major order, then those of the second.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from jaxtyping import Bool, Float, Inexact
from torch import Tensor, nn

from framelets.core import Identity, LinearOperator

from .channel_convolution import ChannelConvolution

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BranchOperators:
    """A branch of a layer with its switches held; shapes have the channels first.

    Attributes:
        encoder_filter: The encoder's convolution; None: the identity.
        pooling: Phi^T, on all channels; None: the identity.
        mask: Sigma, True where the unit is on; None: no ReLU.
        constant: What a bias adds to the coefficients, where the mask lets it; None: nothing.
        unpooling: Phi~, on all channels; None: the identity.
        decoder_filter: The decoder's convolution; None: the identity.
        input_shape: Of the features that the encoder takes.
        coefficient_shape: Of what the encoder makes of them.
        decoder_shape: Of what the decoder takes: that of a skip's coefficients, or of what comes up
            from the layer below.
    """

    encoder_filter: ChannelConvolution | None
    pooling: LinearOperator | None
    mask: Bool[Tensor, "*coefficients"] | None
    constant: Float[Tensor, "*coefficients"] | None
    unpooling: LinearOperator | None
    decoder_filter: ChannelConvolution | None
    input_shape: Shape
    coefficient_shape: Shape
    decoder_shape: Shape

    @property
    def unpooled_channels(self) -> int:
        """How many channels the decoder's filters take, after the un-pooling."""
        shape = None if self.unpooling is None else self.unpooling.output_shape
        return (self.decoder_shape if shape is None else shape)[0]

    @cached_property
    def encoder(self) -> LinearOperator:
        """(E Sigma)^T, for a skip (S Sigma_S)^T: features to coefficients."""
        mask = None if self.mask is None else Mask(self.mask)
        return _chain([self.encoder_filter, self.pooling, mask])

    @cached_property
    def decoder(self) -> LinearOperator:
        """D, for a skip S~: coefficients to features."""
        return _chain([self.unpooling, self.decoder_filter])

    def encoder_matrix(
        self, dtype: torch.dtype = torch.float64, *, max_bytes: int = 2**30
    ) -> Float[Tensor, "entries coefficients"]:
        """Write E, for a skip S, without the mask; block (k, j) is [Phi * psi_jk]."""
        matrix = _matrix(self.encoder_filter, self.input_shape, dtype, max_bytes)
        if self.pooling is not None:
            num_channels = matrix.shape[0] // prod(self.input_shape[1:])
            shape = (num_channels, *self.input_shape[1:])
            matrix = _matrix(self.pooling, shape, dtype, max_bytes) @ matrix
        return matrix.mT

    def decoder_matrix(
        self, dtype: torch.dtype = torch.float64, *, max_bytes: int = 2**30
    ) -> Float[Tensor, "entries coefficients"]:
        """Write D, for a skip S~; block (j, k) is [Phi~ * psi~_jk]."""
        unpooling = _matrix(self.unpooling, self.decoder_shape, dtype, max_bytes)
        shape = (self.unpooled_channels, *self.input_shape[1:])
        return _matrix(self.decoder_filter, shape, dtype, max_bytes) @ unpooling


@dataclass(frozen=True, eq=False)
class LayerOperators:
    """A layer with its switches held.

    Attributes:
        main: The branch that goes on to the next layer.
        skips: The branches to the decoder.
        mask: Sigma~ after the decoder of this layer, channels first; None: no ReLU there.
        constant: What the decoder's bias adds, where the mask lets it; None: nothing.
    """

    main: BranchOperators
    skips: tuple[BranchOperators, ...]
    mask: Bool[Tensor, "*features"] | None
    constant: Float[Tensor, "*features"] | None


class FrameExpansion:
    """f(x) = B~(x) B(x)^T x + offset, with everything held that depends on x.

    Made by `EncoderDecoder.at`. `analysis` and `synthesis` are products of convolutions, poolings
    and masks and serve any size; the matrices are made when asked for, on the CPU.

    Attributes:
        layers: The layers, from the top of the network down.
        input_shape: Of the input, channels first.
        output_shape: Of the output, channels first.
    """

    def __init__(
        self,
        layers: Sequence[LayerOperators],
        input_shape: Shape,
        output_shape: Shape,
        dtype: torch.dtype,
    ) -> None:
        """Take the layers; call `EncoderDecoder.at`, which makes them."""
        self.layers = tuple(layers)
        self.input_shape, self.output_shape = input_shape, output_shape
        self._dtype = dtype

    @property
    def coefficient_shapes(self) -> list[Shape]:
        """Shapes of the coefficients, channels first, in the order of the columns of B and B~."""
        shapes = [self.layers[-1].main.coefficient_shape]
        for layer in reversed(self.layers):
            shapes += [skip.coefficient_shape for skip in layer.skips]
        return shapes

    @property
    def num_columns(self) -> int:
        """How many elements the frame has."""
        return sum(prod(shape) for shape in self.coefficient_shapes)

    @cached_property
    def analysis(self) -> LinearOperator:
        """B(x)^T: from the input to the coefficients, a vector."""
        steps = [
            (layer.main.encoder, [skip.encoder for skip in layer.skips]) for layer in self.layers
        ]
        return _Descent(steps, self.input_shape, self.coefficient_shapes)

    @cached_property
    def synthesis(self) -> LinearOperator:
        """B~(x): from the coefficients, a vector, to the output."""
        steps = []
        for layer in self.layers:
            mask = Identity() if layer.mask is None else Mask(layer.mask)
            skips = [skip.decoder.H @ mask for skip in layer.skips]
            steps.append((layer.main.decoder.H @ mask, skips))
        return _Descent(steps, self.output_shape, self.coefficient_shapes).H

    @cached_property
    def frozen(self) -> LinearOperator:
        """B~(x) B(x)^T."""
        return self.synthesis @ self.analysis

    @cached_property
    def offset(self) -> Float[Tensor, "*output"]:
        """What biases add to the output, with all switches held; 0 without biases."""
        device = next((buffer.device for buffer in self.analysis.buffers()), None)
        features = torch.zeros(self.input_shape, dtype=self._dtype, device=device)
        levels = []
        for layer in self.layers:
            levels.append([_plus(skip.encoder(features), skip.constant) for skip in layer.skips])
            features = _plus(layer.main.encoder(features), layer.main.constant)
        for layer in reversed(self.layers):
            features = layer.main.decoder(features)
            for skip, coefficients in zip(layer.skips, levels.pop(), strict=True):
                features = features + skip.decoder(coefficients)
            if layer.mask is not None:
                features = features * layer.mask
            features = _plus(features, layer.constant)
        return features

    def analysis_matrix(
        self, dtype: torch.dtype = torch.float64, *, max_bytes: int = 2**30
    ) -> Float[Tensor, "entries columns"]:
        """Write B(x) as the product of E, S and masks, column blocks from bottom to top.

        Args:
            dtype: Of the matrix.
            max_bytes: Largest matrix to make, factors included, in bytes.

        Raises:
            ValueError: If a matrix would exceed `max_bytes`.
        """
        return self._columns(
            self.input_shape,
            lambda branch: _masked(branch.encoder_matrix(dtype, max_bytes=max_bytes), branch.mask),
            lambda product, _: product,
            dtype,
            max_bytes,
        )

    def synthesis_matrix(
        self, dtype: torch.dtype = torch.float64, *, max_bytes: int = 2**30
    ) -> Float[Tensor, "entries columns"]:
        """Write B~(x) as the product of D, S~ and masks, column blocks from bottom to top.

        Args:
            dtype: Of the matrix.
            max_bytes: Largest matrix to make, factors included, in bytes.

        Raises:
            ValueError: If a matrix would exceed `max_bytes`.
        """
        return self._columns(
            self.output_shape,
            lambda branch: branch.decoder_matrix(dtype, max_bytes=max_bytes),
            lambda product, layer: _masked(product, layer.mask),
            dtype,
            max_bytes,
        )

    def _columns(
        self,
        shape: Shape,
        factor: Callable[[BranchOperators], Tensor],
        enter: Callable[[Tensor, LayerOperators], Tensor],
        dtype: torch.dtype,
        max_bytes: int,
    ) -> Tensor:
        num_bytes = prod(shape) * self.num_columns * dtype.itemsize
        if num_bytes > max_bytes:
            raise ValueError(
                f"a dense {prod(shape)} x {self.num_columns} matrix takes {num_bytes} bytes, more "
                f"than max_bytes={max_bytes}; raise max_bytes, or use analysis and synthesis"
            )
        product = torch.eye(prod(shape), dtype=dtype)
        blocks: list[Tensor] = []
        for layer in self.layers:
            product = enter(product, layer)
            blocks[:0] = [product @ factor(skip) for skip in layer.skips]
            product = product @ factor(layer.main)
        return torch.cat([product, *blocks], dim=1)


class Mask(LinearOperator):
    """Sigma: keep the coefficients of the units that are on; the others become 0."""

    _on: Tensor
    input_shape: Shape
    output_shape: Shape

    def __init__(self, on: Bool[Tensor, "*features"]) -> None:
        """Take the mask, channels first."""
        super().__init__()
        self.register_buffer("_on", on, persistent=False)
        self.input_shape = self.output_shape = tuple(on.shape)

    def forward(self, x: Inexact[Tensor, "*signal"]) -> Inexact[Tensor, "*signal"]:
        """Multiply by the mask."""
        return x * self._on

    def adjoint(self, y: Inexact[Tensor, "*signal"]) -> Inexact[Tensor, "*signal"]:
        """Multiply by the mask."""
        return y * self._on


class _Descent(LinearOperator):
    """Go down all layers; what is left at the bottom and what the skips took make one vector."""

    input_shape: Shape
    output_shape: Shape

    def __init__(
        self,
        steps: Sequence[tuple[LinearOperator, Sequence[LinearOperator]]],
        input_shape: Shape,
        coefficient_shapes: Sequence[Shape],
    ) -> None:
        super().__init__()
        self._steps = list(steps)
        self._operators = nn.ModuleList(part for main, skips in steps for part in (main, *skips))
        self._shapes = tuple(coefficient_shapes)
        self.input_shape = input_shape
        self.output_shape = (sum(prod(shape) for shape in coefficient_shapes),)

    def forward(self, x: Tensor) -> Tensor:
        batch = tuple(x.shape[: x.ndim - len(self.input_shape)])
        parts: list[Tensor] = []
        for main, skips in self._steps:
            parts[:0] = [skip(x) for skip in skips]
            x = main(x)
        return torch.cat([part.reshape(*batch, -1) for part in (x, *parts)], dim=-1)

    def adjoint(self, y: Tensor) -> Tensor:
        sizes = [prod(shape) for shape in self._shapes]
        parts: list[Tensor] = [
            part.reshape(*y.shape[:-1], *shape)
            for part, shape in zip(y.split(sizes, dim=-1), self._shapes, strict=True)
        ]
        total, *rest = parts
        for main, skips in reversed(self._steps):
            total = main.adjoint(total)
            for skip in skips:
                total = total + skip.adjoint(rest.pop(0))
        return total


def _chain(steps: Sequence[LinearOperator | None]) -> LinearOperator:
    chain: LinearOperator | None = None
    for step in steps:
        if step is not None:
            chain = step if chain is None else step @ chain
    return Identity() if chain is None else chain


def _matrix(
    operator: LinearOperator | None, shape: Shape, dtype: torch.dtype, max_bytes: int
) -> Tensor:
    if operator is None:
        return torch.eye(prod(shape), dtype=dtype)
    if isinstance(operator, ChannelConvolution):
        return operator.block_matrix(shape[1:], max_bytes=max_bytes).to("cpu", dtype)
    return operator.to_matrix(shape, dtype, max_bytes=max_bytes).cpu()


def _masked(matrix: Tensor, mask: Tensor | None) -> Tensor:
    return matrix if mask is None else matrix * mask.flatten().to(matrix.device)


def _plus(features: Tensor, constant: Tensor | None) -> Tensor:
    return features if constant is None else features + constant
