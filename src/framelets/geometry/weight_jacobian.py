"""When a critical point of the training loss is a global minimum: the Jacobian by the weights.

Let r stack the residuals f_W(x_t) - y_t of T training samples with n numbers each, and let
J_W = d r / d W, of n T rows and one column a weight. The gradient of |r|^2 / 2 is J_W^T r. So if
J_W has full row rank at W, the gradient is zero only where r is: a critical point of that kind fits
every sample and is a global minimum. This is the sufficient condition of [1], stated by features of
the encoder; here it is checked for the weights as they are, for any network.

The columns that belong to a filter of the last level are the shifts of the features that it reads:
their extended Hankel matrix. A skip adds features, and so columns: with the others unchanged,
J_W J_W^T grows by a positive semidefinite part, and no singular value shrinks.

References:
    [1] J. C. Ye and W. K. Sung, "Understanding geometry of encoder-decoder CNNs", ICML 2019.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from framelets.core import LinearOperator, refuse_unknown


class WeightJacobian(LinearOperator):
    """J_W, from changes of the weights, one after the other as a vector, to changes of the outputs.

    Args:
        network: A network in evaluation mode.
        images: Training samples, in the network's type.
        names: Parameters that may change; default: all of `named_parameters` that need a gradient.

    Attributes:
        names: Those parameters, in the order in which they lie in the vector.
        outputs: What the network makes of the samples.

    Raises:
        ValueError: If a name is unknown, or there is none.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Float[Tensor, " sample *shape"],
        names: Sequence[str] | None = None,
    ) -> None:
        """Take the weights as they are."""
        super().__init__()
        parameters = dict(network.named_parameters())
        if names is None:
            names = [name for name, value in parameters.items() if value.requires_grad]
        if not names:
            raise ValueError("names must hold at least one parameter of the network, got none")
        for name in names:
            refuse_unknown("names", name, parameters)
        self.names = tuple(names)
        self._network = [network]  # in a list, so that it is no submodule of the operator
        self._others = {  # without their wish for a gradient, which outputs would take on
            name: value.detach() for name, value in network.named_parameters() if name not in names
        }
        self._images = images.detach()
        self._point = {name: parameters[name].detach().clone() for name in self.names}
        with torch.no_grad():
            self.outputs: Tensor = network(self._images)
        self.output_shape = tuple(self.outputs.shape)
        self.input_shape = (self.num_weights,)

    @property
    def num_weights(self) -> int:
        """How many weights may change."""
        return sum(value.numel() for value in self._point.values())

    def forward(self, x: Float[Tensor, "*batch weight"]) -> Float[Tensor, "*outputs"]:
        """Return the change of the outputs for a change of the weights."""
        return self._each(self._push, x, 1)

    def adjoint(self, y: Float[Tensor, "*outputs"]) -> Float[Tensor, "*batch weight"]:
        """Return J_W^T y: for the residuals y, the gradient of half their squared norm."""
        return self._each(self._pull, y, self.outputs.ndim)

    def _push(self, change: Tensor) -> Tensor:
        sizes = [value.numel() for value in self._point.values()]
        parts = zip(self._point.items(), change.split(sizes), strict=True)
        changes = {name: part.reshape(value.shape) for (name, value), part in parts}
        result: Tensor = jvp(self._outputs, (self._point,), (changes,))[1]
        return result

    def _pull(self, cotangent: Tensor) -> Tensor:
        pulled = vjp(self._outputs, self._point)[1](cotangent)[0]
        return torch.cat([pulled[name].flatten() for name in self.names])

    def _outputs(self, weights: dict[str, Tensor]) -> Tensor:
        result: Tensor = functional_call(self._network[0], self._others | weights, (self._images,))
        return result

    def _each(self, apply: Callable[[Tensor], Tensor], x: Tensor, num_axes: int) -> Tensor:
        batch = x.shape[: x.ndim - num_axes]
        rows = [apply(row) for row in x.reshape(prod(batch), *x.shape[x.ndim - num_axes :])]
        return torch.stack(rows).reshape(*batch, *rows[0].shape)


@dataclass(frozen=True)
class LandscapeCondition:
    """Whether J_W has full row rank; exact up to rounding, for these weights and samples alone.

    Attributes:
        smallest: Smallest of the n T singular values of J_W.
        largest: The largest.
        rank: How many exceed the rounding, max(n T, weights) * eps * largest.
        num_outputs: Rows n T.
        num_weights: Columns.
    """

    smallest: float
    largest: float
    rank: int
    num_outputs: int
    num_weights: int

    @property
    def holds(self) -> bool:
        """True if a critical point with such a J_W would be a global minimum."""
        return self.rank == self.num_outputs


def landscape_condition(
    network: nn.Module,
    images: Float[Tensor, " sample *shape"],
    names: Sequence[str] | None = None,
    *,
    max_entries: int = 10**8,
) -> LandscapeCondition:
    """Check the rank of the Jacobian by the weights, through its dense matrix.

    Args:
        network: A network in evaluation mode; take double precision.
        images: Training samples.
        names: Parameters that may change; default: all.
        max_entries: Most entries that the matrix may have.

    Raises:
        ValueError: If a name is unknown or the matrix would be too large.

    Example:
        >>> network = torch.nn.Linear(2, 1, bias=False).double()
        >>> images = torch.tensor([[3.0, 4.0], [6.0, 8.0]], dtype=torch.float64)
        >>> found = landscape_condition(network, images)
        >>> found.holds, found.rank, round(found.largest, 6)
        (False, 1, 11.18034)
    """
    jacobian = WeightJacobian(network, images, names)
    shape = jacobian.outputs.shape
    num_outputs, num_weights = prod(shape), jacobian.num_weights
    if num_outputs * num_weights > max_entries:
        raise ValueError(
            f"the Jacobian by the weights has {num_outputs} x {num_weights} entries, more than "
            f"max_entries={max_entries}; take fewer or smaller images, or name fewer parameters"
        )
    units = torch.eye(num_outputs, dtype=images.dtype, device=images.device)
    rows = jacobian.adjoint(units.reshape(-1, *shape))
    values = torch.linalg.svdvals(rows)
    values = nn.functional.pad(values, (0, num_outputs - len(values)))
    rounding = max(num_outputs, num_weights) * torch.finfo(values.dtype).eps * values[0]
    return LandscapeCondition(
        smallest=float(values[-1]),
        largest=float(values[0]),
        rank=int((values > rounding).sum()),
        num_outputs=num_outputs,
        num_weights=num_weights,
    )
