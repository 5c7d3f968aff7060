"""How near a reconstruction is to its reference."""

from .image_quality import nmse, psnr, ssim

__all__ = ["nmse", "psnr", "ssim"]
