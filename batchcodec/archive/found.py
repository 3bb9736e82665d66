"""What a scan finds in a `.cpack` file: blocks, what is left of each, and gaps between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from batchcodec.archive import wire
from batchcodec.archive.wire import BlockHeader, BlockType


class State(StrEnum):
    """What is left of a block."""

    SOUND = "sound"
    REBUILT = "header rebuilt"
    """The body is whole; the header was damaged, and is known again from the INDEX."""
    DAMAGED = "damaged"
    """The header is right, the body is not."""
    LOST = "lost"
    """Known from the INDEX alone."""


@dataclass(frozen=True, slots=True)
class FoundBlock:
    """One block.

    Attributes:
        offset: of its header in the file.
        header: as read, or as the INDEX tells it (then with a body check of 0 if the block is lost).
        state: what is left of it.
        uncertain: found behind a gap, and not connected to the end of the file: it may be part of what a payload holds.
    """

    offset: int
    header: BlockHeader
    state: State
    uncertain: bool = False

    @property
    def type(self) -> int:
        """The type, known or not."""
        return self.header.type

    @property
    def n_items(self) -> int:
        """Images of a GROUP, rows of a DIRECTORY."""
        return self.header.n_items

    @property
    def body(self) -> int:
        """Offset of the body."""
        return self.offset + wire.BLOCK.size

    @property
    def end(self) -> int:
        """Offset of what follows."""
        return self.body + self.header.n_bytes

    @property
    def whole(self) -> bool:
        """Whether the body is what was written."""
        return self.state in (State.SOUND, State.REBUILT)

    @property
    def name(self) -> str:
        """`GROUP`, or `type 9` where the type is unknown."""
        known = self.header.type in BlockType.__members__.values()
        return BlockType(self.header.type).name if known else f"type {self.header.type}"


class ByteRange(NamedTuple):
    """Bytes from `start` up to, without, `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Scan:
    """What is in a file.

    Attributes:
        n_bytes: length of the file.
        header_error: what is wrong with the file header; None if it is sound.
        is_start: whether the file starts with the magic bytes, as far as it goes.
        version: major and minor, 1.0 where the header does not tell.
        blocks: all that were found or are known, in file order, INDEX blocks among them.
        gaps: bytes between them that no block is known for.
        by_index: whether a sound INDEX told the places of the blocks; there are no gaps then.
        index_error: what is wrong with the INDEX; None if it is sound.
        trailer_error: what is wrong with the trailer; None if it is sound.
        tail: bytes behind the INDEX that are no sound trailer.
        cut: the block header of a last block that is not all there.
        passed_over: what looked like blocks and was not tried, since looking cost too much.
    """

    n_bytes: int
    header_error: str | None
    is_start: bool
    version: tuple[int, int]
    blocks: list[FoundBlock]
    gaps: list[ByteRange]
    by_index: bool
    index_error: str | None
    trailer_error: str | None
    tail: ByteRange | None = None
    cut: FoundBlock | None = None
    passed_over: int = 0

    @property
    def stump(self) -> ByteRange | None:
        """The last gap, if it is what a cut file has of its last block."""
        last = self.gaps[-1] if self.gaps and self.gaps[-1].end == self.n_bytes else None
        if last is None or (self.cut is None and last.end - last.start >= wire.BLOCK.size):
            return None
        return last

    @property
    def hopeless(self) -> bool:
        """Whether nothing in the file is of a `.cpack`."""
        return self.header_error is not None and not self.blocks and not self.is_start

    @property
    def whole(self) -> bool:
        """Whether nothing at all is wrong, as far as the blocks' checksums tell."""
        errors = self.header_error or self.index_error or self.trailer_error
        return not errors and not self.gaps and all(block.state == State.SOUND for block in self.blocks)


def block_header(data: bytes) -> BlockHeader | None:
    """32 bytes to a block header, None where they are none. Unlike a reader, a scan takes any type, required or not."""
    if len(data) < wire.BLOCK.size:
        return None
    sync, kind, flags, reserved, n_items, check, n_bytes, body_check = wire.BLOCK.unpack(data)
    if sync != wire.SYNC or flags & ~wire.REQUIRED or reserved or n_bytes > wire.MAX_BODY:
        return None
    if check != header_check(data):
        return None
    return BlockHeader(kind, bool(flags & wire.REQUIRED), n_items, n_bytes, body_check)


def header_bytes(header: BlockHeader) -> bytes:
    """The 32 bytes of a block header."""
    flags = wire.REQUIRED if header.required else 0
    fields = (wire.SYNC, header.type, flags, 0, header.n_items)
    blank = wire.BLOCK.pack(*fields, 0, header.n_bytes, header.body_check)
    return wire.BLOCK.pack(*fields, header_check(blank), header.n_bytes, header.body_check)


def header_check(data: bytes) -> int:
    """The check of a block header, by its other 28 bytes."""
    return wire.checksum(data[:12] + bytes(4) + data[16:]) & 0xFFFFFFFF
