"""Whole layers by products of 16 bits, each in one loop: what a kernel sees, products, and what is made of the sums.

A layer goes tile by tile, so that what it sees of a tile and its sums stay in the second-level cache. All of that is done
without the interpreter and its lock: with dozens of tiles in each picture, calls took as long as some of the layers.

`scale` and `bias` are float32 [c * O] for some c (see `batchcodec.learned.kernels`). As in `hyperprior.context_kernel`,
whoever changes a loop that is called here has to change this file as well, or to delete `__pycache__`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit
from batchcodec.learned.kernels import accumulate, activate, add, f32_in, i8_out
from batchcodec.learned.products import ROOM, Inputs, convolved, i8_in, i16_in, u8_in, with_border

layer_type = types.Tuple([i16_in, f32_in, f32_in, types.int64, types.int64])  # type: ignore[no-untyped-call]
Layer = tuple[NDArray[np.int16], NDArray[np.float32], NDArray[np.float32], int, int]
"""A convolution: weights from `products.laid_out`, scale and bias of `convolution.Convolution`, channels in and out."""

Words = NDArray[np.int16]
Sums = NDArray[np.int32]

_SIZES = [types.int64] * 3
_INPUTS = (i8_in, i16_in, u8_in)


@njit(inline="always")
def tile_size(height: int, width: int, channels: int, n_out: int, tile_bytes: int) -> tuple[int, int]:
    """Images and lines of a tile: what it sees and its sums take about so many bytes, but at least a line."""
    positions = tile_bytes // (2 * channels + 4 * n_out)
    n_lines = min(height, max(1, positions // width))
    return max(1, positions // (height * width)), n_lines


@njit(inline="always")
def tile_sums(
    x: NDArray[Any],
    height: int,
    width: int,
    kernel: int,
    layer: Layer,
    n_images: int,
    line: int,
    n_lines: int,
    seen: Words,
    sums: Sums,
) -> int:
    """The sums of some lines of the first images of x, to the beginning of `sums`; their number."""
    weights, _, _, channels, n_out = layer
    if kernel == 3:
        n_seen = n_images * (n_lines + 2) * (width + 2) * channels + 1
        with_border(x[: n_images * height * width * channels], height, width, channels, line, n_lines, seen[:n_seen])
    else:
        n_seen, first = n_images * n_lines * width * channels + 1, line * width * channels
        for t in range(np.uint64(n_seen - 1)):
            seen[t] = x[np.uint64(first) + t]
    n = n_images * n_lines * width * n_out
    convolved(seen[:n_seen], n_lines, width, channels, kernel, weights, n_out, sums[: n + ROOM])
    return n


@njit(inline="always")
def tile_room(n_images: int, n_lines: int, width: int, channels: int, n_out: int) -> tuple[Words, Sums]:
    """What `tile_sums` works in."""
    seen = np.empty(n_images * (n_lines + 2) * (width + 2) * channels + 1, np.int16)
    return seen, np.empty(n_images * n_lines * width * n_out + ROOM, np.int32)


@njit(inline="always")
def _tiled(
    x: Inputs,
    height: int,
    width: int,
    kernel: int,
    layer: Layer,
    tile_bytes: int,
    finish: Callable[[Sums, NDArray[np.float32], NDArray[np.float32], NDArray[Any]], None],
    out: NDArray[Any],
) -> None:
    """A layer, tile by tile; `finish` makes a tile of the output of its sums, scale and bias."""
    _, scale, bias, channels, n_out = layer
    n = len(x) // (height * width * channels)
    some_images, some_lines = tile_size(height, width, channels, n_out, tile_bytes)
    seen, sums = tile_room(min(n, some_images), some_lines, width, channels, n_out)
    for image in range(0, n, some_images):
        n_images, rest = min(some_images, n - image), x[image * height * width * channels :]
        for line in range(0, height, some_lines):
            n_lines = min(some_lines, height - line)
            n_sums = tile_sums(rest, height, width, kernel, layer, n_images, line, n_lines, seen, sums)
            start = (image * height + line) * width * n_out
            finish(sums[:n_sums], scale, bias, out[start : start + n_sums])


@jit([types.void(x, *_SIZES, layer_type, types.int64, i8_out) for x in _INPUTS])
def activated(x: Inputs, height: int, width: int, kernel: int, layer: Layer, tile_bytes: int, out: NDArray[np.int8]) -> None:
    """Activations of a layer: a nonlinearity of its sums.

    Args:
        x: bytes or int16 [N, height, width, C], flat.
        height: of the images.
        width: of them.
        kernel: 1 or 3; the input is continued with zeros.
        layer: the layer.
        tile_bytes: about what a tile takes.
        out: int8 [N, height, width, O], output, flat.
    """
    _tiled(x, height, width, kernel, layer, tile_bytes, activate, out)


@jit([types.void(x, *_SIZES, layer_type, types.int64, i8_out) for x in _INPUTS])
def added(x: Inputs, height: int, width: int, kernel: int, layer: Layer, tile_bytes: int, out: NDArray[np.int8]) -> None:
    """The end of a residual block: the sums are added to the activations in `out`; else as `activated`."""
    _tiled(x, height, width, kernel, layer, tile_bytes, add, out)


@jit([types.void(x, *_SIZES, layer_type, types.int64, types.Array(types.float32, 1, "C")) for x in _INPUTS])
def accumulated(
    x: Inputs, height: int, width: int, kernel: int, layer: Layer, tile_bytes: int, out: NDArray[np.float32]
) -> None:
    """A layer without nonlinearity or rounding, added to float32 [N, height, width, O], flat; else as `activated`."""
    _tiled(x, height, width, kernel, layer, tile_bytes, accumulate, out)
