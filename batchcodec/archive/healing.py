"""Healing: what is damaged in a `.cpack` file, restored from its PARITY blocks, as an overlay; the file is not touched.

Nothing is made worse: a restored chunk is used only if it has the checksum that the parity says, and the blocks' own checksums
are there to be looked at afterwards. Bytes that were put in or taken out move all that follows; parity does not see that.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from batchcodec.archive import parity, wire
from batchcodec.archive.overlay import Overlay
from batchcodec.archive.parity import Geometry
from batchcodec.archive.reed_solomon import restore
from batchcodec.archive.scan import RandomAccess
from batchcodec.archive.wire import BlockEntry, BlockType, Malformed
from batchcodec.errors import ArchiveError

Range = tuple[int, int]
"""Of bytes: start and stop."""

_WINDOW = 1 << 20
_LIKELY = re.compile(re.escape(wire.SYNC) + bytes([BlockType.PARITY]) + rb"(?=[\0\1]\0{6})")
"""How the header of a PARITY block starts: flags, and reserved bytes and items, which are zero."""
_MAX_CANDIDATES = 10_000
"""So many places that look like a PARITY block and are none, and it is a file that somebody made for that."""
_MAX_REASONS = 10
_SECTOR = 4096
"""Bytes that a broken disk loses at once."""


@dataclass
class Healing:
    """What `heal` found and did.

    Attributes:
        file: the file with the restored bytes laid over.
        geometry: of its parity; None if no PARITY block was found.
        n_chunks: chunks of the covered bytes.
        n_damaged: those of them that are damaged, as far as that is known.
        n_restored: damaged chunks that were restored.
        restored: ranges of bytes that were restored, PARITY blocks, INDEX and trailer among them, in order.
        lost: ranges of damaged chunks beyond repair.
        unknown: ranges of which it is not known whether they are damaged, since too many PARITY blocks are.
        n_damaged_parity: PARITY blocks that are damaged.
        ignored: why what looked like PARITY blocks was none; the first ten.
        whole: whether `file` is now, byte for byte, what was written, INDEX and trailer included.
    """

    file: Overlay
    geometry: Geometry | None = None
    n_chunks: int = 0
    n_damaged: int = 0
    n_restored: int = 0
    restored: list[Range] = field(default_factory=list)
    lost: list[Range] = field(default_factory=list)
    unknown: list[Range] = field(default_factory=list)
    n_damaged_parity: int = 0
    ignored: list[str] = field(default_factory=list)
    whole: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def lay(self, offset: int, data: bytes) -> None:
        """Lay restored bytes over the file."""
        self.file.lay(offset, data)
        self.restored.append((offset, offset + len(data)))


def heal(file: RandomAccess) -> Healing:
    """Restore what the parity of a file can restore. Use the result in a `with` block, or close its overlay.

    Needs memory for one batch (some 40 MiB as batchcodec writes them), and a temporary file for restored bytes that do not fit
    into another 32 MiB. What cannot be read, since the disk is broken, counts as damaged.

    Raises:
        OutputError: there is no room for the temporary file.
    """
    healing = Healing(Overlay(file))
    try:
        geometry = _find(file, healing.ignored)
        if geometry is not None:
            healing.geometry = geometry
            healing.n_chunks = -(-geometry.n_covered // geometry.chunk)
            healed = [_heal_batch(file, healing, geometry, batch) for batch in range(geometry.n_batches)]
            healing.whole = all(healed) and _heal_end(file, healing, geometry)
    except BaseException:
        healing.file.close()
        raise
    for ranges in (healing.restored, healing.lost, healing.unknown):
        ranges[:] = _merged(ranges)
    return healing


# ---- where the parity is


def _find(file: RandomAccess, ignored: list[str]) -> Geometry | None:
    """The geometry of a file's parity from any one PARITY block: all others follow from it. Looks for one from the end."""
    n_candidates, stop = 0, file.n_bytes
    while stop:
        start = max(0, stop - _WINDOW)
        window = _read(file, start, stop - start + wire.BLOCK.size)
        found = [match.start() for match in _LIKELY.finditer(window) if match.start() < stop - start]
        for offset in (start + place for place in reversed(found)):
            try:
                return _geometry_at(file, offset)
            except Malformed as exc:
                if len(ignored) < _MAX_REASONS:
                    ignored.append(f"byte {offset}: {exc}")
            n_candidates += 1
            if n_candidates == _MAX_CANDIDATES:
                ignored.append(f"the search ended at byte {offset}, after {n_candidates:,} places like these")
                return None
        stop = start
    return None


