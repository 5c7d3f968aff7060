"""Readers, images inside packages, and endless training images; arrays and metadata, no physics."""

from ._formats import READABLE_FORMATS
from .ct_scans import SCAN_KEYS, CTMeasurement, read_ct_scan, write_ct_scan
from .evaluation import EVALUATION_FILES, HTC_SCANS, head_ct, htc_scans
from .images import Image, read_image, read_volume
from .packaged import Volume, chest_ct, hounsfield_to_attenuation, natural_images
from .training_images import TrainingImages

__all__ = [
    "EVALUATION_FILES",
    "HTC_SCANS",
    "READABLE_FORMATS",
    "SCAN_KEYS",
    "CTMeasurement",
    "Image",
    "TrainingImages",
    "Volume",
    "chest_ct",
    "head_ct",
    "hounsfield_to_attenuation",
    "htc_scans",
    "natural_images",
    "read_ct_scan",
    "read_image",
    "read_volume",
    "write_ct_scan",
]
