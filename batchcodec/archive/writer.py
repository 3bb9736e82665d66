"""Streams groups into a `.cpack` file in one forward pass. It knows no codec and keeps no pixels.

Memory is bounded: rows wait for at most one directory segment, and what stays for the whole run is one row of the index for
each block, 21 bytes, and what `taken` keeps of each name (to refuse a second item of the same name).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from batchcodec.archive import directory, wire
from batchcodec.archive.directory import Row
from batchcodec.archive.taken import TakenNames
from batchcodec.archive.wire import BlockEntry, BlockType, CodecRecord, GroupHead
from batchcodec.errors import BatchcodecError, DuplicateNameError
from batchcodec.types import JSON

SEGMENT_ITEMS = 1 << 12
"""Items that end a directory segment. An archive that is cut loses the names of those that had none yet, and a segment costs
about a hundred bytes."""
SEGMENT_BYTES = 1 << 20
"""Bytes of names, labels and attributes that end one earlier."""


@dataclass
class ByteCount:
    """Where the bytes of an archive are. Their sum is the length of the file."""

    payload: int = 0
    model: int = 0
    directory: int = 0
    index: int = 0
    framing: int = 0
    parity: int = 0

    @property
    def total(self) -> int:
        """Length of the file."""
        return self.payload + self.model + self.directory + self.index + self.framing + self.parity

    @property
    def overhead(self) -> int:
        """All that is neither payload nor weights nor parity: directory, index, block headers, header and trailer."""
        return self.directory + self.index + self.framing

    def add(self, kind: int, n_bytes: int, n_head: int = 0) -> None:
        """Count a block of this type with a body of `n_bytes`, `n_head` of them before a group's payload."""
        self.framing += wire.BLOCK.size
        if kind == BlockType.GROUP:
            self.framing += n_head
            self.payload += n_bytes - n_head
        elif kind == BlockType.MODEL:
            self.model += n_bytes
        elif kind == BlockType.DIRECTORY:
            self.directory += n_bytes
        elif kind == BlockType.INDEX:
            self.index += n_bytes
        elif kind == BlockType.PARITY:
            self.parity += n_bytes
        else:
            self.framing += n_bytes


class Sink(Protocol):
    """What an archive is written to: a binary file, or anything that takes bytes one after the other."""

    def write(self, data: bytes, /) -> int:
        """Take all of them."""


@dataclass(frozen=True)
class StoredBlock:
    """A block as another archive holds it.

    Attributes:
        header: its 32 bytes, checked.
        pieces: its body, cut anywhere. Whoever gives them raises an error at their end if they are damaged.
    """

    header: bytes
    pieces: Iterable[bytes]


