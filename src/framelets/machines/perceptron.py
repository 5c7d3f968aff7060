"""Single-layer perceptron: a pixel from the patch around it, through one layer of ReLU.

    y = sum_i w_i max(<v_i, u> + c_i, 0) + w_0

for the patch u. Each hidden unit cuts the space of patches in two by a hyperplane; on either side
of all of them y is one affine function of the patch. So N units in general position through the
origin of R^n choose among 2 sum_(k < n) C(N - 1, k) of them (T. M. Cover [1]).

References:
    [1] T. M. Cover, "Geometrical and statistical properties of systems of linear inequalities with
        applications in pattern recognition", IEEE Trans. Electronic Computers 14(3), 1965.
    [2] G.-B. Huang, Q.-Y. Zhu and C.-K. Siew, "Extreme learning machine: theory and applications",
        Neurocomputing 70, 2006: random hidden layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from framelets.core import RunFolder
from framelets.machines.machine import Machine
from framelets.machines.network_machine import FittedNetwork, NetworkMachine
from framelets.machines.training_side import TrainingSide


class PerceptronNetwork(nn.Module):
    """An untrained perceptron, applied to the patch around every pixel; borders are mirrored.

    Args:
        num_hidden: N.
        window: Height and width of a patch; the pixel has place window // 2.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(self, num_hidden: int, window: tuple[int, int] = (7, 7)) -> None:
        """Build both layers as convolutions."""
        super().__init__()
        if num_hidden < 1 or min(window) < 1:
            raise ValueError(
                f"num_hidden and window must be at least 1, got {num_hidden} and {window}"
            )
        before = [taps // 2 for taps in window]
        after = [taps - 1 - taps // 2 for taps in window]
        self.mirror = nn.ReflectionPad2d((before[1], after[1], before[0], after[0]))
        self.hidden = nn.Conv2d(1, num_hidden, window)
        self.switch = nn.ReLU()
        self.output = nn.Conv2d(num_hidden, 1, 1)

    def forward(
        self, image: Float[Tensor, "batch 1 height width"]
    ) -> Float[Tensor, "batch 1 height width"]:
        """Make every pixel from its patch."""
        made: Tensor = self.output(self.features(self.mirror(image)))
        return made

    def features(
        self, image: Float[Tensor, "batch 1 rows columns"]
    ) -> Float[Tensor, "batch hidden _ _"]:
        """Return the hidden units of all patches inside an image."""
        units: Tensor = self.switch(self.hidden(image))
        return units


def perceptron_machine(
    num_hidden: int = 64,
    window: tuple[int, int] = (7, 7),
    num_steps: int = 1000,
    learning_rate: float = 3e-3,
) -> NetworkMachine:
    """Return a perceptron of which both layers are trained.

    Args:
        num_hidden: Hidden units.
        window: Height and width of a patch.
        num_steps: Training steps.
        learning_rate: Peak learning rate.
    """
    build = partial(PerceptronNetwork, num_hidden, window)
    return NetworkMachine(build, max(window) // 2, num_steps, learning_rate)


@dataclass(frozen=True)
class RandomPerceptronMachine(Machine):
    """A perceptron with a random hidden layer; its output weights solve a ridge regression [2].

    Hidden filters are white Gaussian of norm about one; the hyperplane of each passes through a
    constant patch of a random brightness in [0, 1].

    Attributes:
        num_hidden: Hidden units.
        window: Height and width of a patch.
        num_patches: Training patches.
        ridges: Candidates for the ridge.
        hidden_seed: Of the hidden layer, which does not depend on the training images.
    """

    num_hidden: int = 64
    window: tuple[int, int] = (7, 7)
    num_patches: int = 20000
    ridges: Sequence[float] = (1e-3, 1e-2, 1e-1, 1.0)
    hidden_seed: int = 0

    def fit(
        self,
        images: Sequence[Float[Tensor, "_ _"]],
        noise_std: float,
        *,
        seed: int = 0,
        folder: RunFolder | None = None,  # noqa: ARG002
    ) -> FittedNetwork:
        """Solve for the output weights; the ridge is chosen on the held-out parts."""
        network = self._random_network()
        side = TrainingSide([image.double() for image in images], noise_std)
        generator = torch.Generator().manual_seed(seed)
        features, targets = self._hidden(network, side, generator, "fit")
        held_out = self._hidden(network, side, generator, "choose")
        gram, moment = features.mT @ features, features.mT @ targets
        found = []
        for ridge in self.ridges:
            penalty = ridge * torch.eye(len(gram), dtype=gram.dtype)
            penalty[-1, -1] = 0  # the constant
            weights = torch.linalg.solve(gram + penalty, moment)
            error = float((held_out[0] @ weights - held_out[1]).square().mean())
            found.append((error, ridge, weights))
        _, ridge, weights = min(found, key=lambda each: each[0])
        with torch.no_grad():
            network.output.weight.copy_(weights[None, :-1, None, None])
            network.output.get_parameter("bias").copy_(weights[-1:])
        return FittedNetwork(
            network.float(),
            max(self.window) // 2,
            settings={"ridge": ridge},
            num_parameters=self.num_hidden + 2,
        )

    @torch.no_grad()
    def _random_network(self) -> PerceptronNetwork:
        network = PerceptronNetwork(self.num_hidden, self.window).double()
        generator = torch.Generator().manual_seed(self.hidden_seed)
        filters = network.hidden.weight
        filters.normal_(generator=generator).div_(filters[0].numel() ** 0.5)
        brightness = torch.rand(self.num_hidden, generator=generator, dtype=filters.dtype)
        network.hidden.get_parameter("bias").copy_(-brightness * filters.sum((1, 2, 3)))
        return network

    @torch.no_grad()
    def _hidden(
        self,
        network: PerceptronNetwork,
        side: TrainingSide,
        generator: torch.Generator,
        part: str,
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden values of random patches and a one, and the clean pixels."""
        noisy, clean = side.draw(self.num_patches, self.window, generator, part)
        hidden = network.features(noisy[:, None]).flatten(1)
        targets = clean[:, self.window[0] // 2, self.window[1] // 2]
        return torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1), targets
