"""The divergence of a network: the trace of its Jacobian, its degrees of freedom at an image.

div f(x) = tr J(x); for a bias-free ReLU network it is sum_i <b_i(x), b~_i(x)>, and it enters
Stein's unbiased risk estimate [1].

References:
    [1] E. Cha, J. Jang, J. Lee, E. Lee and J. C. Ye, "Boosting CNN beyond label in inverse
        problems", 2019.
"""

from collections.abc import Callable

import torch

from framelets.core.spectral import Estimate, trace
from framelets.geometry.linearize import LocalMap


def divergence(
    local: LocalMap,
    *,
    num_probes: int = 32,
    generator: torch.Generator | None = None,
    progress: Callable[[float], None] | None = None,
) -> Estimate:
    """Estimate div f(x) = tr J(x) by random probes.

    Args:
        local: A network at an image, with an output of the input's shape.
        num_probes: How many probes.
        generator: Source of the probes.
        progress: Called with the share that is done, from 0 to 1.

    Returns:
        The estimate with its standard error.

    Raises:
        ValueError: If the output has another shape than the input.
    """
    if local.output.shape != local.image.shape:
        raise ValueError(
            f"the divergence needs an output of the input's shape {tuple(local.image.shape)}, "
            f"got {tuple(local.output.shape)}"
        )
    return trace(
        local.tangent,
        dtype=local.image.dtype,
        device=local.image.device,
        num_probes=num_probes,
        generator=generator,
        progress=progress,
    )
