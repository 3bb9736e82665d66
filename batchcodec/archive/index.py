"""The INDEX of an open archive, kept as the 21 bytes that each block has in it: a million groups are megabytes, not objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from batchcodec.archive import wire
from batchcodec.archive.wire import BlockEntry, BlockType, Malformed


class Index(Sequence[BlockEntry]):
    """The blocks of a file but the INDEX, in their order; entries are made when they are asked for.

    Args:
        table: structured array [blocks] of `wire.INDEX_DTYPE`.
    """

    def __init__(self, table: npt.NDArray[Any]) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, key: int) -> BlockEntry: ...
    @overload
    def __getitem__(self, key: slice) -> Index: ...
    def __getitem__(self, key: int | slice) -> BlockEntry | Index:
        if isinstance(key, slice):
            return Index(self._table[key])
        return BlockEntry(*self._table[key].item())

    def __iter__(self) -> Iterator[BlockEntry]:
        for start in range(0, len(self), 4096):
            yield from (BlockEntry(*row) for row in self._table[start : start + 4096].tolist())

    def of(self, *kinds: int) -> Index:
        """The blocks of some types."""
        return Index(self._table[np.isin(self._table["type"], kinds)])

    def unknown(self) -> Index:
        """The blocks of types that this version does not know."""
        return Index(self._table[~np.isin(self._table["type"], [kind.value for kind in BlockType])])

    @property
    def n_items(self) -> npt.NDArray[np.int64]:
        """Items of each block: int64 [blocks]."""
        return self._table["n_items"].astype(np.int64)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Of each block header from the start of the file: int64 [blocks]."""
        return self._table["offset"].astype(np.int64)


def parse_index(body: bytes, index_offset: int) -> Index:
    """The body of an INDEX block, checked to cover the file from the header to that block without a gap.

    Raises:
        Malformed: it does not.
    """
    if len(body) % wire.INDEX_DTYPE.itemsize:
        raise Malformed("an INDEX block of odd length")
    table = np.frombuffer(body, wire.INDEX_DTYPE)
    if len(table) and (table["n_bytes"].max() > wire.MAX_BODY or table["offset"].max() >= 1 << 63):
        raise Malformed("the index has a gap or an overlap: a block beyond the limits")  # sums below stay under 2^64
    ends = table["offset"] + table["n_bytes"] + np.uint64(wire.BLOCK.size)
    starts = np.concatenate((np.array([wire.HEADER.size], np.uint64), ends))[: len(table)]
    allowed = np.array([wire.ITEM_LIMITS.get(kind, (0, 0xFFFFFFFF)) for kind in range(256)])[table["type"]]  # [blocks, 2]
    n_items = table["n_items"]
    bad = (table["type"] == BlockType.INDEX) | (n_items < allowed[:, 0]) | (n_items > allowed[:, 1])
    wrong = np.flatnonzero(bad | (table["offset"] != starts))
    if len(wrong):
        first = int(wrong[0])
        position = int(starts[first])
        if bad[first]:
            kind, items = int(table["type"][first]), int(n_items[first])
            raise Malformed(f"the index has a block of type {kind} with {items} items at byte {position}")
        raise Malformed(f"the index has a gap or an overlap at byte {position}")
    if (int(ends[-1]) if len(table) else wire.HEADER.size) != index_offset:
        raise Malformed("the index does not end where the INDEX block starts")
    return Index(table)
