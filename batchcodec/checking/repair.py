"""Rebuilds a damaged archive by the recipe of `docs/cpack-format.md`: what is whole is copied, what is lost is listed.

Where the archive has parity, damaged bytes are first restored from it, as far as it goes.

Sound MODEL, CODEC, GROUP and META blocks are copied byte for byte, and so are DIRECTORY blocks all of whose groups are kept.
The others, index and trailer are made anew. The result is checked like any archive before it appears. The source is only read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from batchcodec.archive import directory, recovery, wire
from batchcodec.archive.blocks import BlockFile, RawFile
from batchcodec.archive.copying import BlockCopier
from batchcodec.archive.directory import Row
from batchcodec.archive.found import FoundBlock, Scan, State
from batchcodec.archive.healing import Healing, heal
from batchcodec.archive.recovery import FoundGroup, Segment
from batchcodec.archive.scan import RandomAccess, scan
from batchcodec.archive.wire import BlockType, Malformed
from batchcodec.archive.writer import SEGMENT_ITEMS
from batchcodec.atomic import atomic_file
from batchcodec.checking.verify import verify_file
from batchcodec.errors import (
    CorruptArchiveError,
    NotAnArchiveError,
    OptionError,
    TargetExistsError,
    TruncatedArchiveError,
    UnsupportedVersionError,
)
from batchcodec.types import JSON
from batchcodec.version import __version__

MAX_RECORDED = 1000
"""Losses that the repaired archive lists in its META, and names in all of them times five; the report has all."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all: the source is read twice, the result once."""


@dataclass(frozen=True)
class Lost:
    """Bytes of the damaged file that are not in the repaired one.

    Attributes:
        block: type of the block, or "gap" where none is known.
        start: first byte.
        end: the byte behind it.
        reason: why they are lost.
        group: number of the group.
        n_items: images in it.
        items: their names, where they are known.
    """

    block: str
    start: int
    end: int
    reason: str
    group: int | None = None
    n_items: int = 0
    items: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Unnamed:
    """A group whose images are kept and whose names, order, labels and attributes are lost; the names that it got instead."""

    group: int
    n_items: int
    first_name: str
    reason: str


@dataclass(frozen=True)
class RepairReport:
    """What was kept, made anew and lost. Sizes in bytes.

    Attributes:
        n_bytes: of the repaired archive.
        source_bytes: of the damaged one.
        n_groups: kept.
        n_items: kept.
        n_lost_groups: known to be lost; what a gap held is not known.
        n_lost_items: of these.
        n_unnamed_items: kept, with new names.
        lost: all that is lost, in file order.
        unnamed: groups whose items have new names.
        names_without_item: names that are known, of items that are lost, or that are kept under new names.
        rebuilt: what was made anew without loss: "file header", "block header", "index", "trailer".
        identical: whether nothing was lost: the archive is then, byte for byte, what it was before the damage.
        has_parity: whether the damaged file has parity that can be used.
        restored: ranges of bytes that were restored from it.
    """

    source: str
    target: str
    n_bytes: int
    source_bytes: int
    n_groups: int
    n_items: int
    n_lost_groups: int
    n_lost_items: int
    n_unnamed_items: int
    lost: list[Lost]
    unnamed: list[Unnamed]
    names_without_item: list[str]
    rebuilt: list[str]
    identical: bool
    has_parity: bool
    restored: list[tuple[int, int]]


