"""What the page lets its reader try out: any pixel of a grid, and a walk along a segment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from framelets.commands.atom_store import AtomStore
from framelets.commands.explanation_grid import explain_grid
from framelets.commands.explanation_segment import explain_segment
from framelets.commands.explanation_support import explain_support
from framelets.commands.pixels import Pixel
from framelets.commands.stages import Stages, silent
from framelets.core import LinearOperator
from framelets.geometry import LocalMap


@dataclass(frozen=True)
class InstrumentOptions:
    """How much of a network the page lets its reader look at.

    Attributes:
        grid: Rows and columns of the grid of pixels; 0 for none.
        num_pairs: Most frame pairs kept at each pixel, the strongest of each tensor at the cut.
        segment: Direction of the segment: "noise", "scaling", "singular" or "none".
        segment_norm: Its length in the norm of the image's change; by default as long as
            `num_boundaries` are likely to need.
        num_boundaries: Most boundaries kept.
        support: Whether to split the output by what the scan sees, if there is a scan.
        page_limit_mb: Most that the page may take, in 10^6 bytes; atoms are cut smaller to keep it.
    """

    grid: int = 8
    num_pairs: int = 4
    segment: str = "noise"
    segment_norm: float | None = None
    num_boundaries: int = 24
    support: bool = True
    page_limit_mb: float = 15.0


def instrument(
    network: nn.Module,
    name: str,
    local: LocalMap,
    pixels: Sequence[Pixel],
    options: InstrumentOptions,
    *,
    leading: Tensor,
    forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
    projector: LinearOperator | None = None,
    measurement: Tensor | None = None,
    input_is_scan: bool = False,
    seed: int = 0,
    stages: Stages = silent,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Compute what the page needs to be an instrument.

    Args:
        network: The network.
        name: What it is called.
        local: The network at its image.
        pixels: Pixels of the page.
        options: How much.
        leading: The leading right singular vector of L.
        forward: How to call the network, if not network(image).
        projector: The scan A, if the image comes from one.
        measurement: Its data y, in the unit of the network's output.
        input_is_scan: Whether the network is given y itself.
        seed: Seed of random starts and noise.
        stages: Told how far it is.

    Returns:
        The tables `grid`, `segment` and `support`, and the arrays that they speak of.
    """
    store = AtomStore()
    tables: dict[str, Any] = {}
    maps: dict[str, Tensor] = {}
    if options.support and projector is not None and measurement is not None:
        stages(f"{name}: null space of the scan")(0.0)
        tables["support"], maps = explain_support(local, projector, measurement, seed)
    if input_is_scan and projector is None:
        reason = "the network takes a scan whose operator is known only on the CPU in float32"
        return tables | {"grid": {"missing": reason}, "segment": {"missing": reason}}, maps
    through = projector if input_is_scan else None
    tables["grid"] = explain_grid(
        local,
        store,
        pixels,
        options.grid,
        options.num_pairs,
        projector=through,
        maps=maps,
        progress=stages(f"{name}: pixels of the grid"),
    )
    tables["segment"] = explain_segment(
        network,
        local,
        store,
        pixels,
        options.segment,
        leading=leading,
        num_boundaries=options.num_boundaries,
        norm=options.segment_norm,
        forward=forward,
        seed=seed,
        projector=through,
        progress=stages(f"{name}: boundaries along a segment"),
    )
    return tables, maps | store.to_arrays()
