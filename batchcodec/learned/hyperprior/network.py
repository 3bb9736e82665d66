"""The networks of `hyperprior-1`: a float encoder and an integer-exact decoder.

A mean-scale hyperprior (Minnen, Balle & Toderici 2018) whose latents are coded in channel slices (Minnen & Singh 2020), each in
the two passes of a checkerboard (He et al. 2021). Transforms have a linear path that starts as the principal components of
the training images' patches, so that the network is a sound transform codec before its first step of training.

Units. Pixels are gray levels 0..255 less `offset`. Latents are gray levels of an orthonormal transform: a coefficient of the
linear path has the standard deviation that it has in the image, and a quantiser step D costs about D^2 / 12 of squared error.

- latent value: integer, |v| <= `LATENT_LIMIT`; what was coded is v = mean + k * D with integers k, D.
- mean: integer in the same units.
- scale: an integer s stands for the standard deviation 2^(s / 8) gray levels; less `log_steps(D)` it picks a table.
- features of latents, as networks see them: round(v / 4) clamped to 511, times 2^-4.

Everything in `Decoder` is exact (see `batchcodec.learned.exact`).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from batchcodec.learned.exact import (
    ExactConv2d,
    ExactResidual,
    activation,
    rounded,
    straight_through,
)
from batchcodec.learned.hyperprior.architecture import FINE_STRIDE, HYPER_STRIDE, Architecture

LATENT_LIMIT = 4095
FEATURE_LIMIT = 511
FEATURE_BITS = 4
HYPER_LIMIT = 63
"""Hyper-latents, as networks see them, lie in -63..63."""

INPUT_SCALE = 64.0
"""Gray levels, and latents, are divided by it for the encoder's networks."""
PIXEL_BITS = 6
"""Both parts of the synthesis are rounded to 2^-6 gray levels before they are added."""
PIXEL_LIMIT = 1 << 17
NONLINEAR_GAIN = 16.0
MEAN_GAIN = 64.0
SCALE_STEPS = 8
"""Scales are in steps of an eighth of an octave."""
SCALE_START = 24.0
SCALE_LIMIT = 96
MAX_STEP = 1023


@cache
def log_steps() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """round(8 * log2(D)) for D = 0..1023 (0 for D = 0), in exact integer arithmetic."""
    table = [0]
    for step in range(1, MAX_STEP + 1):
        i = table[-1]
        while step**16 >= 1 << (2 * i + 1):  # 8 log2 D >= i + 1/2
            i += 1
        table.append(i)
    return np.array(table, np.int64)


def passes(height: int, width: int, device: torch.device | None = None) -> list[Tensor]:
    """Positions (row * width + column) of the two passes of the checkerboard, each in rising order, int64 [n].

    The first pass has those where row + column is even. The second is empty for a single position.
    """
    odd = (torch.arange(height, device=device)[:, None] + torch.arange(width, device=device)) % 2
    return [torch.nonzero(odd.flatten() == parity).flatten() for parity in (0, 1)]


def take(x: Tensor, positions: Tensor) -> Tensor:
    """[N, C, h, w] at n positions: [N, C, 1, n], in the memory format that convolutions like."""
    rows = x.permute(0, 2, 3, 1).flatten(1, 2).index_select(1, positions)  # [N, n, C]
    return rows.permute(0, 2, 1).unsqueeze(2)


def put(parts: list[Tensor], positions: list[Tensor], height: int, width: int) -> Tensor:
    """The inverse of `take` for positions that cover all (or zeros where they do not): [N, C, h, w]."""
    n, channels = parts[0].shape[:2]
    rows = parts[0].new_zeros(n, height * width, channels)
    for part, at in zip(parts, positions, strict=True):
        rows = rows.index_copy(1, at, part.squeeze(2).permute(0, 2, 1))
    return rows.reshape(n, height, width, channels).permute(0, 3, 1, 2)


