"""Loops of `engine` in machine code: what lies between the networks, the coded integers and the pixels.

Everything is C-contiguous, channels last. Roundings are to the nearest with ties to even; see `batchcodec.learned.kernels`
for how. Sums that come in are exact, so all of it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from batchcodec.entropy import gaussian
from batchcodec.entropy._jit import jit
from batchcodec.learned.hyperprior.architecture import FINE_STRIDE
from batchcodec.learned.hyperprior.network import (
    FEATURE_LIMIT,
    LATENT_LIMIT,
    PIXEL_BITS,
    PIXEL_LIMIT,
    SCALE_LIMIT,
    SCALE_START,
    SCALE_STEPS,
)
from batchcodec.learned.kernels import f32_in, i32_in
from batchcodec.learned.products import ZERO, Seen

# Constants have the types that the loops compute in: numba would widen everything to 64 bits.
_MAGIC = np.float32(3 << 22)
_MEAN_LIMIT = np.float32(LATENT_LIMIT)
_SCALE_LIMIT = np.float32(SCALE_LIMIT)
_SCALE_START = np.float32(SCALE_START)
_FIRST_TABLE = np.int32(-gaussian.FIRST_LOG2 * SCALE_STEPS)
_LAST_TABLE = np.int32(gaussian.N_SCALES - 1)
_NO_TABLE = np.int32(0)
_LATENT_LOW, _LATENT_HIGH = np.int32(-LATENT_LIMIT), np.int32(LATENT_LIMIT)
_FEATURE_LOW, _FEATURE_HIGH = np.int32(-FEATURE_LIMIT), np.int32(FEATURE_LIMIT)
_ONE, _TWO, _THREE = np.int32(1), np.int32(2), np.int32(3)
_RANGE = np.float32(2 * LATENT_LIMIT)
_K_LOW, _K_HIGH = np.int32(-(1 << 13)), np.int32(1 << 13)
"""Beyond this a latent is clamped whatever its step is."""
_At = np.uint64
"""Places in flat arrays: what may be negative, numba tests for each value."""
_SOME = 64
"""Positions whose values stay in the cache from one loop to the next."""
_WORD_LIMIT = np.float32(8191)
_PIXEL_LIMIT = np.float32(PIXEL_LIMIT)
_PIXEL_UNIT = np.float32(2.0**-PIXEL_BITS)

_i16_2d = types.Array(types.int16, 2, "C", readonly=True)
_i16_3d_in = types.Array(types.int16, 3, "C", readonly=True)
_i32_3d_in = types.Array(types.int32, 3, "C", readonly=True)
_i16_4d_in = types.Array(types.int16, 4, "C", readonly=True)
_i64_1d = types.Array(types.int64, 1, "C", readonly=True)
_i16_3d = types.Array(types.int16, 3, "C")
_i16_4d = types.Array(types.int16, 4, "C")
_u8_in = types.Array(types.uint8, 1, "C", readonly=True)
_u8_out = types.Array(types.uint8, 1, "C")


def _some(n: int) -> Callable[..., None]:
    """N values of a flat array to another, as one vector: of bytes or int16 to int16, of bytes to inputs of uint8.

    numba makes none of so few.
    """

    @intrinsic
    def move(_: Any, x: Any, a: Any, out: Any, b: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            def pointer(place: int) -> ir.Value:
                kind, array, at = signature.args[place], args[place], args[place + 1]
                start = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
                return builder.bitcast(start, ir.VectorType(ir.IntType(kind.dtype.bitwidth), n).as_pointer())

            values, (given, wanted) = builder.load(pointer(0), align=1), (signature.args[place].dtype for place in (0, 2))
            if given.bitwidth < wanted.bitwidth:
                values = builder.sext(values, ir.VectorType(ir.IntType(wanted.bitwidth), n))
            elif wanted.signed < given.signed:
                values = builder.add(values, ir.Constant(values.type, [ZERO] * n))
            builder.store(values, pointer(2), align=1)
            return context.get_dummy_value()

        return types.void(x, types.uint64, out, types.uint64), generate

    return move


_move_eight, _move_one = _some(8), _some(1)


@njit(inline="always")
def copy(x: NDArray[Any], at: int, out: Seen, to: int, n: int) -> None:
    """Some values of a flat array to another, as `_some` has them; the last eight overlap those before.

    Places that may be negative would be looked at one by one, and a loop over so few has more rest than vectors.
    """
    a, b, size, eight = _At(at), _At(to), _At(n), _At(8)
    if n < 8:
        for c in range(size):
            _move_one(x, a + c, out, b + c)
        return
    for c in range(_At(0), size - _At(7), eight):
        _move_eight(x, a + c, out, b + c)
    _move_eight(x, a + size - eight, out, b + size - eight)


@jit(types.void(i32_in, f32_in, f32_in, types.Array(types.int16, 1, "C")))
def means(sums: NDArray[np.int32], scale: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.int16]) -> None:
    """Means of latents in gray levels from what the last layer says of them; flat arrays of one length."""
    step = len(scale)
    for start in range(0, len(sums), step):
        n = min(step, len(sums) - start)
        row, to = sums[start : start + n], out[start : start + n]
        for t in range(n):
            x = np.float32(row[t]) * scale[t] + bias[t]
            x = min(max(x, -_MEAN_LIMIT), _MEAN_LIMIT)
            to[t] = np.int32((x + _MAGIC) - _MAGIC)


@jit(types.void(i32_in, f32_in, f32_in, types.int64, types.int64, _i16_2d, types.int64, types.Array(types.uint16, 1, "C")))
def tables(
    sums: NDArray[np.int32],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32],
    first: int,
    n_positions: int,
    log_step: NDArray[np.int16],
    n_hyper: int,
    out: NDArray[np.uint16],
) -> None:
    """Tables of latents from what the last layer says of their scales.

    Args:
        sums: [rows, C], flat; scales in eighths of octaves less `SCALE_START`.
        scale: float32 [c * C] for some c.
        bias: likewise.
        first: the position of the first row, counted through all images.
        n_positions: of an image.
        log_step: int16 [N, C], log2 of the quantiser steps in eighths.
        n_hyper: tables before those of the Gaussian bank.
        out: uint16 [rows, C], output, flat.
    """
    channels = log_step.shape[1]
    own, some, logs = np.int32(n_hyper), len(scale) // channels, log_step.reshape(-1)
    steps, filled, last = np.empty(len(scale), np.int16), 0, -1
    row, n_rows = 0, len(sums) // channels
    while row < n_rows:
        image = (first + row) // n_positions
        n = min(some, min(n_rows - row, (image + 1) * n_positions - first - row))  # long loops, of one image each
        if image != last:
            filled, last = 0, image
        while filled < n:
            copy(logs, image * channels, steps, filled * channels, channels)
            filled += 1
        numbers, to = sums[row * channels : (row + n) * channels], out[row * channels : (row + n) * channels]
        for t in range(n * channels):
            s = np.float32(numbers[t]) * scale[t] + bias[t] + _SCALE_START
            s = min(max(s, -_SCALE_LIMIT), _SCALE_LIMIT)
            table = np.int32(np.int32((s + _MAGIC) - _MAGIC) - np.int32(steps[t]) + _FIRST_TABLE)
            to[t] = np.uint16(min(max(table, _NO_TABLE), _LAST_TABLE) + own)
        row += n


@njit(inline="always")
def _feature(value: np.int32) -> np.int32:
    """A quarter of a latent, ties to even, clamped."""
    quarter = np.int32(value >> _TWO)
    # 3 of 4, or 2 of 4 and odd: what is left, and the last bit of the quarter, are 3 or more
    more = np.int32(np.int32(value & _THREE) + np.int32(quarter & _ONE)) > _TWO
    return min(max(np.int32(quarter + np.int32(more)), _FEATURE_LOW), _FEATURE_HIGH)


@jit(types.void(_i32_3d_in, _i16_3d_in, _i16_2d, _i64_1d, types.int64, _i16_4d, _i16_4d))
def place(
    k: NDArray[np.int32],
    mean: NDArray[np.int16],
    steps: NDArray[np.int16],
    positions: NDArray[np.int64],
    column: int,
    latents: NDArray[np.int16],
    features: NDArray[np.int16],
) -> None:
    """Latents mean + k * step of a pass, and their features, into their places.

    Args:
        k: int32 [N, n, C].
        mean: int16 [N, n, C].
        steps: int16 [N, C].
        positions: int64 [n], places among the h * w.
        column: the first channel of the slice.
        latents: int16 [N, h, w, M], output.
        features: int16 [N, h, w, M], output.
    """
    n_images, n_positions, channels = k.shape
    area, depth = latents.shape[1] * latents.shape[2], latents.shape[3]
    some = min(n_positions, _SOME)
    numbers, means, all_steps = k.reshape(-1), mean.reshape(-1), steps.reshape(-1)
    all_latents, all_features = latents.reshape(-1), features.reshape(-1)
    step, values = np.empty(some * channels, np.int16), np.empty(some * channels, np.int16)
    seen = np.empty(some * channels, np.int16)
    for n in range(n_images):
        for i in range(some):
            copy(all_steps, n * channels, step, i * channels, channels)
        for first in range(0, n_positions, some):
            n_here = min(some, n_positions - first)
            start = _At((n * n_positions + first) * channels)
            for t in range(_At(n_here * channels)):  # a long loop is vectorised
                number = min(max(numbers[start + t], _K_LOW), _K_HIGH)
                value = np.int32(np.int32(means[start + t]) + np.int32(number * np.int32(step[t])))
                value = min(max(value, _LATENT_LOW), _LATENT_HIGH)
                values[t] = np.int16(value)
                seen[t] = np.int16(_feature(value))
            for i in range(n_here):
                to = (n * area + positions[first + i]) * depth + column
                copy(values, i * channels, all_latents, to, channels)
                copy(seen, i * channels, all_features, to, channels)


@jit(types.void(_i16_4d_in, _i16_4d))
def featured(latents: NDArray[np.int16], features: NDArray[np.int16]) -> None:
    """Features of latents: int16 [N, h, w, M] to the first M channels of int16 [N, h, w, >= M]."""
    for n in range(latents.shape[0]):
        for i in range(latents.shape[1]):
            for j in range(latents.shape[2]):
                values, seen = latents[n, i, j], features[n, i, j]
                for c in range(len(values)):
                    seen[c] = np.int16(_feature(np.int32(values[c])))


@njit(inline="always")
def neighbours_of(
    flat: NDArray[np.int16],
    shape: tuple[int, ...],
    image: int,
    column: int,
    position: int,
    out: Seen,
    to: int,
    n: int,
) -> None:
    """What a position of the second pass sees of the first: the features above, left, right and below, 0 beyond the edge.

    Args:
        flat: features, int16 of a shape [N, h, w, K], flat.
        shape: that one.
        image: which of the images.
        column: the first of the channels.
        position: place among the h * w.
        out: int16 [4 * n] from the place `to` on, output.
        to: that place.
        n: channels.
    """
    _, height, width, depth = shape
    y, x = position // width, position % width
    for side in range(4):
        v, u = y + (side == 3) - (side == 0), x + (side == 2) - (side == 1)
        if v >= 0 and u >= 0 and v < height and u < width:
            copy(flat, ((image * height + v) * width + u) * depth + column, out, to, n)
        else:
            for c in range(_At(n)):
                out[_At(to) + c] = 0
        to += n


@jit(
    types.void(
        types.Array(types.float32, 3, "C", readonly=True),
        types.int64,
        _i64_1d,
        _i16_3d_in,
        _i16_2d,
        types.Array(types.uint16, 3, "C", readonly=True),
        types.int64,
        types.Array(types.float32, 2, "C", readonly=True),
        types.Array(types.float32, 1, "C", readonly=True),
        types.Array(types.int32, 3, "C"),
    )
)
def quantise(
    y: NDArray[np.float32],
    column: int,
    positions: NDArray[np.int64],
    mean: NDArray[np.int16],
    steps: NDArray[np.int16],
    index: NDArray[np.uint16],
    n_hyper: int,
    bits: NDArray[np.float32],
    price: NDArray[np.float32],
    k: NDArray[np.int32],
) -> None:
    """The integers of a pass: the nearest, or one less in magnitude where that costs less in bits + price * error^2.

    Args:
        y: latents, float32 [N, h * w, M].
        column: the first channel of the slice.
        positions: int64 [n], places among the h * w.
        mean: int16 [N, n, C].
        steps: int16 [N, C].
        index: uint16 [N, n, C], tables.
        n_hyper: tables before those of the Gaussian bank.
        bits: float32 [81, r + 1], of the integers 0..r with each table; [0, 0] rounds to the nearest.
        price: float32 [N], bits that a squared gray level is worth.
        k: int32 [N, n, C], output.
    """
    n_images, n_positions, channels = k.shape
    reach = bits.shape[1] - 1
    for n in range(n_images):
        for i in range(n_positions):
            row, means, step, numbers = y[n, positions[i], column : column + channels], mean[n, i], steps[n], k[n, i]
            for c in range(channels):
                d = np.float32(step[c])
                exact = (row[c] - np.float32(means[c])) / d
                limit = np.floor(_RANGE / d)
                exact = min(max(exact, -limit), limit)
                numbers[c] = np.int32((exact + _MAGIC) - _MAGIC)
            if reach < 0:
                continue
            tables = index[n, i]
            for c in range(channels):
                size = abs(numbers[c])
                if size == 0 or size > reach:
                    continue
                d = np.float32(step[c])
                exact = (row[c] - np.float32(means[c])) / d
                error = abs(exact) - np.float32(size)
                worse = price[n] * d * d * ((error + np.float32(1)) ** 2 - error**2)
                row_bits = bits[tables[c] - n_hyper]
                if row_bits[size] - row_bits[size - 1] > worse:
                    numbers[c] -= 1 if numbers[c] > 0 else -1


@njit(inline="always")
def _pixels(
    sums: NDArray[np.int32],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32],
    linear: NDArray[np.int32],
    linear_scale: NDArray[np.float32],
    linear_bias: NDArray[np.float32],
    side: int,
    offset: float,
    width: int,
    channels: int,
    out: NDArray[np.uint32],
) -> None:
    """`pixels`, for one side and number of channels; four bytes of the output are a word."""
    block, across = FINE_STRIDE**2 * channels, width // FINE_STRIDE
    run = side * block  # of a latent, in a row of blocks
    gray = np.empty(run, np.uint8)
    words = gray.view(np.uint32)
    own, line = _At(0), _At(across * channels)
    for i in range(len(sums) // (across * block)):
        c = _At(i % side * run)
        other, to = _At(i // side * across * run) + c, _At(FINE_STRIDE * i) * line
        for _ in range(across // side):
            for t in range(_At(run)):
                x = np.float32(sums[own + t]) * scale[t] + bias[t]
                x = min(max(x, -_PIXEL_LIMIT), _PIXEL_LIMIT)
                y = np.float32(linear[other + t]) * linear_scale[c + t] + linear_bias[c + t]
                y = min(max(y, -_PIXEL_LIMIT), _PIXEL_LIMIT)
                value = (((y + _MAGIC) - _MAGIC) + ((x + _MAGIC) - _MAGIC)) * _PIXEL_UNIT + offset
                value = min(max(value, np.float32(0)), np.float32(255))
                gray[t] = np.uint8(np.int32((value + _MAGIC) - _MAGIC))
            own, other = own + _At(run), other + _At(side * run)
            for v in range(side):
                for u in range(FINE_STRIDE):
                    place, four = to + _At(u) * line, _At((v * FINE_STRIDE + u) * channels)
                    for t in range(_At(channels)):
                        out[place + t] = words[four + t]
                to += _At(channels)


@jit(
    types.void(
        *[i32_in, f32_in, f32_in] * 2,
        types.int64,
        types.float32,
        *[types.int64] * 2,
        _u8_out,
    )
)
def pixels(
    sums: NDArray[np.int32],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32],
    linear: NDArray[np.int32],
    linear_scale: NDArray[np.float32],
    linear_bias: NDArray[np.float32],
    side: int,
    offset: float,
    width: int,
    channels: int,
    out: NDArray[np.uint8],
) -> None:
    """Gray levels of lines of latents from both parts of the synthesis, which come in blocks of 4x4 pixels.

    Args:
        sums: [lines * side, w * side, 16 * C], of the nonlinear part, flat; times scale and plus bias in 2^-PIXEL_BITS gray
            levels.
        scale: float32 [>= side * 16 * C].
        bias: likewise.
        linear: [lines, w, side * side, 16 * C], of the linear part, likewise.
        linear_scale: float32 [>= side * side * 16 * C].
        linear_bias: likewise.
        side: blocks of a latent in a row.
        offset: gray level that zero stands for.
        width: of the images in pixels, w * side * 4.
        channels: C.
        out: uint8 [lines * side * 4, width, C], output, flat.
    """
    words = out.view(np.uint32)
    # numbers that the compiler knows make loops without a rest
    if side == 2 and channels == 1:
        _pixels(sums, scale, bias, linear, linear_scale, linear_bias, 2, offset, width, 1, words)
    elif side == 2 and channels == 3:
        _pixels(sums, scale, bias, linear, linear_scale, linear_bias, 2, offset, width, 3, words)
    else:
        _pixels(sums, scale, bias, linear, linear_scale, linear_bias, side, offset, width, channels, words)


@njit(inline="always")
def _blocks(pixels: NDArray[np.uint8], line: int, run: int, side: int, out: NDArray[np.uint8]) -> None:
    """`blocks`, for one length of a run."""
    for row in range(len(pixels) // line):
        u = row % side
        here, band = pixels[row * line : (row + 1) * line], out[(row - u) * line + u * run : (row - u + side) * line]
        for j in range(line // run):
            some, to = here[j * run : (j + 1) * run], band[j * side * run : j * side * run + run]
            for t in range(run):
                to[t] = some[t]


@jit(types.void(_u8_in, types.int64, types.int64, types.int64, _u8_out))
def blocks(pixels: NDArray[np.uint8], line: int, run: int, side: int, out: NDArray[np.uint8]) -> None:
    """Images cut into blocks of side x side pixels.

    Args:
        pixels: bytes of [N, H, W, C], flat; H and W are multiples of `side`.
        line: bytes of a line, W * C.
        run: bytes of a line of a block, side * C.
        side: of a block.
        out: the same bytes as [N, H / side, W / side, side, side, C], output; flat.
    """
    # runs that the compiler knows are moved at once
    if run == 4:
        _blocks(pixels, line, 4, side, out)
    elif run == 8:
        _blocks(pixels, line, 8, side, out)
    elif run == 12:
        _blocks(pixels, line, 12, side, out)
    elif run == 24:
        _blocks(pixels, line, 24, side, out)
    else:
        _blocks(pixels, line, run, side, out)


@jit(types.void(_u8_in, types.float32, types.float32, types.Array(types.int8, 1, "C")))
def centred(pixels: NDArray[np.uint8], offset: float, scale: float, out: NDArray[np.int8]) -> None:
    """Gray levels less an offset, times a scale that leaves them within a byte, rounded; flat arrays of one length."""
    for t in range(len(pixels)):
        value = (np.float32(pixels[t]) - offset) * scale
        out[t] = np.int8(np.int32((value + _MAGIC) - _MAGIC))


@jit(
    types.void(
        types.Array(types.float32, 2, "C", readonly=True),
        types.float32,
        types.Array(types.int16, 2, "C"),
    )
)
def words(values: NDArray[np.float32], scale: float, out: NDArray[np.int16]) -> None:
    """Values times a scale, rounded and clamped to 14 bits: float32 [n, C] to the first C of int16 [n, >= C]."""
    for i in range(len(values)):
        row, to = values[i], out[i]
        for c in range(len(row)):
            value = min(max(row[c] * scale, -_WORD_LIMIT), _WORD_LIMIT)
            to[c] = np.int16(np.int32((value + _MAGIC) - _MAGIC))
