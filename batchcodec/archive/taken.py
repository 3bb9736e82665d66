"""Names that are taken in an archive in the making, in little memory: a million of them are a megabyte, or at most some 24.

While names ascend, as those of folders and arrays do, none can come twice. They are only kept for later, compressed: numbered
ones in about a byte each. With the first name that does not ascend a table of 64-bit hashes is made of them, of 12 to 24 bytes
for each. In it, two names of one hash would pass for one; among a million names that happens once in 40 million archives.
"""

from __future__ import annotations

from array import array

import xxhash
import zstandard

PIECE_NAMES = 4096
_SEPARATOR = "\0"


class TakenNames:
    """A set of names that only grows."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._recent: list[str] = []
        self._pieces: list[bytes] = []  # of `PIECE_NAMES` names each, or their hashes where these are shorter
        self._hashes: _Hashes | None = None

    def add(self, name: str) -> bool:
        """Take a name; False if it was taken."""
        if self._hashes is None:
            if self._last is None or name > self._last:
                self._last = name
                self._recent.append(name)
                if len(self._recent) == PIECE_NAMES:
                    self._pieces.append(_packed(self._recent))
                    self._recent = []
                return True
            if name == self._last:
                return False
            self._hashes = self._hashed()
        return self._hashes.add(_hash(name))

    def _hashed(self) -> _Hashes:
        """The table of all names so far, which are let go."""
        hashes = _Hashes()
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            for key in _unpacked(piece):
                hashes.add(key)
        for name in self._recent:
            hashes.add(_hash(name))
        self._recent = []
        return hashes


class _Hashes:
    """A set of 64-bit numbers: open addressing with linear probing in one array, at most two thirds full."""

    def __init__(self) -> None:
        self._n = 0
        self._table = array("Q", bytes(8 << 12))  # 0: free

    def add(self, key: int) -> bool:
        """Whether it is new."""
        table = self._table
        mask = len(table) - 1
        key = key or 1
        place = key & mask
        while found := table[place]:
            if found == key:
                return False
            place = (place + 1) & mask
        table[place] = key
        self._n += 1
        if 3 * self._n > 2 * len(table):
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._table
        table = self._table = array("Q", bytes(16 * len(old)))
        mask = len(table) - 1
        for key in old:
            if key:
                place = key & mask
                while table[place]:
                    place = (place + 1) & mask
                table[place] = key


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode())


def _packed(names: list[str]) -> bytes:
    """Names compressed, or their hashes: one byte says which."""
    packed = b"N" + zstandard.ZstdCompressor(level=1).compress(_SEPARATOR.join(names).encode())
    if len(packed) < 8 * len(names) and not any(_SEPARATOR in name for name in names):
        return packed
    return b"H" + array("Q", map(_hash, names)).tobytes()


def _unpacked(piece: bytes) -> array[int]:
    """The hashes of the names of a piece."""
    if piece.startswith(b"N"):
        names = zstandard.ZstdDecompressor().decompress(piece[1:]).decode().split(_SEPARATOR)
        return array("Q", map(_hash, names))
    return array("Q", piece[1:])
