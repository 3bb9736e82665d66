"""The coders of `rans`, `values` and `huffman` once more, in plain Python: slow, short, without numba. The oracle for tests.

Written from the bitstream descriptions there, not from the kernels; the same arguments, results and errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from batchcodec.entropy.huffman import check_lengths
from batchcodec.entropy.tables import U16, U32, Integers, check_cdfs, check_freqs, check_index, check_stream, cumulative
from batchcodec.errors import PayloadError


def encode_reference(symbols: Integers, index: Integers, cdfs: Integers) -> bytes:
    """`rans.encode`."""
    cdfs = check_cdfs(cdfs)
    symbols, index = check_stream(symbols, index, cdfs.shape[0], cdfs.shape[1] - 1)
    return _encode_words(symbols, index, list(cdfs))


def decode_reference(data: bytes | memoryview, index: Integers, cdfs: Integers) -> U16:
    """`rans.decode`."""
    cdfs = check_cdfs(cdfs)
    index = check_index(index, len(cdfs))
    return _decode_words(data, index, list(cdfs))


def encode_values_reference(values: Integers, index: Integers, rows: Sequence[Integers]) -> tuple[bytes, bytes]:
    """`values.encode`, with the `rows` of its bank."""
    cdfs = _cdfs_of_rows(rows)
    index = check_index(index, len(cdfs))
    if values.shape != index.shape or values.dtype.kind not in "iu" or any(abs(v) >= 1 << 31 for v in values.tolist()):
        raise ValueError(f"values: expected {len(index)} integers below 2^31")
    symbols = np.empty(len(index), np.uint16)
    escapes = bytearray()
    for j, (v, t) in enumerate(zip(values.tolist(), index.tolist(), strict=True)):
        z = 2 * v - 1 if v > 0 else -2 * v
        last = len(cdfs[t]) - 2
        symbols[j] = min(z, last)
        if z >= last:
            rest = z - last
            while rest >= 128:
                escapes.append(128 + rest % 128)
                rest //= 128
            escapes.append(rest)
    return _encode_words(symbols, index, cdfs), bytes(escapes)


def decode_values_reference(
    words: bytes | memoryview, escapes: bytes | memoryview, index: Integers, rows: Sequence[Integers]
) -> NDArray[np.int32]:
    """`values.Decoder`, all in one: `take` and `finish`."""
    cdfs = _cdfs_of_rows(rows)
    index = check_index(index, len(cdfs))
    values = np.empty(len(index), np.int32)
    left = iter(bytes(escapes))
    for j, (z, t) in enumerate(zip(_decode_words(words, index, cdfs).tolist(), index.tolist(), strict=True)):
        if z == len(cdfs[t]) - 2:
            for k in range(5):  # no value needs more bytes
                byte = next(left, None)
                if byte is None:
                    raise PayloadError("the escapes end early")
                z += byte % 128 << 7 * k
                if byte < 128:
                    break
            else:
                raise PayloadError("an escape is too long")
        v = (z + 1) // 2 if z % 2 else -(z // 2)
        if abs(v) >= 1 << 31:
            raise PayloadError("an escape is too large")
        values[j] = v
    if next(left, None) is not None:
        raise PayloadError("escapes are left over")
    return values


def code_lengths_reference(freqs: Integers) -> NDArray[np.uint8]:
    """`huffman.code_lengths`: the coin collector's problem, each item with the symbols that it holds."""
    rows: list[list[int]] = []
    for row in check_freqs(freqs, short=True).tolist():
        leaves = sorted((freq, [symbol]) for symbol, freq in enumerate(row) if freq)
        items = leaves
        for _ in range(15):
            packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(items[::2], items[1::2], strict=False)]
            items = sorted(leaves + packages, key=lambda item: item[0])
        lengths = [0] * len(row)
        for _, symbols in items[: 2 * len(leaves) - 2]:
            for symbol in symbols:
                lengths[symbol] += 1
        rows.append(lengths)
    return np.array(rows, np.uint8)


