"""The density of the latents while training: of each channel its own, and of any shape.

Balle, Minnen, Singh, Hwang & Johnston 2018 (arXiv 1802.01436), appendix 6.1: the cumulative distribution of a channel is a
small network from a number to a number that cannot but rise,

    f_k(x) = g_k(H_k x + b_k),  H_k = softplus(.) > 0,  g_k(x) = x + tanh(a_k) * tanh(x),  F(x) = sigmoid(f_K(...f_1(x)))

It is a stand-in: bits are decided by the integer tables that are made of it at the end (`density`).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from batchcodec.learned.blocks import lower_bound

WIDTHS = (1, 3, 3, 3, 1)
SPREAD = 0.7
"""How far a channel's density reaches at the start, in its scales."""
MIN_MASS = 2.0**-20


class CumulativePrior(nn.Module):
    """One distribution for each channel.

    Args:
        channels: how many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))  # of each channel: numbers are divided by it
        gain = SPREAD ** (1 / (len(WIDTHS) - 1))
        for k, (n_in, n_out) in enumerate(pairwise(WIDTHS)):
            start = math.log(math.expm1(1 / gain / n_out))
            self.register_parameter(f"matrix{k}", nn.Parameter(torch.full((channels, n_out, n_in), start)))
            self.register_parameter(f"bias{k}", nn.Parameter(torch.rand(channels, n_out, 1) - 0.5))
            if k < len(WIDTHS) - 2:
                self.register_parameter(f"factor{k}", nn.Parameter(torch.zeros(channels, n_out, 1)))

    def logits(self, values: Tensor) -> Tensor:
        """Logit F(values) of [C, n]."""
        x = (values / cast(Tensor, self.scale)[:, None])[:, None]  # [C, 1, n]
        for k in range(len(WIDTHS) - 1):
            x = torch.baddbmm(getattr(self, f"bias{k}"), F.softplus(getattr(self, f"matrix{k}")), x)  # [C, r, n]
            if k < len(WIDTHS) - 2:
                x = x + torch.tanh(getattr(self, f"factor{k}")) * torch.tanh(x)
        return x[:, 0]

    def bits(self, values: Tensor, width: Tensor) -> Tensor:
        """-log2 of the mass within half a width of each value [N, C, h, w], for widths [N, C, 1, 1]: [N, C, h, w]."""
        n, channels, height, columns = values.shape
        ends = torch.stack((values - width / 2, values + width / 2)).float()  # [2, N, C, h, w]
        flat = ends.permute(2, 0, 1, 3, 4).reshape(channels, -1)
        low, high = self.logits(flat).reshape(channels, 2, -1).unbind(1)  # [C, N * h * w]
        sign = -torch.sign(low + high).detach()  # on the side where sigmoid keeps its precision
        mass = torch.abs(torch.sigmoid(sign * high) - torch.sigmoid(sign * low))
        bits = -torch.log2(lower_bound(mass, MIN_MASS))
        return bits.reshape(channels, n, height, columns).transpose(0, 1)
