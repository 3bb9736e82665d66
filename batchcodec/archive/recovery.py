"""What the blocks that a scan found are good for: which codecs can be used, and which rows belong to which group.

Steps 6 to 8 of "Rebuilding the index by a scan" in `docs/cpack-format.md`. Nothing is raised for damage: it is returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import xxhash

from batchcodec.archive import wire
from batchcodec.archive.columns import parse_table
from batchcodec.archive.directory import Row
from batchcodec.archive.found import FoundBlock, Scan, State
from batchcodec.archive.scan import RandomAccess
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead, Malformed

_OVERHEAD = 1 << 20
"""Bytes by which a zstd frame and its head may be longer than what they hold; more is no frame of a sane writer."""
_MOST_BYTES: dict[int, int] = {
    BlockType.META: wire.MAX_JSON,
    BlockType.CODEC: wire.MAX_JSON,
    BlockType.MODEL: wire.MAX_MODEL + (wire.MAX_MODEL >> 7) + _OVERHEAD,
    BlockType.DIRECTORY: wire.MAX_DIRECTORY + (wire.MAX_DIRECTORY >> 7) + _OVERHEAD,
}

BAD_STATE = {
    State.REBUILT: "its block header is damaged; the body is whole, and the header is known again",
    State.DAMAGED: "its body is damaged: its checksum is wrong",
    State.LOST: "its block header is damaged, and nothing else confirms the body",
}
"""What is wrong with a block that is not sound."""


@dataclass(frozen=True)
class Problem:
    """A whole block that cannot be used, and why."""

    block: FoundBlock
    reason: str


@dataclass
class Codecs:
    """The codecs of an archive.

    Attributes:
        records: by the reference that groups use, with their models.
        usable: offsets of the MODEL and CODEC blocks that can be used.
        problems: of the others.
    """

    records: dict[int, CodecRecord] = field(default_factory=dict)
    usable: set[int] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class FoundGroup:
    """A GROUP block.

    Attributes:
        number: among all groups found.
        block: where it is, and what is left of it.
    """

    number: int
    block: FoundBlock


@dataclass
class Segment:
    """Blocks up to a DIRECTORY, or what follows the last one.

    Attributes:
        blocks: of all types, in file order.
        groups: of these, the groups.
        directory: of these, the last, which covers the groups; None behind the last DIRECTORY.
        after_gap: how many of the groups stand behind the last gap; None where there is no gap.
    """

    blocks: list[FoundBlock] = field(default_factory=list)
    groups: list[FoundGroup] = field(default_factory=list)
    directory: FoundBlock | None = None
    after_gap: int | None = None


@dataclass(frozen=True)
class Rows:
    """What is known of the items of a segment.

    Attributes:
        of_groups: for each group of the segment its rows, None where they are not known.
        others: rows whose groups are not known.
        reason: why rows are not known; None if all are.
    """

    of_groups: list[list[Row] | None]
    others: list[Row]
    reason: str | None


def body(file: RandomAccess, block: FoundBlock) -> bytes:
    """The body of a whole block that is small by its type.

    Raises:
        Malformed: it is larger than any such block may be, or has items where it may not have any.
    """
    if block.header.n_bytes > _MOST_BYTES[block.type]:
        raise Malformed(f"a {block.name} block of {block.header.n_bytes} bytes, over the limit of {_MOST_BYTES[block.type]}")
    if block.n_items and block.type != BlockType.DIRECTORY:
        raise Malformed(f"a {block.name} block with {block.n_items} items")
    return file.read(block.body, block.header.n_bytes)


def group_head(file: RandomAccess, block: FoundBlock) -> GroupHead:
    """The head of a whole group.

    Raises:
        Malformed: its fields are beyond the limits.
    """
    n_bytes = min(block.header.n_bytes, wire.GROUP.size + 8 * wire.MAX_SKETCH)
    return wire.parse_group(file.read(block.body, n_bytes), block.n_items)


def group_problem(file: RandomAccess, block: FoundBlock, known: Codecs) -> str | None:
    """Why a group is lost, as far as stored bytes tell; None if it is not."""
    if not block.whole:
        return BAD_STATE[block.state]
    try:
        head = group_head(file, block)
    except Malformed as exc:
        return f"its head cannot be used: {exc}"
    if head.codec_ref in known.records:
        return None
    because = "; ".join(f"{p.block.name} at byte {p.block.offset}: {p.reason}" for p in known.problems[:3])
    return f"its codec {head.codec_ref:016x} is lost{f' ({because})' if because else ''}"


def codecs(file: RandomAccess, found: Scan) -> Codecs:
    """The codecs whose blocks are whole and whose models stand before them."""
    result = Codecs()
    models: dict[bytes, bytes] = {}
    for block in found.blocks:
        if not block.whole or block.type not in (BlockType.MODEL, BlockType.CODEC):
            continue
        try:
            data = body(file, block)
            if block.type == BlockType.MODEL:
                sha256, model = wire.parse_model(data, wire.MAX_MODEL - sum(map(len, models.values())))
                models[sha256] = model
            else:
                result.records[block.header.body_check] = _record(data, models)
        except Malformed as exc:
            result.problems.append(Problem(block, str(exc)))
        else:
            result.usable.add(block.offset)
    return result


def _record(data: bytes, models: dict[bytes, bytes]) -> CodecRecord:
    record, wanted = wire.parse_codec(data)
    if wanted is None:
        return record
    if wanted not in models:
        raise Malformed(f"its model {wanted.hex()[:16]} is lost: no whole MODEL block before it holds it")
    return replace(record, model=models[wanted])


def segments(found: Scan) -> Iterator[Segment]:
    """All blocks, cut behind each DIRECTORY. Damaged and lost ones count."""
    gaps = sorted(found.gaps, reverse=True)
    segment = Segment()
    number = 0
    for block in found.blocks:
        while gaps and gaps[-1].start < block.offset:
            gaps.pop()
            segment.after_gap = 0
        segment.blocks.append(block)
        if block.type == BlockType.GROUP:
            segment.groups.append(FoundGroup(number, block))
            number += 1
            if segment.after_gap is not None:
                segment.after_gap += 1
        elif block.type == BlockType.DIRECTORY:
            segment.directory = block
            yield segment
            segment = Segment()
    if segment.blocks:
        yield segment


def rows(file: RandomAccess, segment: Segment) -> Rows:
    """The rows of a segment's groups, as far as its DIRECTORY tells them."""
    block, groups = segment.directory, segment.groups
    nothing: list[list[Row] | None] = [None] * len(groups)
    if block is None and not groups:
        return Rows([], [], None)
    if block is None:
        return Rows(nothing, [], "no DIRECTORY block follows them")
    if not block.whole:
        return Rows(nothing, [], "their DIRECTORY block is damaged")
    try:
        covered, table = wire.parse_directory(body(file, block))
        known = parse_table(table, block.n_items)
    except Malformed as exc:
        return Rows(nothing, [], f"their DIRECTORY block cannot be used: {exc}")
    n_known = len(groups) if segment.after_gap is None else segment.after_gap
    first = len(groups) - n_known
    sizes = [group.block.n_items for group in groups[first:]]
    total = sum(sizes)
    fits = total == len(known) and n_known == covered
    if not fits and (segment.after_gap is None or total >= len(known) or n_known >= covered):
        return Rows(nothing, known, f"their DIRECTORY block is of {covered} other groups with {len(known)} items")
    start = len(known) - total
    others, of_groups = known[:start], nothing[:first]
    for size in sizes:
        of_groups.append(known[start : start + size])
        start += size
    reason = "bytes are lost between them and their DIRECTORY block, and with them maybe another one" if first else None
    return Rows(of_groups, others, reason)