def repair(source: Path | str, target: Path | str, *, force: bool = False, progress: Progress | None = None) -> RepairReport:
    """Write what is whole of a damaged archive to a new one, which appears whole at `target` or not at all.

    Args:
        source: the damaged file; it is not changed.
        target: the new one.
        force: replace an existing target.
        progress: called with bytes.

    Raises:
        NotAnArchiveError: the source cannot be read, or nothing in it is of a `.cpack`.
        UnsupportedVersionError: it needs a later version.
        TruncatedArchiveError, CorruptArchiveError: no group can be recovered.
        TargetExistsError, OutputError: the target exists or cannot be written.
    """
    source, target = Path(source), Path(target)
    if target.is_dir():
        raise OptionError("target", str(target), "a file name, not a directory")
    if target.exists() and source.exists() and target.samefile(source):
        raise OptionError("target", str(target), "another file than the damaged archive, which is never changed")
    if target.exists() and not force:
        raise TargetExistsError(target)
    with RawFile(source) as damaged, heal(damaged) as healing:
        file = healing.file
        found = _scanned(file, source, progress)
        repairing = _Repairing(file, source, found, healing, progress)
        repairing.look()
        with atomic_file(target) as out:
            repairing.write(out)
            out.flush()
            _check(out, source, target)
            if progress:
                progress(3 * found.n_bytes, 3 * found.n_bytes)
            return repairing.report(target, out.tell())


def _scanned(file: RandomAccess, source: Path, progress: Progress | None) -> Scan:
    """The blocks of a file that can be repaired at all."""
    try:
        found = scan(file, (lambda done, total: progress(done, 3 * total)) if progress else None)
    except wire.UnknownVersion as exc:
        raise UnsupportedVersionError(source, f"header at byte 0: {exc}", offset=0) from exc
    if found.hopeless:
        raise NotAnArchiveError(source, f"not a .cpack archive: {found.header_error}")
    for block in found.blocks:
        if _is_other(block) and block.header.required and not block.uncertain:
            reason = f"a block of {block.name} at byte {block.offset} is required and unknown to this batchcodec; a later one"
            raise UnsupportedVersionError(source, f"{reason} can repair the archive", offset=block.offset)
    return found


def _is_other(block: FoundBlock) -> bool:
    """Whether a block is neither copied by the recipe nor made anew."""
    return block.type not in _KNOWN


_KNOWN = {
    BlockType.META,
    BlockType.MODEL,
    BlockType.CODEC,
    BlockType.GROUP,
    BlockType.DIRECTORY,
    BlockType.INDEX,
}
"""PARITY is not among them: it covers bytes that are now others, unless nothing is lost."""


def _check(out: BinaryIO, source: Path, target: Path) -> None:
    """Open and verify what was written."""
    report = verify_file(BlockFile(target, out), target)
    if report.verdict != "whole":
        problem = next(finding for finding in report.findings if finding.severity == report.verdict)
        raise CorruptArchiveError(
            source, f"what was recovered is no sound archive ({problem.message}); did the file change meanwhile?"
        )


