"""The table of poolings, un-poolings and skips, against the values of the theory."""

from functools import partial

import pytest
import torch

from framelets.frames import pooling_levels

assert_close = partial(torch.testing.assert_close, rtol=1e-13, atol=1e-13)


@pytest.fixture(scope="module")
def levels():
    image = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    return {(level.pooling, level.unpooling, level.skip): level for level in pooling_levels(image)}


def test_every_combination_is_there_once(levels):
    assert len(levels) == 4 * 3 * 2 + 1 * 2 * 2


@pytest.mark.parametrize(
    ("pooling", "skip", "bounds"),
    [
        ("average (orthonormal)", True, (1, 2)),
        ("average (mean)", True, (1, 1.25)),
        ("strided", True, (1, 2)),
        ("max", True, (1, 2)),
        ("haar", True, (2, 2)),
        ("average (orthonormal)", False, (0, 1)),
        ("average (mean)", False, (0, 0.25)),
        ("strided", False, (0, 1)),
        ("max", False, (0, 1)),
        ("haar", False, (1, 1)),
    ],
)
def test_frame_bounds(levels, pooling, skip, bounds):
    assert levels[pooling, "dual", skip].bounds == pytest.approx(bounds, abs=1e-13)


@pytest.mark.parametrize(
    ("pooling", "unpooling", "skip", "error"),
    [
        # f + P f, f + P f / 4, and f + P f again, as nearest-neighbor un-pooling makes N A = P.
        ("average (orthonormal)", "adjoint", True, 1),
        ("average (mean)", "adjoint", True, 0.25),
        ("average (mean)", "nearest", True, 1),
        ("haar", "adjoint", True, 1),  # tight: 2 f, perfect after dividing by 2
        ("haar", "adjoint", False, 0),
        ("strided", "nearest", False, 2),  # N A is an oblique projection: |N A - I| = |N A| = 2
        ("max", "nearest", False, 2),
    ],
)
def test_reconstruction_error(levels, pooling, unpooling, skip, error):
    level = levels[pooling, unpooling, skip]

    assert level.reconstruction_error == pytest.approx(error, abs=1e-12)


def test_only_duals_with_a_skip_and_the_whole_filter_bank_reconstruct(levels):
    perfect = {key for key, level in levels.items() if level.reconstruction_error < 1e-12}

    assert perfect == {key for key in levels if key[1] == "dual" and key[2]} | {
        ("haar", "adjoint", False),
        ("haar", "dual", False),
    }


def test_analysis_and_synthesis_act_on_batches(levels):
    image = torch.randn(3, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    level = levels["average (mean)", "dual", True]

    assert_close(level.synthesis(level.analysis(image)), image)


def test_refuses_other_than_two_axes():
    with pytest.raises(ValueError, match=r"shape \(height, width\), got \(1, 4, 4\)"):
        pooling_levels(torch.zeros(1, 4, 4))
