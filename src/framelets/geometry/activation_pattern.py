"""Which units of a network are on at an image: the linear region that the image lies in."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from framelets.geometry._recording import Switch


@dataclass(frozen=True)
class LayerPattern:
    """Which units of one operation are on at this image.

    Attributes:
        name: Path of the module that ran the operation.
        kind: The operation: "relu", "max_pool", ...
        shape: Shape of the mask, or of the selection.
        packed: Eight units a byte; for a selection, the bytes of the chosen indices.
        num_units: How many units there are.
        num_active: How many are on (of a selection, all).
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    packed: Tensor
    num_units: int
    num_active: int


@dataclass(frozen=True, eq=False)
class ActivationPattern:
    """All switches of a network at one image; equal patterns mean the same linear region."""

    layers: tuple[LayerPattern, ...]

    @property
    def num_units(self) -> int:
        """The number of units of all layers."""
        return sum(layer.num_units for layer in self.layers)

    @property
    def num_active(self) -> int:
        """The number of units that are on."""
        return sum(layer.num_active for layer in self.layers)

    def digest(self) -> str:
        """Return a short fingerprint: equal for equal patterns."""
        digest = hashlib.blake2b(digest_size=16)
        for layer in self.layers:
            digest.update(layer.packed.numpy().tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        """Tell whether every unit of two patterns agrees."""
        if not isinstance(other, ActivationPattern) or len(self.layers) != len(other.layers):
            return False
        return all(
            torch.equal(a.packed, b.packed) for a, b in zip(self.layers, other.layers, strict=True)
        )

    def __hash__(self) -> int:
        """Hash by the fingerprint."""
        return hash(self.digest())


def pack_switch(switch: Switch) -> LayerPattern:
    """Pack a recorded mask or selection."""
    pattern = switch.pattern.detach().cpu()
    shape = tuple(pattern.shape)
    if pattern.dtype == torch.bool:
        flat = pattern.flatten().to(torch.uint8)
        padded = nn.functional.pad(flat, (0, -len(flat) % 8)).reshape(-1, 8)
        powers = 2 ** torch.arange(8, dtype=torch.uint8)
        packed = (padded * powers).sum(1, dtype=torch.uint8)
        active = int(flat.sum())
    else:
        packed = pattern.flatten().contiguous().view(torch.uint8)
        active = pattern.numel()
    return LayerPattern(switch.place, switch.kind, shape, packed, pattern.numel(), active)
