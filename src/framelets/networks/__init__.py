"""Networks whose poolings are frames, and unrolled iterations around them."""

from .deep_convolution_framelets import DeepConvolutionFramelets
from .framelet_layer import FrameletLayer
from .linear_unet import linear_unet
from .reframe import reframe
from .reframed import FORMS, Reframed
from .unet import FrameLevel, UNet
from .unrolled_network import UnrolledNetwork

__all__ = [
    "FORMS",
    "DeepConvolutionFramelets",
    "FrameLevel",
    "FrameletLayer",
    "Reframed",
    "UNet",
    "UnrolledNetwork",
    "linear_unet",
    "reframe",
]
