"""Finds the blocks of a `.cpack` file that may be damaged, by the recipe of `docs/cpack-format.md`: "Rebuilding the index".

Where INDEX and trailer are sound they say where the blocks are. Else the file is walked from block to block, and where no block
is, the next sound one is looked for. Nothing is decoded, and no body is held in memory: bodies are hashed in pieces.

The work is linear in the length of the file, whatever is in it. Walking reads every byte once. Looking for a block tries all
that looks like a block header, and a file can be made of headers that each claim the rest of the file; so the bodies that
turned out wrong may cost `EFFORT` times the file's length, and what would cost more is passed over and counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import xxhash

from batchcodec.archive import wire
from batchcodec.archive.found import ByteRange, FoundBlock, Scan, State, block_header, header_bytes, header_check
from batchcodec.archive.index import parse_index
from batchcodec.archive.wire import BlockEntry, BlockHeader, BlockType

PIECE = 1 << 20
"""Bytes that are read at once."""
EFFORT = 8
"""Bytes hashed for bodies that turn out wrong, in lengths of the file. Accidents stay far below that."""

_FIRST_WINDOW = 1 << 10
# Sync bytes, any type, no reserved bits. No match can start inside of another, so `finditer` finds all.
_LIKE_A_HEADER = re.compile(re.escape(wire.SYNC) + rb".[\x00\x01]\x00\x00", re.DOTALL)

_REQUIRED: dict[int, bool] = {
    BlockType.META: False,
    BlockType.MODEL: True,
    BlockType.CODEC: True,
    BlockType.GROUP: True,
    BlockType.DIRECTORY: True,
}
"""How the types of version 1.0 are written."""


class RandomAccess(Protocol):
    """Bytes that are read by position: a `RawFile`, or one with repaired bytes laid over it."""

    @property
    def n_bytes(self) -> int:
        """How many there are."""
        ...

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Bytes at an offset, all of them."""
        ...


Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


def scan(file: RandomAccess, progress: Progress | None = None) -> Scan:
    """Find the blocks of a file.

    Raises:
        UnknownVersion: a sound header says that the file is of another major version.
        ArchiveError: the file cannot be read.
    """
    scanner = _Scanner(file, progress)
    header_error, version = _file_header(file)
    start = file.read(0, min(len(wire.MAGIC), file.n_bytes))
    is_start = bool(start) and wire.MAGIC.startswith(start)
    index_offset, trailer_error, scanner.end = _trailer(file)
    if index_offset is not None:
        index = scanner.index_at(index_offset)
        if index is not None and index.end != scanner.end:
            index = None  # bytes between the INDEX and the trailer
        if index is not None and (blocks := scanner.by_index(index, {})):
            return Scan(file.n_bytes, header_error, is_start, version, blocks, [], True, None, None)
    scanner.walk(trailed=index_offset is not None)
    found = Scan(
        file.n_bytes,
        header_error,
        is_start,
        version,
        scanner.blocks,
        scanner.gaps,
        by_index=False,
        index_error="it is missing",
        trailer_error=trailer_error,
        cut=scanner.cut,
        passed_over=scanner.passed_over,
    )
    return _with_index(_with_lost_index(found, index_offset), scanner, index_offset)


def sound_prefix(file: RandomAccess) -> list[FoundBlock]:
    """The sound blocks from the start of the file up to the first that is not; none where the header is not sound.

    What follows them may be anything: a block that was not finished, a trailer, damage.
    """
    scanner = _Scanner(file, None)
    blocks: list[FoundBlock] = []
    if _file_header(file)[0] is not None:
        return blocks
    position = wire.HEADER.size
    while (block := scanner.block_at(position)) is not None and block.state == State.SOUND:
        blocks.append(block)
        position = block.end
    return blocks