def _geometry_at(file: RandomAccess, offset: int) -> Geometry:
    """What the PARITY block at an offset says. It must stand where it says: so one in an archive inside of this one is none."""
    data = _read(file, offset, wire.BLOCK.size + parity.HEAD.size)
    header = wire.parse_block_header(data[: wire.BLOCK.size])
    geometry, row, batch = parity.parse_place(data[wire.BLOCK.size :])
    if geometry.offset(row, batch) != offset:
        raise Malformed(f"a PARITY block that belongs at byte {geometry.offset(row, batch)}")
    if header.n_bytes != geometry.body_bytes(batch):
        raise Malformed(f"a PARITY block of {header.n_bytes} bytes, expected {geometry.body_bytes(batch)}")
    parity.parse_head(_read(file, offset + wire.BLOCK.size, geometry.head_bytes(batch)), geometry, row, batch)
    return geometry


def _read(file: RandomAccess, offset: int, n_bytes: int) -> bytes:
    """Bytes at an offset; zeros where the file has ended, or where it cannot be read."""
    there = max(0, min(n_bytes, file.n_bytes - offset))
    if not there:
        return bytes(n_bytes)
    try:
        data = file.read(offset, there)
    except ArchiveError:
        stop = offset + there
        sectors = [offset, *range(offset - offset % _SECTOR + _SECTOR, stop, _SECTOR), stop]
        data = b"".join(_read_sector(file, a, b - a) for a, b in itertools.pairwise(sectors))
    return data.ljust(n_bytes, b"\0")


def _read_sector(file: RandomAccess, offset: int, n_bytes: int) -> bytes:
    try:
        return file.read(offset, n_bytes)
    except ArchiveError:
        return bytes(n_bytes)


# ---- what is restored


@dataclass
class _Batch:
    """What there is of a batch.

    Attributes:
        number: of the batch.
        rows: chunks of data, and of parity where the head of the PARITY block is right, by their row.
        good: bool [rows of data and parity, chunks]; which chunks are right.
        table: checksums of the chunks of data, uint32 [rows of data, chunks]; None if too few PARITY blocks have them.
        damaged_blocks: parity rows whose PARITY block is damaged anywhere.
    """

    number: int
    rows: dict[int, bytearray]
    good: npt.NDArray[np.bool_]
    table: parity.Sums | None
    damaged_blocks: list[int]


def _heal_batch(file: RandomAccess, healing: Healing, geometry: Geometry, number: int) -> bool:
    """Restore chunks and PARITY blocks of a batch; whether all of it is right then."""
    batch = _read_batch(file, geometry, number)
    healing.n_damaged_parity += len(batch.damaged_blocks)
    if batch.table is None:
        healing.unknown += [_place(geometry, number, row, 0, geometry.chunks(number)) for row in range(geometry.n_data)]
        return False
    _heal_data(healing, geometry, batch, batch.table)
    if not batch.good[: geometry.n_data].all():
        return False
    if batch.damaged_blocks:
        bodies = parity.bodies([batch.rows[row] for row in range(geometry.n_data)], geometry, number)
        for row in batch.damaged_blocks:
            healing.lay(geometry.offset(row, number), _block(bodies[row]))
    return True


def _read_batch(file: RandomAccess, geometry: Geometry, number: int) -> _Batch:
    n_data, n_rows, chunk = geometry.n_data, geometry.n_data + geometry.n_parity, geometry.chunk
    data = parity.read_rows(lambda offset, n_bytes: _read(file, offset, n_bytes), geometry, number)
    batch = _Batch(number, {}, np.zeros((n_rows, geometry.chunks(number)), bool), None, [])
    batch.rows.update(enumerate(map(bytearray, data)))
    pieces: dict[int, bytes] = {}
    for row in range(geometry.n_parity):
        block = _read(file, geometry.offset(row, number), wire.BLOCK.size + geometry.body_bytes(number))
        body = block[wire.BLOCK.size :]
        if block != _block(body):
            batch.damaged_blocks.append(row)
        try:
            sums, pieces[row] = parity.parse_head(body, geometry, row, number)
        except Malformed:
            continue
        chunks = bytearray(body[geometry.head_bytes(number) :])
        batch.rows[n_data + row] = chunks
        batch.good[n_data + row] = parity.chunk_sums(chunks, chunk) == sums
    if len(pieces) >= geometry.n_pieces:
        batch.table = parity.parse_table(pieces, geometry, number)
        batch.good[:n_data] = np.stack([parity.chunk_sums(row, chunk) for row in data]) == batch.table
    return batch


