"""Properties that operators and their derivatives are tested by, and where real data lie."""

from ._derivatives import assert_same_derivatives
from ._operators import assert_adjoint, assert_frame_bounds, assert_isometry
from ._real_data import real_data_folder

__all__ = [
    "assert_adjoint",
    "assert_frame_bounds",
    "assert_isometry",
    "assert_same_derivatives",
    "real_data_folder",
]