def huffman_encode_reference(symbols: Integers, index: Integers, lengths: Integers) -> bytes:
    """`huffman.encode`."""
    lengths = check_lengths(lengths)
    symbols, index = check_stream(symbols, index, *lengths.shape)
    codes = [{symbol: code for code, symbol in _codes(row).items()} for row in lengths.tolist()]
    bits = "".join(codes[t][s] for t, s in zip(index.tolist(), symbols.tolist(), strict=True))
    return bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))


def huffman_decode_reference(data: bytes | memoryview, index: Integers, lengths: Integers) -> U16:
    """`huffman.decode`."""
    lengths = check_lengths(lengths)
    index = check_index(index, len(lengths))
    codes = [_codes(row) for row in lengths.tolist()]
    bits = "".join(f"{byte:08b}" for byte in bytes(data))
    symbols = np.empty(len(index), np.uint16)
    at = 0
    for j, t in enumerate(index.tolist()):
        end = at + 1
        while bits[at:end] not in codes[t]:
            end += 1
            if end > len(bits):
                raise PayloadError("the data end early")
        symbols[j] = codes[t][bits[at:end]]
        at = end
    if len(bits) - at >= 8 or "1" in bits[at:]:
        raise PayloadError("bytes are left over, or the last one is not filled with zeros")
    return symbols


def _cdfs_of_rows(rows: Sequence[Integers]) -> list[U32]:
    """Running sums of rows of different sizes."""
    return [cumulative(np.atleast_2d(row))[0] for row in rows]


def _encode_words(symbols: U16, index: U16, cdfs: Sequence[U32]) -> bytes:
    words: list[int] = []  # in the order of the encoder
    states = [1 << 16] * min(len(symbols), 2)
    for j in reversed(range(len(symbols))):
        low, high = (int(c) for c in cdfs[index[j]][symbols[j] : int(symbols[j]) + 2])
        freq = high - low
        x = states[j % 2]
        if x >= freq << 16:
            words.append(x & 0xFFFF)
            x >>= 16
        states[j % 2] = (x // freq << 16) + x % freq + low
    head = b"".join(x.to_bytes(4, "little") for x in states)
    return head + b"".join(word.to_bytes(2, "little") for word in reversed(words))


def _decode_words(data: bytes | memoryview, index: U16, cdfs: Sequence[U32]) -> U16:
    if len(data) % 2:
        raise PayloadError("odd number of bytes")
    words = [int(word) for word in np.frombuffer(data, "<u2")]
    words.reverse()  # pop takes the next one
    try:
        states = [words.pop() + (words.pop() << 16) for _ in range(min(len(index), 2))]
        if any(x < 1 << 16 for x in states):
            raise PayloadError("a first state is too small")
        symbols = np.empty(len(index), np.uint16)
        for j, t in enumerate(index):
            c = cdfs[t]
            x = states[j % 2]
            slot = x % (1 << 16)
            s = int(np.searchsorted(c, slot, side="right")) - 1
            symbols[j] = s
            x = int(c[s + 1] - c[s]) * (x >> 16) + slot - int(c[s])
            states[j % 2] = x if x >= 1 << 16 else (x << 16) + words.pop()
    except IndexError:
        raise PayloadError("the data end early") from None
    if words or any(x != 1 << 16 for x in states):
        raise PayloadError("words are left over, or the last state is wrong")
    return symbols


def _codes(lengths: list[int]) -> dict[str, int]:
    """Code, as a text of 0 and 1, to symbol."""
    ranked = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    codes = {"0" * ranked[0][0]: ranked[0][1]}
    code = 0
    for (before, _), (length, symbol) in pairwise(ranked):
        code = (code + 1) << (length - before)
        codes[f"{code:0{length}b}"] = symbol
    return codes
