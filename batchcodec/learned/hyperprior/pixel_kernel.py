"""The end of the synthesis in one loop: both last layers of some lines, and pixels of their sums.

See `batchcodec.learned.layers` for what that is good for, and for what to mind when one of the loops called here is changed.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit
from batchcodec.learned.hyperprior.architecture import FINE_STRIDE
from batchcodec.learned.hyperprior.kernels import pixels
from batchcodec.learned.layers import KINDS, Layer, tile_room, tile_sums, words_type
from batchcodec.learned.products import i8_in, i16_in


@jit(
    [
        types.void(
            i16_in,
            i8_in,
            *[types.int64] * 7,
            kind,
            words_type,
            types.float32,
            types.int64,
            types.Array(types.uint8, 1, "C"),
        )
        for kind in KINDS
    ]
)
def painted(
    latents: NDArray[np.int16],
    detail: NDArray[np.int8],
    n: int,
    height: int,
    width: int,
    side: int,
    channels: int,
    first: int,
    n_lines: int,
    last: Layer,
    linear: Layer,
    offset: float,
    tile_bytes: int,
    out: NDArray[np.uint8],
) -> None:
    """Gray levels of some lines of latents.

    Args:
        latents: int16 [N, height, width, M], flat.
        detail: what the last layer of the nonlinear part sees, int8 [N, height * side, width * side, B], flat; empty where
            there is no such part.
        n: images.
        height: of the latents.
        width: of them.
        side: blocks of 4x4 pixels of a latent in a row.
        channels: of the images, C.
        first: the first of the lines.
        n_lines: how many.
        last: of the nonlinear part, with a kernel of 3x3; its sums are 2^-PIXEL_BITS gray levels.
        linear: the linear part, with a kernel of 1x1, likewise; of words.
        offset: gray level that zero stands for.
        tile_bytes: about what a tile takes.
        out: uint8 [N, n_lines * 4 * side, width * 4 * side, C], output, flat.
    """
    _, _, scale, bias, fine, block = last
    _, _, linear_scale, linear_bias, depth, n_linear = linear
    if not len(detail):
        fine, block = 0, FINE_STRIDE**2 * channels
        scale = bias = np.zeros(side * block, np.float32)
    area, line_bytes = height * width, n_linear * width
    of_line = width * (2 * depth + 4 * n_linear + side**2 * (2 * fine + 4 * block))
    some = min(n_lines, max(1, tile_bytes // of_line))
    seen, sums = tile_room(last[0], 1, side * some, side * width, fine, block)
    linear_seen, linear_sums = tile_room(linear[0], 1, some, width, depth, n_linear)
    for image in range(n):
        own, fine_own = latents[image * area * depth :], detail[image * area * side**2 * fine :]
        for line in range(first, first + n_lines, some):
            here = min(some, first + n_lines - line)
            n_sums = here * n_linear * width
            if fine:
                tile_sums(fine_own, side * height, side * width, 3, last, 1, side * line, side * here, seen, sums)
            else:
                sums[:n_sums] = 0
            tile_sums(own, height, width, 1, linear, 1, line, here, linear_seen, linear_sums)
            start = (image * n_lines + line - first) * line_bytes
            parts = sums[:n_sums], scale, bias, linear_sums[:n_sums], linear_scale, linear_bias
            pixels(*parts, side, offset, width * side * FINE_STRIDE, channels, out[start : start + here * line_bytes])
