"""Canonical Huffman codes of at most 16 bits: whole bits per symbol, so larger than rANS, and the simplest decoder.

Code lengths are optimal under the limit of 16 bits, by package-merge (Larmore & Hirschberg 1990, "A fast algorithm for optimal
length-limited Huffman codes"); codes are assigned in canonical order (Schwartz & Kallick 1964), so lengths alone define them.
`batchcodec.entropy.reference` is the same in plain Python.

Lengths from frequencies, frozen
--------------------------------
Per row of `freqs` (see `batchcodec.entropy.tables`): the leaves are the symbols in order of rising frequency, the lower symbol
first among equals. The list of level 1 is the leaves. The list of each further level, to 16, is the leaves merged with the
packages, which are the sums of items 1 and 2, 3 and 4, ... of the list before (an odd last item is dropped), in rising order,
leaves before packages among equals. Take the first 2 S - 2 items of the list of level 16. From level 16 down to 1: of the items
taken there, the leaves each add 1 to the length of their symbol; and of the list below, twice as many items are taken as
there are packages among them.

The lengths of a row are at least 1 and sum, as 2^-length, to exactly 1. So a symbol costs at least one bit, however frequent.
Symbols that a short row does not have take no part in this, and have the length 0.

Codes: the symbols in order of rising length, the lower symbol first among equals, get codes in rising order: the first is all
zeros, each next one is the code before plus 1, with zeros appended to reach its length.

Bitstream, frozen
-----------------
The code of each symbol j = 0..n-1 under the table that index[j] names, most significant bit first, fills bytes from
their most significant bit. The last byte is filled with zeros. Other bits there, missing or further bytes are an error.
Damage in the middle is not noticed unless the length comes out wrong: the archive's digests are there for that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchcodec.entropy.tables import U16, U32, Integers, check_freqs, check_index, check_present, check_shape, check_stream
from batchcodec.errors import ModelError, PayloadError

MAX_BITS = 16
_ROWS_AT_ONCE = 64  # bounds the memory of package-merge


def code_lengths(freqs: Integers) -> NDArray[np.uint8]:
    """Code lengths in bits, uint8 [T, S] in 1..16, of `freqs`, integer [T, S]; 0 for symbols that a short row does not have.

    Raises:
        ModelError: the frequencies are malformed.
    """
    freqs = check_freqs(freqs, short=True)
    sizes = (freqs > 0).sum(axis=1)
    lengths = np.zeros(freqs.shape, np.uint8)
    for size in np.unique(sizes).tolist():
        rows = np.flatnonzero(sizes == size)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            lengths[part, :size] = _package_merge(freqs[part, :size].astype(np.int64))
    return lengths


def check_lengths(lengths: Integers) -> NDArray[np.uint8]:
    """The same lengths as C-contiguous uint8 [T, S].

    Raises:
        ModelError: not an integer [T, S], a length outside 0..16, or a row that is no complete prefix code.
    """
    check_shape(lengths, "code lengths", "[T, S]", 0, ModelError)
    if int(lengths.min()) < 0 or int(lengths.max()) > MAX_BITS:
        raise ModelError(f"code lengths lie in {lengths.min()}..{lengths.max()}, expected 0..{MAX_BITS}")
    checked = np.ascontiguousarray(lengths.astype(np.uint8))
    kraft = _widths(checked).sum(axis=1)
    if (kraft != 1 << MAX_BITS).any():
        row = int((kraft != 1 << MAX_BITS).argmax())
        raise ModelError(f"code lengths of table {row} are no complete prefix code", table=row)
    return checked


def encode(symbols: Integers, index: Integers, lengths: Integers) -> bytes:
    """Code a stream.

    Args:
        symbols: integer [n], each in 0..S-1.
        index: integer [n], the table of each symbol, in 0..T-1.
        lengths: integer [T, S], code lengths, as `code_lengths` makes them.

    Raises:
        ModelError: the lengths are malformed, or a symbol or an index is out of their range.
        ValueError: the stream is not two integer arrays of one length.
    """
    lengths = check_lengths(lengths)
    symbols, index = check_stream(symbols, index, *lengths.shape)
    check_present(symbols, index, lengths > 0)
    if not len(symbols):
        return b""
    from batchcodec.entropy import _kernels  # numba is slow to load

    order, ranked_lengths, starts = _canonical(lengths)
    codes = np.empty(starts.shape, np.uint16)
    np.put_along_axis(codes, order, (starts >> (MAX_BITS - ranked_lengths)).astype(np.uint16), axis=1)
    out = np.empty(2 * len(symbols) + 3, np.uint8)
    n_bytes = _kernels.huffman_encode(symbols, index, codes, lengths, out)
    return out[:n_bytes].tobytes()


def decode(data: bytes | memoryview, index: Integers, lengths: Integers) -> U16:
    """The symbols, uint16 [n], of a coded stream.

    Args:
        data: what `encode` returned.
        index: integer [n], the table of each symbol, in 0..T-1.
        lengths: integer [T, S], code lengths.

    Raises:
        PayloadError: the data do not fit the index and the tables: cut, extended or damaged.
        ModelError: the lengths are malformed, or an index is out of their range.
        ValueError: the index is not an integer array [n].
    """
    lengths = check_lengths(lengths)
    index = check_index(index, len(lengths))
    symbols = np.empty(len(index), np.uint16)
    if len(index):
        from batchcodec.entropy import _kernels  # numba is slow to load

        order, ranked_lengths, starts = _canonical(lengths)
        padded = np.zeros(len(data) + 3, np.uint8)  # three that the kernel may read
        padded[:-3] = np.frombuffer(data, np.uint8)
        n_bits = _kernels.huffman_decode(padded, index, starts, order, ranked_lengths, symbols)
        if n_bits < 0:
            raise PayloadError(f"Huffman data of {len(index)} symbols: they end early")
    else:
        n_bits = 0
    n_bytes = (n_bits + 7) // 8
    if n_bytes != len(data):
        raise PayloadError(f"Huffman data of {len(index)} symbols: {len(data) - n_bytes} bytes are left over")
    if n_bits % 8 and data[-1] & (0xFF >> n_bits % 8):
        raise PayloadError(f"Huffman data of {len(index)} symbols: the last byte is not filled with zeros")
    return symbols


def _package_merge(freqs: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Lengths [T, S] of `freqs` [T, S]: all rows at once, since the lists of all have the same lengths."""
    n_tables, n_symbols = freqs.shape
    order = np.argsort(freqs, axis=1, kind="stable")
    leaves = np.take_along_axis(freqs, order, axis=1)
    items = leaves
    is_leaf: list[NDArray[np.bool_]] = [np.ones(leaves.shape, np.bool_)]
    for _ in range(MAX_BITS - 1):
        n_pairs = items.shape[1] // 2
        packages = items[:, 0 : 2 * n_pairs : 2] + items[:, 1 : 2 * n_pairs : 2]
        both = np.concatenate([leaves, packages], axis=1)
        merge = np.argsort(both, axis=1, kind="stable")
        items = np.take_along_axis(both, merge, axis=1)
        is_leaf.append(merge < n_symbols)
    ranked = np.zeros(leaves.shape, np.uint8)
    n_taken = np.full((n_tables, 1), 2 * n_symbols - 2)
    for flags in reversed(is_leaf):
        n_leaves = (flags & (np.arange(flags.shape[1]) < n_taken)).sum(axis=1, keepdims=True)
        ranked += np.arange(n_symbols) < n_leaves
        n_taken = 2 * (n_taken - n_leaves)
    lengths = np.empty_like(ranked)
    np.put_along_axis(lengths, order, ranked, axis=1)
    return lengths


def _canonical(lengths: NDArray[np.uint8]) -> tuple[U16, NDArray[np.uint8], U32]:
    """Symbols in the order of their codes, the lengths in that order, and the codes left-aligned in 16 bits; all [T, S].

    Symbols that are not there come last, with length 0 and a code of 2^16, beyond all others.
    """
    order = np.argsort(lengths - np.uint8(1), axis=1, kind="stable").astype(np.uint16)  # 0 becomes 255
    ranked = np.take_along_axis(lengths, order.astype(np.int64), axis=1)
    widths = _widths(ranked)
    starts = (np.cumsum(widths, axis=1) - widths).astype(np.uint32)
    return order, ranked, starts


def _widths(lengths: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many of the 2^16 words of 16 bits begin with a code of each length; none with one of length 0."""
    return np.where(lengths > 0, 1 << (MAX_BITS - lengths.astype(np.int64)), 0)
