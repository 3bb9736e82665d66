"""Unsigned integers of 0 to 8 bits side by side, for latents that cost their bits whatever their value.

The integers of each row take as many bits as the row says, most significant bit first, row after row and without gaps. The last
byte is filled with zeros. A row of 0 bits takes none: its integers are 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchcodec.entropy.tables import Integers
from batchcodec.errors import PayloadError


def n_bytes(bits: Integers, n_columns: int) -> int:
    """Bytes of rows of so many integers."""
    return -(-int(bits.sum(dtype=np.int64)) * n_columns // 8)


def pack(rows: NDArray[np.uint8], bits: Integers) -> bytes:
    """Code integers.

    Args:
        rows: uint8 [C, n], those of row c below 2^bits[c].
        bits: integer [C], each 0..8.

    Raises:
        ValueError: an integer does not fit, or the arrays are not such.
    """
    if rows.ndim != 2 or rows.dtype != np.uint8 or bits.shape != rows.shape[:1]:
        raise ValueError(f"rows are {rows.dtype} {list(rows.shape)}, expected uint8 [C, n] with bits [C]")
    if (rows.max(axis=1, initial=0) >> bits.astype(np.uint16)).any():
        raise ValueError("an integer has more bits than its row")
    parts = [np.unpackbits(row[:, None], axis=1)[:, 8 - n :].reshape(-1) for row, n in zip(rows, bits.tolist(), strict=True)]
    return np.packbits(np.concatenate(parts)).tobytes() if parts else b""


def unpack(data: bytes | memoryview, bits: Integers, n_columns: int) -> NDArray[np.uint8]:
    """The integers, uint8 [C, n_columns], of what `pack` returned.

    Raises:
        PayloadError: too few or too many bytes, or the last one is not filled with zeros. Nothing is allocated before that.
    """
    expected = n_bytes(bits, n_columns)
    if len(data) != expected:
        raise PayloadError(f"fields of {len(bits)} rows: got {len(data)} bytes, expected {expected}")
    flat = np.unpackbits(np.frombuffer(data, np.uint8))
    ends = np.cumsum(bits.astype(np.int64) * n_columns)
    if flat[ends[-1] if len(ends) else 0 :].any():
        raise PayloadError(f"fields of {len(bits)} rows: the last byte is not filled with zeros")
    rows = np.zeros((len(bits), n_columns), np.uint8)
    for row, n, part in zip(rows, bits.tolist(), np.split(flat, ends)[:-1] if len(ends) else [], strict=True):
        if n:
            row[:] = np.packbits(part.reshape(n_columns, n), axis=1)[:, 0] >> (8 - n)
    return rows
