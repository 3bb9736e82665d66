"""The encoder's networks in bytes, for the CPU: rounding at the encoder decides the bitstream, so they may be inexact.

The linear part of the analysis sees pixels as they are, with weights of 16 bits. What the nonlinear one adds is small: 8 bits
of each activation cost 0.1 % of the bytes at quality 40, and 0.4 % and 0.04 dB at quality 100, where steps are finest (Kodak,
`photo-rgb`). The hyper-analysis has 12 bits. It is faster than float32 and bfloat16 on all processors that were tried.

Steps (the units of the activations of a layer) come from made-up pictures of full contrast, so that they depend on the model
alone: the bytes of an archive do not depend on what was packed before.
"""

from __future__ import annotations

import itertools
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batchcodec.learned.convolution import Convolution
from batchcodec.learned.exact import ACT_LIMIT, SLOPE
from batchcodec.learned.hyperprior import kernels
from batchcodec.learned.hyperprior.architecture import FINE_STRIDE, HYPER_STRIDE
from batchcodec.learned.hyperprior.network import INPUT_SCALE, Encoder, Residual
from batchcodec.learned.products import Inputs
from batchcodec.types import Pixels

Activations = NDArray[np.int8]
Steps = NDArray[np.float64]
"""Units of activations, for each channel."""

LATENT_STEP = 0.25
"""Gray levels: the unit of latents on their way to the hyper-analysis, in 16 bits."""
REACH = 0.7
"""Activations are clamped beyond this part of what the made-up pictures gave, of which some are wilder than any picture is."""
FAINTEST = 0.1
"""No channel's step is smaller than this part of the largest of its layer: other pictures may make more of it."""
WIDE_LIMIT = 2047
"""Activations of the hyper-analysis go up to here, or a little further. Bytes are not enough: what varies in a plain picture
would be a step or none, and hyper-latents that miss it cost 6 % of a photograph at quality 1, and 70 % of a smooth one."""
MAX_WORD = (1 << 15) - 1
MAX_SUM = (1 << 31) - (1 << 16)
"""Of pixels times weights; the rest is for what rounding adds."""
SIDE = 64
N_PICTURES = 8