class Keys:
    """Names and orders of many rows in 16 bytes each, to find those that occur twice."""

    def __init__(self) -> None:
        self.highest = -1
        """The highest order."""
        self._names: list[npt.NDArray[np.uint64]] = []
        self._orders: list[npt.NDArray[np.uint64]] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Take some rows."""
        self.note(rows)
        self._names.append(np.array([name_key(row.name) for row in rows], np.uint64))
        self._orders.append(np.array([row.order for row in rows], np.uint64))

    def note(self, rows: Sequence[Row]) -> None:
        """Take the orders of rows that do not count, such as of lost items, for the highest one only."""
        self.highest = max([self.highest, *(row.order for row in rows)])

    def twice(self) -> tuple[set[int], set[int]]:
        """Keys of the names, and the orders, that occur more than once."""
        return _twice(self._names), _twice(self._orders)


def name_key(name: str) -> int:
    """64 bits that stand for a name."""
    return xxhash.xxh3_64_intdigest(name.encode())


def _twice(parts: list[npt.NDArray[np.uint64]]) -> set[int]:
    values = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.uint64)
    return set(values[1:][values[1:] == values[:-1]].tolist())


def placeholder(number: int, image: int) -> str:
    """The name of an item whose own is lost: of the group among all groups found, and of the image in it."""
    return f"lost/{number:06}/{image:06}"
