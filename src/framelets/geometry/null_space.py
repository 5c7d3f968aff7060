"""What the measurement supports, and what the network added.

A network f(x) = L x + b makes an image from a measurement y, by way of a first image x (A^+ y,
filtered back-projection, zero-filled) or from y itself. With the projections P_R onto range(A*),
what the scan A can see, and P_N = I - P_R onto its null space,

    f = A^+ y + (P_R f - A^+ y) + P_N L x + P_N b.

The first map is determined by the measurement. The second is where the network contradicts it, and
as P_R = A^+ A, it is A^+ (A f - y) [1]. The last two no measurement of this scan can confirm: one
depends linearly on the input, the other is carried by the offset. They are not orthogonal, so
their energies do not add up without twice their inner product. The split of the null space
component by L and b is ours.

The offset b depends on the image too, through the units that are on; beside it stands f(0), what
the network makes of nothing.

"Range" and "null space" are meant at a threshold of the singular values, and some of the energy
remains undecided there: `null_space_projection` says how, and to which certified error.

References:
    [1] S. Bhadra, V. A. Kelkar, F. J. Brooks and M. A. Anastasio, "On hallucinations in tomographic
        image reconstruction", IEEE Trans. Medical Imaging 40(11), 2021.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Inexact
from torch import Tensor

from framelets.core import LinearOperator
from framelets.geometry.linearize import LocalMap
from framelets.geometry.null_space_projection import NullSpaceProjection


@dataclass(frozen=True)
class MeasurementSupport:
    """Four maps that add up to a network's output, in double precision.

    Energies are squared norms; `undecided...` are 2 Re <P_R v, P_N v>, near zero for a measurement
    without singular values near the threshold. Every map is exact for the projections at this
    threshold up to `errors`, certified bounds.

    Attributes:
        determined: A^+ y.
        contradiction: P_R f - A^+ y; holds the replay error too, so that the maps add up.
        null_linear: P_N L x.
        null_offset: P_N b.
        offset: b.
        at_zero: f(0), if it was given.
        null_at_zero: P_N f(0), if f(0) was given.
        undecided: Energy of f that neither range nor null space owns at this threshold.
        undecided_linear: The same of L x.
        undecided_offset: The same of b.
        misfit: |A f - y| / |y|.
        misfit_of_determined: |A A^+ y - y| / |y|: noise, and what no image explains.
        threshold: Share of |A| below which singular values count as zero.
        errors: Bounds of the norm of each map's error over |f|, certified up to rounding; that of
            `contradiction` is without the replay error.
        tolerance: Largest error of A^+ y, P_R L x and P_R b, each over its norm, that was wanted.
        converged: Whether it was reached.
        num_iterations: Steps of conjugate gradients.
        replay_error: That of the network's recording.
    """

    determined: Inexact[Tensor, "*sample"]
    contradiction: Inexact[Tensor, "*sample"]
    null_linear: Inexact[Tensor, "*sample"]
    null_offset: Inexact[Tensor, "*sample"]
    offset: Inexact[Tensor, "*sample"]
    at_zero: Inexact[Tensor, "*sample"] | None
    null_at_zero: Inexact[Tensor, "*sample"] | None
    undecided: float
    undecided_linear: float
    undecided_offset: float
    misfit: float
    misfit_of_determined: float
    threshold: float
    errors: tuple[float, float, float, float]
    tolerance: float
    converged: bool
    num_iterations: int
    replay_error: float

    @property
    def maps(self) -> Inexact[Tensor, " 4 *sample"]:
        """The four maps, in the order of the formula; their sum is f."""
        return torch.stack(
            [self.determined, self.contradiction, self.null_linear, self.null_offset]
        )

    @property
    def energies(self) -> tuple[float, float, float, float]:
        """Energy of each of the four maps."""
        first, second, third, fourth = (_inner(part, part) for part in self.maps)
        return first, second, third, fourth

    @property
    def cross_term(self) -> float:
        """Twice the inner product of P_N L x and P_N b."""
        return 2 * _inner(self.null_linear, self.null_offset)

    @property
    def range_cross_term(self) -> float:
        """Twice the inner product of A^+ y and P_R f - A^+ y."""
        return 2 * _inner(self.determined, self.contradiction)

    @property
    def energy(self) -> float:
        """Energy of f: that of the four maps, both cross terms and the undecided energy."""
        output = self.maps.sum(0)
        return _inner(output, output)

    @property
    def null_share(self) -> float:
        """|P_N f|^2 / |f|^2."""
        null = self.null_linear + self.null_offset
        return _ratio(_inner(null, null), self.energy)

    def __str__(self) -> str:
        """Show every energy as a share of that of f; the shares add up to all of it."""
        first, second, third, fourth = zip(self.energies, self.errors, strict=True)
        rows = [
            ("A^+ y", "determined by the measurement", *first),
            ("P_R f - A^+ y", "where the network contradicts it", *second),
            ("", "twice the inner product of these two", self.range_cross_term, None),
            ("P_N L x", "null space, linear in the input", *third),
            ("P_N b", "null space, carried by the offset", *fourth),
            ("", "twice the inner product of these two", self.cross_term, None),
            ("", "undecided between range and null space", self.undecided, None),
            ("f", "sum", self.energy, None),
        ]
        lines = [f"{'':<55}{'share of |f|^2':>14}  {'|error| / |f|':>14}"]
        lines += [
            f"{name:<15}{words:<40}{100 * _ratio(value, self.energy):>12.4f} %"
            + ("" if error is None else f"{f'< {error:.1e}':>16}")
            for name, words, value, error in rows
        ]
        ended = "converged" if self.converged else "NOT CONVERGED"
        undecided = [
            _ratio(self.undecided_linear, self.energy),
            _ratio(self.undecided_offset, self.energy),
        ]
        lines += [
            f"undecided of L x {100 * undecided[0]:.2g} %, of b {100 * undecided[1]:.2g} %",
            f"misfit |A f - y| / |y| = {self.misfit:.3g}, of A^+ y {self.misfit_of_determined:.3g}",
            self._offset_words(),
            f"singular values well below {self.threshold:g} |A| count as null; errors are "
            f"certified bounds at this threshold, {ended} to {self.tolerance:.0e} in "
            f"{self.num_iterations} iterations; replay error {self.replay_error:.1e}",
        ]
        return "\n".join(lines)

    def _offset_words(self) -> str:
        scale, size = self.energy, _inner(self.offset, self.offset)
        words = f"offset |b|^2 = {100 * _ratio(size, scale):.3g} % of |f|^2"
        if self.at_zero is None or self.null_at_zero is None:
            return f"{words}; f(0) not given"
        away = self.offset - self.at_zero
        shares = [_inner(part, part) for part in (self.at_zero, self.null_at_zero)]
        zero, null = (100 * _ratio(share, scale) for share in shares)
        return (
            f"{words}; |f(0)|^2 = {zero:.3g} %, |P_N f(0)|^2 = {null:.3g} %; "
            f"|b - f(0)| / |b| = {math.sqrt(_ratio(_inner(away, away), size)):.3g}"
        )


def null_space(
    local: LocalMap,
    operator: LinearOperator,
    measurement: Inexact[Tensor, "*measurement"],
    *,
    at_zero: Inexact[Tensor, "*sample"] | None = None,
    threshold: float = 1e-2,
    tolerance: float = 1e-3,
    num_iterations: int = 2000,
    generator: torch.Generator | None = None,
) -> MeasurementSupport:
    """Tell what of a network's output the measurement supports.

    Args:
        local: A network at a first image, or at the measurement itself, with an image as output.
        operator: A, the scan, from what the network puts out (or from its last axes; channels then
            pass as a batch) to measurements. Compose it with whatever stands between: a unit, two
            channels for a complex image, `core.RealInput` for real images and complex data.
        measurement: y, of the shape of A f, in the unit of the network's output: if the network saw
            an image divided by a scale, divide y by it too.
        at_zero: f(0), the network applied to zeros; one sample, to stand beside b.
        threshold: Singular values of A well below this share of the largest count as zero.
        tolerance: Largest error of A^+ y, P_R L x and P_R b, each over its norm, certified.
        num_iterations: Stop unconverged after so many; the result says so.
        generator: Start of the search for |A|.

    Returns:
        The four maps, their energies and what they are worth.

    Raises:
        ValueError: If a shape does not fit.
        TypeError: If A* y is complex and the output real, or the other way around.

    Example:
        >>> from framelets.core import Identity
        >>> from framelets.geometry import linearize
        >>> image = torch.ones(1, 1, 2, 2)
        >>> found = null_space(linearize(lambda x: 2 * x + 3, image), Identity(), image[0])
        >>> found.maps.mean((1, 2, 3)).round(decimals=2).tolist()
        [1.0, 4.0, 0.0, 0.0]
    """
    output = _double(local.output)
    projection = NullSpaceProjection(
        operator,
        output.shape,
        threshold=threshold,
        tolerance=tolerance,
        num_iterations=num_iterations,
        dtype=output.dtype,
        device=output.device,
        generator=generator,
    )
    with torch.no_grad():
        linear, offset = _double(local.frozen(local.image)), _double(local.offset)
        predicted = operator(output)
        _check(measurement, predicted, at_zero, output)
        y = _double(measurement)
        images = [linear, offset] + ([] if at_zero is None else [_double(at_zero)])
        sides = [operator.adjoint(y), *operator.adjoint(operator(torch.stack(images)))]
        if sides[0].dtype != output.dtype:
            raise TypeError(
                f"operator must take its adjoint's outputs, got {sides[0].dtype} for images of "
                f"{output.dtype}; compose it with RealInput, or with a map between two channels "
                "and a complex image"
            )
        solved = projection.solve(torch.stack(sides))
        determined, *seen = solved.image
        null = [image - part for image, part in zip(images, seen, strict=True)]
        in_null = null[0] + null[1]
        return MeasurementSupport(
            determined=determined,
            contradiction=output - determined - in_null,
            null_linear=null[0],
            null_offset=null[1],
            offset=offset,
            at_zero=images[2] if len(images) > 2 else None,
            null_at_zero=null[2] if len(images) > 2 else None,
            undecided=2 * _inner(output - in_null, in_null),
            undecided_linear=2 * _inner(seen[0], null[0]),
            undecided_offset=2 * _inner(seen[1], null[1]),
            misfit=_relative(predicted - y, y),
            misfit_of_determined=_relative(operator(determined) - y, y),
            threshold=threshold,
            errors=_shares(solved.error, output),
            tolerance=tolerance,
            converged=solved.converged,
            num_iterations=solved.num_iterations,
            replay_error=local.replay_error,
        )


def _check(measurement: Tensor, predicted: Tensor, at_zero: Tensor | None, output: Tensor) -> None:
    if measurement.shape != predicted.shape:
        raise ValueError(
            f"measurement must have the shape of A f {tuple(predicted.shape)}, "
            f"got {tuple(measurement.shape)}"
        )
    if at_zero is not None and at_zero.shape != output.shape:
        raise ValueError(
            f"at_zero must be one sample of the output's shape {tuple(output.shape)}, "
            f"got {tuple(at_zero.shape)}"
        )


def _shares(bounds: Tensor, output: Tensor) -> tuple[float, float, float, float]:
    """Bound the errors of the four maps, over |f|."""
    determined, linear, offset = (float(bound) for bound in bounds[:3])
    size = math.sqrt(_inner(output, output))
    first, second, third, fourth = (
        _ratio(bound, size) for bound in (determined, determined + linear + offset, linear, offset)
    )
    return first, second, third, fourth


def _double(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def _inner(u: Tensor, v: Tensor) -> float:
    return float((u.conj() * v).real.sum()) if u.is_complex() else float((u * v).sum())


def _relative(difference: Tensor, reference: Tensor) -> float:
    return math.sqrt(_ratio(_inner(difference, difference), _inner(reference, reference)))


def _ratio(value: float, whole: float) -> float:
    if whole == 0:
        return 0.0 if value == 0 else math.copysign(math.inf, value)
    return value / whole