@dataclass
class _Repairing:
    """One run: `look` at all that is known, then `write`."""

    file: RandomAccess
    source: Path
    found: Scan
    healing: Healing
    progress: Progress | None
    lost: list[Lost] = field(default_factory=list)
    unnamed: list[Unnamed] = field(default_factory=list)
    names_without_item: list[str] = field(default_factory=list)
    n_groups: int = 0
    n_items: int = 0
    n_unnamed: int = 0
    out_of_reach: set[int] = field(default_factory=set)
    """Offsets of the blocks that are not kept."""

    # ---- first pass

    def look(self) -> None:
        """Decide what is kept.

        `is_complete` says whether nothing is lost but headers, index and trailer, so that the archive becomes what it was.
        """
        is_named = True
        self.codecs = recovery.codecs(self.file, self.found)
        self.taken_names: set[str] = set()
        keys = recovery.Keys()
        for gap in self.found.gaps:
            self.lost.append(self.gap(gap.start, gap.end))
        for segment in recovery.segments(self.found):
            known = recovery.rows(self.file, segment)
            rows_of = dict(zip((group.number for group in segment.groups), known.of_groups, strict=True))
            self.names_without_item += [row.name for row in known.others]
            keys.note(known.others)
            groups = iter(segment.groups)
            for block in segment.blocks:
                group = next(groups) if block.type == BlockType.GROUP else None
                rows = (rows_of[group.number] if group else None) or []
                reason = self.problem(block)
                if reason is not None:
                    self.lose(block, reason, group, rows)
                    keys.note(rows)
                elif group:
                    self.n_groups += 1
                    self.n_items += block.n_items
                    keys.add(rows)
                    self.taken_names |= {row.name for row in rows if row.name.startswith("lost/")}
            if known.reason is not None and segment.directory and segment.directory.whole:
                self.lose(segment.directory, known.reason, None, [])
            is_named &= known.reason is None
        self.twice, self.next_order = keys.twice(), keys.highest + 1
        self.seen: set[int | str] = set()
        last = self.found.blocks[-1] if self.found.blocks else None
        ends_well = last is not None and last.type == BlockType.INDEX
        self.is_complete = ends_well and is_named and not self.lost and self.twice == (set(), set())
        if not self.is_complete:
            for block in self.found.blocks:
                if _is_other(block) and block.whole:
                    self.lose(block, "what it says of the archive may not hold for what is left of it", None, [])
        self.lost.sort(key=lambda lost: lost.start)
        if not self.n_groups and not self.is_complete:
            kind = TruncatedArchiveError if self.found.trailer_error else CorruptArchiveError
            losses = [f"{lost.block} at byte {lost.start}: {lost.reason}" for lost in self.lost[:3]]
            because = "; ".join(losses) or f"the file ends at byte {self.found.n_bytes}, before the first group"
            raise kind(self.source, f"nothing can be recovered: not one group is whole and has its codec ({because})")

    def gap(self, start: int, end: int) -> Lost:
        cut = self.found.cut
        if cut is None or cut.offset != start:
            is_stump = (start, end) == self.found.stump
            return Lost("gap", start, end, "the file ends inside of a block header" if is_stump else "these bytes are no block")
        n_items = cut.n_items if cut.type == BlockType.GROUP else 0
        return Lost(cut.name, start, end, f"the file ends inside of this block, and lacks {cut.end - end} bytes", None, n_items)

    def problem(self, block: FoundBlock) -> str | None:
        """Why a block is not kept; None if it is."""
        if block.type == BlockType.INDEX:
            return None  # made anew
        if block.type == BlockType.GROUP:
            return recovery.group_problem(self.file, block, self.codecs)
        if not block.whole:
            return recovery.BAD_STATE[block.state]
        if block.type in (BlockType.MODEL, BlockType.CODEC) and block.offset not in self.codecs.usable:
            return next(problem.reason for problem in self.codecs.problems if problem.block.offset == block.offset)
        if block.type == BlockType.META:
            try:
                wire.parse_json(recovery.body(self.file, block))
            except Malformed as exc:
                return str(exc)
        return None

    def lose(self, block: FoundBlock, reason: str, group: FoundGroup | None, rows: list[Row]) -> None:
        self.out_of_reach.add(block.offset)
        number, n_items = (group.number, block.n_items) if group else (None, 0)
        names = [row.name for row in rows]
        self.lost.append(Lost(block.name, block.offset, block.end, reason, number, n_items, names))

    # ---- second pass

    def write(self, file: BinaryIO) -> None:
        """Write the repaired archive."""
        out = BlockCopier(file, wire.pack_header() if self.found.header_error else self.file.read(0, wire.HEADER.size))
        for segment in recovery.segments(self.found):
            self.write_segment(segment, out)
        if not self.is_complete:
            out.add(BlockType.META, wire.pack_json({"repaired": self.record()}), required=False)
        out.finish()

    def write_segment(self, segment: Segment, out: BlockCopier) -> None:
        """The blocks of a segment, and DIRECTORY blocks for its groups: its own, if that still fits."""
        known = recovery.rows(self.file, segment)
        kept: list[list[Row]] = []
        fits = known.reason is None and not known.others and segment.directory is not None
        pending = 0
        groups = iter(zip(segment.groups, known.of_groups, strict=True))
        for block in segment.blocks:
            keeping = block.offset not in self.out_of_reach
            if block.type == BlockType.GROUP:
                group, rows = next(groups)
                if not keeping:
                    fits = False
                    continue
                out.copy(self.file, block)
                if rows is None or self.is_taken(rows):
                    rows, fits = self.placeholders(group, known.reason or "other items have these names or places"), False
                kept.append(rows)
                pending += len(rows)
                if not fits and pending >= SEGMENT_ITEMS and known.reason is not None:
                    self.add_directory(kept, out)
                    kept, pending = [], 0
            elif block.type == BlockType.DIRECTORY:
                if fits:
                    out.copy(self.file, block)
                    kept = []
            elif block.type != BlockType.INDEX and keeping:
                out.copy(self.file, block)
            if self.progress:
                self.progress(self.found.n_bytes + min(block.end, self.found.n_bytes), 3 * self.found.n_bytes)
        if kept:
            self.add_directory(kept, out)

    def add_directory(self, kept: list[list[Row]], out: BlockCopier) -> None:
        rows = [row for rows in kept for row in rows]
        out.add(BlockType.DIRECTORY, wire.pack_directory(directory.pack_table(rows), len(kept)), len(rows))

    def is_taken(self, rows: list[Row]) -> bool:
        """Whether a name or an order of a group is that of an item before it."""
        names, orders = self.twice
        doubtful: set[int | str] = {row.name for row in rows if names and recovery.name_key(row.name) in names}
        doubtful |= {row.order for row in rows if row.order in orders}
        taken = bool(doubtful & self.seen)
        if not taken:
            self.seen |= doubtful
        return taken

    def placeholders(self, group: FoundGroup, reason: str) -> list[Row]:
        """Rows for a group whose own are lost."""
        n_items = group.block.n_items
        if self.next_order + n_items > 1 << 63:
            raise CorruptArchiveError(self.source, f"no place in the dataset is left behind item {self.next_order - 1}")
        rows = []
        for image in range(n_items):
            name = recovery.placeholder(group.number, image)
            while name in self.taken_names:  # of an earlier repair
                name = f"lost/{name}"
            rows.append(Row(self.next_order + image, name))
        self.next_order += n_items
        self.n_unnamed += n_items
        self.unnamed.append(Unnamed(group.number, n_items, rows[0].name, reason))
        return rows

    # ---- what is said of it

    def record(self) -> dict[str, JSON]:
        """What the repaired archive says of itself."""
        room = 5 * MAX_RECORDED
        lost: list[JSON] = []
        for entry in self.lost[:MAX_RECORDED]:
            names = [name[:300] for name in entry.items[: max(0, room)]]
            room -= len(names)
            lost.append({key: value for key, value in asdict(replace(entry, items=names)).items() if value not in (None, [])})
        return {
            "by": f"batchcodec {__version__}",
            "n_lost": len(self.lost),
            "n_lost_groups": sum(entry.block == "GROUP" for entry in self.lost),
            "n_lost_items": sum(entry.n_items for entry in self.lost),
            "n_unnamed_items": self.n_unnamed,
            "lost": lost,
        }

    def rebuilt(self) -> list[str]:
        found = self.found
        names = {
            "file header": found.header_error is not None,
            "block header": any(block.state == State.REBUILT for block in found.blocks),
            "index": found.index_error is not None,
            "trailer": found.trailer_error is not None,
        }
        return [name for name, is_new in names.items() if is_new]

    def report(self, target: Path, n_bytes: int) -> RepairReport:
        """The whole story."""
        return RepairReport(
            source=str(self.source),
            target=str(target),
            n_bytes=n_bytes,
            source_bytes=self.found.n_bytes,
            n_groups=self.n_groups,
            n_items=self.n_items,
            n_lost_groups=sum(entry.block == "GROUP" for entry in self.lost),
            n_lost_items=sum(entry.n_items for entry in self.lost),
            n_unnamed_items=self.n_unnamed,
            lost=self.lost,
            unnamed=self.unnamed,
            names_without_item=self.names_without_item,
            rebuilt=self.rebuilt(),
            identical=self.is_complete,
            has_parity=self.healing.geometry is not None,
            restored=self.healing.restored,
        )
