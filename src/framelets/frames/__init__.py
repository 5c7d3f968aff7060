"""Frames: poolings, filter banks and the skips around them, with bounds that are computed."""

from .average_pooling import AveragePooling
from .frame_bounds import FrameBounds, frame_bounds
from .haar_filter_bank import SUBBANDS, HaarFilterBank, HaarSubband
from .max_pooling import MaxPooling
from .pooling_levels import PoolingLevel, pooling_levels
from .skip_frame import DualFrameSynthesis, SkipFrame
from .strided_pooling import StridedPooling

__all__ = [
    "SUBBANDS",
    "AveragePooling",
    "DualFrameSynthesis",
    "FrameBounds",
    "HaarFilterBank",
    "HaarSubband",
    "MaxPooling",
    "PoolingLevel",
    "SkipFrame",
    "StridedPooling",
    "frame_bounds",
    "pooling_levels",
]
