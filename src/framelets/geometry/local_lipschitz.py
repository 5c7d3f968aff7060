"""The local Lipschitz constant K_p of a network: the norm of its Jacobian at one image.

K_p = ||J(x)||_2 is how much the network can amplify a small change of this image; the Lipschitz
constant of the whole network is the largest K_p of all its regions [1], so each K_p is a lower
bound of it and says nothing of other images.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable

import torch

from framelets.core.spectral import NormBounds, norm_bounds
from framelets.geometry.linearize import LocalMap


def local_lipschitz(
    local: LocalMap,
    *,
    relative_gap: float = 0.01,
    probability: float = 0.99,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> NormBounds:
    """Bound K_p, the norm of the Jacobian at this image, from both sides.

    Args:
        local: A network at an image.
        relative_gap: Width at which to stop: the upper bound over the lower one, minus one.
        probability: The upper bound holds with this probability over the random start.
        generator: Source of the start.
        progress: Called with the share that is done, from 0 to 1.

    Returns:
        `lower`, certified, since a vector with that gain was found; `upper`, which holds with
        `probability`. Neither bounds the Lipschitz constant of the whole network from above.
    """
    return norm_bounds(
        local.tangent,
        dtype=local.image.dtype,
        device=local.image.device,
        relative_gap=relative_gap,
        probability=probability,
        generator=generator,
        progress=progress,
    )
