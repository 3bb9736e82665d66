"""rANS with static tables: close to the ideal size for any frequencies, at some hundred million symbols per second.

The method is range-ANS of Duda 2013 (arXiv:1311.2540); two interleaved states that share one stream of words are from Giesen
2014, "Interleaved entropy coders" (arXiv:1402.3392). `batchcodec.entropy.reference` is the same in plain Python.

Bitstream, frozen
-----------------
Given are n (the length of the index), the table index t[j] of each symbol j = 0..n-1, and the tables `cdfs` of
`batchcodec.entropy.tables`. The data are unsigned 16-bit words, little-endian, in the order in which the decoder takes them.

Let L = min(n, 2) be the number of states. Symbol j belongs to state j mod 2. A state is an integer in 2^16 <= x < 2^32. The
data start with two words for each state, first state 0: the low 16 bits, then the high 16 bits. A start below 2^16 is an error.
Then, for j = 0, 1, ..., n-1, with x the state of j and c the row cdfs[t[j]]:

1. slot = x mod 2^16; symbol j is the only s with c[s] <= slot < c[s + 1];
2. x = (c[s + 1] - c[s]) * floor(x / 2^16) + slot - c[s];
3. if x < 2^16: x = x * 2^16 + the next word.

At the end each state must be exactly 2^16 and no word may be left; the data are damaged otherwise. n = 0 has no data at all.

The encoder runs this backwards: from states of 2^16, for j = n-1 down to 0 and f = c[s + 1] - c[s]: if x >= f * 2^16, put out
x mod 2^16 and shift x right by 16 bits; then x = floor(x / f) * 2^16 + x mod f + c[s]. The words that it puts out, in reverse,
follow the final states. There is one encoding of a stream, so the same input gives the same bytes everywhere.

Sizes: about 3 bytes per state beyond the ideal, and 0.1 to 0.2 % since a state is short. A damaged stream that by rare chance
still ends in both states and with the last word decodes to wrong symbols: the archive's digests are there for that.
"""

from __future__ import annotations

import numpy as np

from batchcodec.entropy.tables import U16, Integers, check_cdfs, check_index, check_present, check_stream
from batchcodec.errors import PayloadError

_LANES = 2
_WORD = np.dtype("<u2")


def encode(symbols: Integers, index: Integers, cdfs: Integers) -> bytes:
    """Code a stream.

    Args:
        symbols: integer [n], each in 0..S-1.
        index: integer [n], the table of each symbol, in 0..T-1.
        cdfs: integer [T, S + 1], cumulative frequencies.

    Raises:
        ModelError: the tables are malformed, or a symbol or an index is out of their range.
        ValueError: the stream is not two integer arrays of one length.
    """
    cdfs = check_cdfs(cdfs)
    symbols, index = check_stream(symbols, index, cdfs.shape[0], cdfs.shape[1] - 1)
    check_present(symbols, index, cdfs[:, 1:] > cdfs[:, :-1])
    if not len(symbols):
        return b""
    from batchcodec.entropy import _kernels  # numba is slow to load

    words = np.empty(len(symbols) + 2 * _LANES + 1, np.uint16)  # at most one word per symbol
    at = _kernels.rans_encode(symbols, index, cdfs, words)
    return words[at:].astype(_WORD).tobytes()


def decode(data: bytes | memoryview, index: Integers, cdfs: Integers) -> U16:
    """The symbols, uint16 [n], of a coded stream.

    Args:
        data: what `encode` returned.
        index: integer [n], the table of each symbol, in 0..T-1.
        cdfs: integer [T, S + 1], cumulative frequencies.

    Raises:
        PayloadError: the data do not fit the index and the tables: cut, extended or damaged.
        ModelError: the tables are malformed, or an index is out of their range.
        ValueError: the index is not an integer array [n].
    """
    cdfs = check_cdfs(cdfs)
    index = check_index(index, len(cdfs))
    n_words, odd = divmod(len(data), 2)
    if odd:
        raise PayloadError(f"rANS data: got {len(data)} bytes, expected an even number")
    symbols = np.empty(len(index), np.uint16)
    if len(index):
        from batchcodec.entropy import _kernels  # numba is slow to load

        words = np.zeros(n_words + 1, np.uint16)  # and one that the kernel may read
        words[:-1] = np.frombuffer(data, _WORD)
        n_used = _kernels.rans_decode(words, index, cdfs, symbols)
        if n_used < 0:
            reason = {_kernels.ENDS_EARLY: "they end early", _kernels.BAD_START: "a first state is too small"}
            raise PayloadError(f"rANS data of {len(index)} symbols: {reason.get(n_used, 'the last state is wrong')}")
    else:
        n_used = 0
    if n_used != n_words:
        raise PayloadError(f"rANS data of {len(index)} symbols: {n_words - n_used} words are left over")
    return symbols
