"""Opens a `.cpack` file and gives random access to its items. Nothing in the file is trusted.

    archive[5]          the sixth item of the dataset as it was packed
    archive["a/b.png"]  the item of that name
    archive[10:20]      a list of items

Decoding an item decodes its group, whose pixels stay in a small cache; stored bytes are checked against their checksum, and
decoded pixels against their digest. Reading is thread-safe: the file is read by position, and the cache has a lock.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from batchcodec.archive import digest, directory, wire
from batchcodec.archive.blocks import BlockFile
from batchcodec.archive.directory import Row
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead
from batchcodec.archive.writer import ByteCount
from batchcodec.codec import Codec
from batchcodec.errors import (
    BatchcodecError,
    CodecError,
    CorruptArchiveError,
    CorruptGroupError,
    ItemNotFoundError,
    PayloadError,
)
from batchcodec.types import JSON, Item, Pixels

NOTES = "batchcodec:notes"
"""The attribute that keeps `Item.notes`."""

CACHE_BYTES = 64 << 20

Restore = Callable[[CodecRecord], Codec]
"""Gives the decoder for a codec record; the archive itself knows no codec."""


class Archive(Sequence[Item]):
    """A `.cpack` file, open for reading. Use it in a `with` block, or call `close`.

    Args:
        path: the file.
        restore: gives decoders.
        cache_bytes: decoded pixels to keep; at least one group is always kept.

    Raises:
        NotAnArchiveError, UnsupportedVersionError, TruncatedArchiveError, CorruptArchiveError: as they say.
    """

    def __init__(self, path: Path | str, restore: Restore, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = Path(path)
        self._restore = restore
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[int, Pixels] = OrderedDict()
        self._lock = threading.RLock()
        self._decoders: dict[int, Codec] = {}
        self.rounded_groups: set[int] = set()
        """Groups that so far decoded to pixels that are not the very ones that were packed, but within rounding of them."""
        self._blocks = BlockFile(self.path)
        self._groups = [entry for entry in self._blocks.entries if entry.type == BlockType.GROUP]
        self._starts = [0]
        for entry in self._groups:
            self._starts.append(self._starts[-1] + entry.n_items)

    # ---- what the archive says of itself

    @property
    def version(self) -> tuple[int, int]:
        """Major and minor version of the format."""
        return self._blocks.version

    @property
    def n_bytes(self) -> int:
        """Length of the file."""
        return self._blocks.n_bytes

    @cached_property
    def meta(self) -> dict[str, JSON]:
        """How the archive was made: preprocessing, codec options, version, what was skipped."""
        merged: dict[str, JSON] = {}
        for entry, body in self._blocks.bodies(BlockType.META):
            with self._blocks.parsing("META", entry.offset):
                merged |= wire.parse_json(body)
        return merged

    @cached_property
    def codecs(self) -> dict[int, CodecRecord]:
        """Codec records, with their models, by the reference that groups use.

        Raises:
            CorruptArchiveError: one of them is damaged; groups of the others can still be decoded.
        """
        records, damage = self._codecs
        if damage:
            raise damage[0]
        return records

    @cached_property
    def _codecs(self) -> tuple[dict[int, CodecRecord], list[CorruptArchiveError]]:
        """The records that are whole, and what is wrong with the others."""
        models: dict[bytes, bytes] = {}
        records: dict[int, CodecRecord] = {}
        damage: list[CorruptArchiveError] = []
        for entry in self._blocks.entries:
            if entry.type not in (BlockType.MODEL, BlockType.CODEC):
                continue
            try:
                body = self._blocks.body(entry)
                with self._blocks.parsing(BlockType(entry.type).name, entry.offset):
                    if entry.type == BlockType.MODEL:
                        sha256, model = wire.parse_model(body, wire.MAX_MODEL - sum(map(len, models.values())))
                        models[sha256] = model
                        continue
                    record, wanted = wire.parse_codec(body)
                    if wanted is not None and wanted not in models:
                        raise wire.Malformed(f"no model {wanted.hex()[:16]} stands before it")
                    records[wire.checksum(body)] = replace(record, model=models[wanted]) if wanted else record
            except CorruptArchiveError as exc:
                damage.append(exc)
        return records, damage

    @cached_property
    def rows(self) -> list[Row]:
        """The directory, in the order of groups."""
        rows: list[Row] = []
        n_groups = 0
        if sum(entry.n_items for entry in self._blocks.entries if entry.type == BlockType.DIRECTORY) != len(self):
            raise CorruptArchiveError(self.path, "the directory has other items than the groups")
        for entry, body in self._blocks.bodies(BlockType.DIRECTORY):
            with self._blocks.parsing("DIRECTORY", entry.offset):
                covered, table = wire.parse_directory(body)
                rows += directory.parse_table(table, entry.n_items)
                n_groups += covered
                before = bisect.bisect_left(self._groups, entry.offset, key=lambda group: group.offset)
                if n_groups != before or len(rows) != self._starts[before]:
                    raise wire.Malformed("its items are not those of the groups before it")
        if n_groups != len(self._groups):
            raise CorruptArchiveError(self.path, "groups without a directory")
        return rows

    @cached_property
    def _positions(self) -> list[int]:
        """Place in the groups for each item of the dataset, in dataset order."""
        orders = np.array([row.order for row in self.rows], np.int64)
        if (np.diff(orders) > 0).all():
            return list(range(len(orders)))
        if len(np.unique(orders)) != len(orders):
            raise CorruptArchiveError(self.path, "two items have one place in the dataset")
        positions: list[int] = np.argsort(orders, kind="stable").tolist()
        return positions

    @cached_property
    def names(self) -> list[str]:
        """Names in dataset order."""
        return [self.rows[p].name for p in self._positions]

    @cached_property
    def labels(self) -> list[str | None]:
        """Labels in dataset order."""
        return [self.rows[p].label for p in self._positions]

    @cached_property
    def _by_name(self) -> dict[str, int]:
        by_name = {name: i for i, name in enumerate(self.names)}
        if len(by_name) != len(self.names):
            raise CorruptArchiveError(self.path, "two items have one name")
        return by_name

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self._groups)

    @property
    def in_order(self) -> bool:
        """Whether the groups hold the items in the order of the dataset."""
        return self._positions == list(range(len(self)))

    def group_items(self, group: int) -> int:
        """Number of images of a group."""
        return self._groups[group].n_items

    def group_bytes(self, group: int) -> int:
        """Bytes of the body of a group: head and payload."""
        return self._groups[group].n_bytes

    def group_head(self, group: int) -> GroupHead:
        """Spec, codec and digest of a group, without reading its payload."""
        entry = self._groups[group]
        with self._blocks.parsing(f"group {group}", entry.offset):
            n_bytes = min(entry.n_bytes, wire.GROUP.size + 8 * wire.MAX_SKETCH)
            return wire.parse_group(self._blocks.read(entry.offset + wire.BLOCK.size, n_bytes), entry.n_items)

    def byte_count(self) -> ByteCount:
        """Where the bytes are; the sum is the length of the file."""
        count = ByteCount(framing=wire.HEADER.size + wire.TRAILER.size)
        group = 0
        for entry in self._blocks.entries:
            n_head = 0
            if entry.type == BlockType.GROUP:
                n_head = self.group_head(group).n_bytes
                group += 1
            count.add(entry.type, entry.n_bytes, n_head)
        count.add(BlockType.INDEX, self._blocks.index_bytes)
        return count

    # ---- items

    def decode_group(self, group: int) -> Pixels:
        """The images of a group, uint8 or uint16 [N, H, W, C]; read-only, from the cache where possible.

        Raises:
            CorruptGroupError: the stored bytes are damaged.
            DriftError: the decoded pixels are not those that were packed.
        """
        with self._lock:
            if group in self._cache:
                self._cache.move_to_end(group)
                return self._cache[group]
        pixels = self._decode_group(group)
        pixels.flags.writeable = False
        with self._lock:
            self._cache[group] = pixels
            while len(self._cache) > 1 and sum(p.nbytes for p in self._cache.values()) > self._cache_bytes:
                self._cache.popitem(last=False)
        return pixels

    def _decode_group(self, group: int) -> Pixels:
        entry = self._groups[group]
        try:
            body = self._blocks.body(entry)
            with self._blocks.parsing(f"group {group}", entry.offset):
                head = wire.parse_group(body, entry.n_items)
                codec = self._decoder(head.codec_ref)
            pixels = codec.decode(body[head.n_bytes :], head.spec)
        except (CorruptArchiveError, PayloadError) as exc:
            # Both are damage of this group alone: the others stay readable.
            raise CorruptGroupError(self.path, f"group {group}: {exc}", group=group, items=entry.n_items) from exc
        except BatchcodecError as exc:
            exc.place(self.path, f"group {group}", group=group)
            raise
        except Exception as exc:  # a codec may be anybody's
            raise CodecError(f"{self.path}: group {group}: its codec failed: {type(exc).__name__}: {exc}", group=group) from exc
        if pixels.shape != head.spec.shape or str(pixels.dtype) != head.spec.image.dtype:
            raise CorruptGroupError(
                self.path, f"group {group}: decoded to {pixels.shape} {pixels.dtype}, not {head.spec.shape}", group=group
            )
        exact = self._codecs[0][head.codec_ref].exact
        if not digest.check(pixels, head.digest, head.sketch, exact=exact, where=f"{self.path}: group {group}"):
            self.rounded_groups.add(group)
        return pixels

    def _decoder(self, reference: int) -> Codec:
        with self._lock:
            if reference not in self._decoders:
                records, damage = self._codecs
                if reference not in records:
                    because = f": {damage[0]}" if damage else ""
                    raise wire.Malformed(f"codec {reference:016x} is not in the archive{because}")
                self._decoders[reference] = self._restore(records[reference])
            return self._decoders[reference]

    def locate(self, index: int) -> tuple[int, int]:
        """(group, place in it) of an item of the dataset."""
        position = self._positions[index]
        group = bisect.bisect_right(self._starts, position) - 1
        return group, position - self._starts[group]

    def groups_of(self, indices: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The group of each of some items of the dataset: int64 [n]."""
        positions = np.array(self._positions, np.int64)[np.asarray(indices, np.int64)]
        return np.searchsorted(np.array(self._starts, np.int64), positions, "right") - 1

    def _item(self, index: int) -> Item:
        group, place = self.locate(index)
        return self._with_pixels(self.rows[self._positions[index]], self.decode_group(group)[place])

    def _with_pixels(self, row: Row, pixels: Pixels) -> Item:
        attributes = dict(row.attributes)
        notes = attributes.pop(NOTES, [])
        texts = tuple(str(note) for note in notes) if isinstance(notes, list) else ()
        return Item(row.name, pixels, row.label, attributes, texts)

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, key: int | str) -> Item: ...
    @overload
    def __getitem__(self, key: slice) -> list[Item]: ...
    def __getitem__(self, key: Any) -> Any:
        """An item by place or name, or a list of items by slice."""
        if isinstance(key, slice):
            return [self._item(i) for i in range(*key.indices(len(self)))]
        if isinstance(key, str):
            if key not in self._by_name:
                raise ItemNotFoundError(self.path, f"no item is named {key!r}", item=key)
            return self._item(self._by_name[key])
        index = key + len(self) if key < 0 else key
        if not 0 <= index < len(self):
            # IndexError ends old-style iteration, so the class that users catch is one too.
            raise _IndexNotFoundError(self.path, f"item {key} of {len(self)}", item=int(key))
        return self._item(index)

    def __iter__(self) -> Iterator[Item]:
        """All items in dataset order, each group decoded once where the dataset's order allows."""
        return (self._item(i) for i in range(len(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def groups(
        self,
        on_damage: Callable[[int, BatchcodecError], None] | None = None,
        only: Iterable[int] | None = None,
    ) -> Iterator[list[tuple[int, Item]]]:
        """For each group its items, with their places in the dataset. Each group is decoded once, past the cache.

        Args:
            on_damage: called with the group and the error in place of raising; that group is left out.
            only: the groups that are wanted; all by default.
        """
        index_of = np.argsort(self._positions)  # the inverse of a permutation
        for group in range(self.n_groups) if only is None else only:
            try:
                pixels = self._decode_group(group)
            except BatchcodecError as exc:
                if on_damage is None:
                    raise
                on_damage(group, exc)
                continue
            start = self._starts[group]
            yield [(int(index_of[start + i]), self._with_pixels(self.rows[start + i], p)) for i, p in enumerate(pixels)]

    def close(self) -> None:
        """Close the file; reading is over."""
        self._blocks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _IndexNotFoundError(ItemNotFoundError, IndexError):
    """A place beyond the last item."""
