"""Convolutions of 16-bit integers in machine code.

Processors multiply pairs of 16-bit integers and add the two products into 32 bits by one instruction (`pmaddwd`, of 1997; eight
of them at once with AVX2), which does twice the work of a multiplication of float32. numba does not find it for a loop, so
the innermost loops are written in LLVM's own language here: `ROWS` positions by 16 or 8 output channels, whose sums stay in
registers. They are plain vector operations, which LLVM turns into the best that a processor has.

A kernel of 3x3 needs no gathering: channels last, what it sees of a line is one run of 3 * C values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit

ROWS = 6
"""Positions of a block: with two vectors of sums each and what goes into them, as many as AVX2 has registers for."""
LANES = 8
"""Sums in a vector."""
WIDE = 2 * LANES
"""Output channels of a block; the last one may have half as many."""
ROOM = WIDE - 1
"""What an output has to be longer than the sums: blocks are whole, and write zeros over what others write later."""

_PAIRS = ir.VectorType(ir.IntType(16), 2 * LANES)
_PRODUCTS = ir.VectorType(ir.IntType(32), 2 * LANES)
_SUMS = ir.VectorType(ir.IntType(32), LANES)

i16_in = types.Array(types.int16, 1, "C", readonly=True)
i8_in = types.Array(types.int8, 1, "C", readonly=True)
u8_in = types.Array(types.uint8, 1, "C", readonly=True)
_i16_out = types.Array(types.int16, 1, "C")
_i32_out = types.Array(types.int32, 1, "C")


def _block(n_rows: int, n_vectors: int) -> Callable[..., None]:
    """The innermost loops for so many positions and vectors of output channels, as a function for compiled code.

    Its arguments: `x`, int16; `starts`, where in it what each position sees begins; the number of `lines` that it sees, how far
    apart they are (`step`), and how many `pairs` of values it sees of each; `weights`, int16 [lines, pairs, 8 * n_vectors, 2]
    from the place `first` on; `out`, int32, to which the sums go, of each position `across` after those of the one before,
    from the place `to` on. Nothing is checked.
    """

    @intrinsic
    def block(_: Any, x: Any, starts: Any, lines: Any, step: Any, pairs: Any, weights: Any, first: Any, out: Any, to: Any,
              across: Any) -> Any:  # fmt: skip
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            x, starts, lines, step, pairs, weights, first, out, to, across = args

            def pointer(array: Any, place: int, at: ir.Value, kind: ir.Type) -> ir.Value:
                data = context.make_array(signature.args[place])(context, builder, array).data
                return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())

            with builder.goto_entry_block():
                sums = [[builder.alloca(_SUMS) for _ in range(n_vectors)] for _ in range(n_rows)]
                weight = builder.alloca(first.type)
            for vector in (v for row in sums for v in row):
                builder.store(ir.Constant(_SUMS, None), vector)
            builder.store(first, weight)
            with cgutils.for_range(builder, lines) as line:
                ahead = builder.mul(line.index, step)
                begins = [builder.add(builder.extract_value(starts, row), ahead) for row in range(n_rows)]
                with cgutils.for_range(builder, pairs) as pair:
                    at, w = builder.shl(pair.index, ir.Constant(pair.index.type, 1)), builder.load(weight)
                    factors = [
                        builder.load(pointer(weights, 5, builder.add(w, w.type(v * 2 * LANES)), _PAIRS), align=2)
                        for v in range(n_vectors)
                    ]
                    builder.store(builder.add(w, w.type(n_vectors * 2 * LANES)), weight)
                    for row, begin in zip(sums, begins, strict=True):
                        seen = builder.load(pointer(x, 0, builder.add(begin, at), ir.IntType(32)), align=2)
                        both = builder.bitcast(_repeated(builder, seen), _PAIRS)
                        for vector, factor in zip(row, factors, strict=True):
                            builder.store(builder.add(builder.load(vector), _madd(builder, both, factor)), vector)
            for i, row in enumerate(sums):
                begin = builder.add(to, builder.mul(across, across.type(i)))
                for v, vector in enumerate(row):
                    place = pointer(out, 7, builder.add(begin, begin.type(v * LANES)), _SUMS)
                    builder.store(builder.load(vector), place, align=4)
            return context.get_dummy_value()

        numbers = types.int64
        return types.void(x, starts, numbers, numbers, numbers, weights, numbers, out, numbers, numbers), generate

    return block


def _repeated(builder: ir.IRBuilder, pair: ir.Value) -> ir.Value:
    """The same 32 bits in all lanes."""
    one = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), pair, ir.IntType(32)(0))
    return builder.shuffle_vector(one, ir.Constant(_SUMS, ir.Undefined), ir.Constant(_SUMS, None))


def _madd(builder: ir.IRBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    """Products of 16-bit integers, those of neighbours added: where LLVM knows the instruction, it takes this for it."""
    product = builder.mul(builder.sext(left, _PRODUCTS), builder.sext(right, _PRODUCTS))
    even, odd = (
        builder.shuffle_vector(
            product,
            ir.Constant(_PRODUCTS, ir.Undefined),
            ir.Constant(_SUMS, list(range(start, 2 * LANES, 2))),
        )
        for start in (0, 1)
    )
    return builder.add(even, odd)


_six_by_two, _six_by_one, _one_by_two, _one_by_one = _block(ROWS, 2), _block(ROWS, 1), _block(1, 2), _block(1, 1)


def laid_out(weight: NDArray[np.int8] | NDArray[np.int16]) -> NDArray[np.int16]:
    """Weights in the order in which `convolved` reads them, flat.

    Args:
        weight: int8 or int16 [O, I, k, k].
    """
    n_out, n_in, kernel = weight.shape[:3]
    depth = kernel * n_in
    lines = np.zeros((n_out + -n_out % LANES, kernel, depth + depth % 2), np.int16)
    lines[:n_out, :, :depth] = weight.transpose(0, 2, 3, 1).reshape(n_out, kernel, depth)
    parts = [lines[first : first + WIDE] for first in range(0, len(lines), WIDE)]
    pairs = [part.reshape(len(part), kernel, -1, 2).transpose(1, 2, 0, 3) for part in parts]  # [k, pairs, O', 2]
    return np.concatenate([part.reshape(-1) for part in pairs])


@njit(inline="always")
def _next(at: int, j: int, i: int, height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Where what the next position sees begins, its column and its row."""
    at, j = at + channels, j + 1
    if j == width:  # over the border, to the next line
        at, j, i = at + 2 * channels, 0, i + 1
        if i == height:
            at, i = at + 2 * (width + 2) * channels, 0
    return at, j, i


