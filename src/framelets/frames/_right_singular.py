"""Singular values and right singular vectors of Hankel matrices, formed or by the Gram matrix.

The Gram matrix squares the singular values: of those below about 1e-8 of the largest it keeps
nothing, neither value nor vector. So matrices that are small enough are formed and decomposed
themselves.
"""

from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from .hankel_lifting import HankelLifting

SMALL_BYTES = 2**24
"""Up to this size matrices are formed."""


class RightSingular(NamedTuple):
    """Singular values, descending, with zeros for columns beyond the rows, and all right vectors.

    Attributes:
        values: In double precision.
        vectors: V.
        formed: False if they come from the Gram matrix.
    """

    values: Float[Tensor, "*batch column"]
    vectors: Inexact[Tensor, "*batch column column"]
    formed: bool


def right_singular(
    lifting: HankelLifting,
    signals: Inexact[Tensor, "*signals"],
    max_bytes: int = SMALL_BYTES,
    *,
    together: bool = False,
) -> RightSingular:
    """Decompose the matrices of signals, in double precision.

    Args:
        lifting: Window and boundary.
        signals: `*batch [channel] *shape`.
        max_bytes: Largest matrices to form, their right singular vectors included.
        together: Whether the matrices stand one below the other instead of in a batch.
    """
    signals = _precise(signals)
    num_columns = lifting.num_columns
    entries = lifting.num_rows * num_columns + num_columns**2
    if _num_signals(lifting, signals) * entries * signals.dtype.itemsize > max_bytes:
        gram = lifting.gram_matrix(signals)
        gram = gram.reshape(-1, *gram.shape[-2:]).sum(0) if together else gram
        squares, vectors = torch.linalg.eigh(gram)
        return RightSingular(squares.flip(-1).clamp(min=0).sqrt(), vectors.flip(-1), False)
    matrix = lifting(signals)
    matrix = matrix.reshape(-1, num_columns) if together else matrix
    if matrix.shape[-2] > num_columns:
        matrix = torch.linalg.qr(matrix, mode="r").R
    _, values, right = torch.linalg.svd(matrix, full_matrices=True)
    values = torch.nn.functional.pad(values, (0, num_columns - values.shape[-1]))
    return RightSingular(values, right.mH.resolve_conj(), True)


def singular_values(
    lifting: HankelLifting, signal: Inexact[Tensor, "*signal"], max_bytes: int = SMALL_BYTES
) -> tuple[Float[Tensor, "*batch values"], bool]:
    """Return the values alone, which takes less memory, and whether the matrix was formed."""
    signal = _precise(signal)
    entries = lifting.num_rows * lifting.num_columns
    if _num_signals(lifting, signal) * entries * signal.dtype.itemsize > max_bytes:
        squares: Tensor = torch.linalg.eigvalsh(lifting.gram_matrix(signal))
        values = squares.flip(-1).clamp(min=0).sqrt()
        return values[..., : min(lifting.output_shape)], False
    return torch.linalg.svdvals(lifting(signal)), True


def _precise(signal: Tensor) -> Inexact[Tensor, "*signal"]:
    return signal.to(torch.complex128 if signal.is_complex() else torch.float64)


def _num_signals(lifting: HankelLifting, signals: Tensor) -> int:
    return prod(signals.shape[: signals.ndim - len(lifting.input_shape)])
