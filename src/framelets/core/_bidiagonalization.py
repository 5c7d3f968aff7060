"""Block Golub-Kahan-Lanczos bidiagonalization with full reorthogonalization and thick restart.

The rows of V and U are orthonormal vectors of the input and the output space, and with vectors
written as columns

    A V = U B,        A* U = V B* + V_next K*,

so that the singular value decomposition of the small matrix B gives approximate triplets of A whose
only residual is that of the adjoint, known from the coupling K without further products. Since
B = U* A V, every singular value of B is a lower bound of the one of A with the same index.

References:
    [1] G. Golub, F. Luk and M. Overton, "A block Lanczos method for computing the singular values
        and corresponding singular vectors of a matrix", ACM Trans. Math. Software 7(2), 1981.
    [2] J. Baglama and L. Reichel, "Restarted block Lanczos bidiagonalization methods", Numerical
        Algorithms 43, 2006.
"""

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from ._coordinates import Coordinates


class Bidiagonalization:
    """Grow orthonormal bases of the two Krylov spaces of an operator, block by block.

    Where a block has lost rank (an invariant subspace was found: repeated singular values, low
    rank), fresh random vectors take the missing places, so the bases grow until they fill the
    space.

    Attributes:
        num_right, num_left: Vectors in V and in U.
        next: V_next, the orthonormal rows that the next block starts with.
        range_found: True once U spans the whole range: random inputs brought nothing new.
    """

    def __init__(self, operator: Coordinates, capacity: int, generator: torch.Generator) -> None:
        def empty(rows: int, columns: int) -> Tensor:
            return torch.empty(rows, columns, dtype=operator.dtype, device=operator.device)

        self.operator = operator
        self.generator = generator
        self.num_right = self.num_left = 0
        self.range_found = False
        self.next = empty(0, operator.input.size)
        self._right = empty(capacity, operator.input.size)
        self._left = empty(capacity, operator.output.size)
        self._matrix = empty(0, 0)
        self._coupling = empty(0, 0)
        self._scale = 0.0

    @property
    def right(self) -> Inexact[Tensor, "right inputs"]:
        """V, one vector a row."""
        return self._right[: self.num_right]

    @property
    def left(self) -> Inexact[Tensor, "left outputs"]:
        """U, one vector a row."""
        return self._left[: self.num_left]

    @property
    def room(self) -> int:
        """Vectors by which V can still grow, for want of memory or of dimensions."""
        return min(len(self._right), self.operator.input.size) - self.num_right

    def expand(self, block_size: int) -> None:
        """Add one block to V and what A makes of it to U.

        The block takes `next` whole and fills up to `block_size` with random vectors.
        """
        count = min(max(block_size, len(self.next)), self.room)
        num_random = count - len(self.next)
        start = self.num_right
        self._right[start : start + len(self.next)] = self.next
        if num_random > 0:
            random = self.operator.random_rows(num_random, self._right.shape[1], self.generator)
            new, _, _ = orthonormalize(random, self._right[: start + len(self.next)], 0.0)
            self._right[start + len(self.next) : start + count] = new
        self.num_right += count

        images = _finite(self.operator.forward(self._right[start : start + count]))
        self._scale = max(self._scale, float(torch.linalg.vector_norm(images, dim=1).max()))
        new, onto_left, onto_new = orthonormalize(images, self.left, self._threshold)
        self.range_found = self.range_found or len(new) < num_random
        self._left[self.num_left : self.num_left + len(new)] = new
        self._matrix = torch.cat(
            [
                torch.cat([self._matrix, self._matrix.new_zeros(len(new), start)]),
                torch.cat([onto_left, onto_new], dim=1).mT,
            ],
            dim=1,
        )
        self.num_left += len(new)

        old = self.num_left - len(new)
        self.next, onto_next = self.next[:0], self._matrix.new_zeros(len(new), 0)
        if len(new) > 0:
            back = _finite(self.operator.adjoint(new))
            self.next, _, onto_next = orthonormalize(back, self.right, self._threshold)
            dimensions_left = self.operator.input.size - self.num_right
            self.next, onto_next = self.next[:dimensions_left], onto_next[:, :dimensions_left]
        self._coupling = torch.cat([onto_next.new_zeros(old, len(self.next)), onto_next])

    def decompose(
        self,
    ) -> tuple[
        Inexact[Tensor, "left left"], Float[Tensor, " values"], Inexact[Tensor, "right right"]
    ]:
        """Return the full singular value decomposition P, s, Q* of B."""
        p, s, qh = torch.linalg.svd(self._matrix)
        return p, s, qh

    def residuals(self, p: Inexact[Tensor, "left left"]) -> Float[Tensor, " left"]:
        """Return |A* u - s v| of each triplet of `decompose`, known from the coupling."""
        norms: Tensor = torch.linalg.vector_norm(p.mT @ self._coupling, dim=1)
        return norms

    def restart(self, keep: int) -> None:
        """Shrink the bases to the leading singular vectors; `next` and both equations remain."""
        p, s, qh = self.decompose()
        keep = min(keep, len(s))
        p, q = p[:, :keep], qh[:keep].mH
        self._right[:keep] = q.mT @ self.right
        self._left[:keep] = p.mT @ self.left
        self.num_right = self.num_left = keep
        self._matrix = torch.diag(s[:keep]).to(self._matrix.dtype)
        self._coupling = p.mT @ self._coupling

    @property
    def _threshold(self) -> float:
        # What is shorter is taken for rounding error of a product with the operator.
        return 50 * torch.finfo(self.operator.dtype).eps * self._scale


def orthonormalize(
    rows: Inexact[Tensor, "count size"], basis: Inexact[Tensor, "held size"], threshold: float
) -> tuple[
    Inexact[Tensor, "new size"], Inexact[Tensor, "count held"], Inexact[Tensor, "count new"]
]:
    """Split rows into a part along an orthonormal basis and new orthonormal rows.

    rows = onto_basis basis + onto_new new, up to directions shorter than the threshold, which are
    dropped. Gram-Schmidt runs twice, the second time on the normalized rows: that is enough.

    Returns:
        `(new, onto_basis, onto_new)`
    """
    onto_basis = rows @ basis.mH
    rest = rows - onto_basis @ basis
    q, r = torch.linalg.qr(rest.mH)
    y, s, zh = torch.linalg.svd(r.mH)
    kept = s > threshold
    onto_new = (y * s)[:, kept]
    new = zh[kept] @ q.mH

    correction = new @ basis.mH
    q, r = torch.linalg.qr((new - correction @ basis).mH)
    return q.mH, onto_basis + onto_new @ correction, onto_new @ r.mH


def _finite(products: Inexact[Tensor, "count size"]) -> Inexact[Tensor, "count size"]:
    if not torch.isfinite(products).all():
        raise ValueError("operator must give finite values, got NaN or infinity")
    return products
