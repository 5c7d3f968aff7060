"""Properties that operators and their derivatives are tested by, and where real data lie."""

from ._chromium import CHROMIUM_OPTIONS, chromium_path
from ._derivatives import assert_same_derivatives
from ._operators import assert_adjoint, assert_frame_bounds, assert_isometry
from ._real_data import real_data_folder

__all__ = [
    "CHROMIUM_OPTIONS",
    "assert_adjoint",
    "assert_frame_bounds",
    "assert_isometry",
    "assert_same_derivatives",
    "chromium_path",
    "real_data_folder",
]