def _file_header(file: RandomAccess) -> tuple[str | None, tuple[int, int]]:
    """What is wrong with the file header, and the version."""
    data = file.read(0, min(wire.HEADER.size, file.n_bytes))
    if len(data) < wire.HEADER.size:
        return f"only {len(data)} of its {wire.HEADER.size} bytes are there", (wire.MAJOR, 0)
    if not data.startswith(wire.MAGIC):
        return f"its magic bytes are wrong: {data[:8].hex(' ')}", (wire.MAJOR, 0)
    try:
        return None, wire.parse_header(data)
    except wire.UnknownVersion:
        raise
    except wire.Malformed as exc:
        return str(exc), (wire.MAJOR, 0)


def _trailer(file: RandomAccess) -> tuple[int | None, str | None, int]:
    """Where the trailer says that the INDEX is, what is wrong with it, and where it starts (or else the file ends)."""
    start = file.n_bytes - wire.TRAILER.size
    if start < wire.HEADER.size:
        return None, "it is missing", file.n_bytes
    try:
        index_offset, stated = wire.parse_trailer(file.read(start, wire.TRAILER.size))
    except wire.Malformed as exc:
        return None, str(exc), file.n_bytes
    if stated != file.n_bytes:
        return None, f"it says {stated} bytes, the file has {file.n_bytes}", start
    return index_offset, None, start


def _with_lost_index(found: Scan, index_offset: int | None) -> Scan:
    """The last gap is the INDEX, if the trailer says that it starts there, or what is left of its header says so."""
    gap = found.gaps[-1] if found.gaps else ByteRange(0, 0)
    if found.cut and found.cut.type == BlockType.INDEX:
        header = found.cut.header
    elif index_offset is not None and gap.start == index_offset and gap.end - gap.start >= wire.BLOCK.size:
        header = BlockHeader(BlockType.INDEX, True, 0, gap.end - gap.start - wire.BLOCK.size, 0)
    else:
        return found
    lost = FoundBlock(gap.start, header, State.LOST)
    return replace(found, blocks=[*found.blocks, lost], gaps=found.gaps[:-1], cut=None)


def _with_index(found: Scan, scanner: _Scanner, index_offset: int | None) -> Scan:
    """Blocks and gaps as the INDEX that the walk found tells them, if it fits the file."""
    last = found.blocks[-1] if found.blocks else None
    if last is None or last.type != BlockType.INDEX:
        return found
    if found.gaps and found.gaps[-1].start == last.end and found.n_bytes - last.end <= wire.TRAILER.size:
        found = replace(found, gaps=found.gaps[:-1], tail=found.gaps[-1])  # what the trailer was, and no block
    if last.state != State.SOUND:
        reason = "its header is damaged" if last.state == State.LOST else "its checksum is wrong"
        return replace(found, index_error="the file ends inside of it" if last.end > found.n_bytes else reason)
    known = {block.offset: block for block in found.blocks}
    blocks = scanner.by_index(last, known)
    if blocks is None:
        return replace(found, index_error="its entries do not fit the blocks of the file")
    trailer_error = found.trailer_error
    if index_offset is not None and (index_offset != last.offset or last.end != found.n_bytes - wire.TRAILER.size):
        trailer_error = f"it says that the index starts at byte {index_offset}, where the index is not"
    tail = ByteRange(last.end, found.n_bytes) if trailer_error else None
    return replace(
        found, blocks=blocks, gaps=[], by_index=True, index_error=None, trailer_error=trailer_error, tail=tail, cut=None
    )


