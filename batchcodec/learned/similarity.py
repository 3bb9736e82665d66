"""MS-SSIM with gradients, for training: the numbers of `batchcodec.metrics.ms_ssim`, in float32 on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from batchcodec.metrics.similarity import K1, K2, SCALE_WEIGHTS, WINDOW, n_scales, window

SMALLEST = 1e-4
"""Terms are raised to a power under 1, whose slope has no end at 0."""


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity at several scales of gray levels 0..255 [N, C, H, W]: [N], 1 for equal images.

    Wang, Simoncelli and Bovik 2003; as many scales as fit, see `metrics.ms_ssim`.
    """
    scales = n_scales(*x.shape[2:])
    weights = x.new_tensor(SCALE_WEIGHTS[:scales])
    if scales < len(SCALE_WEIGHTS):
        weights /= weights.sum()
    product = x.new_ones(x.shape[:2])
    for scale in range(scales):
        luminance, structure = _terms(x, y)
        term = luminance * structure if scale == scales - 1 else structure
        product = product * term.mean((2, 3)).clamp_min(SMALLEST) ** weights[scale]
        if scale < scales - 1:
            x, y = _halved(x), _halved(y)
    return product.mean(1)


def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure terms where the window fits, [N, C, h, w] each."""
    weights = torch.from_numpy(window(min(WINDOW, *(side - 1 + side % 2 for side in x.shape[2:])))).to(x)
    channels = x.shape[1]
    stack = torch.cat([x, y, x * x, y * y, x * y], 1)
    n = stack.shape[1]
    stack = F.conv2d(stack, weights.expand(n, 1, 1, -1), groups=n)
    stack = F.conv2d(stack, weights[:, None].expand(n, 1, -1, 1), groups=n)
    mean_x, mean_y, square_x, square_y, product = torch.split(stack, channels, 1)
    luminance = (2 * mean_x * mean_y + (K1 * 255) ** 2) / (mean_x**2 + mean_y**2 + (K1 * 255) ** 2)
    variance = square_x - mean_x**2 + square_y - mean_y**2
    return luminance, (2 * (product - mean_x * mean_y) + (K2 * 255) ** 2) / (variance + (K2 * 255) ** 2)


def _halved(x: Tensor) -> Tensor:
    """Means of 2 by 2 samples; the last of an odd side is repeated."""
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), mode="replicate")
    return F.avg_pool2d(x, 2)