def features(latents: Tensor, exact: bool = True) -> Tensor:
    """Latents [N, C, h, w] in gray levels as networks see them: a quarter, on the grid of 2^-4."""
    x = latents * 2.0 ** -(FEATURE_BITS + 2)
    return rounded(x, FEATURE_BITS, FEATURE_LIMIT) if exact else x


class Residual(nn.Module):
    """x + conv(act(conv(x))) in floating point, for the encoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        y: Tensor = x + self.b(F.leaky_relu(self.a(x), 0.125))
        return y


class Encoder(nn.Module):
    """Analysis and hyper-analysis transforms: any float network, since rounding at the encoder decides the bitstream.

    Args:
        arch: of the decoder that this belongs to.
        width: channels at the latents' resolution.
        blocks: residual blocks there.
        fine_width: channels at a quarter of the image's resolution; 0 leaves that part out, and patches of pixels go straight
            to the latents' resolution.
    """

    def __init__(self, arch: Architecture, width: int = 96, blocks: int = 2, fine_width: int = 48) -> None:
        super().__init__()
        self.arch, self.width, self.blocks, self.fine_width = arch, width, blocks, fine_width
        self.linear = nn.Conv2d(arch.channels, arch.latent, arch.stride, stride=arch.stride)
        self.nonlinear = nn.Sequential(
            *_reduced(arch, width, fine_width), *(Residual(width) for _ in range(blocks)), nn.Conv2d(width, arch.latent, 1)
        )
        hidden = max(arch.hyper_width, 32)
        self.hyper = nn.Sequential(
            nn.Conv2d(arch.latent + 1, hidden, 3, padding=1),
            nn.LeakyReLU(0.125),
            nn.Conv2d(hidden, hidden, 2, stride=2),
            nn.LeakyReLU(0.125),
            nn.Conv2d(hidden, arch.hyper, 2, stride=2),
        )

    def analysis(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in gray levels less the offset, sides multiples of the stride, to latents [N, M, H/s, W/s]."""
        x = x.contiguous(memory_format=torch.channels_last)
        precision = next(self.nonlinear.parameters()).dtype
        y: Tensor = self.linear(x).float() + INPUT_SCALE * self.nonlinear((x * (1 / INPUT_SCALE)).to(precision)).float()
        return y

    def hyper_analysis(self, y: Tensor, log_step: Tensor) -> Tensor:
        """Latents [N, M, h, w] and quality planes [N, 1, h, w] to hyper-latents [N, Z, ceil(h/4), ceil(w/4)], not rounded."""
        precision = next(self.hyper.parameters()).dtype
        x = torch.cat([y * (1 / INPUT_SCALE), log_step], 1).to(precision)
        right, below = -x.shape[3] % HYPER_STRIDE, -x.shape[2] % HYPER_STRIDE
        if right or below:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        z: Tensor = self.hyper(x)
        return z.float()


def _reduced(arch: Architecture, width: int, fine_width: int) -> list[nn.Module]:
    """From pixels to the latents' resolution, in two steps or in one."""
    if not fine_width:
        patch = arch.channels * arch.stride**2
        return [nn.PixelUnshuffle(arch.stride), nn.Conv2d(patch, width, 1), nn.LeakyReLU(0.125)]
    down = arch.stride // FINE_STRIDE
    return [
        nn.PixelUnshuffle(FINE_STRIDE),
        nn.Conv2d(arch.channels * FINE_STRIDE**2, fine_width, 3, padding=1),
        nn.LeakyReLU(0.125),
        Residual(fine_width),
        nn.Conv2d(fine_width, width, down, stride=down),
    ]


