"""Signed integers coded with a bank of tables of different sizes; what lies beyond a table escapes into bytes of its own.

This is what learned codecs code latents with. The integer v becomes z = 2 v - 1 for v > 0 and z = -2 v for v <= 0. A table
of m symbols codes z < m - 1 as itself; its last symbol, m - 1, is the escape, and z - (m - 1) goes to the escape bytes: 7 bits
a byte, low bits first, the top bit set in all bytes but the last (LEB128). |v| is below 2^31.

The symbols are one rANS stream (see `batchcodec.entropy.rans`; the bytes are those of a bank whose rows are filled up with
symbols of no width). A context model knows the table of a symbol only after it has seen earlier ones, so `Decoder.take`
reads a stream piece by piece; and one that knows the tables of many streams at once reads them side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from batchcodec.entropy.tables import MAX_ENTRIES, MAX_TABLES, TOTAL, Integers, check_freqs, check_index
from batchcodec.errors import ModelError, PayloadError

_LANES = 2
_WORD = np.dtype("<u2")
_BUCKETS = 1024

Bytes = bytes | memoryview


class Bank:
    """Tables of different sizes, checked, with what the coders look up.

    Args:
        rows: of each table its frequencies, integers that sum to 2^16, the escape last.

    Raises:
        ModelError: a row is malformed, or there are too many.
    """

    def __init__(self, rows: Sequence[Integers]) -> None:
        if not 1 <= len(rows) <= MAX_TABLES:
            raise ModelError(f"a bank of {len(rows)} tables, expected 1 to {MAX_TABLES}")
        checked = [check_freqs(np.atleast_2d(row))[0] for row in rows]
        widest = max(len(row) for row in checked)
        if len(rows) * (widest + 1) > MAX_ENTRIES:
            raise ModelError(f"a bank of {len(rows)} tables of up to {widest} symbols is larger than {MAX_ENTRIES} entries")
        self.rows = checked
        self.sizes = np.array([len(row) for row in checked], np.uint16)
        self.cdfs = np.full((len(rows), widest + 1), TOTAL, np.uint32)
        self.buckets = np.empty((len(rows), _BUCKETS), np.uint16)
        self.firsts = np.array([row[0] for row in checked], np.uint32)
        starts = np.arange(_BUCKETS) * (TOTAL // _BUCKETS)
        for i, row in enumerate(checked):
            self.cdfs[i, 0] = 0
            np.cumsum(row, out=self.cdfs[i, 1 : len(row) + 1])
            self.buckets[i] = np.searchsorted(self.cdfs[i, 1 : len(row) + 1], starts, side="right")

    def bits(self, values: Integers, index: Integers) -> NDArray[np.float32]:
        """Bits that each value costs, float32, with 8 more for each byte of an escape. It decides nothing in a bitstream."""
        z = _zigzag(np.asarray(values, np.int64))
        last = self.sizes[index].astype(np.int64) - 1
        symbols = np.minimum(z, last)
        widths = self.cdfs[index, symbols + 1] - self.cdfs[index, symbols]
        beyond = z - last
        bits = 16 - np.log2(widths.astype(np.float32))
        n_bytes = 1 + np.floor(np.log2(np.maximum(beyond, 1)) / 7)
        costs: NDArray[np.float32] = np.where(beyond >= 0, bits + 8 * n_bytes, bits).astype(np.float32)
        return costs


def _zigzag(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(values > 0, 2 * values - 1, -2 * values)


def encode(values: Integers, index: Integers, bank: Bank) -> tuple[bytes, bytes]:
    """Code integers [n] with the tables that `index` [n] names: the rANS words and the escape bytes.

    Raises:
        ModelError: an index is out of range.
        ValueError: not two integer arrays of one length, or a value of 2^31 or more.
    """
    index = check_index(index, len(bank.sizes))
    if values.shape != index.shape or values.dtype.kind not in "iu":
        raise ValueError(f"values are {values.dtype} {list(values.shape)}, expected integers {list(index.shape)}")
    if not len(index):
        return b"", b""
    if int(values.max()) >= 1 << 31 or int(values.min()) <= -(1 << 31):
        raise ValueError("values of 2^31 or more")
    from batchcodec.entropy import _kernels  # numba is slow to load

    symbols = np.empty(len(index), np.uint16)
    narrow = np.require(values, np.int32, ["C", "A"])
    room = len(index) // 8 + 64
    while True:  # escapes are rare: room for all would be more than the stream itself
        escapes = np.empty(room, np.uint8)
        n_escapes = _kernels.values_split(narrow, index, bank.sizes, symbols, escapes)
        if n_escapes >= 0:
            break
        room = min(8 * room, 5 * len(index) + 5)
    words = np.empty(len(index) + 2 * _LANES + 1, np.uint16)
    at = _kernels.rans_encode(symbols, index, bank.cdfs, words)
    return words[at:].astype(_WORD).tobytes(), escapes[:n_escapes].tobytes()


class Decoder:
    """Reads what `encode` wrote, piece by piece: one stream, or several of one bank side by side.

    Args:
        streams: of each its rANS words and its escape bytes.
        bank: the tables.

    Raises:
        PayloadError: the words cannot be the start of a stream.
    """

    def __init__(self, streams: Sequence[tuple[Bytes, Bytes]], bank: Bank) -> None:
        for words, _ in streams:
            if len(words) % 2:
                raise PayloadError(f"rANS data: got {len(words)} bytes, expected an even number")
        self._bank = bank
        self._words = np.frombuffer(b"".join(words for words, _ in streams), _WORD).astype(np.uint16)
        self._escapes = np.frombuffer(b"".join(escapes for _, escapes in streams), np.uint8)
        sizes = np.array([(len(words) // 2, len(escapes)) for words, escapes in streams], np.int64)
        self._starts = np.concatenate([np.zeros((1, 2), np.int64), sizes.cumsum(0)])
        self._states = np.full((len(streams), _LANES), 1 << 16, np.uint64)
        self._places = np.zeros((len(streams), 3), np.int64)
        self._taken = np.zeros(len(streams), np.int64)
        self._begun = self._has_single = False

    def _begin(self) -> None:
        """The first states of each stream: two, or one if it is one symbol as a whole, which only its length tells."""
        n_words = np.diff(self._starts[:, 0])
        lanes = np.where((self._taken > 1) | (n_words > 3), _LANES, 1)
        short = np.flatnonzero(n_words < 2 * lanes)
        if len(short):
            raise PayloadError(f"rANS data: {n_words[short[0]]} words, too few to start with")
        for lane in range(_LANES):
            own = np.flatnonzero(lanes > lane)
            at = self._starts[own, 0] + 2 * lane
            self._states[own, lane] = self._words[at].astype(np.uint64) | self._words[at + 1].astype(np.uint64) << np.uint64(16)
        if self._states.min() < 1 << 16:
            raise PayloadError("rANS data: a first state is too small")
        self._places[:, 0] = 2 * lanes
        self._begun, self._has_single = True, bool((n_words < 2 * _LANES).any())

    def take(self, index: Integers, each: int = 0) -> NDArray[np.int32]:
        """The next values, int32 [n], coded with the tables that `index` [n] names, those of the first stream first.

        Args:
            index: the tables.
            each: how many values each stream has to give; the last has the rest. Without meaning where there is but one.

        Raises:
            PayloadError: a stream ends early, or an escape is malformed.
            ModelError: an index is out of range.
        """
        bank, last = self._bank, len(self._states) - 1
        if not 0 <= each * last <= len(index):
            raise ValueError(f"{each} values each of {last + 1} streams, and {len(index)} in all")
        as_it_is = index.ndim == 1 and index.dtype == np.uint16 and index.flags.carray  # the kernel checks it as it goes
        narrow = cast("NDArray[np.uint16]", index) if as_it_is else check_index(index, len(bank.sizes))
        values = np.empty(len(narrow), np.int32)
        if len(narrow):
            from batchcodec.entropy import _kernels  # numba is slow to load

            self._taken[:last] += each
            self._taken[last] += len(narrow) - each * last
            if not self._begun:
                self._begin()
            elif self._has_single:
                raise PayloadError("rANS data: they end after one symbol")
            tables = bank.cdfs, bank.firsts, bank.sizes, bank.buckets
            own = self._states, self._places, values
            found = _kernels.values_decode(self._words, self._escapes, self._starts, narrow, each, *tables, *own)
            if found == _kernels.BAD_INDEX:
                check_index(narrow, len(bank.sizes))
            if found < 0:
                raise PayloadError(f"rANS data: {'a bad escape' if found == _kernels.BAD_ESCAPE else 'they end early'}")
        return values

    def finish(self) -> None:
        """Check that the streams end here.

        Raises:
            PayloadError: words or escapes are left over, or a last state is wrong.
        """
        if (self._states != 1 << 16).any():
            raise PayloadError("rANS data: the last state is wrong")
        n_words = np.diff(self._starts[:, 0])
        if ((self._taken == 1) & (n_words >= 2 * _LANES)).any():
            raise PayloadError("rANS data: two states for one symbol")
        if (self._places[:, :2] != np.diff(self._starts, axis=0)).any():
            raise PayloadError("rANS data: words or escapes are left over")
