"""The coders of `rans` and `huffman` once more, in plain Python: slow, short, without numba. The oracle for tests.

Written from the bitstream descriptions there, not from the kernels; the same arguments, results and errors.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from batchcodec.entropy.huffman import check_lengths
from batchcodec.entropy.tables import U16, Integers, check_cdfs, check_freqs, check_index, check_stream
from batchcodec.errors import PayloadError


def encode_reference(symbols: Integers, index: Integers, cdfs: Integers) -> bytes:
    """`rans.encode`."""
    cdfs = check_cdfs(cdfs)
    symbols, index = check_stream(symbols, index, cdfs.shape[0], cdfs.shape[1] - 1)
    words: list[int] = []  # in the order of the encoder
    states = [1 << 16] * min(len(symbols), 2)
    for j in reversed(range(len(symbols))):
        low, high = (int(c) for c in cdfs[index[j], symbols[j] : int(symbols[j]) + 2])
        freq = high - low
        x = states[j % 2]
        if x >= freq << 16:
            words.append(x & 0xFFFF)
            x >>= 16
        states[j % 2] = (x // freq << 16) + x % freq + low
    head = b"".join(x.to_bytes(4, "little") for x in states)
    return head + b"".join(word.to_bytes(2, "little") for word in reversed(words))


def decode_reference(data: bytes | memoryview, index: Integers, cdfs: Integers) -> U16:
    """`rans.decode`."""
    cdfs = check_cdfs(cdfs)
    index = check_index(index, len(cdfs))
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
            x = states[j % 2]
            slot = x % (1 << 16)
            s = int(np.searchsorted(cdfs[t], slot, side="right")) - 1
            symbols[j] = s
            x = int(cdfs[t, s + 1] - cdfs[t, s]) * (x >> 16) + slot - int(cdfs[t, s])
            states[j % 2] = x if x >= 1 << 16 else (x << 16) + words.pop()
    except IndexError:
        raise PayloadError("the data end early") from None
    if words or any(x != 1 << 16 for x in states):
        raise PayloadError("words are left over, or the last state is wrong")
    return symbols


def code_lengths_reference(freqs: Integers) -> NDArray[np.uint8]:
    """`huffman.code_lengths`: the coin collector's problem, each item with the symbols that it holds."""
    rows: list[list[int]] = []
    for row in check_freqs(freqs).tolist():
        leaves = sorted((freq, [symbol]) for symbol, freq in enumerate(row))
        items = leaves
        for _ in range(15):
            packages = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(items[::2], items[1::2], strict=False)]
            items = sorted(leaves + packages, key=lambda item: item[0])
        lengths = [0] * len(row)
        for _, symbols in items[: 2 * len(row) - 2]:
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


def _codes(lengths: list[int]) -> dict[str, int]:
    """Code, as a text of 0 and 1, to symbol."""
    ranked = sorted((length, symbol) for symbol, length in enumerate(lengths))
    codes = {"0" * ranked[0][0]: ranked[0][1]}
    code = 0
    for (before, _), (length, symbol) in pairwise(ranked):
        code = (code + 1) << (length - before)
        codes[f"{code:0{length}b}"] = symbol
    return codes
