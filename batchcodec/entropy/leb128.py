"""LEB128: whole numbers as bytes of 7 bits, low bits first, the top bit set in all but the last."""

from __future__ import annotations

from batchcodec.errors import PayloadError

MAX_BYTES = 5


def pack(n: int) -> bytes:
    """A number from 0."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def unpack(data: bytes, at: int = 0) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends.

    Raises:
        PayloadError: it does not end within 5 bytes.
    """
    n = 0
    for i, byte in enumerate(data[at : at + MAX_BYTES]):
        n |= (byte & 127) << 7 * i
        if byte < 128:
            return n, at + i + 1
    raise PayloadError(f"a length at byte {at} does not end within {MAX_BYTES} bytes")
