"""Deep convolutional framelets: a network that reconstructs perfectly before it has learned.

The Hankel matrix H(f) of an image has one row a position and one column a tap of a window. With a
non-local basis Phi, its dual Phi~, and local filters Psi with their dual Psi~ a layer is [1]

    encoder   C = Phi^T (H(f) Psi)                      correlate, then pool
    decoder   f = sum_k (Phi~ c_k) (*) psi~_k           un-pool, then convolve

and the layers below act on C, all of whose channels stand side by side in the next Hankel matrix.
The network gives its input back if in every layer [2]

    Phi~ Phi^T = alpha I
    Psi Psi~^T = I / (r alpha)          without a skip, r the number of taps
    Psi Psi~^T = I / (r (alpha + 1))    with a skip, which adds the filters' output once more

for which q_l >= r q_(l-1) channels are needed. With fewer, the layer is a low-rank shrinkage: for
the leading right singular vectors of H(f) as Psi it is one step of Cadzow's algorithm [1]. ReLU
keeps all of it where filters come in opposite phases, Psi = [Psi+, -Psi+] (twice as many): since
relu(c) - relu(-c) = c, the next layer sees c if its filters act on the pair as (w, -w) [1]. The
decoder's features are such pairs too, so that ReLU follows every layer but the last.

Everything is periodic, as the identities are. The filters are as given; by name they are
orthonormal, or a Parseval frame where "random" has more of them than taps. Their duals hold all
factors.

With `threshold` the coefficients are shrunk between encoder and decoder by soft thresholding,
sign(c) max(|c| - t, 0): the sparsity of compressed sensing in place of a learned nonlinearity, as a
denoiser by itself, or as the regularizer of `UnrolledNetwork`, whose iterations

    x <- network(x - tau A* (A x - y))

are then those of iterative soft thresholding for y = A x [3]: with an orthonormal analysis exactly
the proximal map of t |B* x|_1, with a redundant one the usual frame shrinkage. The coefficients
that go on are shrunk at the last layer only. Which published rule goes by this name is not known to
us; this one is ours.

References:
    [1] J. C. Ye, Y. Han and E. Cha, "Deep convolutional framelets: a general deep learning
        framework for inverse problems", SIAM J. Imaging Sciences 11(2), 2018.
    [2] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
    [3] I. Daubechies, M. Defrise and C. De Mol, "An iterative thresholding algorithm for linear
        inverse problems with a sparsity constraint", Comm. Pure Appl. Math. 57(11), 2004.
"""

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.frames import EncoderDecoder

from ._framelet_filters import Place, make_dual, make_local_basis
from ._framelet_nonlocal import make_nonlocal_basis
from .framelet_layer import FrameletConvolution, FrameletLayer, with_opposite_phases


