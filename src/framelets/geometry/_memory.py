"""What a storage holds after parts of it were overwritten: who wrote which part last."""

from typing import Any

import torch
from torch import Tensor

from framelets.geometry._replay import Node
from framelets.geometry._steps import Operation, Step


class WrittenMemory:
    """A storage that was written to after parts of it were recorded: who wrote what last."""

    def __init__(self, storage: Any) -> None:  # noqa: ANN401
        self.storage = storage
        self.num_writes = 0
        self._writers: list[tuple[int, bool, Tensor]] = []  # node, complex, positions

    def write(self, tensor: Tensor, node: int) -> None:
        """Note that a tensor on this storage now holds a node's values."""
        positions = _positions(tensor)
        if len(positions) == _num_entries(tensor):
            self._writers.clear()
        self._writers.append((node, tensor.is_complex(), positions))
        self.num_writes += 1

    def read(self, tensor: Tensor, nodes: list[Node]) -> tuple[tuple[int, ...], Step] | None:
        """Return the nodes that a tensor's entries come from, and the step that collects them.

        Entries that nothing recorded wrote are constants; None if all of them are.
        """
        latest = torch.full((_num_entries(tensor),), -1)
        start = 0
        for _, _, positions in self._writers:
            latest[positions] = start + torch.arange(len(positions))
            start += len(positions)
        chosen = latest[_positions(tensor)]
        if bool((chosen < 0).all()):
            return None
        shape, is_complex, device = tuple(tensor.shape), tensor.is_complex(), tensor.device
        constant = torch.where(chosen.to(device) < 0, _entries(tensor), 0)
        constant = (
            torch.complex(*constant.reshape(*shape, 2).unbind(-1)) if is_complex else constant
        )
        chosen = torch.where(chosen < 0, start, chosen).to(device)

        def collect(*values: Tensor) -> Tensor:
            parts = [_entries(value) for value in values]
            flat = torch.cat([*parts, parts[0].new_zeros(1)])[chosen]
            return (
                torch.complex(*flat.reshape(*shape, 2).unbind(-1))
                if is_complex
                else flat.reshape(shape)
            )

        inputs = tuple(node for node, _, _ in self._writers)
        step = Operation(
            collect,
            [nodes[i].shape for i in inputs],
            [nodes[i].dtype for i in inputs],
            device,
            constant=constant.reshape(shape) if bool((constant != 0).any()) else None,
            complex_linear=all(kind == is_complex for _, kind, _ in self._writers),
        )
        return inputs, step


def _entries(tensor: Tensor) -> Tensor:
    """The entries of a tensor as real numbers, complex ones as pairs."""
    if tensor.is_complex():
        tensor = torch.stack([tensor.real, tensor.imag], dim=-1)
    return tensor.flatten()


def _num_entries(tensor: Tensor) -> int:
    size = tensor.element_size() // (2 if tensor.is_complex() else 1)
    return tensor.untyped_storage().nbytes() // size


def _positions(tensor: Tensor) -> Tensor:
    """Where `_entries` of a tensor stand in its storage."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    labels = torch.arange(_num_entries(tensor))
    return labels.as_strided(real.shape, real.stride(), real.storage_offset()).flatten().clone()
