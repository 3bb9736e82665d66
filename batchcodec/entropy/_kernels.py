"""The loops of `rans`, `values` and `huffman` in machine code; see there for the bitstreams.

Imported at first use, since numba is slow to load. The callers check tables, symbols and indices; the kernels check the coded
data, and never read or write out of bounds whatever it holds. Each decoder returns how much data it consumed, or one of the
negative codes below.

No sum mixes int64 with uint64: numba, like numpy, would make a float of it.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit

ENDS_EARLY = -1
BAD_START = -2
BAD_END = -3
BAD_ESCAPE = -4
BAD_INDEX = -5

_LANES = 2
_ONE = np.uint64(1)
_LOW = np.uint64(1 << 16)  # smallest normalised state
_WORD = np.uint64(0xFFFF)
_BITS = np.uint64(16)
_BUCKET_BITS = 6  # measured: 4 to 8 are level, larger buckets make longer searches in flat tables
_BUCKETS = 1 << (16 - _BUCKET_BITS)
_BUCKET_SHIFT = np.uint64(_BUCKET_BITS)

_SHORT_BITS = 11  # Huffman codes up to this length decode with one lookup in 4 KiB per table
_LONG = 15  # length field of a lookup entry whose code is longer

_u8_in = types.Array(types.uint8, 1, "C", readonly=True)
_u8_rows = types.Array(types.uint8, 2, "C", readonly=True)
_u16_in = types.Array(types.uint16, 1, "C", readonly=True)
_u16_rows = types.Array(types.uint16, 2, "C", readonly=True)
_i32_in = types.Array(types.int32, 1, "C", readonly=True)
_u32_in = types.Array(types.uint32, 1, "C", readonly=True)
_u32_rows = types.Array(types.uint32, 2, "C", readonly=True)
_u8_out = types.Array(types.uint8, 1, "C")
_u16_out = types.Array(types.uint16, 1, "C")
_i32_out = types.Array(types.int32, 1, "C")
_i64_rows = types.Array(types.int64, 2, "C", readonly=True)


@jit(types.Array(types.boolean, 1, "C")(_u16_in, types.int64))
def used_tables(index: NDArray[np.uint16], n_tables: int) -> NDArray[np.bool_]:
    """Which tables a stream uses: lookup tables are built for these only."""
    used = np.zeros(n_tables, np.bool_)
    for j in range(len(index)):
        used[index[j]] = True
    return used


@jit(types.int64(_u16_in, _u16_in, _u32_rows, _u16_out))
def rans_encode(
    symbols: NDArray[np.uint16], index: NDArray[np.uint16], cdfs: NDArray[np.uint32], words: NDArray[np.uint16]
) -> int:
    """Fill `words` (at least n + 2 * lanes + 1 of them) from its end; returns where the coded words begin."""
    n = len(symbols)
    at = len(words)
    states = np.full(_LANES, _LOW, np.uint64)
    for j in range(n - 1, -1, -1):
        i = index[j]
        s = np.int64(symbols[j])
        low = np.uint64(cdfs[i, s])
        freq = np.uint64(cdfs[i, s + 1]) - low
        state = states[j % _LANES]
        # Whether a word leaves is a coin toss that no branch predictor learns: write it always, keep it where it is due.
        # Without the branch this runs four times faster.
        due = state >= (freq << _BITS)
        words[at - 1] = np.uint16(state & _WORD)
        at -= int(due)
        state = state >> _BITS if due else state
        states[j % _LANES] = ((state // freq) << _BITS) + state % freq + low
    for k in range(min(n, _LANES) - 1, -1, -1):
        at -= 2
        words[at] = np.uint16(states[k] & _WORD)
        words[at + 1] = np.uint16(states[k] >> _BITS)
    return at


@jit(types.int64(_u16_in, _u16_in, _u32_rows, _u16_out))
def rans_decode(
    words: NDArray[np.uint16], index: NDArray[np.uint16], cdfs: NDArray[np.uint32], symbols: NDArray[np.uint16]
) -> int:
    """Fill `symbols`; `words` has one more word at its end, which is read but never used by a sound stream."""
    n = len(index)
    lanes = min(n, _LANES)
    n_words = len(words) - 1
    if n_words < 2 * lanes:
        return ENDS_EARLY
    states = np.full(_LANES, _LOW, np.uint64)
    for k in range(lanes):
        states[k] = np.uint64(words[2 * k]) | (np.uint64(words[2 * k + 1]) << _BITS)
        if states[k] < _LOW:
            return BAD_START

    # The first symbol that reaches into each bucket of slots: the search below starts there, and takes at most 63 steps.
    used = used_tables(index, len(cdfs))
    buckets = np.zeros((len(cdfs), _BUCKETS), np.uint16)
    for t in range(len(cdfs)):
        if used[t]:
            first = 0
            for b in range(_BUCKETS):
                while cdfs[t, first + 1] <= b << _BUCKET_BITS:
                    first += 1
                buckets[t, b] = first

    at = 2 * lanes
    for j in range(n):
        i = index[j]
        state = states[j % _LANES]
        slot = state & _WORD
        s = np.int64(buckets[i, slot >> _BUCKET_SHIFT])
        while np.uint64(cdfs[i, s + 1]) <= slot:
            s += 1
        symbols[j] = s
        low = np.uint64(cdfs[i, s])
        state = (np.uint64(cdfs[i, s + 1]) - low) * (state >> _BITS) + slot - low
        if at > n_words:
            return ENDS_EARLY
        due = state < _LOW  # no branch, as in the encoder
        longer = (state << _BITS) | np.uint64(words[at])
        states[j % _LANES] = longer if due else state
        at += int(due)
    if at > n_words:
        return ENDS_EARLY
    for k in range(_LANES):
        if states[k] != _LOW:
            return BAD_END
    return at


@jit(types.int64(_i32_in, _u16_in, _u16_in, _u16_out, _u8_out))
def values_split(
    values: NDArray[np.int32],
    index: NDArray[np.uint16],
    sizes: NDArray[np.uint16],
    symbols: NDArray[np.uint16],
    escapes: NDArray[np.uint8],
) -> int:
    """Fill `symbols` [n] and `escapes` (5 n + 5 bytes always do); returns the number of escape bytes, or -1 if it is full."""
    at = 0
    room = len(escapes) - 5
    for j in range(len(values)):
        v = np.int64(values[j])
        z = 2 * v - 1 if v > 0 else -2 * v
        last = np.int64(sizes[index[j]]) - 1
        if z < last:
            symbols[j] = z
            continue
        symbols[j] = last
        rest = z - last
        if at > room:
            return -1
        while rest > 127:
            escapes[at] = np.uint8((rest & 127) | 128)
            at += 1
            rest >>= 7
        escapes[at] = np.uint8(rest)
        at += 1
    return at


@njit(inline="always")
def _values_of(
    words: NDArray[np.uint16],
    escapes: NDArray[np.uint8],
    index: NDArray[np.uint16],
    cdfs: NDArray[np.uint32],
    firsts: NDArray[np.uint32],
    sizes: NDArray[np.uint16],
    buckets: NDArray[np.uint16],
    states: NDArray[np.uint64],
    place: NDArray[np.int64],
    values: NDArray[np.int32],
) -> int:
    """`values_decode`, for one stream; 0, or what is wrong.

    Most values are the first symbol of their table: its frequency, `firsts`, is in few cache lines, and known sooner than what
    a search finds. Such a stream needs a word for one value in ten or twenty, which a branch predictor knows: no value waits
    for a load whose place the one before decides.
    """
    n, n_words = len(index), np.uint64(len(words))
    highest = np.uint16(0)
    for j in range(n):  # many at once, which leaves less to do for each value
        highest = max(highest, index[j])
    if n and highest >= len(sizes):
        return BAD_INDEX
    at, escape, lane = np.uint64(place[0]), place[1], place[2]
    # The two states take turns. In local variables, one's arithmetic overlaps the other's; in an array it would not.
    now, other = states[lane], states[lane ^ 1]
    for j in range(n):
        i = index[j]
        slot, first = now & _WORD, np.uint64(firsts[i])
        if slot < first:
            now = first * (now >> _BITS) + slot
            values[j] = 0
        else:
            s = np.uint64(buckets[i, slot >> _BUCKET_SHIFT])
            while np.uint64(cdfs[i, s + _ONE]) <= slot:
                s += _ONE
            low, high = np.uint64(cdfs[i, s]), np.uint64(cdfs[i, s + _ONE])
            now = (high - low) * (now >> _BITS) + slot - low
            z = np.int64(s)
            if z == np.int64(sizes[i]) - 1:
                rest = np.int64(0)
                shift = 0
                while True:
                    if escape >= len(escapes) or shift > 28:
                        return BAD_ESCAPE
                    byte = np.int64(escapes[escape])
                    escape += 1
                    rest |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                z += rest
                if z >= (1 << 32) - 1:  # -2^31 and beyond
                    return BAD_ESCAPE
            values[j] = (z + 1) >> 1 if z & 1 else -(z >> 1)
        if now < _LOW:
            if at >= n_words:
                return ENDS_EARLY
            now = (now << _BITS) | np.uint64(words[at])
            at += _ONE
        now, other = other, now
    lane ^= n & 1
    states[lane], states[lane ^ 1] = now, other
    place[0], place[1], place[2] = at, escape, lane
    return 0


@jit(
    types.int64(
        _u16_in,
        _u8_in,
        _i64_rows,
        _u16_in,
        types.int64,
        _u32_rows,
        _u32_in,
        _u16_in,
        _u16_rows,
        types.Array(types.uint64, 2, "C"),
        types.Array(types.int64, 2, "C"),
        _i32_out,
    )
)
def values_decode(
    words: NDArray[np.uint16],
    escapes: NDArray[np.uint8],
    starts: NDArray[np.int64],
    index: NDArray[np.uint16],
    each: int,
    cdfs: NDArray[np.uint32],
    firsts: NDArray[np.uint32],
    sizes: NDArray[np.uint16],
    buckets: NDArray[np.uint16],
    states: NDArray[np.uint64],
    places: NDArray[np.int64],
    values: NDArray[np.int32],
) -> int:
    """Fill `values` with the next symbols of some streams; returns 0, or what is wrong.

    Args:
        words: of all streams, one after the other.
        escapes: likewise.
        starts: int64 [streams + 1, 2], where the words and the escapes of each begin, and where the last ones end.
        index: tables of the symbols, those of the first stream first.
        each: how many belong to each stream; the last has the rest.
        cdfs: of the bank, as the three after it.
        firsts: likewise.
        sizes: likewise.
        buckets: likewise.
        states: uint64 [streams, 2], of both lanes; go on between calls.
        places: int64 [streams, 3], words and escapes that are used, and the lane that is next; likewise.
        values: int32 [n], output.
    """
    for stream in range(len(states)):
        own = slice(stream * each, len(index) if stream == len(states) - 1 else (stream + 1) * each)
        some_words = words[starts[stream, 0] : starts[stream + 1, 0]]
        some_escapes = escapes[starts[stream, 1] : starts[stream + 1, 1]]
        tables, state, place = index[own], states[stream], places[stream]
        found = _values_of(some_words, some_escapes, tables, cdfs, firsts, sizes, buckets, state, place, values[own])
        if found < 0:
            return found
    return 0


@jit(types.int64(_u16_in, _u16_in, _u16_rows, _u8_rows, _u8_out))
def huffman_encode(
    symbols: NDArray[np.uint16],
    index: NDArray[np.uint16],
    codes: NDArray[np.uint16],
    lengths: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> int:
    """Fill `out` (at least 2 n + 3 bytes); returns the number of bytes. `codes` are right-aligned."""
    at = 0
    pending = np.uint64(0)  # the bits of the byte that is not full yet
    n_pending = np.uint64(0)
    byte = np.uint64(255)
    eight = np.uint64(8)
    for j in range(len(symbols)):
        i = index[j]
        s = symbols[j]
        length = np.uint64(lengths[i, s])
        pending = (pending << length) | np.uint64(codes[i, s])
        n_pending += length
        window = pending << (np.uint64(24) - n_pending)  # at most 7 + 16 bits
        out[at] = np.uint8(window >> _BITS)
        out[at + 1] = np.uint8((window >> eight) & byte)
        out[at + 2] = np.uint8(window & byte)
        at += int(np.int64(n_pending >> np.uint64(3)))
        n_pending &= np.uint64(7)
        pending &= (np.uint64(1) << n_pending) - np.uint64(1)
    return at + 1 if n_pending else at


@jit(types.int64(_u8_in, _u16_in, _u32_rows, _u16_rows, _u8_rows, _u16_out))
def huffman_decode(
    data: NDArray[np.uint8],
    index: NDArray[np.uint16],
    starts: NDArray[np.uint32],
    order: NDArray[np.uint16],
    ranked_lengths: NDArray[np.uint8],
    symbols: NDArray[np.uint16],
) -> int:
    """Fill `symbols`; returns the number of bits. `data` has three more bytes at its end, which may be read but not used.

    Args:
        data: uint8 [bytes + 3].
        index: uint16 [n].
        starts: uint32 [T, S], the codes in rising order, left-aligned in 16 bits; 2^16 for symbols that are not there.
        order: uint16 [T, S], the symbol of each.
        ranked_lengths: uint8 [T, S], the length of each; 0 for symbols that are not there.
        symbols: uint16 [n], output.
    """
    n_tables, n_symbols = starts.shape
    n_bits = 8 * (len(data) - 3)
    used = used_tables(index, n_tables)
    short = np.zeros((n_tables, 1 << _SHORT_BITS), np.uint16)  # symbol * 16 + length - 1
    long_rank = np.zeros((n_tables, 17), np.int64)  # rank of the first code of this length or longer
    for t in range(n_tables):
        if used[t]:
            rank = 0
            for length in range(1, 17):
                long_rank[t, length] = rank
                while rank < n_symbols and ranked_lengths[t, rank] == length:
                    first = np.int64(starts[t, rank]) >> (16 - _SHORT_BITS)
                    if length <= _SHORT_BITS:
                        for b in range(first, first + (1 << (_SHORT_BITS - length))):
                            short[t, b] = order[t, rank] * 16 + length - 1
                    else:
                        short[t, first] = _LONG
                    rank += 1

    at = 0
    for j in range(len(index)):
        if at >= n_bits:
            return ENDS_EARLY
        i = index[j]
        p = at >> 3
        window = (np.int64(data[p]) << 16) | (np.int64(data[p + 1]) << 8) | np.int64(data[p + 2])
        window = (window >> (8 - (at & 7))) & 0xFFFF
        entry = int(short[i, window >> (16 - _SHORT_BITS)])
        width = (entry & 15) + 1
        s = entry >> 4
        if width == _LONG + 1:
            # The last length whose first code is not beyond the window; codes of one length follow each other.
            width = _SHORT_BITS + 1
            while width < 16:
                rank = long_rank[i, width + 1]
                if rank >= n_symbols or np.int64(starts[i, rank]) > window:
                    break
                width += 1
            rank = long_rank[i, width]
            s = int(order[i, rank + ((window - np.int64(starts[i, rank])) >> (16 - width))])
        symbols[j] = s
        at += width
    return at if at <= n_bits else ENDS_EARLY