class Slice(nn.Module):
    """Means and scales of one slice of latent channels from hyper-features, earlier slices and its own first pass."""

    def __init__(self, arch: Architecture, index: int, *, exact: bool = True) -> None:
        super().__init__()
        self.exact = exact
        before, here, width = sum(arch.slices[:index]), arch.slices[index], arch.context_width

        def context(n_in: int) -> ExactConv2d:
            return ExactConv2d(n_in, width, 3, max_input=FEATURE_LIMIT, input_bits=FEATURE_BITS, exact=exact)

        self.before = context(before) if before else None
        self.here = context(here)
        n_in = arch.hyper_width + width * (2 if before else 1) + 1
        self.mix = ExactConv2d(n_in, 2 * width, 1, exact=exact)
        self.hidden = ExactConv2d(2 * width, width, 1, exact=exact)
        self.out = ExactConv2d(width, 2 * here, 1, exact=exact)

    def shared(self, h: Tensor, log_step: Tensor, earlier: Tensor | None) -> Tensor:
        """What both passes look at: hyper-features, quality plane, features of earlier slices; [N, K, h, w]."""
        parts = [h, log_step]
        if self.before is not None and earlier is not None:
            parts.append(activation(self.before(earlier), self.exact))
        return torch.cat(parts, 1)

    def own(self, first_pass: Tensor) -> Tensor:
        """What only the second pass looks at: of features [N, C, h, w] that are zero but at the first pass, [N, K, h, w]."""
        return activation(self.here(first_pass), self.exact)

    def parameters_at(self, shared: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Means (gray levels) and scales (eighths of octaves of gray levels), integers [N, C, 1, n] each.

        Args:
            shared: float32 [N, K, 1, n], `shared` at the positions of one pass.
            own: float32 [N, K, 1, n], `own` there, or None in the first pass.
        """
        if own is None:
            own = shared.new_zeros(shared.shape[0], self.here.out_channels, 1, shared.shape[3])
        x = activation(self.mix(torch.cat([shared, own], 1)), self.exact)
        x = activation(self.hidden(x), self.exact)
        mean, scale = self.out(x).chunk(2, 1)
        mean, scale = mean * MEAN_GAIN, scale * SCALE_STEPS + SCALE_START
        if not self.exact:
            return mean, scale
        return rounded(mean, 0, LATENT_LIMIT), rounded(scale, 0, SCALE_LIMIT)


class Decoder(nn.Module):
    """All that runs between the bitstream and the pixels, integer-exact."""

    def __init__(self, arch: Architecture, *, exact: bool = True) -> None:
        super().__init__()
        self.arch, self.exact = arch, exact

        def conv(n_in: int, n_out: int, kernel: int) -> ExactConv2d:
            return ExactConv2d(n_in, n_out, kernel, exact=exact)

        self.offset = nn.Parameter(torch.zeros(()), requires_grad=False)  # gray level that all-zero latents stand for
        self.log_steps = nn.Parameter(torch.zeros(arch.anchors, arch.latent))  # log2 of quantiser steps in gray levels
        # hyper-synthesis: 1/4 to full resolution of the latents
        self.hyper_in = ExactConv2d(arch.hyper, 4 * 32, 1, max_input=HYPER_LIMIT, input_bits=0, exact=exact)
        self.hyper_mid = conv(32, 4 * arch.hyper_width, 1)
        self.hyper_out = conv(arch.hyper_width, arch.hyper_width, 3)
        self.slices = nn.ModuleList(Slice(arch, i, exact=exact) for i in range(len(arch.slices)))
        # synthesis
        self.linear = ExactConv2d(
            arch.latent, arch.channels * arch.stride**2, 1, max_input=LATENT_LIMIT, input_bits=0, exact=exact
        )
        if arch.width:
            up = arch.stride // FINE_STRIDE
            self.first = ExactConv2d(
                arch.latent + 1, arch.width, 3, max_input=FEATURE_LIMIT, input_bits=FEATURE_BITS, exact=exact
            )
            self.coarse = nn.ModuleList(ExactResidual(arch.width, exact=exact) for _ in range(arch.blocks))
            self.up = conv(arch.width, arch.fine_width * up**2, 1)
            self.fine = nn.ModuleList(ExactResidual(arch.fine_width, exact=exact) for _ in range(arch.fine_blocks))
            self.last = conv(arch.fine_width, arch.channels * FINE_STRIDE**2, 3)

    # ---- quality

    def steps_at(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Quantiser steps [N, M, 1, 1] and the quality plane's value [N, 1, 1, 1] at qualities [N] in 0..99.

        Steps are interpolated between anchors: integers, with halves rounded up. The plane is the mean over channels of
        log2 of the step, less 4, on the grid of 1/8.
        """
        last = self.arch.anchors - 1
        place = quality * last  # in 99ths of an anchor
        low = torch.clamp(torch.div(place, 99, rounding_mode="floor"), max=last - 1).long()
        part = (place - 99 * low)[:, None]
        anchors = torch.exp2(self.log_steps)
        anchors = straight_through(anchors, torch.round(anchors.detach()).clamp_(1, MAX_STEP))
        mixed = anchors[low] * (99 - part) + anchors[low + 1] * part  # [N, M], below 2^17
        steps = straight_through(mixed / 99, torch.floor((2 * mixed.detach() + 99) / 198))
        table = torch.from_numpy(log_steps()).to(steps.device)
        total = table[steps.detach().long()].sum(1)  # [N]
        plane = torch.div(2 * total + self.arch.latent, 2 * self.arch.latent, rounding_mode="floor")
        return steps[:, :, None, None], (plane.float() / SCALE_STEPS - 4)[:, None, None, None]

    # ---- entropy model

    def hyper_synthesis(self, z: Tensor, height: int, width: int) -> Tensor:
        """Integer hyper-latents [N, Z, ceil(h/4), ceil(w/4)] to features [N, K, h, w]."""
        z = z.clamp(-HYPER_LIMIT, HYPER_LIMIT)
        x = activation(F.pixel_shuffle(self.hyper_in(z), 2), self.exact)
        x = activation(F.pixel_shuffle(self.hyper_mid(x), 2), self.exact)
        x = activation(self.hyper_out(x), self.exact)
        return x[:, :, :height, :width]

    # ---- synthesis

    def synthesis(self, latents: Tensor, log_step: Tensor) -> Tensor:
        """Integer latents [N, M, h, w] and quality planes [N, 1, h, w] to gray levels [N, C, H, W], not yet rounded."""
        x = F.pixel_shuffle(self.linear(latents), self.arch.stride)
        if self.exact:
            x = rounded(x, PIXEL_BITS, PIXEL_LIMIT)
        if self.arch.width:
            x = x + self._nonlinear(latents, log_step)
        return x + self.offset

    def _nonlinear(self, latents: Tensor, log_step: Tensor) -> Tensor:
        t = torch.cat([features(latents, self.exact), log_step], 1)
        x = activation(self.first(t), self.exact)
        for block in self.coarse:
            x = block(x)
        x = activation(F.pixel_shuffle(self.up(x), self.arch.stride // FINE_STRIDE), self.exact)
        for block in self.fine:
            x = block(x)
        x = F.pixel_shuffle(self.last(x), FINE_STRIDE) * NONLINEAR_GAIN
        return rounded(x, PIXEL_BITS, PIXEL_LIMIT) if self.exact else x

    def pixels(self, latents: Tensor, log_step: Tensor) -> Tensor:
        """`synthesis` rounded to gray levels 0..255, uint8 [N, C, H, W]."""
        return torch.round(self.synthesis(latents, log_step)).clamp_(0, 255).to(torch.uint8)


def macs_per_pixel(arch: Architecture) -> dict[str, float]:
    """Multiplications per pixel of the decoder's parts: entropy parameters and synthesis, for large images."""
    with torch.device("meta"):
        decoder = Decoder(arch)
    counts = {"entropy": 0.0, "synthesis": 0.0}
    for name, module in decoder.named_modules():
        if not isinstance(module, ExactConv2d):
            continue
        part = name.split(".")[0]
        stride = arch.stride
        if part == "hyper_in":
            stride *= HYPER_STRIDE
        elif part == "hyper_mid":
            stride *= HYPER_STRIDE // 2
        elif part in ("fine", "last"):
            stride = FINE_STRIDE
        kind = "entropy" if part.startswith(("hyper", "slices")) else "synthesis"
        # Both passes of a slice run its pointwise layers at their own half of the positions.
        counts[kind] += module.weight.numel() / stride**2
    return counts
