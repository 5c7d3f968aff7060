"""Networks whose poolings are frames, and unrolled iterations around them."""

from .linear_unet import linear_unet
from .unet import FrameLevel, UNet
from .unrolled_network import UnrolledNetwork

__all__ = ["FrameLevel", "UNet", "UnrolledNetwork", "linear_unet"]