@jit(types.void(i16_in, types.int64, types.int64, types.int64, types.int64, i16_in, types.int64, _i32_out))
def convolved(
    x: NDArray[np.int16],
    height: int,
    width: int,
    channels: int,
    kernel: int,
    weights: NDArray[np.int16],
    n_out: int,
    out: NDArray[np.int32],
) -> None:
    """Sums of 16-bit integers.

    Args:
        x: int16 [N, height, width, C], flat, and with a kernel of 3 lines [N, height + 2, width + 2, C] with what is around the
            images; one value more, of any kind, where C is odd.
        height: of the images.
        width: of them.
        channels: C.
        kernel: 1 or 3.
        weights: from `laid_out`.
        n_out: output channels O.
        out: int32 [N, height, width, O], output, flat, and `ROOM` more; modulo 2^32.
    """
    n = (len(out) - ROOM) // n_out
    line = (width + 2) * channels
    pairs = (kernel * channels + 1) // 2
    if kernel == 1:  # all positions in one line, without a border
        height, width = 1, n + 1
    whole = n // ROWS * ROWS
    for block in range((n_out - 1) // WIDE, -1, -1):  # the last one first: it may reach over the first of the next position
        column = block * WIDE
        wide = n_out - column > LANES
        first = column * kernel * pairs * 2
        at, j, i = 0, 0, 0
        for p in range(0, whole, ROWS):
            a = at
            b, j, i = _next(a, j, i, height, width, channels)
            c, j, i = _next(b, j, i, height, width, channels)
            d, j, i = _next(c, j, i, height, width, channels)
            e, j, i = _next(d, j, i, height, width, channels)
            f, j, i = _next(e, j, i, height, width, channels)
            at, j, i = _next(f, j, i, height, width, channels)
            to = p * n_out + column
            if wide:
                _six_by_two(x, (a, b, c, d, e, f), kernel, line, pairs, weights, first, out, to, n_out)
            else:
                _six_by_one(x, (a, b, c, d, e, f), kernel, line, pairs, weights, first, out, to, n_out)
        for p in range(whole, n):
            to = p * n_out + column
            if wide:
                _one_by_two(x, (at,), kernel, line, pairs, weights, first, out, to, n_out)
            else:
                _one_by_one(x, (at,), kernel, line, pairs, weights, first, out, to, n_out)
            at, j, i = _next(at, j, i, height, width, channels)


Inputs = NDArray[np.int8] | NDArray[np.int16] | NDArray[np.uint8]


@jit(
    [
        types.void(inputs, types.int64, types.int64, types.int64, types.int64, types.int64, _i16_out)
        for inputs in (i8_in, i16_in, u8_in)
    ]
)
def with_border(x: Inputs, height: int, width: int, channels: int, first: int, n_lines: int, out: NDArray[np.int16]) -> None:
    """Some lines of images with what is around them: their neighbours, or zeros beyond the edges.

    Args:
        x: bytes or int16 [N, height, width, C], flat.
        height: of the images.
        width: of them.
        channels: C.
        first: the first of the lines.
        n_lines: how many, of each image.
        out: int16 [N, n_lines + 2, width + 2, C], output, flat; there may be values after it.
    """
    line, wide = width * channels, (width + 2) * channels
    n = len(x) // (height * line)
    for image in range(n):
        for i in range(n_lines + 2):
            to = out[(image * (n_lines + 2) + i) * wide : (image * (n_lines + 2) + i + 1) * wide]
            source = first + i - 1
            if source < 0 or source >= height:
                to[:] = 0
                continue
            row, inner = (
                x[(image * height + source) * line : (image * height + source + 1) * line],
                to[channels : channels + line],
            )
            for t in range(line):
                inner[t] = row[t]
            for t in range(channels):
                to[t] = 0
                to[channels + line + t] = 0
