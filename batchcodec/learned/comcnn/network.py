"""ComCNN and RecCNN: a compact image before a classical codec, and restoration after it.

Jiang, Tao, Liu, Ren, Guo & Zhao 2017, "An End-to-End Compression Framework Based on Convolutional Neural Networks"
(arXiv 1708.00838). ComCNN has three convolutions, the second of stride 2, and gives an image of half the size that still looks
like one. RecCNN takes what a codec made of it, upsamples it with a bicubic filter and adds a residual.

Here ComCNN's output too is a residual, to the image that a bicubic filter makes half as large, so both begin as plain
resampling. RecCNN has skip connections around pairs of convolutions where the paper has batch norm.

Images are gray levels, float32 [N, C, H, W].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from batchcodec.learned.blocks import activation, upsampling
from batchcodec.learned.comcnn.architecture import SCALE, Architecture

MIDDLE, UNIT = 127.5, 64.0
"""Gray levels are (x - MIDDLE) / UNIT inside of the networks."""
RESIDUAL_UNIT = 4.0
"""Gray levels that a residual of 1 stands for."""


class ComCNN(nn.Module):
    """Images [N, C, H, W] with even sides to compact images [N, C, H/2, W/2]; neither rounded nor clamped."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        last = nn.Conv2d(arch.width, arch.channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(
            nn.Conv2d(arch.channels, arch.width, 3, padding=1),
            activation(arch.activation, arch.width),
            nn.Conv2d(arch.width, arch.width, 3, stride=SCALE, padding=1),
            activation(arch.activation, arch.width),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """The compact images."""
        small = F.interpolate(x, scale_factor=1 / SCALE, mode="bicubic", antialias=True, align_corners=False)
        residual: Tensor = self.layers((x - MIDDLE) / UNIT)
        return small + RESIDUAL_UNIT * residual.float()


class Pair(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(arch.width, arch.width, 3, padding=1),
            activation(arch.activation, arch.width),
            nn.Conv2d(arch.width, arch.width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, h, w] to the same shape."""
        found: Tensor = x + self.layers(x)
        return found


class RecCNN(nn.Module):
    """Decoded images [N, C, h, w] to images of `arch.scale` times the size, as a plain part and a residual."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        on_pixels = arch.upsample == "resize"
        self.folds = not on_pixels and not arch.compact
        """Whether squares of pixels become channels, for a network that runs on a quarter of the positions."""
        n_in = arch.channels * (SCALE**2 if self.folds else 1)
        layers: list[nn.Module] = [nn.Conv2d(n_in, arch.width, 3, padding=1), activation(arch.activation, arch.width)]
        layers += [Pair(arch) for _ in range((arch.depth - 2) // 2)]
        if arch.depth % 2:
            layers += [nn.Conv2d(arch.width, arch.width, 3, padding=1), activation(arch.activation, arch.width)]
        if on_pixels:
            last: nn.Module = nn.Conv2d(arch.width, arch.channels, 3, padding=1)
        else:
            last = upsampling(arch.upsample, arch.width, arch.channels, 2 * SCALE, SCALE)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """The upsampled images, and what is to be added to them: [N, C, H, W] each, neither rounded nor clamped."""
        plain = self._upsampled(decoded)
        x = (decoded - MIDDLE) / UNIT
        if self.arch.upsample == "resize":
            x = (plain - MIDDLE) / UNIT
        elif self.folds:
            x = F.pixel_unshuffle(x, SCALE)
        residual: Tensor = self.layers(x)
        return plain, RESIDUAL_UNIT * residual.float()

    def _upsampled(self, decoded: Tensor) -> Tensor:
        if not self.arch.compact:
            return decoded
        return F.interpolate(decoded, scale_factor=SCALE, mode="bicubic", align_corners=False)

    @property
    def reach(self) -> int:
        """Rows of the input that a pixel can depend on, on each side, at most."""
        return 2 * (self.arch.depth + 2)


class Networks(nn.Module):
    """Both; `encoder` is there when a compact image is."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.encoder = ComCNN(arch) if arch.compact else None
        self.decoder = RecCNN(arch)

    def compact(self, x: Tensor) -> Tensor:
        """What the base codec gets, [N, C, h, w]: clamped, not rounded."""
        return x if self.encoder is None else self.encoder(x).clamp(0, 255)


def rounded(x: Tensor) -> Tensor:
    """Integers from 0 to 255, whatever x holds."""
    return torch.nan_to_num(x).round_().clamp_(0, 255)