class DeepConvolutionFramelets(nn.Module):
    """A convolutional encoder-decoder whose layers are convolution framelets.

    Submodules `layers.i` hold the filters as parameters, from the finest layer to the coarsest.

    Args:
        layers: The layers, from the image inwards.
        in_channels: Channels of the images.
        relu: Put ReLU behind every layer of the encoder and, but for the last, of the decoder;
            filters then come in opposite phases.
        threshold: First value of the learned thresholds, one for every channel of coefficients;
            None: no thresholds. All channels that respond to a constant image start at zero:
            shrinking them would change the mean of every image. These are few for "dct" and "haar";
            for bases that know nothing of constants, "pca" and "random", they may be all.
        examples: Images that local bases by the name "pca" are adapted to, layer by layer.
        generator: Source of local bases by the name "random"; default: seed 0.
        dtype: Of the parameters, which are made in float64 and rounded once.

    Raises:
        ValueError: If a basis does not fit its layer or does not reconstruct, channels are missing
            to a pair, or a choice is unknown.

    Example:
        >>> layers = [FrameletLayer((3, 3), "dct", "haar"), FrameletLayer((2, 2), "dct")]
        >>> network = DeepConvolutionFramelets(layers, relu=True, dtype=torch.float64)
        >>> image = torch.arange(64, dtype=torch.float64).reshape(1, 1, 8, 8)
        >>> bool((network(image) - image).abs().max() < 1e-11)
        True
    """

    def __init__(
        self,
        layers: Sequence[FrameletLayer],
        in_channels: int = 1,
        *,
        relu: bool = False,
        threshold: float | None = None,
        examples: Float[Tensor, "batch in_channels height width"] | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Build the bases, layer by layer."""
        super().__init__()
        if not layers or in_channels < 1:
            raise ValueError(
                "layers and in_channels must be at least one, "
                f"got {len(layers)} layers and {in_channels} channels"
            )
        if threshold is not None and not 0 <= threshold < float("inf"):
            raise ValueError(f"threshold must be finite and not negative, got {threshold}")
        self.in_channels, self.relu = in_channels, relu
        generator = generator or torch.Generator().manual_seed(0)
        bases = [make_nonlocal_basis(layer.nonlocal_basis, layer.skip) for layer in layers]
        self.size_divisor = prod(basis.size_divisor for basis in bases)
        features = None if examples is None else self._checked(examples).to(torch.float64)
        self.layers = nn.ModuleList()
        channels = in_channels  # signed: a pair counts once
        for i, (layer, nonlocal_basis) in enumerate(zip(layers, bases, strict=True)):
            place = Place(f"layer {i}", layer.window, channels)
            num_filters = _num_filters(layer, place, relu)
            psi = make_local_basis(layer.local_basis, place, num_filters, features, generator)
            dual = make_dual(psi, layer.dual_local_basis, place, nonlocal_basis.gain)
            analysis, synthesis = (m.mT.reshape(-1, channels, *layer.window) for m in (psi, dual))
            if features is not None:
                linear = FrameletConvolution(analysis, synthesis, nonlocal_basis)
                features = linear.analysis(features)[0].detach()
            if relu:
                analysis = with_opposite_phases(analysis, i > 0)
                synthesis = with_opposite_phases(synthesis, i > 0)
            self.layers.append(FrameletConvolution(analysis, synthesis, nonlocal_basis))
            channels = psi.shape[1] * nonlocal_basis.widening
        self.thresholds = nn.ParameterList()
        if threshold is not None:
            self._add_thresholds(threshold)
        self.to(dtype)

    def forward(
        self, image: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch in_channels height width"]:
        """Apply the network: analysis, thresholds if there are any, synthesis.

        Args:
            image: Images whose height and width are multiples of `size_divisor`.

        Raises:
            ValueError: If the image has other axes, channels or sizes.
        """
        coefficients = self.analysis(image)
        if len(self.thresholds):
            coefficients = [
                _shrink(maps, threshold)
                for maps, threshold in zip(coefficients, self.thresholds, strict=True)
            ]
        return self.synthesis(coefficients)

    def analysis(self, image: Float[Tensor, "batch in_channels height width"]) -> list[Tensor]:
        """Compute all coefficients: those around each layer, the finest first; last the bottom.

        Raises:
            ValueError: If the image has other axes, channels or sizes.
        """
        features = self._checked(image)
        coefficients: list[Tensor] = []
        for layer in self._layers():
            features, around = layer.analysis(features)
            if self.relu:
                features, around = features.relu(), tuple(maps.relu() for maps in around)
            coefficients.extend(around)
        return [*coefficients, features]

    def synthesis(
        self, coefficients: Sequence[Tensor]
    ) -> Float[Tensor, "batch in_channels height width"]:
        """Make the image of coefficients, listed as `analysis` does.

        Raises:
            ValueError: If there are more or fewer of them.
        """
        *others, features = coefficients
        counts = [layer.nonlocal_basis.num_around for layer in self._layers()]
        if len(others) != sum(counts):
            raise ValueError(
                f"coefficients must be {sum(counts) + 1} tensors, as analysis lists them, "
                f"got {len(coefficients)}"
            )
        for i, layer in reversed(list(enumerate(self._layers()))):
            start = len(others) - counts[i]
            features = layer.synthesis(features, tuple(others[start:]))
            others = others[:start]
            if self.relu and i > 0:
                features = features.relu()
        return features

    def encoder_decoder(self, height: int, width: int) -> EncoderDecoder:
        """Copy the filters as they are now into an encoder-decoder for images of one size.

        That one writes the frame expansion B~(x) B(x)^T x of the network out, matrices included.
        Where nothing but a skip goes around a layer, `frames.network_conditions` of it says how far
        training has led from perfect reconstruction.

        Raises:
            ValueError: If the network has thresholds, which an encoder-decoder has no place for.
        """
        if len(self.thresholds):
            raise ValueError(
                "an EncoderDecoder has no thresholds, this network does; build it with "
                "threshold=None, or take geometry.linearize"
            )
        layers = [
            layer.as_encoder_decoder_layer(self.relu, last=i == 0)
            for i, layer in enumerate(self._layers())
        ]
        return EncoderDecoder(layers, (height, width), in_channels=self.in_channels)

    def _layers(self) -> list[FrameletConvolution]:
        return [cast(FrameletConvolution, layer) for layer in self.layers]

    @torch.no_grad()
    def _add_thresholds(self, threshold: float) -> None:
        """Give every channel of coefficients a threshold, but zero to those of constant images."""
        units = torch.eye(self.in_channels, dtype=torch.float64)
        constants = torch.cat([units, -units])[:, :, None, None].expand(-1, -1, *self._some_size())
        responses = [maps.abs().amax((2, 3)) for maps in self.analysis(constants)]
        for response in responses:
            values = torch.full(response.shape[1:], threshold, dtype=torch.float64)
            values[(response > 1e-9).any(0)] = 0
            self.thresholds.append(nn.Parameter(values[:, None, None]))

    def _some_size(self) -> tuple[int, int]:
        """Return height and width of images that all layers take."""
        scale = 1
        for layer in self._layers():
            basis = layer.nonlocal_basis
            if basis.example_shape is not None:
                height, width = basis.example_shape
                return scale * height, scale * width
            scale *= basis.size_divisor
        return scale, scale

    def _checked(self, image: Tensor) -> Tensor:
        if image.ndim != 4 or image.shape[1] != self.in_channels or 0 in image.shape:
            raise ValueError(
                f"image must have shape (batch, {self.in_channels}, height, width), "
                f"got {tuple(image.shape)}"
            )
        if any(size % self.size_divisor for size in image.shape[-2:]):
            raise ValueError(
                "image must have height and width that are multiples of "
                f"{self.size_divisor}, got {tuple(image.shape)}; pad or crop it first"
            )
        return image


def _num_filters(layer: FrameletLayer, place: Place, relu: bool) -> int | None:
    if any(taps < 1 for taps in layer.window):
        raise ValueError(f"{place.name}: window must have at least one tap, got {layer.window}")
    count = layer.num_channels
    if count is None:
        return None
    if count < 1 or (relu and count % 2):
        wanted = "positive and even, for ReLU takes pairs," if relu else "at least 1,"
        raise ValueError(f"{place.name}: num_channels must be {wanted} got {count}")
    return count // 2 if relu else count


def _shrink(coefficients: Tensor, threshold: Tensor) -> Tensor:
    # A threshold that training drives below zero acts as zero: it would amplify.
    threshold = threshold.clamp(min=0)
    return (coefficients - threshold).relu() - (-coefficients - threshold).relu()
