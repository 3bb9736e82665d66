"""An archive that is open: what it says of itself, and how it lives: closing, forks, pickles. `reader` has access to items."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from batchcodec import machine
from batchcodec.archive import wire
from batchcodec.archive.blocks import BlockFile
from batchcodec.archive.directory import Row
from batchcodec.archive.gathering import Gatherer
from batchcodec.archive.groups import Groups, Restore
from batchcodec.archive.items import Items
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead
from batchcodec.archive.writer import ByteCount
from batchcodec.errors import ArchiveError
from batchcodec.types import JSON, Item, Pixels

NOTES = "batchcodec:notes"
"""The attribute that keeps `Item.notes`."""

CACHE_BYTES = 64 << 20


class OpenArchive:
    """What an `Archive` is besides access to its items; arguments and errors are there."""

    def __init__(
        self, path: Path | str, restore: Restore, *, cache_bytes: int = CACHE_BYTES, strict: bool = False, workers: int = 0
    ) -> None:
        machine.reuse_freed_memory()
        self.path = Path(path)
        self._blocks = BlockFile(self.path)
        self._groups = Groups(self._blocks, restore, cache_bytes=cache_bytes, strict=strict)
        self._items = Items(self._blocks, self._groups.entries)
        self._gatherer = Gatherer(self.path, self._groups, self._items, workers)
        self.where = self.path.absolute()  # the working directory may change
        self._again = restore, {"cache_bytes": cache_bytes, "strict": strict, "workers": workers}
        _open.add(self)

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

    @property
    def codecs(self) -> dict[int, CodecRecord]:
        """Codec records, with their models, by the reference that groups use.

        Raises:
            CorruptArchiveError: one of them is damaged; groups of the others can still be decoded.
        """
        records, damage = self._groups.records
        if damage:
            raise damage[0]
        return records

    @property
    def rows(self) -> Sequence[Row]:
        """The directory, in the order of groups, read as it is asked for."""
        _ = self._items.in_order  # whether it fits the groups shows here
        return self._items

    @cached_property
    def names(self) -> list[str]:
        """Names in dataset order."""
        return self._items.names()

    def name_blocks(self) -> Iterator[list[str]]:
        """Names in the order of groups, some thousand at a time: to go through all of them without having them all."""
        return self._items.name_blocks()

    @cached_property
    def labels(self) -> list[str | None]:
        """Labels in dataset order."""
        return self._items.labels()

    @cached_property
    def attributes(self) -> list[Mapping[str, JSON]]:
        """Attributes in dataset order."""
        return [item_of(row, _NOTHING).attributes for row in self._items.ordered(list(self._items))]

    @property
    def classes(self) -> list[str]:
        """The different labels, sorted."""
        return self._label_numbers[0]

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Of each item the place of its label in `classes`, -1 without a label: int64 [items]."""
        return self._label_numbers[1]

    @cached_property
    def _label_numbers(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        return self._items.label_numbers()

    @property
    def rounded_groups(self) -> set[int]:
        """Groups that so far decoded to pixels that are not the very ones that were packed, but within rounding of them."""
        return self._groups.rounded

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self._groups.entries)

    @property
    def in_order(self) -> bool:
        """Whether the groups hold the items in the order of the dataset."""
        return self._items.in_order

    @property
    def group_sizes(self) -> npt.NDArray[np.int64]:
        """Number of images of each group: int64 [groups]."""
        return np.diff(self._items.starts)

    def group_items(self, group: int) -> int:
        """Number of images of a group."""
        return self._groups.entries[group].n_items

    def group_bytes(self, group: int) -> int:
        """Bytes of the body of a group: head and payload."""
        return self._groups.entries[group].n_bytes

    def group_head(self, group: int) -> GroupHead:
        """Spec, codec and digest of a group, without reading its payload."""
        return self._groups.head(group)

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

    # ---- life

    def close(self) -> None:
        """Close the file; reading is over."""
        self._gatherer.close()
        self._blocks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _after_fork(self) -> None:
        self._groups.after_fork()
        self._items.after_fork()
        self._gatherer.after_fork()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as path and options; what opens there must be the same file."""
        return _reopened, (type(self), self.where, *self._again, self.n_bytes, self._blocks.index_check)


_open: weakref.WeakSet[OpenArchive] = weakref.WeakSet()


def _after_fork() -> None:
    for archive in _open:
        archive._after_fork()


os.register_at_fork(after_in_child=_after_fork)

_NOTHING: Pixels = np.zeros((0, 0, 0), np.uint8)


def _reopened(
    cls: type[OpenArchive], path: Path, restore: Restore, options: dict[str, Any], n_bytes: int, check: int
) -> OpenArchive:
    archive = cls(path, restore, **options)
    if (archive.n_bytes, archive._blocks.index_check) != (n_bytes, check):
        archive.close()
        raise ArchiveError(path, "it is another archive than the one that was open when this was pickled")
    return archive


def item_of(row: Row, pixels: Pixels) -> Item:
    """The item of a row of the directory."""
    if not row.attributes:  # most rows
        return Item(row.name, pixels, row.label)
    attributes = dict(row.attributes)
    notes = attributes.pop(NOTES, [])
    texts = tuple(str(note) for note in notes) if isinstance(notes, list) else ()
    return Item(row.name, pixels, row.label, attributes, texts)