class ByteEncoder:
    """What `Encoder` computes, nearly.

    Args:
        encoder: the networks in float32.
        offset: gray level that zero stands for.
        planes: some values of the quality plane, [n, 1, 1, 1].
        as_bytes: whether bytes are multiplied as such, where the processor can; what comes out is the same.
    """

    def __init__(self, encoder: Encoder, offset: float, planes: Tensor, *, as_bytes: bool = True) -> None:
        arch, parts = encoder.arch, list(encoder.nonlinear)
        self._as_bytes = as_bytes
        self._stride, self._offset = arch.stride, offset
        self._linear = _in_words(encoder.linear, offset)
        largest = _largest(encoder, offset, planes)
        first, last = cast(nn.Conv2d, parts[1]), cast(nn.Conv2d, parts[-1])
        residuals = [part for part in parts if isinstance(part, Residual)]
        fine, blocks = (residuals[0], residuals[1:]) if encoder.fine_width else (None, residuals)

        def step(*readers: nn.Conv2d) -> Steps:
            """Of activations that all these layers read, for each channel."""
            found: Steps = np.max([largest[reader] for reader in readers], axis=0)
            return np.maximum(found, max(1e-9, found.max() * FAINTEST)) * (REACH / ACT_LIMIT)

        self._input_step = input_step = max(abs(offset), abs(255 - offset)) / ACT_LIMIT
        coarse_step = step(*(block.a for block in blocks), last)
        self._fine: tuple[Convolution, Convolution] | None = None
        first_step = coarse_step
        if fine:
            down = cast(nn.Conv2d, parts[4])
            first_step = step(fine.a, down)
            self._fine = self._residual(fine, first_step, step(fine.b))
            self._down = self._reduced(down, first_step, coarse_step)
        seen = _pixels_last(first.weight, arch.channels)
        self._first = self._laid_out(seen, _bias(first), input_step / INPUT_SCALE, first_step)
        self._coarse = [self._residual(block, coarse_step, step(block.b)) for block in blocks]
        self._last = self._laid_out(last.weight, _bias(last), coarse_step, 1 / INPUT_SCALE)

        whole, half, quarter = (cast(nn.Conv2d, part) for part in list(encoder.hyper)[::2])
        half_step, quarter_step = (step(part) * (ACT_LIMIT / WIDE_LIMIT) for part in (half, quarter))
        self._hyper_first = self._laid_out(whole.weight, _bias(whole), LATENT_STEP / INPUT_SCALE, half_step, wide=True)
        self._hyper_half = self._reduced(half, half_step, quarter_step, wide=True)
        self._hyper_last = self._reduced(quarter, quarter_step, 1.0, wide=True)

    def _laid_out(
        self, weight: Tensor, bias: Tensor, step_in: Steps | float, step_out: Steps | float, *, wide: bool = False
    ) -> Convolution:
        """A layer from activations in steps of `step_in` to sums that, scaled, are in steps of `step_out`.

        Args:
            weight: float32 [O, I, k, k].
            bias: float32 [O].
            step_in: of the inputs, for each channel or for all.
            step_out: of the outputs, likewise.
            wide: whether inputs need more than a byte.
        """
        values = weight.detach().numpy() * np.reshape(step_in, (1, -1, 1, 1))
        unit = np.maximum(np.abs(values).max((1, 2, 3)), 1e-30) / ACT_LIMIT
        integers = np.round(values / unit[:, None, None, None]).astype(np.int8)
        return Convolution(integers, unit / step_out, bias.numpy() / step_out, as_bytes=self._as_bytes and not wide)

    def _reduced(self, layer: nn.Conv2d, step_in: Steps, step_out: Steps | float, *, wide: bool = False) -> Convolution:
        """A layer whose stride is its kernel, as a pointwise one of what `_blocks` gives."""
        weight, places = _as_pointwise(layer.weight), layer.kernel_size[0] ** 2
        return self._laid_out(weight, _bias(layer), np.tile(step_in, places), step_out, wide=wide)

    def _residual(self, block: Residual, step: Steps, step_inside: Steps) -> tuple[Convolution, Convolution]:
        a, b = block.a, block.b
        return self._laid_out(a.weight, _bias(a), step, step_inside), self._laid_out(b.weight, _bias(b), step_inside, step)

    def analysis(self, images: Pixels) -> NDArray[np.float32]:
        """Latents, float32 [N, h, w, M], of uint8 [N, h * stride, w * stride, C]."""
        patches = _blocks(images, self._stride)
        latents = _values(self._linear, patches)
        pixels = _blocks(images, FINE_STRIDE) if self._fine else patches
        x = np.empty(pixels.shape, np.int8)
        kernels.centred(pixels.reshape(-1), self._offset, 1 / self._input_step, x.reshape(-1))
        x = self._first.activations(x)
        if self._fine:
            _add(self._fine, x)
            blocks = _blocks(x.view(np.uint8), self._stride // FINE_STRIDE).view(np.int8)
            x = np.zeros((*blocks.shape[:3], self._down.n_out), np.int8)
            self._down.add_to(x, blocks)  # to nothing: that layer has no nonlinearity
        for block in self._coarse:
            _add(block, x)
        self._last.accumulate(latents, x)
        return latents

    def hyper_analysis(self, y: Tensor, planes: Tensor) -> Tensor:
        """Hyper-latents, float32 [N, Z, ceil(h / 4), ceil(w / 4)], not rounded.

        Args:
            y: latents, float32 [N, M, h, w].
            planes: of the quality, [N, 1, 1, 1].
        """
        n, depth, height, width = y.shape
        seen = np.empty((n, height, width, depth + 1), np.int16)
        latents = np.ascontiguousarray(y.permute(0, 2, 3, 1).numpy())
        kernels.words(latents.reshape(-1, depth), 1 / LATENT_STEP, seen.reshape(-1, depth + 1))
        seen[..., -1] = np.rint(planes.numpy().reshape(n, 1, 1) * (INPUT_SCALE / LATENT_STEP))
        if height % HYPER_STRIDE or width % HYPER_STRIDE:
            seen = np.pad(seen, ((0, 0), (0, -height % HYPER_STRIDE), (0, -width % HYPER_STRIDE), (0, 0)), mode="edge")
        x = _in_pairs(_values(self._hyper_first, seen))
        x = _in_pairs(_values(self._hyper_half, x))
        return torch.from_numpy(_values(self._hyper_last, x)).permute(0, 3, 1, 2)


def _add(block: tuple[Convolution, Convolution], x: Activations) -> None:
    """A residual block, in place."""
    block[1].add_to(x, block[0].activations(x))


def _values(layer: Convolution, x: Inputs) -> NDArray[np.float32]:
    """What a layer makes of bytes or int16 [N, H, W, I], neither rounded nor clamped: [N, H, W, O]."""
    values = np.zeros((*x.shape[:3], layer.n_out), np.float32)
    layer.accumulate(values, x)
    return values


def _in_pairs(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """LeakyReLU, rounding and clamp, and then two by two positions side by side: [N, H, W, C] to [N, H / 2, W / 2, 4 C]."""
    out, depth = np.empty(values.shape, np.int16), values.shape[3]
    kernels.words(np.maximum(values, SLOPE * values).reshape(-1, depth), 1.0, out.reshape(-1, depth))
    return _blocks(out.view(np.uint8), 2).view(np.int16)


def _in_words(linear: nn.Conv2d, offset: float) -> Convolution:
    """The linear layer as a pointwise one of what `_blocks` gives, uint8, with weights of 16 bits whose sums fit into 32."""
    values = _as_pointwise(linear.weight.detach()).numpy().astype(np.float64)
    sizes = np.abs(values)
    unit = np.maximum(1e-30, np.maximum(sizes.max((1, 2, 3)) / MAX_WORD, sizes.sum((1, 2, 3)) * (255 / MAX_SUM)))
    integers = np.round(values / unit[:, None, None, None]).astype(np.int16)
    bias = _bias(linear).numpy() - offset * values.sum((1, 2, 3))
    return Convolution(integers, unit, bias, as_bytes=False)


def _bias(layer: nn.Conv2d) -> Tensor:
    if layer.bias is None:
        return torch.zeros(layer.out_channels)
    return layer.bias.detach()


def _blocks(x: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bytes [N, h * side, w * side, C] to [N, h, w, side * side * C], in the order (row, column, channel)."""
    n, height, width, channels = x.shape
    out = np.empty((n, height // side, width // side, side * side * channels), np.uint8)
    kernels.blocks(x.reshape(-1), width * channels, side * channels, side, out.reshape(-1))
    return out


def _pixels_last(weight: Tensor, channels: int) -> Tensor:
    """Weights for channels in the order of `PixelUnshuffle` (channel, row, column) in that of `_blocks`."""
    n_out, n_in, rows, columns = weight.shape
    split = weight.reshape(n_out, channels, n_in // channels, rows, columns)
    return split.transpose(1, 2).reshape(n_out, n_in, rows, columns)


def _as_pointwise(weight: Tensor) -> Tensor:
    """A kernel as large as its stride, [O, I, k, k], as one for what `_blocks` gives, [O, k * k * I, 1, 1]."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1, 1, 1)


def _largest(encoder: Encoder, offset: float, planes: Tensor) -> dict[nn.Conv2d, Steps]:
    """The largest magnitude that each layer is given for made-up pictures, for each channel."""
    found: dict[nn.Conv2d, Steps] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        largest = inputs[0].abs().amax((0, 2, 3)).numpy().astype(np.float64)
        found[cast(nn.Conv2d, layer)] = np.maximum(found.get(cast(nn.Conv2d, layer), 0.0), largest)

    handles = [layer.register_forward_pre_hook(note) for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.no_grad():
            made = np.concatenate([pictures(encoder.arch.channels), blocks_of_colour(encoder.arch.channels)])
            x = torch.from_numpy(made).permute(0, 3, 1, 2).float() - offset
            y = encoder.analysis(x)
            for plane in planes:
                encoder.hyper_analysis(y, plane[None].expand(len(y), 1, *y.shape[2:]))
    finally:
        for handle in handles:
            handle.remove()
    return found


def pictures(channels: int) -> Pixels:
    """Made-up pictures of full contrast, uint8 [8, 64, 64, C]: noise of four spectra, without edges and with."""
    random = np.random.default_rng(0)
    frequency = np.fft.fftfreq(SIDE)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = 1 / SIDE
    made = []
    for slope, edges in itertools.islice(itertools.product((0.7, 1.0, 1.3, 1.6), (False, True)), N_PICTURES):
        noise = random.normal(size=(channels, SIDE, SIDE))
        picture = np.fft.ifft2(np.fft.fft2(noise) / radius**slope).real
        shared = picture.mean(0)
        picture = shared + 0.3 * (picture - shared)
        if edges:
            picture = np.where(shared > np.median(shared), picture, 0.1 * picture + picture.min())
        low, high = picture.min(), picture.max()
        made.append(((picture - low) * (255 / (high - low))).astype(np.uint8).transpose(1, 2, 0))
    return np.stack(made)


def blocks_of_colour(channels: int) -> Pixels:
    """Squares of 1 to 8 pixels with all of a channel or nothing of it, uint8 [4, 64, 64, C]: as far from gray as can be."""
    random = np.random.default_rng(1)
    sides = [2**i for i in range(4)]
    made = [random.integers(0, 2, (SIDE // side, SIDE // side, channels)).repeat(side, 0).repeat(side, 1) for side in sides]
    return np.stack(made).astype(np.uint8) * 255