@dataclass
class _Scanner:
    """One pass over a file."""

    file: RandomAccess
    progress: Progress | None
    blocks: list[FoundBlock] = field(default_factory=list)
    gaps: list[ByteRange] = field(default_factory=list)
    cut: FoundBlock | None = None
    passed_over: int = 0
    told: int = -1

    def __post_init__(self) -> None:
        self.end = self.file.n_bytes  # of the blocks
        self.effort = EFFORT * self.file.n_bytes

    # ---- pieces

    def header_at(self, position: int) -> BlockHeader | None:
        if position + wire.BLOCK.size > self.file.n_bytes:
            return None
        return block_header(self.file.read(position, wire.BLOCK.size))

    def fits(self, position: int, header: BlockHeader) -> bool:
        """Whether the body can be all there."""
        return position + wire.BLOCK.size + header.n_bytes <= self.end

    def hashed(self, offset: int, n_bytes: int) -> int:
        """XXH3-64 of bytes of the file, read in pieces."""
        state, position, end = xxhash.xxh3_64(), offset, offset + n_bytes
        while position < end:
            piece = self.file.read(position, min(PIECE, end - position))
            state.update(piece)
            position += len(piece)
            self.tell(position)
        return state.intdigest()

    def tell(self, position: int) -> None:
        if self.progress and position > self.told:  # a file that is looked at twice must not go back
            self.told = position
            self.progress(position, self.file.n_bytes)

    def body_is_right(self, position: int, header: BlockHeader) -> bool:
        """Whether the body has its checksum; a wrong one costs effort, and False without looking when none is left."""
        if header.n_bytes > self.effort:
            self.passed_over += 1
            return False
        if self.hashed(position + wire.BLOCK.size, header.n_bytes) == header.body_check:
            return True
        self.effort -= header.n_bytes
        return False

    def block_at(self, position: int) -> FoundBlock | None:
        """The block at a position, sound or damaged in its body (steps 2 and 3 of the recipe)."""
        header = self.header_at(position)
        if header is None or not self.fits(position, header):
            return None
        before = self.passed_over
        if self.body_is_right(position, header):
            return FoundBlock(position, header, State.SOUND)
        block = FoundBlock(position, header, State.DAMAGED)
        if self.passed_over > before or not self.is_boundary(block.end, header.type):
            return None
        self.effort += header.n_bytes  # the walk goes on behind this body: nothing of it is read again
        return block

    def is_boundary(self, position: int, kind: int) -> bool:
        """Whether a block, the trailer or the end of the file is at the end of a block of this type."""
        # Behind an INDEX of the right length a trailer may be damaged too.
        has_trailer = kind == BlockType.INDEX and position == self.file.n_bytes - wire.TRAILER.size
        return position == self.end or has_trailer or self.header_at(position) is not None

    def trailer_at(self, position: int) -> tuple[int, int] | None:
        """Offset of the INDEX and length of the file, as a trailer says at a position."""
        if position + wire.TRAILER.size > self.file.n_bytes:
            return None
        try:
            return wire.parse_trailer(self.file.read(position, wire.TRAILER.size))
        except wire.Malformed:
            return None

    # ---- with an INDEX

    def index_at(self, offset: int) -> FoundBlock | None:
        """The INDEX at an offset, if it is sound."""
        header = self.header_at(offset) if offset >= wire.HEADER.size else None
        if header is None or header.type != BlockType.INDEX or not self.fits(offset, header):
            return None
        # It is read as a whole soon, and is the last block: hashing it in pieces would tell of an end that is not reached.
        right = wire.checksum(self.file.read(offset + wire.BLOCK.size, header.n_bytes)) == header.body_check
        return FoundBlock(offset, header, State.SOUND) if right else None

    def by_index(self, index: FoundBlock, known: dict[int, FoundBlock]) -> list[FoundBlock] | None:
        """The blocks that a sound INDEX lists, and itself; None if it contradicts the file.

        Args:
            index: the INDEX.
            known: blocks whose bodies were looked at already, by offset.
        """
        try:
            entries = parse_index(self.file.read(index.body, index.header.n_bytes), index.offset)
        except wire.Malformed:
            return None
        blocks = []
        for entry in entries:
            header = self.header_at(entry.offset)
            if header is None:
                block = self.without_header(entry)
            elif (header.type, header.n_bytes, header.n_items) != (entry.type, entry.n_bytes, entry.n_items):
                return None
            elif entry.offset in known:
                block = replace(known[entry.offset], uncertain=False)
            else:
                right = self.hashed(entry.offset + wire.BLOCK.size, header.n_bytes) == header.body_check
                block = FoundBlock(entry.offset, header, State.SOUND if right else State.DAMAGED)
            blocks.append(block)
        self.tell(self.file.n_bytes)
        return [*blocks, replace(index, uncertain=False)]

    def without_header(self, entry: BlockEntry) -> FoundBlock:
        """A block whose header is damaged: whole if its body is confirmed by what is left of the header.

        The INDEX knows all that was in the header but the checksum of the body, and the flag, which follows from a known type.
        A body that has the checksum which stands there still, or that makes the header's own check right, is what was written.
        """
        header = BlockHeader(entry.type, _REQUIRED.get(entry.type, False), entry.n_items, entry.n_bytes, 0)
        if entry.type in _REQUIRED:
            *_, check, _, body_check = wire.BLOCK.unpack(self.file.read(entry.offset, wire.BLOCK.size))
            right = replace(header, body_check=self.hashed(entry.offset + wire.BLOCK.size, entry.n_bytes))
            if right.body_check == body_check or header_check(header_bytes(right)) == check:
                return FoundBlock(entry.offset, right, State.REBUILT)
        return FoundBlock(entry.offset, header, State.LOST)

    # ---- without

    def walk(self, *, trailed: bool) -> None:
        """From block to block up to the trailer or the end of the file (steps 1 to 5 of the recipe).

        Args:
            trailed: whether the trailer is sound.
        """
        position, run = wire.HEADER.size, 0  # the run: blocks without a gap between them, up to here
        while position < self.end:
            block = self.block_at(position)
            if block is not None:
                self.blocks.append(replace(block, uncertain=bool(self.gaps)))
                position = block.end
                continue
            start, after = position, position + 1
            if self.is_embedded(run, position):
                del self.blocks[run:]
                start, after = self.gaps.pop().start, position + wire.TRAILER.size
            elif (header := self.header_at(position)) and not self.fits(position, header):
                self.cut = FoundBlock(position, header, State.DAMAGED)
            found = self.next_sound(after)
            self.gaps.append(ByteRange(start, found.offset if found else self.end))
            if found is None:
                break
            run = len(self.blocks)
            self.blocks.append(replace(found, uncertain=True))
            position, self.cut = found.end, None
        else:
            if trailed:  # the run leads to the trailer of this file, so it is no part of a payload
                self.blocks[run:] = [replace(block, uncertain=False) for block in self.blocks[run:]]
        self.tell(self.file.n_bytes)

    def is_embedded(self, run: int, position: int) -> bool:
        """Whether the run that ends here is a whole archive inside of a gap, from its file header to its trailer."""
        trailer = self.trailer_at(position) if self.gaps and run < len(self.blocks) else None
        if trailer is None or self.blocks[run].offset - wire.HEADER.size < self.gaps[-1].start:
            return False
        start = self.blocks[run].offset - wire.HEADER.size
        return trailer == (self.blocks[-1].offset - start, position + wire.TRAILER.size - start) and self.file.read(
            start, wire.HEADER.size
        ).startswith(wire.MAGIC)

    def next_sound(self, start: int) -> FoundBlock | None:
        """The first sound block from a position on."""
        position, window = start, _FIRST_WINDOW  # small at first: a file may have a gap every few bytes
        while position + wire.BLOCK.size <= self.end:
            data = self.file.read(position, min(window + wire.BLOCK.size - 1, self.end - position))
            for match in _LIKE_A_HEADER.finditer(data):
                if match.start() >= window:
                    break  # the next window has all of it
                header = block_header(data[match.start() : match.start() + wire.BLOCK.size])
                place = position + match.start()
                if header is not None and self.fits(place, header) and self.body_is_right(place, header):
                    return FoundBlock(place, header, State.SOUND)
            position += window
            window = min(2 * window, PIECE)
            self.tell(min(position, self.end))
        return None
