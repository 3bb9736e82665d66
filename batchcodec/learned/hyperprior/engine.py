"""The decoder's networks on the CPU, laid out for speed: the numbers of `network.Decoder`, one by one.

What is different, and what it gains:

- Activations are bytes, and products are of integers (`batchcodec.learned.convolution`).
- A whole group goes through a layer before the next, tile by tile: bytes are few enough to stay in the caches.
- Rounding, clamping, shuffling pixels and joining features are one loop each (`kernels`), not five passes over memory.
- In the second pass of a slice, a 3x3 kernel over features that are zero but where the first pass was, in a checkerboard,
  sees four of them: it is a 1x1 convolution of these four, at half of the positions.

Arrays are channels last, int16 for latents. `tests/learned/test_engine.py` holds the equality with `coding.walk` and
`Decoder.pixels`, which stay what the arithmetic is read from, trained with and run on GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from batchcodec.learned.convolution import TILE_BYTES, Convolution, pixel_shuffled, shuffled
from batchcodec.learned.crew import share
from batchcodec.learned.exact import GRID_BITS, ExactConv2d, ExactResidual
from batchcodec.learned.hyperprior import context_kernel, kernels, pixel_kernel
from batchcodec.learned.hyperprior.architecture import FINE_STRIDE, Architecture
from batchcodec.learned.hyperprior.coding import Conditions
from batchcodec.learned.hyperprior.network import (
    MEAN_GAIN,
    NONLINEAR_GAIN,
    PIXEL_BITS,
    SCALE_STEPS,
    Decoder,
    Slice,
    passes,
)

Activations = NDArray[np.int8]
Latents = NDArray[np.int16]
Tables = NDArray[np.uint16]
"""The table of each integer in the bank of a model: those of the hyper-latents come first."""
Code = Callable[[int, NDArray[np.int64], Latents, Tables], NDArray[np.int32]]
"""Of one pass of a slice: (slice, positions, means [N, n, C], tables [N, n, C]) -> k, the coded integers, int32 [N, n, C]."""

SHARE = 1024
"""Positions of latents that are worth the help of another core."""
PART = 4096
"""Positions that go through the entropy model together: what is known of them stays in the caches."""

_GRID = 2.0**GRID_BITS
_NOTHING = np.empty((0, 0, 0, 0), np.int16)
_NO_DETAIL = np.empty((0, 0, 0, 0), np.int8)
_CROSS = (1, 3, 5, 7)
"""Above, left, right and below in a 3x3 kernel."""


class Engine:
    """The networks of a decoder.

    Args:
        decoder: with frozen weights.
        as_bytes: whether bytes are multiplied as such, where the processor can; what comes out is the same.
    """

    def __init__(self, decoder: Decoder, *, as_bytes: bool = True) -> None:
        self.arch = decoder.arch
        self._as_bytes = as_bytes
        self._offset = float(decoder.offset)
        self._hyper_in = self._layer(decoder.hyper_in, shuffle=2)
        self._hyper_mid = self._layer(decoder.hyper_mid, shuffle=2)
        self._hyper_out = self._layer(decoder.hyper_out)
        self._slices = [_SliceLayers(cast(Slice, part), as_bytes) for part in decoder.slices]
        self._linear = Convolution.of(decoder.linear, 2.0**PIXEL_BITS, order=_blocks(self.arch), as_bytes=as_bytes)
        if self.arch.width:
            self._first = self._layer(decoder.first)
            self._coarse = [self._residual(block) for block in decoder.coarse]
            self._up = self._layer(decoder.up, shuffle=self.arch.stride // FINE_STRIDE)
            self._fine = [self._residual(block) for block in decoder.fine]
            self._last = self._layer(decoder.last, NONLINEAR_GAIN * 2.0**PIXEL_BITS, shuffle=FINE_STRIDE)

    def _layer(self, layer: ExactConv2d, gain: float = _GRID, *, shuffle: int = 1) -> Convolution:
        order = pixel_shuffled(layer.out_channels, shuffle) if shuffle > 1 else None
        return Convolution.of(layer, gain, order=order, as_bytes=self._as_bytes)

    def _residual(self, block: object) -> tuple[Convolution, Convolution]:
        pair = cast(ExactResidual, block)
        return self._layer(pair.a), self._layer(pair.b)

    # ---- entropy model

    def walk(self, z: NDArray[np.integer[Any]], conditions: Conditions, height: int, width: int, code: Code) -> Latents:
        """The latents, int16 [N, height, width, M], pass by pass: `code` is asked for the integers of each.

        Args:
            z: hyper-latents -63..63 [N, ceil(height / 4), ceil(width / 4), Z].
            conditions: of the same images.
            height: of the latents.
            width: of the latents.
            code: gives the integers of a pass, from its means and tables.
        """
        arch, n = self.arch, len(z)
        steps, log_step, plane = conditions.arrays
        shared = np.empty((n, height, width, arch.hyper_width + 1), np.int8)
        x = _activated(self._hyper_in, z.astype(np.int8), 2)
        x = _activated(self._hyper_out, _activated(self._hyper_mid, x, 2))
        shared[..., :-1] = x[:, :height, :width]  # the rest is beyond the latents
        shared[..., -1] = plane[:, None, None]
        positions = _passes(height, width)
        latents = np.empty((n, height, width, arch.latent), np.int16)
        features = np.empty(latents.shape, np.int16)
        for i, layers in enumerate(self._slices):
            channels = arch.channels_of(i)
            step, log = np.ascontiguousarray(steps[:, channels]), np.ascontiguousarray(log_step[:, channels])
            known = shared
            if i:
                known = np.empty((n, height, width, layers.n_known), np.int8)
                _share(n, height, width, partial(layers.know, shared, features, known))
            rows = known.reshape(n, height * width, layers.n_known)
            for n_pass, at in enumerate(positions):
                if not len(at):  # a single position has no second pass
                    continue
                mean = np.empty((n, len(at), arch.slices[i]), np.int16)
                index = np.empty(mean.shape, np.uint16)
                own = (features, channels.start) if n_pass else None
                _share(n, len(at), 1, partial(layers.predict, rows, own, at, log, arch.hyper, mean, index))
                k = code(i, at, mean, index)
                kernels.place(k, mean, step, at, channels.start, latents, features)
        return latents

    # ---- synthesis

    def pixels(self, latents: Latents, plane: Activations, out: NDArray[np.uint8], first: int = 0) -> None:
        """Gray levels of some lines of latents, into uint8 [N, lines * stride, w * stride, C].

        Args:
            latents: int16 [N, h, w, M].
            plane: the quality planes, int8 [N].
            out: output, C-contiguous; how many lines it holds are made.
            first: the first of the lines.
        """
        arch = self.arch
        detail = self._detail(latents, plane) if arch.width else _NO_DETAIL
        n, height, width, _ = latents.shape
        n_lines, side = out.shape[1] // arch.stride, arch.stride // FINE_STRIDE
        layers = (self._last if arch.width else self._linear).layer, self._linear.layer
        flat = latents.reshape(-1), detail.reshape(-1)
        sizes = n, height, width, side, arch.channels, first, n_lines
        pixel_kernel.painted(*flat, *sizes, *layers, self._offset, TILE_BYTES, out.reshape(-1))

    def _detail(self, latents: Latents, plane: Activations) -> Activations:
        """What the last layer works on, int8 [N, h * stride / 4, w * stride / 4, B]."""
        seen = np.empty((*latents.shape[:3], self.arch.latent + 1), np.int16)
        kernels.featured(latents, seen)
        seen[..., -1] = plane[:, None, None]
        x = self._first.activations(seen)
        for block in self._coarse:
            _add(block, x)
        x = _activated(self._up, x, self.arch.stride // FINE_STRIDE)
        for block in self._fine:
            _add(block, x)
        return x


class _SliceLayers:
    """The layers of a slice of the context model."""

    def __init__(self, part: Slice, as_bytes: bool) -> None:
        if part.before is not None:
            self._before = Convolution.of(part.before, _GRID, as_bytes=as_bytes)
        self._own = Convolution.of(part.here, _GRID, taps=_CROSS, as_bytes=as_bytes)
        self.n_known = part.mix.in_channels - part.here.out_channels
        # in the first pass there is nothing of its own to see
        self._mix = [
            Convolution.of(part.mix, _GRID, inputs=inputs, as_bytes=as_bytes) for inputs in (slice(self.n_known), slice(None))
        ]
        self._hidden = Convolution.of(part.hidden, _GRID, as_bytes=as_bytes)
        n_out = part.out.out_channels // 2
        gain, order = np.repeat([MEAN_GAIN, float(SCALE_STEPS)], n_out), np.arange(2 * n_out)
        self._middle, self._spread = (
            Convolution.of(part.out, gain, order=some, as_bytes=as_bytes) for some in (order[:n_out], order[n_out:])
        )

    def know(self, shared: Activations, features: Latents, out: Activations, images: slice, lines: slice) -> None:
        """What both passes look at, but for the first slice, which sees no other.

        Args:
            shared: hyper-features and quality plane, int8 [N, h, w, H].
            features: of all slices, int16 [N, h, w, M].
            out: `shared`, then what a layer makes of the earlier slices, int8 [N, h, w, K], output.
            images: which images to do.
            lines: which of their lines.
        """
        n_shared = shared.shape[3]
        out[images, lines, :, :n_shared] = shared[images, lines]
        first, last, _ = lines.indices(shared.shape[1])
        above = min(first, 1)  # the kernel sees one line more on each side
        earlier = np.ascontiguousarray(features[images, first - above : last + 1, :, : self._before.n_in])
        seen = self._before.activations(earlier)
        out[images, lines, :, n_shared:] = seen[:, above : above + last - first]

    def predict(
        self,
        known: Activations,
        own: tuple[Latents, int] | None,
        at: NDArray[np.int64],
        log_step: Latents,
        n_hyper: int,
        mean: Latents,
        index: Tables,
        images: slice,
        places: slice,
    ) -> None:
        """Means and tables of a pass.

        Args:
            known: from `know`, int8 [N, h * w, K].
            own: in the second pass the features of all slices, int16 [N, h, w, M], and the first column of this one.
            at: positions of the pass, int64 [n].
            log_step: log2 of the quantiser steps in eighths, int16 [N, C].
            n_hyper: tables before those of the Gaussian bank.
            mean: int16 [N, n, C], output.
            index: uint16 [N, n, C], output.
            images: which images to do.
            places: which of the positions.
        """
        means, tables, log = mean[images, places], index[images, places], log_step[images]
        mix, (features, column) = self._mix[own is not None], own or (_NOTHING, 0)
        layers = self._own.layer, mix.layer, self._hidden.layer, self._middle.layer, self._spread.layer
        context_kernel.predict(known[images], features[images], column, at[places], layers, log, n_hyper, means, tables)


def _share(n_images: int, n_lines: int, width: int, work: Callable[[slice, slice], None]) -> None:
    """work(images, lines) with the help of idle cores: some of the images each, or some of the lines of the only one."""

    def some(first: int, last: int) -> None:
        step = max(1, PART // (n_lines * width))
        for start in range(first, last, step):
            work(slice(start, min(last, start + step)), slice(0, n_lines))

    if n_images > 1:
        share(n_images, -(-SHARE // (n_lines * width)), some)
    else:
        share(n_lines, -(-SHARE // width), lambda first, last: work(slice(0, 1), slice(first, last)))


@lru_cache(8)
def _passes(height: int, width: int) -> list[NDArray[np.int64]]:
    return [at.numpy() for at in passes(height, width)]


def _activated(layer: Convolution, x: Activations, shuffle: int = 1) -> Activations:
    """Activations of a layer, their pixels shuffled."""
    return shuffled(layer.activations(x), shuffle)


def _add(block: tuple[Convolution, Convolution], x: Activations) -> None:
    """A residual block, in place."""
    block[1].add_to(x, block[0].activations(x))


def _blocks(arch: Architecture) -> NDArray[np.int64]:
    """The order of the linear layer's channels c * s^2 + y * s + x that has blocks of 4x4 pixels: the block, then (y, x, c)."""
    side = arch.stride // FINE_STRIDE
    channels = np.arange(arch.channels * arch.stride**2).reshape(arch.channels, side, FINE_STRIDE, side, FINE_STRIDE)
    return channels.transpose(1, 3, 2, 4, 0).reshape(-1)
