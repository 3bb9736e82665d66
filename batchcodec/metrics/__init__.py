"""How far decoded images are from their originals.

All functions take batches of equal shape, uint8 or uint16 [N, H, W, C], and give one number for each image. The peak is 255
for uint8 and 65,535 for uint16.
"""

from batchcodec.metrics.errors import LOSSLESS_PSNR, Floats, max_error, mean_psnr, mse, psnr, psnr_of_mse
from batchcodec.metrics.similarity import Measures, measure, ms_ssim, n_scales, ssim

__all__ = [
    "LOSSLESS_PSNR",
    "Floats",
    "Measures",
    "max_error",
    "mean_psnr",
    "measure",
    "ms_ssim",
    "mse",
    "n_scales",
    "psnr",
    "psnr_of_mse",
    "ssim",
]
