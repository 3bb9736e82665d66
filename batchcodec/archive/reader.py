"""Opens a `.cpack` file and gives random access to its items. Nothing in the file is trusted.

    archive[5]               the sixth item of the dataset as it was packed
    archive["a/b.png"]       the item of that name
    archive[10:20]           a list of items
    archive.read([7, 3, 7])  their pixels as one array [3, H, W, C]

What is decoded, kept and proven is `groups`' business, names and places are `items`'. An archive may be used by several
threads, in a forked child, and be pickled: it is opened again by its path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from batchcodec.archive.directory import Row
from batchcodec.archive.gathering import Indices
from batchcodec.archive.opened import CACHE_BYTES, NOTES, OpenArchive, item_of
from batchcodec.errors import BatchcodecError, ItemNotFoundError, OptionError
from batchcodec.parallel import in_order
from batchcodec.types import Item, Pixels, Stack

__all__ = ["CACHE_BYTES", "NOTES", "Archive"]


class Archive(OpenArchive, Sequence[Item]):
    """A `.cpack` file, open for reading. Use it in a `with` block, or call `close`.

    Args:
        path: the file.
        restore: gives decoders.
        cache_bytes: decoded pixels to keep; at least one group is always kept.
        strict: decode whole groups only, so that all pixels are proven by their digest; see `groups`.
        workers: threads that `read` decodes with; 0 is one for each core.

    Attributes:
        path: the file, as it was given.
        where: its absolute path.

    Raises:
        NotAnArchiveError, UnsupportedVersionError, TruncatedArchiveError, CorruptArchiveError: as they say.
    """

    def locate(self, index: int) -> tuple[int, int]:
        """(group, place in it) of an item of the dataset."""
        position = int(self._items.positions(np.array([index]))[0])
        group = int(self._items.groups(np.array([position]))[0])
        return group, position - int(self._items.starts[group])

    def groups_of(self, indices: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The group of each of some items of the dataset: int64 [n]."""
        return self._items.groups(self._items.positions(np.asarray(indices, np.int64)))

    def group_indices(self, group: int) -> npt.NDArray[np.int64]:
        """Places in the dataset of the items of a group: int64 [items]."""
        start, stop = self._items.starts[group : group + 2].tolist()
        return np.arange(start, stop) if self.in_order else self._items.indices[start:stop]

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """Places in the dataset of all items, in the order of groups: int64 [items]."""
        return self._items.indices

    def decode_group(self, group: int, *, keep: bool = True) -> Pixels:
        """The images of a group, uint8 or uint16 [N, H, W, C]; read-only, from the cache where possible.

        Args:
            group: its number.
            keep: it is kept in the cache; else that is passed by.

        Raises:
            CorruptGroupError: the stored bytes are damaged.
            DriftError: the decoded pixels are not those that were packed.
        """
        return self._groups.whole(group) if keep else self._groups.fresh(group)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, key: int | str) -> Item: ...
    @overload
    def __getitem__(self, key: slice) -> list[Item]: ...
    def __getitem__(self, key: Any) -> Any:
        """An item by place or name, or a list of items by slice."""
        if isinstance(key, slice):
            return self.take(range(*key.indices(len(self))))
        if isinstance(key, str):
            found = self.find(key)
            if found is None:
                raise ItemNotFoundError(self.path, f"no item is named {key!r}", item=key)
            return item_of(self.row(found), self.read_each([found])[0])
        index = key + len(self) if key < 0 else key
        if not 0 <= index < len(self):
            # IndexError ends old-style iteration, so the class that users catch is one too.
            raise _IndexNotFoundError(self.path, f"item {key} of {len(self)}", item=int(key))
        return item_of(self.row(index), self._gatherer.one(index))

    def row(self, index: int) -> Row:
        """What the directory says of an item, by its place in the dataset: name, label, attributes. No pixels are read."""
        return self._items[int(self._items.positions(np.array([index]))[0])]

    def find(self, name: str) -> int | None:
        """The place in the dataset of the item of a name; None if there is none."""
        return self._items.find(name)

    def __iter__(self) -> Iterator[Item]:
        """All items in dataset order, each group decoded once where the dataset's order allows."""
        if self.in_order:
            for group in range(self.n_groups):
                start, stop = self._items.starts[group : group + 2].tolist()
                rows = self._items.rows(start, stop)
                with self._gatherer.naming(start):
                    pixels = self.decode_group(group)
                yield from map(item_of, rows, pixels)
            return
        for index in range(len(self)):
            row = self.row(index)
            group, place = self.locate(index)
            with self._gatherer.naming(index):
                pixels = self.decode_group(group)
            yield item_of(row, pixels[place])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def read(self, indices: Indices, out: Pixels | None = None) -> Pixels:
        """The pixels of some items as one array: uint8 or uint16 [n, H, W, C].

        Each group is decoded once, groups side by side.

        Args:
            indices: places in the dataset, in any order, also twice; negative ones count from the end.
            out: where to write to; by default a new array.

        Raises:
            ItemNotFoundError: an index is beyond the last item.
            MixedShapesError: the items are of different shapes or types: `read_each` reads such.
            OptionError: `out` has another shape or type, or cannot be written to.
            ArchiveError, CodecError: a group is damaged or cannot be decoded; the message names it and an item.
        """
        return self._gatherer.read(self._checked(indices), out)

    def read_each(self, indices: Indices) -> list[Pixels]:
        """The pixels of some items of any shapes, read-only: uint8 or uint16 [H, W, C] each. Raises as `read`."""
        return self._gatherer.read_each(self._checked(indices))

    def take(self, indices: Indices) -> list[Item]:
        """Some items, in any order, also twice; each group is decoded once. Raises as `read`, but for shapes."""
        checked = self._checked(indices)
        rows = [self.row(index) for index in checked.tolist()]
        return list(map(item_of, rows, self.read_each(checked)))

    def to_numpy(self) -> Pixels:
        """The pixels of all items: uint8 or uint16 [items, H, W, C]. Raises as `read`."""
        return self.read(np.arange(len(self)))

    def _checked(self, indices: Indices) -> npt.NDArray[np.int64]:
        """Indices from 0: int64 [n]."""
        array = np.asarray(indices)
        if array.size == 0:
            return np.zeros(0, np.int64)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise OptionError("indices", f"{array.dtype} {list(array.shape)}", "a list of integers")
        bad = np.flatnonzero((array >= len(self)) | (array < -len(self)))
        if len(bad):
            index = int(array[bad[0]])
            raise _IndexNotFoundError(self.path, f"item {index} of {len(self)}", item=index)
        array = array.astype(np.int64)
        return np.where(array < 0, array + len(self), array)

    def groups(
        self,
        on_damage: Callable[[int, BatchcodecError], None] | None = None,
        only: Iterable[int] | None = None,
        *,
        workers: int = 0,
    ) -> Iterator[list[tuple[int, Item]]]:
        """For each group its items, with their places in the dataset. Each group is decoded once, past the cache.

        Args:
            on_damage: called with the group and the error in place of raising; that group is left out.
            only: the groups that are wanted; all by default.
            workers: threads that decode groups ahead of those that were asked for; 0 is none.
        """
        for indices, stack in self.group_stacks(on_damage, only, workers=workers):
            yield list(zip(indices.tolist(), stack.items, strict=True))

    def group_stacks(
        self,
        on_damage: Callable[[int, BatchcodecError], None] | None = None,
        only: Iterable[int] | None = None,
        *,
        workers: int = 0,
    ) -> Iterator[tuple[npt.NDArray[np.int64], Stack]]:
        """As `groups`, but the places of a group's items, int64 [items], and the items with their pixels as one array."""
        _ = self.in_order  # a damaged directory shows before any group is decoded

        def decoded(group: int) -> tuple[int, Pixels | BatchcodecError]:
            try:
                return group, self._groups.fresh(group)
            except BatchcodecError as exc:
                return group, exc

        def n_bytes(group: int) -> int:
            try:
                return self.group_head(group).spec.n_bytes
            except BatchcodecError:  # decoding it says so
                return 0

        wanted = range(self.n_groups) if only is None else only
        for group, pixels in in_order(decoded, wanted, workers=workers, size=n_bytes):
            if isinstance(pixels, BatchcodecError):
                if on_damage is None:
                    raise pixels
                on_damage(group, pixels)
                continue
            start, stop = self._items.starts[group : group + 2].tolist()
            items = list(map(item_of, self._items.rows(start, stop), pixels))
            yield self.group_indices(group), Stack(items, pixels)


class _IndexNotFoundError(ItemNotFoundError, IndexError):
    """A place beyond the last item."""
