"""Atoms cut to where they live and kept in one byte a pixel, for the page.

An atom is cut to a square around its center that holds a share of its energy, clipped to the image.
A pixel of value a is kept as round(127 sign(a) sqrt(|a| / peak)), so that small weights keep more
of their digits than a linear scale would leave them; it is read as peak sign(q) (q / 127)^2.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

ENERGY_SHARE = 0.995
LARGEST_RADIUS = 48


class AtomStore:
    """A growing list of atoms; an atom is known by its number."""

    def __init__(self) -> None:
        """Start empty."""
        self._data: list[np.ndarray] = []
        self._places: list[tuple[int, ...]] = []
        self._values: list[tuple[float, float, float]] = []
        self._size = 0

    def add(
        self,
        atom: Float[Tensor, "*channel height width"],
        center: tuple[int, int] | None = None,
        radius: int | None = None,
    ) -> int:
        """Keep the first channel of an atom.

        Args:
            atom: The atom, all of it; the share of energy that is kept counts other channels too.
            center: Row and column of the middle of the cut; by default the center of energy.
            radius: Of the cut; by default the smallest that holds `ENERGY_SHARE` of the first
                channel's energy, at most `LARGEST_RADIUS`.

        Returns:
            Its number.
        """
        whole = atom.detach().double().cpu().numpy()
        image = whole.reshape(-1, *whole.shape[-2:])[0]
        if center is None:
            center = center_of(image)
        if radius is None:
            radius = radius_of(image, center)
        top, left = max(0, center[0] - radius), max(0, center[1] - radius)
        cut = image[top : center[0] + radius + 1, left : center[1] + radius + 1]
        peak, energy = float(np.abs(cut).max()), float((whole**2).sum())
        kept = float((cut**2).sum()) / energy if energy > 0 else 1.0
        scaled = np.sqrt(np.abs(cut) / peak) if peak > 0 else np.zeros_like(cut)
        self._data.append(np.round(127 * np.sign(cut) * scaled).astype(np.int8).ravel())
        self._places.append((self._size, top, left, *cut.shape, *center, radius))
        self._values.append((peak, kept, float(image.sum())))
        self._size += cut.size
        return len(self._places) - 1

    def radius(self, number: int) -> int:
        """Return the radius to which an atom was cut."""
        return self._places[number][-1]

    def to_arrays(self) -> dict[str, Tensor]:
        """Return what the page reads.

        `atom_data` holds the bytes of all atoms; of each one `atom_places` holds the first byte,
        top, left, height, width, row and column of the center and the radius, and `atom_values` the
        peak, the share of energy that is kept and the sum over the whole image.
        """
        nothing = np.empty(0, dtype=np.int8)
        return {
            "atom_data": torch.from_numpy(np.concatenate([nothing, *self._data])),
            "atom_places": torch.tensor(self._places, dtype=torch.int32).reshape(-1, 8),
            "atom_values": torch.tensor(self._values, dtype=torch.float64).reshape(-1, 3),
        }


def center_of(image: Float[np.ndarray, "height width"]) -> tuple[int, int]:
    """Return the center of energy of an image, as a pixel.

    Example:
        >>> center_of(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 1.0]]))
        (1, 2)
    """
    energy = image**2
    whole = float(energy.sum()) or 1.0
    rows, columns = np.indices(image.shape)
    return round(float((rows * energy).sum()) / whole), round(
        float((columns * energy).sum()) / whole
    )


def radius_of(image: Float[np.ndarray, "height width"], center: tuple[int, int]) -> int:
    """Return the smallest radius of a square that holds `ENERGY_SHARE`, within 4 and the largest.

    Example:
        >>> spike = np.zeros((21, 21))
        >>> spike[10, 17] = 1.0
        >>> radius_of(spike, (10, 10))
        7
    """
    rows, columns = np.indices(image.shape)
    reach = np.maximum(np.abs(rows - center[0]), np.abs(columns - center[1]))
    energy = np.bincount(reach.ravel(), weights=(image**2).ravel()).cumsum()
    found = int(np.searchsorted(energy, ENERGY_SHARE * energy[-1]))
    return min(max(found, 4), LARGEST_RADIUS)
