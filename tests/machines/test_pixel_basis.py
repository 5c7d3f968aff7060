"""Atoms of a pixel: their sum, and how far two sets differ."""

import math

import pytest
import torch

from framelets.machines import PixelBasis, atom_change, filter_change


def basis_of(analysis, synthesis, coefficients=None, **kwargs):
    analysis = torch.tensor(analysis, dtype=torch.float64).unsqueeze(1)
    synthesis = torch.tensor(synthesis, dtype=torch.float64).unsqueeze(1)
    given = torch.tensor(coefficients or [1.0] * len(analysis), dtype=torch.float64)
    return PixelBasis((0, 0), analysis, synthesis, given, 0.25, **kwargs)


def test_a_pixel_is_the_weighted_sum_of_coefficients():
    basis = basis_of([[1, 0], [0, 2]], [[3, 0], [-1, 5]], [2.0, 4.0])

    assert basis.weights.tolist() == [3, -1]
    assert basis.value == 2 * 3 - 4 * 1 + 0.25
    assert basis.filter.tolist() == [[3, -2]]
    assert basis.strengths.tolist() == [3, 2]


def test_order_sign_and_length_of_atoms_do_not_count():
    first = basis_of([[1, 0], [0.6, 0.8]], [[1, 0], [1, 1]])
    second = basis_of([[-6, -8], [0.5, 0]], [[2, 2], [-3, 0]])

    assert atom_change(first, second) == pytest.approx(0, abs=1e-7)


def test_change_by_hand():
    # One atom each, 60 degrees apart, with the same synthesis: sqrt(1 - cos^2) = sqrt(3) / 2.
    first = basis_of([[1, 0]], [[1, 0]])
    second = basis_of([[0.5, math.sqrt(0.75)]], [[1, 0]])
    orthogonal = basis_of([[0, 1]], [[1, 0]])
    # A second atom of strength 1 that is matched: half of the energy is missed, one way only.
    more = basis_of([[1, 0], [0, 1]], [[1, 0], [1, 0]])

    assert atom_change(first, second) == pytest.approx(math.sqrt(0.75))
    assert atom_change(first, orthogonal) == pytest.approx(1)
    assert atom_change(first, more) == pytest.approx(math.sqrt(0.5) / 2)
    assert atom_change(more, first) == atom_change(first, more)


def test_synthesis_atoms_count_too():
    first = basis_of([[1, 0]], [[1, 0]])
    second = basis_of([[1, 0]], [[0.6, 0.8]])

    assert atom_change(first, second) == pytest.approx(0.8)


def test_coefficients_of_a_kernel_give_strengths():
    basis = basis_of([[1, 0], [0, 1]], [[2, 0], [3, 0]], [0.5, 0.1], linear=False)

    torch.testing.assert_close(basis.strengths, torch.tensor([1.0, 0.3], dtype=torch.float64))


def test_filter_change_by_hand():
    r, s = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])

    assert filter_change(r, s) == pytest.approx(5 / math.sqrt((9 + 16) / 2))
    assert filter_change(r, r) == 0


def test_filter_refuses_a_kernel():
    basis = basis_of([[1, 0]], [[1, 0]], linear=False)

    with pytest.raises(ValueError, match=r"inner products, .* tangent"):
        _ = basis.filter


def test_change_refuses_other_sizes():
    with pytest.raises(ValueError, match=r"same image size, got \(1, 2\) and \(1, 3\)"):
        atom_change(basis_of([[1, 0]], [[1, 0]]), basis_of([[1, 0, 0]], [[1, 0, 0]]))
