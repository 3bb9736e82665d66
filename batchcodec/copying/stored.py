"""Groups from archive to archive as they are stored: no pixel is decoded, and payloads, digests and references stay the same.

Blocks name each other by order and by hash, never by offset, so block header and body are copied byte for byte. New are the
directory (places and names), META, index and trailer. Bodies are copied in pieces and checked on the way. In memory are the
directory of one source at a time, about 300 bytes for an item with a short name and a label, and of the target a hash of each
name, about 70 bytes, and a row of the index for each block. The copy goes through memory and not through `copy_file_range`:
blocks start anywhere, so no file system could share them, and their bytes have to be hashed anyway.

Left behind is what only made sense where it stood: blocks and directory columns that this version does not know and may pass
over, and codecs that no copied group uses.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import xxhash

from batchcodec.archive import directory, wire
from batchcodec.archive.directory import Cursor, Row
from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import BlockEntry, BlockType, CodecRecord, GroupHead
from batchcodec.archive.writer import ArchiveWriter, StoredBlock
from batchcodec.atomic import atomic_file
from batchcodec.checking.verify import verify
from batchcodec.errors import (
    BatchcodecError,
    CorruptArchiveError,
    CorruptGroupError,
    OptionError,
    OutputError,
    TargetExistsError,
)

PIECE_BYTES = 1 << 20
"""Of a body that are in memory at once."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are copied and the bytes of all."""

_COPIED = (BlockType.META, BlockType.MODEL, BlockType.CODEC, BlockType.GROUP, BlockType.DIRECTORY)


