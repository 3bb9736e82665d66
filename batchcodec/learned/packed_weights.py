"""Int8 weights as one entropy-coded stream, as archives store them.

The weights of an output channel spread like a Gaussian, so each channel (each index of a tensor's first axis) is coded with the
table of the fixed bank of `batchcodec.entropy.gaussian` whose standard deviation is nearest to its own. About a fifth of the
bytes is saved, and zstd finds no more.

In a model file the tensors `packed.words` (uint8, the rANS words), `packed.escapes` (uint8) and `packed.tables` (uint8, of each
channel) stand for the int8 tensors that `packed` in the document lists: [name, shape] each, in the order in which they are
coded, each in C order. See `batchcodec.entropy.values` for the stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.entropy import gaussian, values
from batchcodec.errors import ModelError, PayloadError

Tensors = dict[str, npt.NDArray[Any]]
Unpacker = Callable[[bytes, bytes, npt.NDArray[Any]], npt.NDArray[Any]]
"""Of words, escapes and the table of each value: the values."""

NAMES = ("packed.words", "packed.escapes", "packed.tables")
MAX_WEIGHTS = 1 << 23


def pack(tensors: Tensors) -> tuple[Tensors, list[list[Any]]]:
    """The same tensors with those of int8, 2 to 8 axes and not empty packed, and the list of these for the document."""
    weights = {name: t for name, t in tensors.items() if t.dtype == np.int8 and 2 <= t.ndim <= 8 and t.size}
    chosen = dict(sorted(weights.items()))
    if not chosen:
        return tensors, []
    tables, numbers, index = [], [], []
    for tensor in chosen.values():
        rows = tensor.reshape(len(tensor), -1).astype(np.int64)
        table = np.array([_table_of(row) for row in rows], np.uint8)
        tables.append(table)
        numbers.append(rows.reshape(-1))
        index.append(np.repeat(table, rows.shape[1]))
    words, escapes = values.encode(np.concatenate(numbers), np.concatenate(index), _bank())
    packed = {name: tensor for name, tensor in tensors.items() if name not in chosen}
    parts = (np.frombuffer(words, np.uint8), np.frombuffer(escapes, np.uint8), np.concatenate(tables))
    return {**packed, **dict(zip(NAMES, parts, strict=True))}, [[n, list(t.shape)] for n, t in chosen.items()]


def unpack(tensors: Tensors, listed: object, unpacker: Unpacker | None = None) -> Tensors:
    """The tensors that were given to `pack`.

    Args:
        tensors: of a model file.
        listed: `packed` of its document.
        unpacker: decodes the stream; by default `entropy.values`.

    Raises:
        ModelError: they are damaged.
    """
    shapes = _shapes(listed)
    words, escapes, tables = (tensors.get(name) for name in NAMES)
    if words is None or escapes is None or tables is None or not all(t.dtype == np.uint8 for t in (words, escapes, tables)):
        raise ModelError(f"the model's packed weights lack one of {', '.join(NAMES)}, uint8")
    if tables.shape != (sum(shape[0] for shape in shapes.values()),) or tables.max(initial=0) >= gaussian.N_SCALES:
        raise ModelError("the model's packed weights do not have one table of the bank for each output channel")
    rows = np.concatenate([np.full(shape[0], math.prod(shape[1:]), np.int64) for shape in shapes.values()])
    index = np.repeat(tables.astype(np.uint16), rows)
    try:
        numbers = (unpacker or _unpacked)(words.tobytes(), escapes.tobytes(), index)
    except PayloadError as exc:
        raise ModelError(f"the model's packed weights are damaged: {exc}") from exc
    if len(numbers) and (numbers.min() < -128 or numbers.max() > 127):
        raise ModelError("the model's packed weights are not int8")
    found = {name: tensor for name, tensor in tensors.items() if name not in NAMES}
    at = 0
    for name, shape in shapes.items():
        if name in found:
            raise ModelError(f"the model has the tensor {name!r} twice, packed and not")
        size = math.prod(shape)
        found[name] = numbers[at : at + size].astype(np.int8).reshape(shape)
        at += size
    return found


def _shapes(listed: object) -> dict[str, tuple[int, ...]]:
    """Checked names and shapes, before anything is allocated for them."""
    if not isinstance(listed, list) or not listed:
        raise ModelError("the model's list of packed weights is not a list")
    shapes: dict[str, tuple[int, ...]] = {}
    total = 0
    for entry in listed:
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], list)):
            raise ModelError("the model's list of packed weights has an entry that is not a name and a shape")
        name, shape = entry
        if name in shapes or not 2 <= len(shape) <= 8 or not all(type(n) is int and 1 <= n <= MAX_WEIGHTS for n in shape):
            raise ModelError(f"the model's packed tensor {name!r} has the shape {shape!r}, or is there twice")
        total += math.prod(shape)
        if total > MAX_WEIGHTS:
            raise ModelError(f"the model has more than {MAX_WEIGHTS} packed weights")
        shapes[name] = tuple(shape)
    return shapes


def _table_of(row: npt.NDArray[np.int64]) -> int:
    """The table whose standard deviation is nearest to that of these integers, on the logarithmic scale.

    In whole numbers, since the hash of what is packed names a model: t is the least for which
    variance < 2^((2 (t - 24) + 1) / 8), the square of the middle between it and the next.
    """
    power, count = int((row**2).sum()) ** 8, len(row) ** 8
    for t in range(gaussian.N_SCALES - 1):
        exponent = 2 * (t + gaussian.FIRST_LOG2 * gaussian.SCALES_PER_OCTAVE) + 1
        if power < count << exponent if exponent >= 0 else power << -exponent < count:
            return t
    return gaussian.N_SCALES - 1


@cache
def _bank() -> values.Bank:
    return values.Bank(gaussian.frequencies())


def _unpacked(words: bytes, escapes: bytes, index: npt.NDArray[Any]) -> npt.NDArray[Any]:
    stream = values.Decoder([(words, escapes)], _bank())
    numbers = stream.take(index)
    stream.finish()
    return numbers