class ArchiveWriter:
    """Writes header, blocks and trailer to a binary file that starts empty.

    Args:
        file: written forwards only.
        parity: whether `add_parity` will be called; the header says so, by its version.
    """

    def __init__(self, file: Sink, *, parity: bool = False) -> None:
        self._file = file
        self._parity = parity
        self._parity_end: int | None = None
        self._position = 0
        self._index = bytearray()
        self._models: set[bytes] = set()
        self._codecs: set[int] = set()
        self._names = TakenNames()
        self._rows: list[Row] = []
        self._segment_groups = self._segment_bytes = 0
        self.bytes = ByteCount()
        self._write(wire.pack_header(1 if parity else 0))
        self.bytes.framing += wire.HEADER.size

    def add_meta(self, meta: Mapping[str, JSON]) -> None:
        """Write JSON about how the archive was made; readers may ignore it. Later keys replace earlier ones."""
        self._block(BlockType.META, wire.pack_json(dict(meta)), required=False)

    def add_name(self, name: str, source: str) -> None:
        """Reserve a name before its pixels are coded.

        Raises:
            DuplicateNameError: it is taken.
        """
        if not self._names.add(name):
            raise DuplicateNameError(source, name)

    def add_codec(self, record: CodecRecord) -> int:
        """Write a codec and its model unless they are there already; the reference for `add_group`."""
        body = wire.pack_codec(record)
        reference = wire.checksum(body)
        if reference not in self._codecs:
            sha256 = hashlib.sha256(record.model).digest()
            if record.model and sha256 not in self._models:
                self._models.add(sha256)
                self._block(BlockType.MODEL, wire.pack_model(record.model))
            self._codecs.add(reference)
            self._block(BlockType.CODEC, body)
        return reference

    def add_group(self, head: GroupHead, payload: bytes, rows: Sequence[Row]) -> None:
        """Write a group; `rows` describe its images in their order. Their names were reserved by `add_name`.

        Raises:
            BatchcodecError: a label or an attribute cannot be stored (NaN, invalid Unicode, ...), or there is too much of them.
        """
        if len(rows) != head.spec.n_items:
            raise ValueError(f"{len(rows)} rows for a group of {head.spec.n_items} items")
        n_bytes = sum(map(row_bytes, rows))
        self._block(BlockType.GROUP, wire.pack_group(head, payload), head.spec.n_items, n_head=head.n_bytes)
        self._add_rows(rows, n_bytes)

    def copy_codec(self, reference: int, codec: StoredBlock, sha256: bytes | None, model: StoredBlock | None) -> None:
        """Write a CODEC block as it is stored, after the MODEL block that it names, unless they are there already.

        Byte for byte, so that the reference stays the same whatever keys a later version has put into it.
        """
        if reference not in self._codecs:
            if sha256 is not None and model is not None and sha256 not in self._models:
                self._models.add(sha256)
                self._copy(model)
            self._codecs.add(reference)
            self._copy(codec)

    def copy_group(self, group: StoredBlock, n_head: int, rows: Sequence[Row]) -> None:
        """Write a GROUP block as it is stored, whose codec was written before; else like `add_group`.

        Args:
            group: of `len(rows)` images.
            n_head: bytes of the body before the payload.
            rows: describe the images in their order.
        """
        n_bytes = sum(map(row_bytes, rows))
        self._copy(group, n_head)
        self._add_rows(rows, n_bytes)

    def _add_rows(self, rows: Sequence[Row], n_bytes: int) -> None:
        self._rows.extend(rows)
        self._segment_groups += 1
        self._segment_bytes += n_bytes
        if len(self._rows) >= SEGMENT_ITEMS or self._segment_bytes >= SEGMENT_BYTES:
            self._end_segment()

    def add_parity(self, bodies: Callable[[int], Iterable[bytes]]) -> None:
        """Write the last directory segment and PARITY blocks. Nothing but `finish` may follow.

        Args:
            bodies: of the blocks, from the number of bytes that were written so far: those that the parity covers.
        """
        if self._segment_groups:
            self._end_segment()
        for body in bodies(self._position):
            self._block(BlockType.PARITY, body, required=False)
        self._parity_end = self._position

    def finish(self) -> ByteCount:
        """Write the last directory segment, index and trailer."""
        if self._segment_groups:
            self._end_segment()
        index_offset = self._position
        if self._parity_end != (index_offset if self._parity else None):
            raise ValueError("add_parity must come last before finish, and only in a writer that was told so")
        self._block(BlockType.INDEX, bytes(self._index))
        self._write(wire.pack_trailer(index_offset, self._position + wire.TRAILER.size))
        self.bytes.framing += wire.TRAILER.size
        return self.bytes

    def _end_segment(self) -> None:
        try:
            table = directory.pack_table(self._rows)
        except wire.Malformed as exc:
            raise BatchcodecError(f"the items from {self._rows[0].name!r} on cannot be stored: {exc}") from exc
        self._block(BlockType.DIRECTORY, wire.pack_directory(table, self._segment_groups), len(self._rows))
        self._rows, self._segment_groups, self._segment_bytes = [], 0, 0

    def _block(self, kind: BlockType, body: bytes, n_items: int = 0, *, required: bool = True, n_head: int = 0) -> None:
        self._index += wire.pack_index([BlockEntry(kind, self._position, len(body), n_items)])
        self._write(wire.pack_block_header(kind, body, n_items, required=required))
        self._write(body)
        self.bytes.add(kind, len(body), n_head)

    def _copy(self, block: StoredBlock, n_head: int = 0) -> None:
        header = wire.parse_block_header(block.header)
        self._index += wire.pack_index([BlockEntry(header.type, self._position, header.n_bytes, header.n_items)])
        self._write(block.header)
        for piece in block.pieces:
            self._write(piece)
        self.bytes.add(header.type, header.n_bytes, n_head)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._position += len(data)


def row_bytes(row: Row) -> int:
    """About the bytes of a row in the directory, before compression."""
    try:
        n_bytes = len(wire.pack_json(dict(row.attributes))) if row.attributes else 0
        return n_bytes + len(row.name.encode()) + len((row.label or "").encode())
    except (TypeError, ValueError, RecursionError) as exc:
        raise BatchcodecError(f"item {row.name!r}: its label or attributes cannot be stored: {exc}", item=row.name) from exc