class StoredArchive(Archive):
    """An archive whose blocks can also be had as they are stored."""

    def group_rows(self, group: int) -> list[Row]:
        """The rows of a group, with the item's place in the dataset as `order`."""
        start, stop = self._items.starts[group : group + 2].tolist()
        places = self.group_indices(group).tolist()
        return [
            Row(place, row.name, row.label, row.attributes)
            for place, row in zip(places, self._items.rows(start, stop), strict=True)
        ]

    def stored_group(self, group: int) -> StoredBlock:
        """A GROUP block; `CorruptGroupError` comes where it is damaged, if need be after the last piece."""
        try:
            block = self._stored(self._groups.entries[group])
        except CorruptArchiveError as exc:
            raise self._damaged(group, exc) from exc
        return StoredBlock(block.header, self._group_pieces(group, block))

    def _group_pieces(self, group: int, block: StoredBlock) -> Iterator[bytes]:
        try:
            yield from block.pieces
        except CorruptArchiveError as exc:
            raise self._damaged(group, exc) from exc

    def _damaged(self, group: int, error: CorruptArchiveError) -> CorruptGroupError:
        n_items = self.group_items(group)
        return CorruptGroupError(self.path, f"group {group}: {error}", group=group, items=n_items)

    def stored_codec(self, reference: int) -> tuple[StoredBlock, bytes | None, StoredBlock | None]:
        """A CODEC block, and SHA-256 and MODEL block of its model if it needs one.

        Raises:
            CorruptArchiveError: one of them is not there, or damaged.
        """
        if reference not in self._codec_entries:
            raise CorruptArchiveError(self.path, f"codec {reference:016x} is not in the archive")
        entry = self._codec_entries[reference]
        body = self._blocks.body(entry)
        with self._blocks.parsing("CODEC", entry.offset):
            _, sha256 = wire.parse_codec(body)
            if sha256 is not None and sha256 not in self.models:
                raise wire.Malformed(f"there is no model {sha256.hex()[:16]}")
        model = None if sha256 is None else self._stored(self.models[sha256][0])
        return self._stored(entry), sha256, model

    def codec_bytes(self, reference: int) -> list[int]:
        """Bytes of the bodies of a CODEC block and of the MODEL block that it names, if any."""
        codec, sha256, _ = self.stored_codec(reference)
        lengths = [wire.parse_block_header(codec.header).n_bytes]
        return lengths if sha256 is None else [*lengths, self.models[sha256][0].n_bytes]

    @property
    def meta_bytes(self) -> int:
        """Bytes of the bodies of META blocks."""
        return sum(entry.n_bytes for entry in self._blocks.entries if entry.type == BlockType.META)

    @cached_property
    def _codec_entries(self) -> dict[int, BlockEntry]:
        """CODEC blocks by reference, which is their body check."""
        found = (entry for entry in self._blocks.entries if entry.type == BlockType.CODEC)
        return {self._header(entry)[1].body_check: entry for entry in found}

    @cached_property
    def models(self) -> dict[bytes, tuple[BlockEntry, int]]:
        """MODEL blocks by the SHA-256 that they claim, with the length of the model without compression."""
        found = {}
        for entry in self._blocks.entries:
            if entry.type == BlockType.MODEL:
                with self._blocks.parsing("MODEL", entry.offset):
                    if entry.n_bytes < wire.MODEL.size:
                        raise wire.Malformed("a MODEL block that is too short")
                    head = self._blocks.read(entry.offset + wire.BLOCK.size, wire.MODEL.size)
                sha256, n_bytes = wire.MODEL.unpack(head)
                found[sha256] = entry, n_bytes
        return found

    def left_behind(self) -> Counter[str]:
        """What a copy does not take along, by what it is, with the number of blocks."""
        found: Counter[str] = Counter()
        for entry in self._blocks.entries:
            if entry.type not in _COPIED:
                found[_type_name(entry.type)] += 1
        for entry, body in self._blocks.bodies(BlockType.DIRECTORY):
            with self._blocks.parsing("DIRECTORY", entry.offset):
                _, table = wire.parse_directory(body)
                found.update(f"directory column {ident}" for ident in _columns(table) if ident >= directory.FIRST_IGNORABLE)
        return found

    def _header(self, entry: BlockEntry) -> tuple[bytes, wire.BlockHeader]:
        with self._blocks.parsing(_type_name(entry.type), entry.offset):
            data = self._blocks.read(entry.offset, wire.BLOCK.size)
            header = wire.parse_block_header(data)
            if (header.type, header.n_bytes, header.n_items) != (entry.type, entry.n_bytes, entry.n_items):
                raise wire.Malformed("it is not what the index says")
        return data, header

    def _stored(self, entry: BlockEntry) -> StoredBlock:
        data, header = self._header(entry)
        return StoredBlock(data, self._pieces(entry, header.body_check))

    def _pieces(self, entry: BlockEntry, check: int) -> Iterator[bytes]:
        hasher = xxhash.xxh3_64()
        start = entry.offset + wire.BLOCK.size
        for done in range(0, entry.n_bytes, PIECE_BYTES):
            piece = self._blocks.read(start + done, min(PIECE_BYTES, entry.n_bytes - done))
            hasher.update(piece)
            yield piece
        if hasher.intdigest() != check:
            with self._blocks.parsing(_type_name(entry.type), entry.offset):
                raise wire.Malformed("its checksum is wrong: the file is damaged")


def _type_name(kind: int) -> str:
    return BlockType(kind).name if kind in BlockType.__members__.values() else f"block type {kind}"


def _columns(table: bytes) -> list[int]:
    """Ids of the columns of a table."""
    cursor, found = Cursor(table), []
    cursor.varint()
    while not cursor.at_end:
        found.append(cursor.take(1)[0])
        cursor.take(cursor.varint())
    return found


