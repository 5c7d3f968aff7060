"""Write a network at one image as f(x) = L x + b.

An encoder-decoder network expands its input in a frame that depends on the input [1]:

    f(x) = B~(x) B(x)^T x + b(x) = sum_i <b_i(x), x> b~_i(x) + b(x).

`linearize` records the network once at this image and replays it as linear maps: `frozen`, the
operator L = B~(x) B(x)^T with all switches, gates and scales held; `tangent`, the Jacobian J;
`offset`, b. For networks of convolutions, ReLU, max pooling and evaluated batch norm the two
operators are one object. For normalizations, gates and attention they differ, and every number
derived from them says which it came from.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from jaxtyping import Inexact
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from framelets.core import LinearOperator
from framelets.core.linear_function import observed_by
from framelets.geometry._image_graph import images_of, num_pixels
from framelets.geometry._level_maps import (
    LevelMaps,
    Resampling,
    find_levels,
    find_rises,
)
from framelets.geometry._linear_rules import Rule
from framelets.geometry._recording import Recorder, Recording
from framelets.geometry._replay import Link, Program, ReplayedMap
from framelets.geometry._rules import SUPPORTED
from framelets.geometry._steps import Convolution
from framelets.geometry.activation_pattern import ActivationPattern, pack_switch


class LocalMap:
    """A network at one image, f(x) = L x + b; made by `linearize`.

    Operators act on samples `*batch channel height width`: what the network takes, without its
    batch axis of one.

    Attributes:
        image: The image x, one sample.
        output: The network's output f(x), one sample.
        num_operations: How many operations were recorded.
        cut: Where the encoder ends: after this module.
    """

    def __init__(
        self,
        recording: Recording,
        image: Tensor,
        output: Tensor,
        target: int,
        cut: str | None,
        memory_limit_bytes: int,
    ) -> None:
        """Collect a recording; call `linearize`, which makes one."""
        self._recording = recording
        self._target = target
        self._output_shape = tuple(output.shape)
        self.image = image[0]
        self.output = output[0] if output.ndim > 0 and output.shape[0] == 1 else output
        self.num_operations = recording.num_operations
        self._links = _alive(recording, target)
        self._memory_limit_bytes = memory_limit_bytes
        self._cut_index, self.cut = _find_cut(recording, self._links, cut)

    @cached_property
    def frozen(self) -> LinearOperator:
        """L = B~(x) B(x)^T: slopes, switches, gates and scales held at this image's values."""
        return self._operator(self._links, [0], [self._target])

    @cached_property
    def tangent(self) -> LinearOperator:
        """The Jacobian of the network at this image; the same object as `frozen` where equal."""
        if self.piecewise_linear:
            return self.frozen
        links = [self._recording.tangent[i] for i in sorted(self._recording.tangent)]
        return self._operator(links, [0], [self._target])

    @cached_property
    def analysis(self) -> LinearOperator:
        """B(x)^T: from the image to its frame coefficients, the values at the cut, as a vector."""
        before = [link for link in self._links if link.output <= self._cut_index]
        return self._operator(before, [0], self._crossing(), flat_output=True)

    @cached_property
    def synthesis(self) -> LinearOperator:
        """B~(x): from frame coefficients to the output; `frozen = synthesis @ analysis`."""
        after = [link for link in self._links if link.output > self._cut_index]
        return self._operator(after, self._crossing(), [self._target], flat_input=True)

    @property
    def coefficient_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the tensors that make up the coefficient vector, in order."""
        return [self._recording.nodes[i].shape for i in self._crossing()]

    def levels(self) -> list[LevelMaps]:
        """Return where the network lowers the resolution, in the order in which it does."""
        return find_levels(self._recording, self._links, self._flat_operator)

    def rises(self) -> list[tuple[Resampling, Convolution | None]]:
        """Return where it raises the resolution of what comes from below; see `find_rises`."""
        return find_rises(self._recording, self._links, self._flat_operator)

    @cached_property
    def piecewise_linear(self) -> bool:
        """True if L is also the Jacobian, and constant as long as no unit switches."""
        return all(
            self._recording.tangent[link.output].step is link.step
            and link.output not in self._recording.smooth
            for link in self._links
        )

    @cached_property
    def offset(self) -> Tensor:
        """The b of f(x) = L x + b: what the network adds whatever the coefficients; one sample."""
        program = Program(self._links, self._recording.nodes, [0], [self._target])
        zero = torch.zeros_like(self.image).unsqueeze(0)
        with torch.no_grad():
            (offset,) = program.forward([zero], constants=True)
        return offset.reshape(self.output.shape)

    @cached_property
    def replay_error(self) -> float:
        """||f(x) - (L x + b)|| / ||f(x)||: how exactly the recording replays the network."""
        with torch.no_grad():
            replayed = self.frozen(self.image) + self.offset
        scale = torch.linalg.vector_norm(self.output)
        error = torch.linalg.vector_norm(self.output - replayed)
        return float(error / scale) if scale > 0 else float(error)

    @cached_property
    def activation_pattern(self) -> ActivationPattern:
        """Which units are on at this image, layer by layer."""
        return ActivationPattern(tuple(pack_switch(switch) for switch in self._recording.switches))

    def _crossing(self) -> list[int]:
        made = {0} | {link.output for link in self._links if link.output <= self._cut_index}
        read = {i for link in self._links if link.output > self._cut_index for i in link.inputs}
        if self._target <= self._cut_index:
            read.add(self._target)
        return sorted(made & read)

    def _flat_operator(
        self, links: Sequence[Link], sources: Sequence[int], targets: Sequence[int]
    ) -> LinearOperator:
        return self._operator(links, sources, targets, flat_input=True, flat_output=True)

    def _operator(
        self,
        links: Sequence[Link],
        sources: Sequence[int],
        targets: Sequence[int],
        *,
        flat_input: bool = False,
        flat_output: bool = False,
    ) -> LinearOperator:
        nodes = self._recording.nodes
        program = Program(links, nodes, sources, targets)
        complex_domain = any(nodes[i].dtype.is_complex for i in [*sources, *targets])
        sizes = [torch.Size(nodes[link.output].shape).numel() for link in program.links]
        item = torch.empty((), dtype=nodes[0].dtype).element_size()
        largest = max([*sizes, 1]) * item
        return ReplayedMap(
            program,
            None if flat_input else tuple(self.image.shape),
            None if flat_output else tuple(self.output.shape),
            real_linear=complex_domain
            and not all(link.step.complex_linear for link in program.links),
            chunk=max(1, int(self._memory_limit_bytes // (8 * largest))),
            device=self.image.device,
        )


def linearize(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Inexact[Tensor, " 1 *sample"],
    forward: Callable[..., Tensor] | None = None,
    cut: str | None = None,
    memory_limit_bytes: int = 2 * 1024**3,
) -> LocalMap:
    """Record a network at one image and return it as f(x) = L x + b.

    Args:
        network: A network in evaluation mode, or any function of one tensor.
        image: The image with its batch axis of one, in the type and on the device of the network.
        forward: How to call the network, if not `network(image)`: a function of network and image
            that returns one tensor. Use it for f(x, sigma), f(y, physics) and tuple outputs.
        cut: Path of the module after which the encoder ends. Found from the recording by default:
            after the last operation at the lowest resolution, with every skip that crosses.
        memory_limit_bytes: Vectors replayed together are split to stay near this.

    Returns:
        The network at this image: its operators, offset, pattern and replay error.

    Raises:
        ValueError: If the image has no batch axis of one or holds NaN, the network is in training
            mode, an operation has no rule, the output does not come from the image, or the
            replay does not give the output again.
        TypeError: If the network returns something other than one tensor.

    Example:
        >>> network = torch.nn.Conv2d(1, 1, 3, padding=1)
        >>> local = linearize(network, torch.ones(1, 1, 4, 4))
        >>> local.replay_error < 1e-6, local.piecewise_linear
        (True, True)
    """
    recording, output, target = record(network, image, forward)
    sample = image.detach().clone()
    local = LocalMap(recording, sample, output, target, cut, memory_limit_bytes)
    if local.replay_error > 10 * torch.finfo(output.dtype).eps ** 0.5:
        raise ValueError(
            f"the recording does not replay the network: ||f(x) - (L x + b)|| / ||f(x)|| is "
            f"{local.replay_error:.1e}; it uses memory or types in a way that has no rule"
        )
    return local


def record(
    network: nn.Module | Callable[[Tensor], Tensor],
    image: Tensor,
    forward: Callable[..., Tensor] | None = None,
    rule_for: Callable[[str], Rule | None] = SUPPORTED.get,
) -> tuple[Recording, Tensor, int]:
    """Run a network once and record it; `linearize` says what is refused.

    Args:
        network: A network in evaluation mode, or any function of one tensor.
        image: The image with its batch axis of one.
        forward: How to call the network, if not `network(image)`.
        rule_for: From an operation's name to its rule, or None.

    Returns:
        The recording, the output with its batch axis, and the output's node.
    """
    _check(network, image)
    recorder = Recorder(rule_for)
    # The network may write to its input: it gets a copy.
    given = image.detach().clone()
    recorder.add_node(given, "the input")
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), observed_by(recorder.observe), recorder:
            if isinstance(network, nn.Module):
                with recorder.inside(network):
                    output = forward(network, given) if forward else network(given)
            else:
                output = forward(network, given) if forward else network(given)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"network must return one tensor, got {type(output).__name__}; choose one with "
            "forward=lambda network, image: network(image)[0]"
        )
    target = recorder.node_of(output)
    if target is None:
        raise ValueError(
            "the network's output does not come from its input by recorded operations; "
            "it is constant, or leaves torch (numpy, item) on the way"
        )
    return recorder.recording, output.detach().clone(), target


def _check(network: object, image: Tensor) -> None:
    if image.ndim < 2 or image.shape[0] != 1:
        raise ValueError(
            f"image must have a batch axis of one, as in (1, channel, height, width), "
            f"got {tuple(image.shape)}; linearize one image at a time"
        )
    if not (image.is_floating_point() or image.is_complex()):
        raise TypeError(f"image must be floating point or complex, got {image.dtype}")
    if not bool(torch.isfinite(torch.view_as_real(image) if image.is_complex() else image).all()):
        raise ValueError("image must be finite, got NaN or infinity; mask or crop it first")
    if isinstance(network, nn.Module):
        for name, module in network.named_modules():
            learns = isinstance(module, nn.modules.batchnorm._NormBase) and (
                module.track_running_stats
            )
            if module.training and (learns or isinstance(module, nn.modules.dropout._DropoutNd)):
                raise ValueError(
                    f"network must be in evaluation mode, got {name or type(module).__name__} in "
                    "training mode; call network.eval() first"
                )
        for parameter in network.parameters():
            if parameter.is_floating_point() and image.is_floating_point():
                if parameter.dtype != image.dtype:
                    raise TypeError(
                        f"image must have the network's type {parameter.dtype}, got {image.dtype}; "
                        "convert one of them"
                    )
                break


def _alive(recording: Recording, target: int) -> list[Link]:
    """Return the frozen links between image and output; refuse where one is missing."""
    wanted = {target}
    links: list[Link] = []
    for index in range(target, 0, -1):
        if index not in wanted:
            continue
        if index not in recording.frozen:
            raise ValueError(
                f"{recording.refusals[index]}; the network cannot be written as L x + b there"
            )
        link = recording.frozen[index]
        links.append(link)
        wanted.update(link.inputs)
    if target in recording.energies:
        raise ValueError("the network returns a product of two tensors that depend on the image")
    return links[::-1]


def _find_cut(recording: Recording, links: Sequence[Link], cut: str | None) -> tuple[int, str]:
    """Return the last node of the encoder, and where it stands."""
    if cut is not None:
        inside = [
            link.output for link in links if link.place == cut or link.place.startswith(cut + ".")
        ]
        if not inside:
            places = sorted({link.place for link in links})
            raise ValueError(
                f"cut must be a module that runs between image and output, got {cut!r}; "
                f"there are {', '.join(places)}"
            )
        return max(inside), cut
    images = images_of(recording, links) - {0}
    sizes = {i: num_pixels(recording.nodes[i]) for i in images}
    smallest = min(sizes.values(), default=0)
    if sizes and smallest < num_pixels(recording.nodes[0]):
        index = max(i for i, size in sizes.items() if size == smallest)
        return index, recording.frozen[index].place
    # One resolution throughout: the last layer synthesizes, all before it analyzes.
    last = [link for link in links if link.name in ("convolution", "addmm", "mm")]
    index = max(last[-1].inputs) if last else 0
    return index, recording.nodes[index].place
