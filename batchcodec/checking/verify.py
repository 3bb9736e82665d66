"""Checks a whole archive and says what is wrong with it, as data: damage is a finding, never an exception.

Every byte is read once and compared with its checksum, as fast as the disk gives it. The rest of the format text is checked on
top: JSON, models, codecs, heads of groups, the directory. `deep` also decodes all groups and compares them with the digests of
the pixels that were packed, and `against` compares them with the source.

What grows with the archive: some words for each block, 16 bytes for the name and order of each item; with `against` a row for
each item. All else is bounded, the findings too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchcodec.archive import recovery, wire
from batchcodec.archive.blocks import RawFile
from batchcodec.archive.directory import Row
from batchcodec.archive.found import FoundBlock, State
from batchcodec.archive.healing import heal
from batchcodec.archive.reader import Archive
from batchcodec.archive.recovery import FoundGroup
from batchcodec.archive.scan import RandomAccess, scan
from batchcodec.archive.wire import BlockType, Malformed
from batchcodec.checking.comparison import Comparer, Comparison
from batchcodec.checking.decoding import GroupDecoder
from batchcodec.checking.findings import MAX_NAMES, Finding, Findings, Severity
from batchcodec.errors import ArchiveError, InputError, NotAnArchiveError, UnsupportedVersionError
from batchcodec.registry import Registry, registry

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all; decoding a group counts its bytes once more."""


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        verdict: "whole", or the severity of the worst finding ("note" counts as whole).
        version: of the format.
        n_blocks: found or known.
        n_groups: found or known, the bad ones too.
        n_items: of these.
        n_bad_groups: damaged, drifted or not decodable.
        n_bad_items: of these.
        deep: whether groups were decoded.
        n_decoded: groups that were decoded to the very pixels that were packed, or within rounding of them.
        n_rounded: of these, those within rounding.
        counts: number of findings by severity.
        findings: the first of them, in the order of the file.
        comparison: with the source.
        healable: whether the archive is damaged and its parity can restore all of it.
    """

    path: str
    verdict: str
    version: str
    n_bytes: int
    n_blocks: int
    n_groups: int
    n_items: int
    n_bad_groups: int
    n_bad_items: int
    deep: bool
    n_decoded: int
    n_rounded: int
    counts: dict[str, int]
    findings: list[Finding]
    comparison: Comparison | None
    healable: bool


def verify(
    path: Path | str,
    *,
    deep: bool = False,
    against: Path | str | None = None,
    format_id: str | None = None,
    progress: Progress | None = None,
    plugins: Registry | None = None,
) -> VerifyReport:
    """Check a `.cpack` file.

    Args:
        path: the file.
        deep: decode all groups too, and compare the pixels with their digests.
        against: the dataset that was packed; each item is decoded and compared with its original.
        format_id: of that dataset; by default recognised.
        progress: called with bytes.
        plugins: what codecs and formats there are.

    Raises:
        NotAnArchiveError: it cannot be read, or nothing in it is of a `.cpack`.
        UnsupportedVersionError: it is of another major version, and what is right in it is not known.
        InputError: the dataset cannot be read.
    """
    path, plugins = Path(path), plugins or registry()
    with contextlib.ExitStack() as stack:
        verifier = _Verifier(stack.enter_context(RawFile(path)), path, plugins, deep or against is not None, progress)
        if against is not None:
            if not Path(against).exists():
                raise InputError(against, "no such file or directory")
            try:
                archive = stack.enter_context(Archive(path, plugins.restore))
                verifier.comparer = Comparer(archive, Path(against), format_id, plugins)
            except ArchiveError as exc:
                message = f"not compared with {against}: the archive must be repaired first ({exc})"
                verifier.findings.add(Finding("source", Severity.UNDECODABLE, message))
        return verifier.run()


def verify_file(file: RandomAccess, path: Path, plugins: Registry | None = None) -> VerifyReport:
    """Check the stored bytes of an archive; `path` is what messages call it. See `verify`."""
    return _Verifier(file, path, plugins or registry()).run()


@dataclass
class _Verifier:
    """One run."""

    file: RandomAccess
    path: Path
    plugins: Registry
    deep: bool = False
    progress: Progress | None = None
    comparer: Comparer | None = None
    findings: Findings = field(default_factory=Findings)
    n_groups: int = 0
    n_items: int = 0
    n_bad_groups: int = 0
    n_bad_items: int = 0
    n_decoded: int = 0
    n_rounded: int = 0

    def run(self) -> VerifyReport:
        n_bytes = self.done = self.file.n_bytes
        self.total = 2 * n_bytes if self.deep else n_bytes
        try:
            self.found = scan(self.file, lambda done, _: self.tell(done))
        except wire.UnknownVersion as exc:
            raise UnsupportedVersionError(self.path, f"header at byte 0: {exc}", offset=0) from exc
        if self.found.hopeless:
            raise NotAnArchiveError(self.path, f"not a .cpack archive: {self.found.header_error}")
        self.codecs = recovery.codecs(self.file, self.found)
        self.check_framing()
        self.check_end()
        self.check_blocks()
        self.check_groups()
        comparison = self.comparer.finish() if self.comparer else None
        if comparison:
            self.check_comparison(comparison)
        self.tell(self.total)
        return VerifyReport(
            path=str(self.path),
            verdict=self.findings.verdict(),
            version=".".join(map(str, self.found.version)),
            n_bytes=n_bytes,
            n_blocks=len(self.found.blocks),
            n_groups=self.n_groups,
            n_items=self.n_items,
            n_bad_groups=self.n_bad_groups,
            n_bad_items=self.n_bad_items,
            deep=self.deep,
            n_decoded=self.n_decoded,
            n_rounded=self.n_rounded,
            counts=dict(self.findings.counts),
            findings=self.findings.in_file_order(),
            comparison=comparison,
            healable=self.is_healable(),
        )

    def is_healable(self) -> bool:
        if self.findings.verdict() != Severity.DAMAGE:
            return False
        with heal(self.file) as healing:
            return healing.whole

    def tell(self, done: int) -> None:
        if self.progress:
            self.progress(done, self.total)

    def damage(self, kind: str, message: str, start: int, end: int, block: str | None = None, n_items: int = 0) -> None:
        self.findings.add(Finding(kind, Severity.DAMAGE, message, start, end, block, n_items=n_items))

    # ---- what is around the blocks

    def check_framing(self) -> None:
        found = self.found
        if found.header_error:
            self.damage("header", f"the file header is damaged: {found.header_error}", 0, min(wire.HEADER.size, found.n_bytes))
        for gap in found.gaps:
            if gap != found.stump:
                message = f"{gap.end - gap.start:,} bytes that are no block: blocks are lost here, or foreign bytes were put in"
                self.damage("gap", message, *gap)
        n_uncertain = sum(block.uncertain for block in found.blocks)
        if n_uncertain:
            message = f"{n_uncertain:,} blocks stand behind a gap: they may be part of what a lost payload held"
            self.findings.add(Finding("uncertain", Severity.NOTE, message))
        if found.passed_over:
            message = f"{found.passed_over:,} places look like blocks and were not tried: too many are none"
            self.damage("gap", message, wire.HEADER.size, found.n_bytes)

    def check_end(self) -> None:
        """Index and trailer, or how the file ends without them."""
        found, end = self.found, self.found.n_bytes
        last = found.blocks[-1] if found.blocks else None
        has_index = last is not None and last.type == BlockType.INDEX
        if found.index_error and (has_index or found.trailer_error is None):
            start, stop = (last.offset, min(last.end, end)) if last and has_index else (end - wire.TRAILER.size, end)
            self.damage("index", f"the index cannot be used: {found.index_error}; it can be made anew", start, stop)
        if found.trailer_error is None:
            return
        if found.cut:
            message = f"the file ends inside of a {found.cut.name} block, and lacks {found.cut.end - end:,} bytes of it: {_CUT}"
            n_items = found.cut.n_items if found.cut.type == BlockType.GROUP else 0
            self.damage("end", message, found.cut.offset, end, found.cut.name, n_items)
        elif found.stump:
            message = f"the file ends {end - found.stump.start} bytes after the start of a block header: {_CUT}"
            self.damage("end", message, *found.stump)
        elif last is None or not has_index:
            after = f"after a whole {last.name} block" if last and last.end == end else "with bytes that are no block"
            self.damage("end", f"the file ends {after}; index and trailer are missing: {_CUT}", end, end)
        elif (left := end - last.end) < wire.TRAILER.size:
            message = f"only {max(0, left)} of the {wire.TRAILER.size} bytes of the trailer are there: the end was cut off"
            self.damage("trailer", message, min(last.end, end), end)
        elif left > wire.TRAILER.size:
            message = f"{left:,} bytes stand behind the index, and not the {wire.TRAILER.size} of the trailer alone"
            self.damage("trailer", f"{message}: {found.trailer_error}", last.end, end)
        else:
            self.damage("trailer", f"the trailer is damaged: {found.trailer_error}", last.end, end)

    # ---- blocks but groups

    def check_blocks(self) -> None:
        problems = {problem.block.offset: problem.reason for problem in self.codecs.problems}
        for block in self.found.blocks:
            if block.type in (BlockType.GROUP, BlockType.INDEX):
                continue
            message = None
            if block.state != State.SOUND:
                message = recovery.BAD_STATE[block.state]
            elif block.type == BlockType.META:
                message = self.meta_problem(block)
            elif block.type not in BlockType.__members__.values():
                message = self.unknown_problem(block)
            message = message or problems.get(block.offset)
            if message is not None:
                message += "" if block.whole and block.state != State.SOUND else _CONSEQUENCE.get(block.type, "")
                self.damage("block", message, block.offset, block.end, block.name)

    def meta_problem(self, block: FoundBlock) -> str | None:
        try:
            wire.parse_json(recovery.body(self.file, block))
        except Malformed as exc:
            return f"it cannot be read: {exc}"
        return None

    def unknown_problem(self, block: FoundBlock) -> str | None:
        if block.header.required:
            return "it is required for reading, and unknown to this batchcodec: a later one may read the archive"
        message = "a block that this batchcodec does not know, and that is not needed for reading; its checksum is right"
        self.findings.add(Finding("block", Severity.NOTE, message, block.offset, block.end, block.name))
        return None

    # ---- groups and their rows

    def check_groups(self) -> None:
        keys, decoder = recovery.Keys(), GroupDecoder(self.file, self.codecs, self.plugins)
        for segment in recovery.segments(self.found):
            known = recovery.rows(self.file, segment)
            for group, rows in zip(segment.groups, known.of_groups, strict=True):
                self.check_group(group, rows, decoder)
                keys.add(rows or [])
            self.check_directory(segment, known)
        names, orders = keys.twice()
        if names or orders:
            self.check_keys(names, orders)

    def check_group(self, group: FoundGroup, rows: list[Row] | None, decoder: GroupDecoder) -> None:
        block, pixels = group.block, None
        self.n_groups += 1
        self.n_items += block.n_items
        if block.state == State.REBUILT:
            self.damage("block", recovery.BAD_STATE[block.state], block.offset, block.body, block.name)
        message = recovery.group_problem(self.file, block, self.codecs)
        severity = Severity.DAMAGE if message is not None else None
        if severity is None and self.deep:
            decoded = decoder.decode(group)
            severity, message, pixels = decoded.severity, decoded.message, decoded.pixels
            self.n_decoded += pixels is not None
            self.n_rounded += pixels is not None and not decoded.exact
        if self.comparer and rows is not None:
            self.comparer.add(rows, pixels)
        if severity is not None:
            self.n_bad_groups += 1
            self.n_bad_items += block.n_items
            self.of_group(group, "group", severity, str(message), block.n_items, rows or [])
        if self.deep:
            self.done += block.end - block.offset
            self.tell(self.done)

    def of_group(
        self, group: FoundGroup, kind: str, severity: Severity, message: str, n_items: int, rows: Sequence[Row]
    ) -> None:
        names, block = [row.name for row in rows[:MAX_NAMES]], group.block
        self.findings.add(Finding(kind, severity, message, block.offset, block.end, "GROUP", group.number, n_items, names))

    def check_directory(self, segment: recovery.Segment, known: recovery.Rows) -> None:
        block = segment.directory or segment.blocks[-1]
        if known.reason is not None:
            self.check_unnamed(segment, known)
        if known.others:
            names = [row.name for row in known.others[:MAX_NAMES]]
            message = "names of items that are lost, or that are there and cannot be told from the others"
            finding = Finding(
                "directory", Severity.DAMAGE, message, block.offset, block.end, "DIRECTORY", None, len(known.others), names
            )
            self.findings.add(finding)

    def check_unnamed(self, segment: recovery.Segment, known: recovery.Rows) -> None:
        block = segment.directory or segment.groups[0].block
        unnamed = [group for group, rows in zip(segment.groups, known.of_groups, strict=True) if rows is None]
        n_items = sum(group.block.n_items for group in unnamed)
        message = f"names, order, labels and attributes of {len(unnamed):,} groups are lost: {known.reason}"
        self.damage("directory", message, block.offset, segment.blocks[-1].end, "DIRECTORY", n_items)

    def check_keys(self, names: set[int], orders: set[int]) -> None:
        """Find the items whose names or orders others have too."""
        seen: set[str | int] = set()
        for segment in recovery.segments(self.found):
            for group, rows in zip(segment.groups, recovery.rows(self.file, segment).of_groups, strict=True):
                named = [row for row in rows or [] if recovery.name_key(row.name) in names and _again(row.name, seen)]
                placed = [row for row in rows or [] if row.order in orders and _again(row.order, seen)]
                for again, what in ((named, "names"), (placed, "places in the dataset")):
                    if again:
                        message = f"items have {what} that items before them have"
                        self.of_group(group, "rows", Severity.DAMAGE, message, len(again), again)

    # ---- the source

    def check_comparison(self, found: Comparison) -> None:
        unequal = [item.name for item in found.items if item.max_error] if found.lossless else []
        for message, n_items, names in (
            ("items that the source does not have, or not in this size", found.n_missing, found.missing),
            ("items of the source that are not in the archive", found.n_extra, found.extra),
            ("items that are not equal to the source, though they were packed without loss", len(unequal), unequal),
        ):
            if n_items:
                self.findings.add(Finding("source", Severity.DIFFERENCE, message, n_items=n_items, items=names[:MAX_NAMES]))


_CUT = "packing was interrupted, or the end was cut off"
_CONSEQUENCE: dict[int, str] = {
    BlockType.META: "; the images are not concerned",
    BlockType.MODEL: "; the groups whose codec needs this model are lost",
    BlockType.CODEC: "; the groups of this codec are lost",
}


def _again(value: str | int, seen: set[str | int]) -> bool:
    """Whether a value was seen before."""
    before = value in seen
    seen.add(value)
    return before
