"""Complete the poolings of an existing network to a dual frame or a tight frame.

Where a network pools s (A s) and later concatenates the skip s with what comes up, u, it counts
what the pooling keeps, P s, twice: in s and in u [1]. Two repairs, with the weights as they are:

    dual frame     (s, u - P s)                 low frequencies are counted once
    tight frame    (s, u, T_1* T_1 s, ...)      what the pooling forgets is handed on in parts,
                                                P + sum_k T_k* T_k = I

For average pooling the parts are the high-pass Haar subbands, as published; for max pooling and
strided sampling, the pixels that are not selected, by where they lie: that is ours. Where u is a
low-resolution tensor brought up by interpolation N, N A s takes the place of P s.

The tight frame has filters for its new branches that start at zero, so that it gives what the
network gave before; the dual frame gives something else until it is trained again, since the
filters behind u have learned to expect P s in it.

References:
    [1] Y. Han and J. C. Ye, "Framing U-Net via deep convolutional framelets: application to
        sparse-view CT", IEEE Trans. Medical Imaging 37(6), 2018.
"""

from typing import Any

import torch
from jaxtyping import Inexact
from torch import Tensor, nn

from framelets.core import refuse_unknown

from ._level_watch import LevelWatch, Probe

FORMS = ("dual-frame", "tight-frame")
"""Known repairs."""


class Reframed(nn.Module):
    """A network of any make whose plain poolings are completed.

    The network itself stays as it is; while it runs, its calls of torch functions are watched. A
    level is completed if its image is pooled in blocks of two pixels along every axis (average,
    maximum, every second pixel; no padding) and this same tensor is later concatenated along the
    channels. For the dual frame, one other tensor of its shape must be in that concatenation; for
    the tight frame, a convolution of all channels must read it. Poolings that are learned, and
    skips that are added, cropped or filtered on their way, are left as they are.

    Parameters are those of the network, under `network.`, and for the tight frame the filters of
    the new branches, under `details.`, named after the weights that they extend. Compilers that
    trace by themselves (TorchScript) do not see the completion.

    Args:
        network: The network; it is not copied.
        form: "dual-frame" or "tight-frame".
        example: An input, to find the levels: any of the right number of channels that is large
            enough.

    Attributes:
        completed: Where the completed poolings stand.
        left: Poolings and strided convolutions that are left as they are, with the reason.

    Raises:
        ValueError: If the form is unknown, or no level can be completed.

    Example:
        >>> class Net(nn.Module):
        ...     def forward(self, image):
        ...         low = nn.functional.avg_pool2d(image, 2)
        ...         return torch.cat([image, nn.functional.interpolate(low, scale_factor=2)], dim=1)
        >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
        >>> Reframed(Net(), "dual-frame", image)(image)[0, 1].tolist()
        [[0.0, 0.0], [0.0, 0.0]]
    """

    def __init__(
        self, network: nn.Module, form: str, example: Inexact[Tensor, "batch channel *space"]
    ) -> None:
        """Find the levels by running the network once, in evaluation mode."""
        super().__init__()
        refuse_unknown("form", form, FORMS)
        self.network = network
        self.form = form
        self.details = nn.ParameterDict()
        probe = Probe()
        training = {module: module.training for module in network.modules()}
        network.eval()
        try:
            with torch.no_grad(), probe.following(network), self._watch(probe):
                network(example)
        finally:
            for module, was in training.items():
                module.training = was
        self.training = network.training
        self.completed, self.left = probe.completed(), probe.left()
        if not self.completed:
            reasons = "; ".join(self.left) or "it has no pooling"
            raise ValueError(
                f"network cannot be rewritten as a {form.replace('-', ' ')}: {reasons}"
            )

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Apply the network, its levels completed."""
        with self._watch():
            return self.network(*args, **kwargs)

    def extra_repr(self) -> str:
        """Say the form and where."""
        return f"form={self.form!r}, completed={list(self.completed)}"

    def _watch(self, probe: Probe | None = None) -> LevelWatch:
        return LevelWatch(self.network, self.form == "tight-frame", self.details, probe)
