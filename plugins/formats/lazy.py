"""What all datasets here share: a lazy sequence of items, and the names of items that have none."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import overload

from batchcodec.types import Item, ItemHead


class LazyItems(Sequence[Item]):
    """Items that are read when they are asked for. A subclass has `__len__` and `_read`.

    Attributes:
        ignored: how many files or arrays beside the images were left out, for reports ("3 other files ignored").
        parallel_reads: as in `batchcodec.dataset`.
    """

    ignored: int = 0
    parallel_reads: bool = False

    @abstractmethod
    def _read(self, index: int) -> Item:
        """Read one item; `index` is from 0 to `len(self) - 1`. Raises `ItemError`."""

    def head(self, index: int) -> ItemHead | None:
        """What is known of an item without decoding it; None if nothing is. As in `batchcodec.dataset`."""
        return None

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return _Part(self, range(*index.indices(len(self))))
        n_items = len(self)
        position = index + n_items if index < 0 else index
        if not 0 <= position < n_items:
            raise IndexError(f"item {index} of {n_items}")
        return self._read(position)


class _Part(LazyItems):
    """A slice of a dataset, as lazy as the dataset."""

    def __init__(self, whole: LazyItems, indices: range) -> None:
        self._whole = whole
        self._indices = indices
        self.ignored = whole.ignored
        self.parallel_reads = whole.parallel_reads

    def __len__(self) -> int:
        return len(self._indices)

    def _read(self, index: int) -> Item:
        return self._whole[self._indices[index]]

    def head(self, index: int) -> ItemHead | None:
        """That of the whole."""
        return self._whole.head(self._indices[index])


def name_digits(n_items: int) -> int:
    """Digits of the names of so many items: all are equally long, six digits or more."""
    return max(6, len(str(max(n_items - 1, 0))))


def numbered_name(index: int, digits: int) -> str:
    """`000123.png`: the name of an item in a file without names."""
    return f"{index:0{digits}d}.png"
