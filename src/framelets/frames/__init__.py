"""Frames: poolings, filter banks and the skips around them, with bounds that are computed."""

from .average_pooling import AveragePooling
from .cadzow import cadzow_step
from .channel_convolution import PADDINGS, ChannelConvolution
from .convolution_framelet import ConvolutionFramelet
from .encoder_decoder import EncoderDecoder, Units
from .encoder_decoder_layer import Branch, EncoderDecoderLayer, decoder_filters_of
from .encoder_decoder_of_stages import encoder_decoder_of_stages
from .frame_bounds import FrameBounds, frame_bounds
from .frame_expansion import BranchOperators, FrameExpansion, LayerOperators
from .graph_laplacian import GraphLaplacian, LaplacianModes
from .haar_filter_bank import SUBBANDS, HaarFilterBank, HaarSubband
from .hankel_lifting import HankelLifting
from .hankel_matrix import HankelMatrix
from .local_basis import (
    concentrating_local_basis,
    dct_local_basis,
    dual_filters,
    haar_local_basis,
    pca_local_basis,
)
from .max_pooling import MaxPooling
from .nonlocal_basis import dct_nonlocal_basis, haar_nonlocal_basis, svd_nonlocal_basis
from .opposite_phases import opposite_phases
from .pooling_levels import PoolingLevel, pooling_levels
from .position_matrix import PositionMatrix
from .reconstructing_filters import reconstructing_filters
from .reconstruction_conditions import (
    NetworkConditions,
    ReconstructionConditions,
    network_conditions,
    reconstruction_conditions,
)
from .separable_basis import SeparableBasis
from .skip_frame import DualFrameSynthesis, SkipFrame
from .strided_pooling import StridedPooling

__all__ = [
    "PADDINGS",
    "SUBBANDS",
    "AveragePooling",
    "Branch",
    "BranchOperators",
    "ChannelConvolution",
    "ConvolutionFramelet",
    "DualFrameSynthesis",
    "EncoderDecoder",
    "EncoderDecoderLayer",
    "FrameBounds",
    "FrameExpansion",
    "GraphLaplacian",
    "HaarFilterBank",
    "HaarSubband",
    "HankelLifting",
    "HankelMatrix",
    "LaplacianModes",
    "LayerOperators",
    "MaxPooling",
    "NetworkConditions",
    "PoolingLevel",
    "PositionMatrix",
    "ReconstructionConditions",
    "SeparableBasis",
    "SkipFrame",
    "StridedPooling",
    "Units",
    "cadzow_step",
    "concentrating_local_basis",
    "dct_local_basis",
    "dct_nonlocal_basis",
    "decoder_filters_of",
    "dual_filters",
    "encoder_decoder_of_stages",
    "frame_bounds",
    "haar_local_basis",
    "haar_nonlocal_basis",
    "network_conditions",
    "opposite_phases",
    "pca_local_basis",
    "pooling_levels",
    "reconstructing_filters",
    "reconstruction_conditions",
    "svd_nonlocal_basis",
]
