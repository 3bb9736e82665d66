"""Building blocks of convolutional transforms, by the names that options and models use.

- Activations: `gdn` (generalised divisive normalisation, with its inverse in the synthesis), `leaky-relu`, `relu`, `gelu`,
  `none`.
- Upsampling by s: `transpose` (transposed convolution), `pixelshuffle` (3x3 convolution to s^2 times the channels, then
  shuffled into place), `resize` (nearest neighbour, then a convolution).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

SLOPE = 0.125
"""Slope of LeakyReLU below zero."""
PEDESTAL = 2.0**-36
MIN_BETA = 1e-6


class _LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient also passes below the bound where it leads up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where((x >= ctx.bound) | (grad < 0), grad, 0), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), from which training can come back."""
    found: Tensor = _LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return found


class GDN(nn.Module):
    """Generalised divisive normalisation: u_i = w_i / sqrt(beta_i + sum_j gamma_ij w_j^2), or times it (the inverse).

    Balle, Laparra & Simoncelli 2017 (arXiv 1611.01704), equations 2 and 4. beta and gamma must not be negative: both are stored
    as square roots (of the value and a small pedestal), bounded from below, as the authors' later code does it. Then steps of
    the optimiser shrink near zero, and nothing is divided by zero.

    Args:
        channels: of input and output.
        inverse: multiply in place of dividing.
        gamma: of a channel with itself, at the start.
    """

    def __init__(self, channels: int, *, inverse: bool = False, gamma: float = 0.001) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(gamma * torch.eye(channels) + PEDESTAL))

    def forward(self, w: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        beta = lower_bound(self.beta, (MIN_BETA + PEDESTAL) ** 0.5) ** 2 - PEDESTAL
        gamma = lower_bound(self.gamma, PEDESTAL**0.5) ** 2 - PEDESTAL
        norm = F.conv2d(w * w, gamma[:, :, None, None], beta)
        return w * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))


def activation(name: str, channels: int, *, inverse: bool = False) -> nn.Module:
    """The activation of this name; `inverse` where it stands in a synthesis transform."""
    if name == "gdn":
        return GDN(channels, inverse=inverse)
    return {"leaky-relu": nn.LeakyReLU(SLOPE), "relu": nn.ReLU(), "gelu": nn.GELU(), "none": nn.Identity()}[name]


def upsampling(name: str, n_in: int, n_out: int, kernel: int, stride: int, *, bias: bool = True) -> nn.Module:
    """A layer from [N, n_in, H, W] to [N, n_out, H * stride, W * stride] by this name; the kernel is in output pixels.

    An even kernel must be twice the stride; an odd one reaches alike to both sides.
    """
    if name == "transpose":
        odd = kernel % 2
        padding = kernel // 2 if odd else (kernel - stride) // 2
        return nn.ConvTranspose2d(n_in, n_out, kernel, stride, padding, output_padding=odd * (stride - 1), bias=bias)
    if name == "pixelshuffle":
        return nn.Sequential(nn.Conv2d(n_in, n_out * stride**2, 3, padding=1, bias=bias), nn.PixelShuffle(stride))
    kernel -= 1 - kernel % 2
    convolution = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=bias)
    return nn.Sequential(nn.Upsample(scale_factor=stride, mode="nearest"), convolution)