class Copier:
    """Writes an archive of groups of others. Use `new_archive`, which also checks and keeps it.

    Args:
        writer: of the new archive.
        progress: see `Progress`.
        total: bytes that will be copied.
    """

    def __init__(self, writer: ArchiveWriter, progress: Progress | None = None, total: int = 0) -> None:
        self.writer = writer
        self._progress, self._total = progress, total
        self._source: StoredArchive | None = None
        self._seen: set[int] = set()  # references of codecs of that source
        self._codecs: dict[int, bytes] = {}
        self._models: dict[bytes, int] = {}
        self.n_items = self.n_groups = 0

    def copy(self, source: StoredArchive, group: int, rows: Sequence[Row]) -> None:
        """Copy a group, and its codec and model if they are not there yet.

        Raises:
            ArchiveError: of the source.
            DuplicateNameError: a name of `rows` is taken.
            BatchcodecError: the codecs of the sources do not go into one archive.
        """
        head = source.group_head(group)
        if source is not self._source:
            self._source, self._seen = source, set()
        if head.codec_ref not in self._seen:
            self._seen.add(head.codec_ref)
            self._codec(source, head.codec_ref)
        self._rows(rows, str(source.path))
        self.writer.copy_group(source.stored_group(group), head.n_bytes, rows)
        if self._progress:
            self._progress(self.writer.bytes.total, max(self._total, self.writer.bytes.total))

    def add(self, source: StoredArchive, codec: CodecRecord, head: GroupHead, payload: bytes, rows: Sequence[Row]) -> None:
        """Write a group that was coded anew from one of the source."""
        reference = self.writer.add_codec(codec)
        self._rows(rows, str(source.path))
        self.writer.add_group(replace(head, codec_ref=reference), payload, rows)

    def _rows(self, rows: Sequence[Row], source: str) -> None:
        for row in rows:
            self.writer.add_name(row.name, source)
        self.n_items += len(rows)
        self.n_groups += 1

    def _codec(self, source: StoredArchive, reference: int) -> None:
        """Codecs are shared by the hash of their body, models by SHA-256."""
        codec, sha256, model = source.stored_codec(reference)
        body = b"".join(codec.pieces)
        if self._codecs.setdefault(reference, body) != body:
            raise BatchcodecError(
                f"{source.path}: its codec {reference:016x} is not the one of another source, and a group could not tell them "
                "apart; `unpack` one of them and pack it again"
            )
        if sha256 is not None and sha256 not in self._models:
            self._models[sha256] = source.models[sha256][1]
            if sum(self._models.values()) > wire.MAX_MODEL:
                raise BatchcodecError(
                    f"{source.path}: with its model, those of the new archive have over {wire.MAX_MODEL} bytes, which is the "
                    "most that one archive may hold; make several archives"
                )
        self.writer.copy_codec(reference, StoredBlock(codec.header, [body]), sha256, model)


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A new folder beside the target, in which it can be made; removed at the end. Errors that name it name the target.

    Raises:
        OutputError: the target's folder is missing or not writable, or the disk is full.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".partial", dir=target.parent))
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    try:
        yield folder
    except BatchcodecError as exc:
        exc.rename(str(folder / target.name), str(target))
        raise
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def new_archive(path: Path, progress: Progress | None = None, total: int = 0) -> Iterator[Copier]:
    """A new file to copy groups into, in a `staging` folder. It is there, whole and read back, when the block ends well.

    Raises:
        OutputError: what was written does not read back.
    """
    with atomic_file(path) as file:
        copier = Copier(ArchiveWriter(file), progress, total)
        yield copier
        copier.writer.finish()
    _check(path, copier.n_items)


def _check(path: Path, n_items: int) -> None:
    found = verify(path)
    if found.verdict != "whole" or found.n_items != n_items:
        told = "; ".join(finding.message for finding in found.findings[:3])
        raise OutputError(path, f"what was written does not read back: {found.n_items} of {n_items} items; {told}")


def refuse(target: Path, sources: Sequence[Path], *, force: bool) -> None:
    """Whether a new archive may be written to a path.

    Raises:
        OptionError: it is one of the sources, or a folder.
        TargetExistsError: it exists.
    """
    if target.is_dir():
        raise OptionError("target", str(target), "a file name, not a directory")
    if target.exists():
        if any(source.exists() and target.samefile(source) for source in sources):
            raise OptionError("target", str(target), "another file than the sources")
        if not force:
            raise TargetExistsError(target)
