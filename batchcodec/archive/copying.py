"""Writes an archive of blocks of another one, byte for byte, and of new blocks between them."""

from __future__ import annotations

from typing import BinaryIO

from batchcodec.archive import wire
from batchcodec.archive.found import FoundBlock, header_bytes
from batchcodec.archive.scan import PIECE, RandomAccess
from batchcodec.archive.wire import BlockEntry, BlockHeader, BlockType


class BlockCopier:
    """Writes header, blocks, index and trailer, in one forward pass; bodies are copied in pieces.

    Args:
        file: that starts empty.
        header: the 32 bytes of the file header.
    """

    def __init__(self, file: BinaryIO, header: bytes) -> None:
        self._file = file
        self._entries: list[BlockEntry] = []
        file.write(header)

    def copy(self, source: RandomAccess, block: FoundBlock) -> None:
        """A block of another file."""
        self._header(block.header)
        for position in range(block.body, block.end, PIECE):
            self._file.write(source.read(position, min(PIECE, block.end - position)))

    def add(self, kind: BlockType, body: bytes, n_items: int = 0, *, required: bool = True) -> None:
        """A new block."""
        self._header(BlockHeader(kind, required, n_items, len(body), wire.checksum(body)))
        self._file.write(body)

    def finish(self) -> None:
        """Index and trailer."""
        index_offset, body = self._file.tell(), wire.pack_index(self._entries)
        self.add(BlockType.INDEX, body)
        self._file.write(wire.pack_trailer(index_offset, self._file.tell() + wire.TRAILER.size))

    def _header(self, header: BlockHeader) -> None:
        self._entries.append(BlockEntry(header.type, self._file.tell(), header.n_bytes, header.n_items))
        self._file.write(header_bytes(header))
