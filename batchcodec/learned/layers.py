"""Whole layers, each in one loop: what a kernel sees, products, and what is made of the sums.

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
from batchcodec.learned.products import (
    BEYOND,
    BYTES,
    ROOM,
    Inputs,
    Seen,
    Weights,
    convolved,
    i8_in,
    i16_in,
    room_for,
    u8_in,
    with_border,
    zero_of,
)

_i32_in = types.Array(types.int32, 1, "C", readonly=True)
words_type, bytes_type = (
    types.Tuple([weights, _i32_in, f32_in, f32_in, types.int64, types.int64])  # type: ignore[no-untyped-call]
    for weights in (i16_in, i8_in)
)
Layer = tuple[Weights, NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], int, int]
"""A convolution: weights from `products.laid_out` and what its sums begin with, scale and bias of `convolution.Convolution`,
channels in and out. A layer of words takes any inputs, one of bytes int8.
"""
KINDS = [words_type, bytes_type][: 1 + BYTES]
"""Layers of int8 inputs."""

Sums = NDArray[np.int32]


def _signatures(out: Any, *wider: Any) -> list[Any]:
    """Of the loops below, for int8 inputs and for some that only layers of words take."""
    kinds = [*((i8_in, kind) for kind in KINDS), *((x, words_type) for x in wider)]
    return [types.void(x, *[types.int64] * 3, kind, types.int64, out) for x, kind in kinds]


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
    seen: Seen,
    sums: Sums,
) -> int:
    """The sums of some lines of the first images of x, to the beginning of `sums`; their number."""
    weights, begins, _, _, channels, n_out = layer
    if kernel == 3:
        n_seen = n_images * (n_lines + 2) * (width + 2) * channels + BEYOND
        with_border(x[: n_images * height * width * channels], height, width, channels, line, n_lines, seen[:n_seen])
    else:
        n_seen, first, zero = n_images * n_lines * width * channels + BEYOND, line * width * channels, zero_of(seen)
        for t in range(np.uint64(n_seen - BEYOND)):
            seen[t] = x[np.uint64(first) + t] + zero
    n = n_images * n_lines * width * n_out
    convolved(seen[:n_seen], n_lines, width, channels, kernel, weights, begins, n_out, sums[: n + ROOM])
    return n


@njit(inline="always")
def tile_room(weights: Weights, n_images: int, n_lines: int, width: int, channels: int, n_out: int) -> tuple[Seen, Sums]:
    """What `tile_sums` works in."""
    seen = room_for(weights, n_images * (n_lines + 2) * (width + 2) * channels)
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
    weights, _, scale, bias, channels, n_out = layer
    n = len(x) // (height * width * channels)
    some_images, some_lines = tile_size(height, width, channels, n_out, tile_bytes)
    seen, sums = tile_room(weights, min(n, some_images), some_lines, width, channels, n_out)
    for image in range(0, n, some_images):
        n_images, rest = min(some_images, n - image), x[image * height * width * channels :]
        for line in range(0, height, some_lines):
            n_lines = min(some_lines, height - line)
            n_sums = tile_sums(rest, height, width, kernel, layer, n_images, line, n_lines, seen, sums)
            start = (image * height + line) * width * n_out
            finish(sums[:n_sums], scale, bias, out[start : start + n_sums])


@jit(_signatures(i8_out, i16_in))
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


@jit(_signatures(i8_out))
def added(x: Inputs, height: int, width: int, kernel: int, layer: Layer, tile_bytes: int, out: NDArray[np.int8]) -> None:
    """The end of a residual block: the sums are added to the activations in `out`; else as `activated`, with int8 inputs."""
    _tiled(x, height, width, kernel, layer, tile_bytes, add, out)


@jit(_signatures(types.Array(types.float32, 1, "C"), i16_in, u8_in))
def accumulated(
    x: Inputs, height: int, width: int, kernel: int, layer: Layer, tile_bytes: int, out: NDArray[np.float32]
) -> None:
    """A layer without nonlinearity or rounding, added to float32 [N, height, width, O], flat; else as `activated`."""
    _tiled(x, height, width, kernel, layer, tile_bytes, accumulate, out)
