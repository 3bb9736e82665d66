"""What an open archive knows of its items: places, names, labels, attributes. Read a directory block at a time, when asked.

A *position* counts items in the order of the groups, an *index* in the order of the dataset. To go from one to the other takes
the orders of all items, which are read at the first use; everything else of a directory block is read when one of its items is
asked for. Methods may be called from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt
import xxhash

from batchcodec.archive import wire
from batchcodec.archive.blocks import BlockFile
from batchcodec.archive.columns import Columns
from batchcodec.archive.directory import Row
from batchcodec.archive.index import Index
from batchcodec.archive.wire import BlockType, Malformed
from batchcodec.errors import CorruptArchiveError

T = TypeVar("T")
Integers = npt.NDArray[np.int64]


class Items(Sequence[Row]):
    """The rows of the directory of an open archive, by position.

    Args:
        blocks: the archive's.
        groups: its GROUP blocks.

    Raises:
        CorruptArchiveError: by what reads it: the directory is damaged, or not that of the groups.
    """

    def __init__(self, blocks: BlockFile, groups: Index) -> None:
        self._blocks, self._groups = blocks, groups
        self._directories = blocks.entries.of(BlockType.DIRECTORY)
        self._firsts = np.concatenate(([0], np.cumsum(self._directories.n_items)))  # of each directory block
        self.starts: Integers = np.concatenate(([0], np.cumsum(groups.n_items)))
        self._columns: dict[int, Columns] = {}
        self.after_fork()

    def after_fork(self) -> None:
        """Locks of the parent may be held for ever in the child."""
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return int(self.starts[-1])

    # ---- directory blocks

    def _read(self, number: int) -> tuple[int, Columns]:
        """Of a directory block, the number of groups that it covers, and its columns."""
        entry = self._directories[number]
        body = self._blocks.body(entry)
        with self._blocks.parsing("DIRECTORY", entry.offset):
            covered, table = wire.parse_directory(body)
            return covered, Columns(table, entry.n_items)

    @cached_property
    def _positions(self) -> Integers | None:
        """Position of each index, int64 [items]; None where the groups hold the items in the order of the dataset."""
        path = self._blocks.path
        if self._firsts[-1] != len(self):
            raise CorruptArchiveError(path, "the directory has other items than the groups")
        parts, n_groups, last, rising = [], 0, -1, True
        before = np.searchsorted(self._groups.offsets, self._directories.offsets)  # groups before each directory block
        for number in range(len(self._directories)):
            covered, columns = self._read(number)
            with self._blocks.parsing("DIRECTORY", self._directories[number].offset):
                n_groups += covered
                if n_groups != before[number] or self._firsts[number + 1] != self.starts[n_groups]:
                    raise Malformed("its items are not those of the groups before it")
                orders = columns.orders
            rising = rising and bool(orders[0] > last) and bool((np.diff(orders) > 0).all())
            last = int(orders[-1])
            parts.append(orders)
        if n_groups != len(self._groups):
            raise CorruptArchiveError(path, "groups without a directory")
        if rising:
            return None
        orders = np.concatenate(parts)
        positions = np.argsort(orders, kind="stable")
        if (np.diff(orders[positions]) == 0).any():
            raise CorruptArchiveError(path, "two items have one place in the dataset")
        return positions

    def _places(self) -> Integers | None:
        with self._lock:
            return self._positions

    @property
    def in_order(self) -> bool:
        """Whether the groups hold the items in the order of the dataset."""
        return self._places() is None

    def positions(self, indices: Integers) -> Integers:
        """Positions of items by their indices, which are within the dataset: int64 [n] both."""
        places = self._places()
        return indices if places is None else places[indices]

    @cached_property
    def indices(self) -> Integers:
        """Index of the item at each position: int64 [items]."""
        places = self._places()
        if places is None:
            return np.arange(len(self))
        indices = np.empty_like(places)
        indices[places] = np.arange(len(places))  # the inverse of a permutation
        return indices

    def groups(self, positions: Integers) -> Integers:
        """The group of items by their positions: int64 [n] both."""
        return np.searchsorted(self.starts, positions, "right") - 1

    def _block(self, number: int) -> Columns:
        """A directory block, which stays in memory."""
        with self._lock:
            _ = self._positions  # that the directory is that of the groups
            if number not in self._columns:
                self._columns[number] = self._read(number)[1]
            return self._columns[number]

    # ---- rows

    def rows(self, start: int, stop: int) -> list[Row]:
        """The rows at some positions."""
        rows: list[Row] = []
        while start < stop:
            number = int(np.searchsorted(self._firsts, start, "right")) - 1
            first, end = int(self._firsts[number]), min(stop, int(self._firsts[number + 1]))
            rows += self._from(number, lambda columns: columns.rows(start - first, end - first))  # noqa: B023 (called at once)
            start = end
        return rows

    def _from(self, number: int, read: Callable[[Columns], T]) -> T:
        """What is read of a directory block."""
        with self._lock:
            columns = self._block(number)
            with self._blocks.parsing("DIRECTORY", self._directories[number].offset):
                return read(columns)

    def _from_all(self, read: Callable[[Columns], T]) -> list[T]:
        _ = self.in_order  # that the directory is that of the groups
        return [self._from(number, read) for number in range(len(self._directories))]

    @overload
    def __getitem__(self, key: int) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> list[Row]: ...
    def __getitem__(self, key: int | slice) -> Row | list[Row]:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            return self.rows(start, stop) if step == 1 else [self[position] for position in range(start, stop, step)]
        if not -len(self) <= key < len(self):
            raise IndexError(f"row {key} of {len(self)}")
        position = key % len(self)
        return self.rows(position, position + 1)[0]

    def __iter__(self) -> Iterator[Row]:
        _ = self.in_order
        for start in range(0, len(self), 1024):
            yield from self.rows(start, min(len(self), start + 1024))

    def ordered(self, values: list[T]) -> list[T]:
        """Values by position as values by index."""
        places = self._places()
        return values if places is None else [values[position] for position in places.tolist()]

    # ---- of all items, by index

    def names(self) -> list[str]:
        """All names."""
        return self.ordered([name for part in self._from_all(lambda c: c.names.texts(0, c.n_rows)) for name in part])

    def name_blocks(self) -> Iterator[list[str]]:
        """All names in the order of the groups, those of one directory block at a time; none of them is kept."""
        _ = self.in_order  # that the directory is that of the groups
        for number in range(len(self._directories)):
            columns = self._read(number)[1]
            with self._blocks.parsing("DIRECTORY", self._directories[number].offset):
                names = columns.names.texts(0, columns.n_rows)
            yield names

    def labels(self) -> list[str | None]:
        """All labels."""
        classes, numbers = self.label_numbers()
        texts: list[str | None] = [*classes, None]  # -1 is the last
        return [texts[number] for number in numbers.tolist()]

    def label_numbers(self) -> tuple[list[str], Integers]:
        """The different labels, sorted, and of each item the place of its label among them, -1 for none: int64 [items]."""
        parts, known = [np.zeros(0, np.int64)], dict[str, int]()
        for numbers, labels in self._from_all(lambda columns: columns.labels):
            known_as = np.array([*(known.setdefault(label, len(known)) for label in labels), -1])
            parts.append(known_as[numbers])
        classes = sorted(known)
        ranks = {label: i for i, label in enumerate(classes)}
        found = np.array([*(ranks[label] for label in known), -1])[np.concatenate(parts)]
        places = self._places()
        return classes, found if places is None else found[places]

    # ---- by name

    @cached_property
    def _by_hash(self) -> tuple[npt.NDArray[np.uint64], Integers]:
        """XXH3-64 of all names, sorted, and the positions that they belong to: 16 bytes for an item."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *self._from_all(_hashes)])
        positions = np.argsort(hashes, kind="stable")
        hashes = hashes[positions]
        equal = np.flatnonzero(hashes[1:] == hashes[:-1])
        alike = positions[np.union1d(equal, equal + 1)].tolist()
        if len({self[position].name for position in alike}) != len(alike):
            raise CorruptArchiveError(self._blocks.path, "two items have one name")
        return hashes, positions

    def find(self, name: str) -> int | None:
        """The index of the item of a name; None if there is none."""
        with self._lock:
            hashes, positions = self._by_hash
        wanted = np.uint64(xxhash.xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")))  # no name has surrogates
        for k in range(int(np.searchsorted(hashes, wanted)), int(np.searchsorted(hashes, wanted, "right"))):
            position = int(positions[k])
            if self[position].name == name:
                return int(self.indices[position])
        return None


def _hashes(columns: Columns) -> npt.NDArray[np.uint64]:
    keys = (xxhash.xxh3_64_intdigest(columns.names.raw(row)) for row in range(columns.n_rows))
    return np.fromiter(keys, np.uint64, columns.n_rows)
