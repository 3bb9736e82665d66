"""The transforms of `balle2017-1`: analysis and synthesis with GDN, and a gain for each quality.

Balle, Laparra & Simoncelli 2017, "End-to-end Optimized Image Compression" (arXiv 1611.01704): a convolution of stride 4 and
then some of stride 2, with GDN between them; back the same way with the inverse GDN. The paper trains a network for each
trade-off between rate and distortion. Here one network serves a range of them, which is what an option `quality` needs, and
takes the room and the training time of one: latents are multiplied by a gain for each channel before they are rounded and by
another one afterwards, both interpolated between those of trained qualities (Cui et al. 2021, "Asymmetric Gained Deep Image
Compression with Continuous Rate Adaptation", arXiv 2003.02012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from batchcodec.learned.balle.architecture import FIRST_STRIDE, N_QUALITIES, STRIDE, Architecture
from batchcodec.learned.blocks import activation, upsampling
from batchcodec.learned.data import random_crop
from batchcodec.types import Pixels

FIRST_KERNEL, KERNEL = 9, 5
UNIT = 32.0
"""Gray levels that are 1 inside of the networks: there, edges and textures are about 1, which GDN is made for."""


class Transforms(nn.Module):
    """Analysis, synthesis and gains. Images are gray levels less `offset`, in units of `UNIT`; so are latents."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for i in range(arch.depth):  # from the image inwards
            kernel, stride = (KERNEL, STRIDE) if i else (FIRST_KERNEL, FIRST_STRIDE)
            outer = arch.width if i else arch.channels
            inner = arch.width if i < arch.depth - 1 else arch.latent
            layers: list[nn.Module] = [nn.Conv2d(outer, inner, kernel, stride, kernel // 2)]
            down += [activation(arch.activation, outer), *layers] if i else layers
            layers = [upsampling(arch.upsample, inner, outer, kernel, stride)]
            up = [*layers, activation(arch.activation, outer, inverse=True), *up] if i else layers
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up)
        self.register_buffer("offset", torch.zeros(arch.channels))
        self.log_gain = nn.Parameter(torch.zeros(arch.anchors, arch.latent))
        self.log_step = nn.Parameter(torch.zeros(arch.anchors, arch.latent))

    def analysed(self, x: Tensor) -> Tensor:
        """Latents [N, M, h, w] of gray levels [N, C, H, W] with sides that are multiples of the stride."""
        y: Tensor = self.encoder((x - cast(Tensor, self.offset)[:, None, None]) / UNIT)
        return y

    def synthesised(self, y: Tensor) -> Tensor:
        """Gray levels [N, C, H, W], neither rounded nor clamped, of latents."""
        x: Tensor = self.decoder(y)
        return UNIT * x.float() + cast(Tensor, self.offset)[:, None, None]

    def gain(self, quality: Tensor) -> Tensor:
        """What latents are multiplied by before they are rounded, [N, M, 1, 1], for qualities [N] in 0..99."""
        return torch.exp2(interpolated(self.log_gain, quality))[:, :, None, None]

    def step(self, quality: Tensor) -> Tensor:
        """What integers are multiplied by to be latents again, [N, M, 1, 1], for qualities [N] in 0..99."""
        return torch.exp2(interpolated(self.log_step, quality))[:, :, None, None]

    @torch.no_grad()
    def start_linear(self, images: Sequence[Pixels], coarsest: float, finest: float, *, seed: int = 0) -> None:
        """Begin with a linear transform: layer by layer the principal components of what comes in, and their transpose.

        In training that is short, this is a large part of the way. All else that leads into these components begins small.

        Args:
            images: uint8 [H, W, C] each.
            coarsest: quantiser step of the first anchor, in gray levels.
            finest: that of the last anchor.
            seed: of the patches.
        """
        arch, rng = self.arch, np.random.default_rng(seed)
        picks = rng.integers(len(images), size=20_000)
        patches = np.stack([random_crop(images[i], arch.stride, rng) for i in picks])
        offset = np.median(patches, (0, 1, 2))
        cast(Tensor, self.offset).copy_(torch.from_numpy(offset))
        z = torch.from_numpy((patches.transpose(0, 3, 1, 2) - offset[:, None, None]) / UNIT)  # [P, C, s, s]
        downs = [layer for layer in self.encoder if isinstance(layer, nn.Conv2d)]
        ups = [layer for layer in self.decoder if isinstance(layer, nn.ConvTranspose2d | nn.Sequential)][::-1]
        for down, up in zip(downs, ups, strict=True):
            stride = down.stride[0]
            p, n, side, _ = z.shape
            blocks = z.reshape(p, n, side // stride, stride, side // stride, stride).permute(0, 2, 4, 1, 3, 5)
            flat = blocks.reshape(-1, n * stride**2)  # [P * positions, n * stride^2]
            vectors = torch.linalg.eigh(flat.T @ flat / len(flat))[1].flip(1)[:, : down.out_channels]
            basis = vectors.T.reshape(-1, n, stride, stride)
            _insert(down.weight, basis, down.kernel_size[0] // 2)
            _insert_transposed(up, basis)
            for layer in (down, up):
                for name, parameter in layer.named_parameters():
                    if name.endswith("bias"):
                        parameter.zero_()
            z = (flat @ vectors).reshape(p, side // stride, side // stride, -1).permute(0, 3, 1, 2)
        log_step = torch.from_numpy(np.log2(np.geomspace(coarsest, finest, arch.anchors) / UNIT)).float()[:, None]
        self.log_step.copy_(log_step.expand_as(self.log_step))
        self.log_gain.copy_(-self.log_step)


SMALL = 0.02
"""What the weights that begin small are multiplied by."""


def _insert(weight: Tensor, basis: Tensor, at: int) -> None:
    """Put [k, n, s, s] into the first rows and columns of [K, N, kernel, kernel], at this tap."""
    k, n, stride, _ = basis.shape
    weight[:k] *= SMALL
    weight[:k, :n, at : at + stride, at : at + stride] = basis.to(weight)


def _insert_transposed(layer: nn.Module, basis: Tensor) -> None:
    """The transpose of such a layer, where upsampling can be one."""
    k, n, stride, _ = basis.shape
    if isinstance(layer, nn.ConvTranspose2d):
        layer.weight *= SMALL
        at = layer.kernel_size[0] // 2
        layer.weight[:k, :n, at : at + stride, at : at + stride] = basis.to(layer.weight)
    elif isinstance(layer, nn.Sequential) and isinstance(layer[1], nn.PixelShuffle):
        weight = cast(nn.Conv2d, layer[0]).weight
        weight *= SMALL
        weight[: n * stride**2, :k, 1, 1] = basis.reshape(k, -1).T.to(weight)


def interpolated(anchors: Tensor, quality: Tensor) -> Tensor:
    """[N, M]: values [A, M] that stand for evenly spaced qualities, between them at qualities [N] in 0..99."""
    last = len(anchors) - 1
    place = quality * last / (N_QUALITIES - 1)
    low = place.floor().clamp(max=last - 1).long()
    part = (place - low)[:, None]
    return anchors[low] * (1 - part) + anchors[low + 1] * part
