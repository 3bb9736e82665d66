"""Convolutions of small integers in machine code.

Processors multiply pairs of 16-bit integers and add the two products into 32 bits by one instruction (`pmaddwd`, of 1997; eight
of them at once with AVX2), which does twice the work of a multiplication of float32. Many also add four products of bytes to a
sum (`vpdpbusd`, VNNI, of 2019), which is twice as much again. numba finds neither for a loop, so the innermost loops are
written in LLVM's own language here: `ROWS` positions by 16 or 8 output channels, whose sums stay in registers.

- *Words*: inputs and weights are int16. These are plain vector operations, which LLVM turns into the best that a processor has.
- *Bytes*: weights are int8 and inputs uint8, activations plus `ZERO`, which is how the instruction wants them. Sums begin with
  what that adds, taken away. Only where numba compiles for a processor with the instruction (`BYTES`).

The weights say which it is. A kernel of 3x3 needs no gathering: channels last, what it sees of a line is one run of 3 * C
values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
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
BEYOND = 3
"""What inputs have to be longer than they are: groups of values are read as a whole."""
ZERO = 128
"""What stands for 0 among inputs of uint8."""


def _has_bytes() -> bool:
    """Whether numba compiles for a processor with the instruction for bytes."""
    features = str(cpu_target.target_context.codegen().magic_tuple()[2]).split(",")
    return "+avxvnni" in features or {"+avx512vnni", "+avx512vl"} <= set(features)


BYTES = _has_bytes()

_SUMS = ir.VectorType(ir.IntType(32), LANES)

i16_in = types.Array(types.int16, 1, "C", readonly=True)
i8_in = types.Array(types.int8, 1, "C", readonly=True)
u8_in = types.Array(types.uint8, 1, "C", readonly=True)
_i32_in = types.Array(types.int32, 1, "C", readonly=True)
_i16_out = types.Array(types.int16, 1, "C")
_u8_out = types.Array(types.uint8, 1, "C")
_i32_out = types.Array(types.int32, 1, "C")

Weights = NDArray[np.int16] | NDArray[np.int8]
Seen = NDArray[np.int16] | NDArray[np.uint8]


def _block(n_rows: int, n_vectors: int) -> Callable[..., None]:
    """The innermost loops for so many positions and vectors of output channels, as a function for compiled code.

    Its arguments: `x`, int16 or uint8; `starts`, where in it what each position sees begins; the number of `lines` that it
    sees, how far apart they are (`step`), and how many `groups` of values it sees of each; `weights`, int16 [lines, groups,
    8 * n_vectors, 2] or int8 [lines, groups, 8 * n_vectors, 4] from the place `first` on; `begins`, int32, what the sums begin
    with, from the place `column` on; `out`, int32, to which the sums go, of each position `across` after those of the one
    before, from the place `to` on. Nothing is checked.
    """

    @intrinsic
    def block(_: Any, x: Any, starts: Any, lines: Any, step: Any, groups: Any, weights: Any, first: Any, begins: Any,
              column: Any, out: Any, to: Any, across: Any) -> Any:  # fmt: skip
        group = 32 // weights.dtype.bitwidth
        product = _with_bytes if group == 4 else _with_words

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            x, starts, lines, step, groups, weights, first, begins, column, out, to, across = args

            def pointer(array: Any, place: int, at: ir.Value, kind: ir.Type) -> ir.Value:
                data = context.make_array(signature.args[place])(context, builder, array).data
                return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())

            def ahead_of(place: ir.Value, n: int) -> ir.Value:
                return builder.add(place, place.type(n))

            with builder.goto_entry_block():
                sums = [[builder.alloca(_SUMS) for _ in range(n_vectors)] for _ in range(n_rows)]
                weight = builder.alloca(first.type)
            for v in range(n_vectors):
                begin = builder.load(pointer(begins, 7, ahead_of(column, v * LANES), _SUMS), align=4)
                for row in sums:
                    builder.store(begin, row[v])
            builder.store(first, weight)
            with cgutils.for_range(builder, lines) as line:
                ahead = builder.mul(line.index, step)
                places = [builder.add(builder.extract_value(starts, row), ahead) for row in range(n_rows)]
                with cgutils.for_range(builder, groups) as number:
                    at, w = builder.mul(number.index, number.index.type(group)), builder.load(weight)
                    factors = [
                        builder.load(pointer(weights, 5, ahead_of(w, v * group * LANES), _SUMS), align=1)
                        for v in range(n_vectors)
                    ]
                    builder.store(ahead_of(w, n_vectors * group * LANES), weight)
                    for row, place in zip(sums, places, strict=True):
                        seen = builder.load(pointer(x, 0, builder.add(place, at), ir.IntType(32)), align=1)
                        same = _repeated(builder, seen)
                        for vector, factor in zip(row, factors, strict=True):
                            builder.store(product(builder, builder.load(vector), same, factor), vector)
            for i, row in enumerate(sums):
                begin = builder.add(to, builder.mul(across, across.type(i)))
                for v, vector in enumerate(row):
                    builder.store(builder.load(vector), pointer(out, 9, ahead_of(begin, v * LANES), _SUMS), align=4)
            return context.get_dummy_value()

        numbers = types.int64
        places = (numbers, numbers, numbers, weights, numbers, begins, numbers, out, numbers, numbers)
        return types.void(x, starts, *places), generate

    return block


def _repeated(builder: ir.IRBuilder, group: ir.Value) -> ir.Value:
    """The same 32 bits in all lanes."""
    one = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), group, ir.IntType(32)(0))
    return builder.shuffle_vector(one, ir.Constant(_SUMS, ir.Undefined), ir.Constant(_SUMS, None))


def _with_words(builder: ir.IRBuilder, sums: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """Sums and products of 16-bit integers, two for each: where LLVM knows the instruction, it takes this for it."""
    words, wide = (ir.VectorType(ir.IntType(bits), 2 * LANES) for bits in (16, 32))
    product = builder.mul(*(builder.sext(builder.bitcast(side, words), wide) for side in (left, right)))
    even, odd = (
        builder.shuffle_vector(product, ir.Constant(wide, ir.Undefined), ir.Constant(_SUMS, list(range(start, 2 * LANES, 2))))
        for start in (0, 1)
    )
    return builder.add(sums, builder.add(even, odd))


def _with_bytes(builder: ir.IRBuilder, sums: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """Sums and products of bytes, four for each: those of `left` without sign. No plain operations are taken for it."""
    kind = ir.FunctionType(_SUMS, [_SUMS] * 3)
    name = "llvm.x86.avx512.vpdpbusd.256"  # takes VNNI in either of its encodings
    instruction = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    return builder.call(instruction, [sums, left, right])


_six_by_two, _six_by_one, _one_by_two, _one_by_one = _block(ROWS, 2), _block(ROWS, 1), _block(1, 2), _block(1, 1)


def laid_out(weight: NDArray[np.int8] | NDArray[np.int16], kind: type[np.int8 | np.int16]) -> Weights:
    """Weights in the order in which `convolved` reads them, flat.

    Args:
        weight: int8 or int16 [O, I, k, k].
        kind: int16 for words, int8 for bytes.
    """
    n_out, n_in, kernel = weight.shape[:3]
    depth, group = kernel * n_in, 4 // np.dtype(kind).itemsize
    lines = np.zeros((n_out + -n_out % LANES, kernel, depth + -depth % group), kind)
    lines[:n_out, :, :depth] = weight.transpose(0, 2, 3, 1).reshape(n_out, kernel, depth)
    parts = [lines[first : first + WIDE] for first in range(0, len(lines), WIDE)]
    groups = [part.reshape(len(part), kernel, -1, group).transpose(1, 2, 0, 3) for part in parts]  # [k, groups, O', group]
    return np.concatenate([part.reshape(-1) for part in groups])


def begins(weight: NDArray[np.int8] | NDArray[np.int16], kind: type[np.int8 | np.int16]) -> NDArray[np.int32]:
    """What the sums of `convolved` begin with, int32 [>= O]: what `ZERO` adds to them, taken away."""
    found = np.zeros(len(weight) + ROOM, np.int32)
    if kind is np.int8:
        found[: len(weight)] = -ZERO * weight.sum((1, 2, 3), dtype=np.int32)
    return found


def zero_of(seen: Seen | NDArray[np.int8]) -> int:
    """What stands for 0 in an array of inputs, for compiled code."""
    return ZERO if seen.dtype == np.uint8 else 0


@overload(zero_of, strict=False)
def _zero_of(seen: Any) -> Callable[[Any], int]:
    zero = ZERO if seen.dtype == types.uint8 else 0
    return lambda seen: zero


def room_for(weights: Weights, n: int) -> Seen:
    """An array for n inputs of these weights, for compiled code."""
    return np.empty(n + BEYOND, np.uint8) if weights.dtype == np.int8 else np.empty(n + BEYOND, np.int16)


@overload(room_for, strict=False)
def _room_for(weights: Any, n: Any) -> Callable[[Any, Any], Seen]:
    if weights.dtype == types.int8:
        return lambda weights, n: np.empty(n + BEYOND, np.uint8)
    return lambda weights, n: np.empty(n + BEYOND, np.int16)


@njit(inline="always")
def _next(at: int, j: int, i: int, height: int, width: int, channels: int) -> tuple[int, int, int]:
    """Where what the next position sees begins, its column and its row."""
    at, j = at + channels, j + 1
    if j == width:  # over the border, to the next line
        at, j, i = at + 2 * channels, 0, i + 1
        if i == height:
            at, i = at + 2 * (width + 2) * channels, 0
    return at, j, i


_SIZES = [types.int64] * 4


@jit(
    [
        types.void(i16_in, *_SIZES, i16_in, _i32_in, types.int64, _i32_out),
        types.void(u8_in, *_SIZES, i8_in, _i32_in, types.int64, _i32_out),
    ][: 1 + BYTES]
)
def convolved(
    x: Seen,
    height: int,
    width: int,
    channels: int,
    kernel: int,
    weights: Weights,
    begins: NDArray[np.int32],
    n_out: int,
    out: NDArray[np.int32],
) -> None:
    """Sums of products.

    Args:
        x: int16 or uint8 [N, height, width, C], flat, and with a kernel of 3 lines [N, height + 2, width + 2, C] with what is
            around the images; `BEYOND` values more, of any kind.
        height: of the images.
        width: of them.
        channels: C.
        kernel: 1 or 3.
        weights: from `laid_out`.
        begins: from the function of that name.
        n_out: output channels O.
        out: int32 [N, height, width, O], output, flat, and `ROOM` more; modulo 2^32.
    """
    n = (len(out) - ROOM) // n_out
    line = (width + 2) * channels
    group = 4 // weights.itemsize
    groups = (kernel * channels + group - 1) // group
    if kernel == 1:  # all positions in one line, without a border
        height, width = 1, n + 1
    whole = n // ROWS * ROWS
    for block in range((n_out - 1) // WIDE, -1, -1):  # the last one first: it may reach over the first of the next position
        column = block * WIDE
        wide = n_out - column > LANES
        first = column * kernel * groups * group
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
                _six_by_two(x, (a, b, c, d, e, f), kernel, line, groups, weights, first, begins, column, out, to, n_out)
            else:
                _six_by_one(x, (a, b, c, d, e, f), kernel, line, groups, weights, first, begins, column, out, to, n_out)
        for p in range(whole, n):
            to = p * n_out + column
            if wide:
                _one_by_two(x, (at,), kernel, line, groups, weights, first, begins, column, out, to, n_out)
            else:
                _one_by_one(x, (at,), kernel, line, groups, weights, first, begins, column, out, to, n_out)
            at, j, i = _next(at, j, i, height, width, channels)


Inputs = NDArray[np.int8] | NDArray[np.int16] | NDArray[np.uint8]


@jit(
    [
        *(types.void(x, *_SIZES, types.int64, _i16_out) for x in (i8_in, i16_in, u8_in)),
        types.void(i8_in, *_SIZES, types.int64, _u8_out),
    ]
)
def with_border(x: Inputs, height: int, width: int, channels: int, first: int, n_lines: int, out: Seen) -> None:
    """Some lines of images with what is around them: their neighbours, or zeros beyond the edges.

    Args:
        x: bytes or int16 [N, height, width, C], flat.
        height: of the images.
        width: of them.
        channels: C.
        first: the first of the lines.
        n_lines: how many, of each image.
        out: int16 or uint8 [N, n_lines + 2, width + 2, C], output, flat; there may be values after it.
    """
    zero = zero_of(out)
    line, wide = width * channels, (width + 2) * channels
    n = len(x) // (height * line)
    for image in range(n):
        for i in range(n_lines + 2):
            to = out[(image * (n_lines + 2) + i) * wide : (image * (n_lines + 2) + i + 1) * wide]
            source = first + i - 1
            if source < 0 or source >= height:
                to[:] = zero
                continue
            row, inner = (
                x[(image * height + source) * line : (image * height + source + 1) * line],
                to[channels : channels + line],
            )
            for t in range(line):
                inner[t] = row[t] + zero
            for t in range(channels):
                to[t] = zero
                to[channels + line + t] = zero
