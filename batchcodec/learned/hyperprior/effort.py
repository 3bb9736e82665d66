"""From pixels to a payload, with as much effort as was asked for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from batchcodec.learned.hyperprior import coding, payloads
from batchcodec.learned.hyperprior.codec import batches
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.types import Pixels


def encode(model: LoadedModel, images: Pixels, quality: int, effort: int) -> bytes:
    """The payload of uint8 [N, H, W, C]; call within `inference`."""
    qualities = np.full(len(images), quality, np.uint8)
    conditions = coding.Conditions.of(model.decoder, qualities)
    y, z = analysed(model, images, conditions)
    collected: list[tuple[Tensor, Tensor]] = []

    def code(i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor) -> Tensor:
        channels = slice(sum(model.arch.slices[:i]), sum(model.arch.slices[: i + 1]))
        from batchcodec.learned.hyperprior.network import take

        k = coding.quantise(take(y[:, channels], at), mean, steps)
        collected.append((k, index))
        return k

    coding.walk(model.decoder, z, conditions, y.shape[2], y.shape[3], code)
    return payloads.write(model, qualities, z, collected)


def analysed(model: LoadedModel, images: Pixels, conditions: coding.Conditions) -> tuple[Tensor, Tensor]:
    """Latents [N, M, h, w] and rounded hyper-latents of uint8 [N, H, W, C]."""
    stride = model.arch.stride
    height, width = images.shape[1:3]
    pad = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
    ys, zs = [], []
    for part in batches(len(images), height * width):
        x = torch.from_numpy(np.pad(images[part], pad, mode="edge")).permute(0, 3, 1, 2).float() - model.decoder.offset
        y = model.encoder.analysis(x)
        plane = conditions.plane[part].expand(-1, 1, *y.shape[2:])
        ys.append(y)
        zs.append(coding.clamp_hyper(model.encoder.hyper_analysis(y, plane)))
    return torch.cat(ys), torch.cat(zs)
