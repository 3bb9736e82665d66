"""MS-SSIM with gradients: the numbers of `metrics.ms_ssim`, and slopes that lead somewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import picture

from batchcodec import metrics
from batchcodec.learned.similarity import ms_ssim
from batchcodec.types import Pixels


def pair(shape: tuple[int, int, int], noise: float = 12.0) -> tuple[Pixels, Pixels]:
    original = np.stack([picture(shape, i) for i in range(2)])
    change = np.random.default_rng(0).normal(0, noise, original.shape)
    return original, np.clip(original + change, 0, 255).astype(np.uint8)


def tensor(images: Pixels) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("shape", [(64, 64, 1), (45, 67, 3), (21, 33, 2), (162, 171, 1), (7, 9, 3), (1, 1, 1)])
@pytest.mark.parametrize("noise", [0.0, 12.0, 200.0])
def test_it_is_that_of_metrics(shape: tuple[int, int, int], noise: float) -> None:
    a, b = pair(shape, noise)
    # float32 takes squares from squares: flat places of 0.03 x 255 differ in the fifth digit
    assert ms_ssim(tensor(a), tensor(b)).numpy() == pytest.approx(metrics.ms_ssim(a, b), abs=2e-3 if noise > 100 else 2e-4)


def test_following_its_slope_makes_images_more_alike() -> None:
    a, b = (tensor(images) for images in pair((64, 64, 3)))
    before = float(ms_ssim(a, b).mean())
    for _ in range(20):
        b.requires_grad_(True)
        (slope,) = torch.autograd.grad(ms_ssim(a, b).sum(), b)
        b = (b + 4 * slope / slope.abs().amax((1, 2, 3), keepdim=True)).detach()
    assert float(ms_ssim(a, b).mean()) > before + 0.3 * (1 - before)


def test_opposite_images_have_finite_slopes() -> None:
    x = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255.0
    x = x[None, None].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(ms_ssim(x, 255 - x.detach()).sum(), x)
    assert torch.isfinite(slope).all()
