"""One front for the ways to code a stream of bytes, by name: `none`, `zstd`, `huffman` or `rans`.

- `none`: the n bytes.
- `zstd`: one zstandard frame of the n bytes, level 19, with its content size; it knows nothing of the tables. Where a bank has
  short rows, symbols of different tables have little in common: then a block ends where the table changes.
- `huffman`: `batchcodec.entropy.huffman`, with the code lengths of the frequencies.
- `rans`: `batchcodec.entropy.rans`.

The decoder knows n from the index, and the tables; neither is in the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from batchcodec.entropy import huffman, rans
from batchcodec.entropy.tables import PRECISION, Integers, check_freqs, check_index, check_present, check_stream, cumulative
from batchcodec.errors import ModelError, OptionError, PayloadError

ENTROPY_CODERS = ("none", "zstd", "huffman", "rans")

_ZSTD_LEVEL = 19
_ALPHABET = 256


def pack_symbols(kind: str, symbols: NDArray[np.uint8], index: Integers, freqs: Integers) -> bytes:
    """Code a stream of bytes.

    Args:
        kind: one of `ENTROPY_CODERS`.
        symbols: uint8 [n].
        index: integer [n], the table of each symbol, in 0..T-1.
        freqs: integer [T, 256], rows that sum to 2^16 and may be short (see `tables`).

    Raises:
        OptionError: there is no such coder.
        ModelError: the frequencies are malformed, an index is out of range, or a symbol is not in its table.
        ValueError: the stream is not a uint8 and an integer array of one length.
    """
    _check_kind(kind)
    freqs = _check_alphabet(freqs)
    if symbols.dtype != np.uint8:
        raise ValueError(f"symbols: got {symbols.dtype}, expected uint8")
    check_present(*check_stream(symbols, index, *freqs.shape), freqs > 0)  # for all kinds alike
    if kind == "none":
        return symbols.tobytes()
    if kind == "zstd":
        return _pack_zstd(symbols, np.flatnonzero(np.diff(index)) + 1 if not freqs.all() else [])
    if kind == "huffman":
        return huffman.encode(symbols, index, huffman.code_lengths(freqs))
    return rans.encode(symbols, index, cumulative(freqs))


def unpack_symbols(kind: str, data: bytes | memoryview, index: Integers, freqs: Integers) -> NDArray[np.uint8]:
    """The symbols, uint8 [n], of what `pack_symbols` returned, for the same kind, index and frequencies.

    Raises:
        PayloadError: the data are damaged, or do not hold exactly n symbols.
        OptionError: there is no such coder.
        ModelError: the frequencies are malformed, or an index is out of range.
        ValueError: the index is not an integer array [n].
    """
    _check_kind(kind)
    freqs = _check_alphabet(freqs)
    n = len(check_index(index, len(freqs)))
    if kind == "none":
        raw = bytes(data)
    elif kind == "zstd":
        raw = _unpack_zstd(data, n)
    elif kind == "huffman":
        return huffman.decode(data, index, huffman.code_lengths(freqs)).astype(np.uint8)
    else:
        return rans.decode(data, index, cumulative(freqs)).astype(np.uint8)
    if len(raw) != n:
        raise PayloadError(f"{kind} data: got {len(raw)} symbols, expected {n}")
    symbols = np.frombuffer(bytearray(raw), np.uint8)  # a bytearray, so that the result is writable like the others
    if not freqs.all() and not freqs[index, symbols].all():
        raise PayloadError(f"{kind} data: a symbol that its table does not have")
    return symbols


def most_symbols(kind: str, n_bytes: int, freqs: Integers) -> int:
    """The most symbols that so many bytes of coded data can hold, so that nothing is allocated for more.

    Raises:
        OptionError: there is no such coder.
        ModelError: the frequencies are malformed.
    """
    _check_kind(kind)
    if kind == "none":
        return n_bytes
    if kind == "zstd":
        return (n_bytes // 3 + 1) << 17  # a block has a header of 3 bytes and at most 128 KiB
    if kind == "huffman":
        return 8 * n_bytes
    # The most probable symbol lets a state x grow by floor(x / f) * (2^16 - f): at least half of its ideal cost.
    bits = PRECISION - math.log2(int(_check_alphabet(freqs).max()))
    return int(2 * (8 * n_bytes + 64) / bits) + 1


def _pack_zstd(symbols: NDArray[np.uint8], ends: Integers | Sequence[int]) -> bytes:
    """One frame, with a block of its own for what lies between the `ends`."""
    import zstandard  # not needed by the others

    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=True)
    if not len(ends):
        return compressor.compress(symbols.tobytes())
    stream = compressor.compressobj(size=len(symbols))
    parts = []
    for part in np.split(symbols, ends):
        parts += [stream.compress(part.tobytes()), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    return b"".join([*parts, stream.flush()])


def _unpack_zstd(data: bytes | memoryview, n: int) -> bytes:
    """Decompress one frame of exactly n bytes, and never allocate more, whatever the frame claims."""
    import zstandard  # not needed by the others

    try:
        claimed = zstandard.get_frame_parameters(data).content_size
        if claimed != n:  # also a frame without a size
            raise PayloadError(f"zstd data: the frame claims {claimed} bytes, expected {n}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=n, allow_extra_data=False)
    except zstandard.ZstdError as exc:
        raise PayloadError(f"zstd data of {n} bytes: {exc}") from exc


def _check_alphabet(freqs: Integers) -> NDArray[np.uint32]:
    freqs = check_freqs(freqs, short=True)
    if freqs.shape[1] != _ALPHABET:
        raise ModelError(f"frequencies: {freqs.shape[1]} symbols per table, expected {_ALPHABET}")
    return freqs


def _check_kind(kind: str) -> None:
    if kind not in ENTROPY_CODERS:
        raise OptionError("entropy", kind, ", ".join(ENTROPY_CODERS))