def _heal_data(healing: Healing, geometry: Geometry, batch: _Batch, table: parity.Sums) -> None:
    """Restore the chunks of data that can be, in the batch and as laid over the file."""
    for first, last in _runs(batch.good):
        damaged = np.flatnonzero(~batch.good[: geometry.n_data, first]).tolist()
        if not damaged:
            continue
        healing.n_damaged += len(damaged) * (last - first)
        places = [_place(geometry, batch.number, row, first, last) for row in damaged]
        restored = _restored(geometry, batch, table, damaged, first, last)
        if restored is None:
            healing.lost += places
            continue
        healing.n_restored += len(damaged) * (last - first)
        for row, (start, stop), data in zip(damaged, places, restored, strict=True):
            batch.rows[row][first * geometry.chunk : last * geometry.chunk] = data
            batch.good[row, first:last] = True
            healing.lay(start, data[: stop - start])


def _restored(
    geometry: Geometry, batch: _Batch, table: parity.Sums, damaged: list[int], first: int, last: int
) -> list[bytes] | None:
    """The damaged rows of a run of chunks; None if they cannot be had."""
    sound = np.flatnonzero(batch.good[:, first]).tolist()
    if len(sound) < geometry.n_data:
        return None
    window = slice(first * geometry.chunk, last * geometry.chunk)
    shares = {row: memoryview(batch.rows[row])[window] for row in sound}
    rows = restore(shares, geometry.n_data, len(batch.good))
    right = all((parity.chunk_sums(rows[row], geometry.chunk) == table[row, first:last]).all() for row in damaged)
    return [rows[row] for row in damaged] if right else None


def _runs(good: npt.NDArray[np.bool_]) -> Iterator[Range]:
    """Runs of chunks that have the same rows: what is lost in one piece is restored in one piece."""
    changes = np.flatnonzero((good[:, 1:] != good[:, :-1]).any(axis=0)) + 1
    return itertools.pairwise([0, *changes.tolist(), good.shape[1]])


def _place(geometry: Geometry, batch: int, row: int, first: int, last: int) -> Range:
    """Where chunks of a row of data stand in the file, without the zeros after the covered bytes."""
    start = row * geometry.row_bytes + batch * geometry.width * geometry.chunk
    return min(start + first * geometry.chunk, geometry.n_covered), min(start + last * geometry.chunk, geometry.n_covered)


def _block(body: bytes) -> bytes:
    return wire.pack_block_header(BlockType.PARITY, body, required=False) + body


def _heal_end(file: RandomAccess, healing: Healing, geometry: Geometry) -> bool:
    """Restore INDEX and trailer, which follow from the blocks, all of them whole by now; whether the file then is whole."""
    try:
        entries = _entries(healing.file, geometry)
        if _follows_another_block(file, geometry):
            return False  # a later version has put it there
    except Malformed:
        return False
    index = wire.pack_index(entries)
    end = wire.pack_block_header(BlockType.INDEX, index) + index
    end += wire.pack_trailer(geometry.end, geometry.end + len(end) + wire.TRAILER.size)
    healing.file.n_bytes = geometry.end + len(end)
    if _read(file, geometry.end, len(end)) != end:
        healing.lay(geometry.end, end)
    return True


def _entries(file: RandomAccess, geometry: Geometry) -> list[BlockEntry]:
    """What the INDEX says, from the headers of the blocks.

    Raises:
        Malformed: the covered bytes are not blocks, or are of a later version.
    """
    entries, position = [], wire.HEADER.size
    while position < geometry.n_covered:
        header = wire.parse_block_header(file.read(position, wire.BLOCK.size))
        entries.append(BlockEntry(header.type, position, header.n_bytes, header.n_items))
        position += wire.BLOCK.size + header.n_bytes
    if position != geometry.n_covered:
        raise Malformed("the parity does not start where a block ends")
    places = itertools.product(range(geometry.n_parity), range(geometry.n_batches))
    return entries + [
        BlockEntry(BlockType.PARITY, geometry.offset(*place), geometry.body_bytes(place[1]), 0) for place in places
    ]


def _follows_another_block(file: RandomAccess, geometry: Geometry) -> bool:
    """Whether a sound header of another block than the INDEX stands after the parity."""
    try:
        return wire.parse_block_header(_read(file, geometry.end, wire.BLOCK.size)).type != BlockType.INDEX
    except wire.UnknownVersion:
        return True
    except Malformed:
        return False


def _merged(ranges: list[Range]) -> list[Range]:
    """Sorted, and those that touch as one."""
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if merged and merged[-1][1] == start:
            merged[-1] = merged[-1][0], stop
        elif start < stop:
            merged.append((start, stop))
    return merged
