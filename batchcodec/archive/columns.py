"""Reads the table of a DIRECTORY block (see `directory`), each column when it is asked for, into arrays and not into objects.

A million rows are some tens of megabytes this way: names stay one run of bytes, labels a number for each row.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from batchcodec.archive import directory
from batchcodec.archive.directory import ATTRIBUTES, FIRST_IGNORABLE, LABELS, NAMES, ORDER, Cursor, Row
from batchcodec.archive.wire import Malformed, parse_json
from batchcodec.types import JSON


class Names:
    """The names of a table, one after the other in one run of bytes.

    Args:
        data: UTF-8, all names.
        ends: int64 [rows], where each name ends in it.
    """

    def __init__(self, data: bytes, ends: npt.NDArray[np.int64]) -> None:
        self._data, self._ends = data, ends

    def __len__(self) -> int:
        return len(self._ends)

    def raw(self, row: int) -> bytes:
        """The UTF-8 of a name."""
        return self._data[self._ends[row - 1] if row else 0 : self._ends[row]]

    def texts(self, start: int, stop: int) -> list[str]:
        """The names of some rows."""
        ends = [self._ends[start - 1] if start else 0, *self._ends[start:stop].tolist()]
        return [self._data[a:b].decode() for a, b in pairwise(ends)]


class Columns:
    """The table of one directory block.

    Args:
        table: as `wire.parse_directory` gives it.
        n_items: rows that there must be, as the block header says.

    Attributes:
        n_rows: their number.

    Raises:
        Malformed: from the constructor, the table is not one of so many rows; from a column, it is damaged.
    """

    def __init__(self, table: bytes, n_items: int) -> None:
        cursor = Cursor(table)
        self.n_rows = n_rows = cursor.varint()
        if n_rows != n_items or n_rows > directory.MAX_ROWS:
            raise Malformed(f"a directory of {n_rows} rows where {n_items} were expected")
        self._columns: dict[int, bytes] = {}
        while not cursor.at_end:
            ident = cursor.take(1)[0]
            data = cursor.take(cursor.varint())
            if ident in self._columns:
                raise Malformed(f"directory column {ident} twice")
            if ident in (ORDER, NAMES, LABELS, ATTRIBUTES):
                self._columns[ident] = data
            elif ident < FIRST_IGNORABLE:
                raise Malformed(f"directory column {ident}, unknown to this batchcodec")
        if n_rows and not {ORDER, NAMES} <= self._columns.keys():
            raise Malformed("a directory without order or names")

    @cached_property
    def orders(self) -> npt.NDArray[np.int64]:
        """The order of each row, below 2**63: int64 [rows]."""
        cursor = Cursor(self._columns.get(ORDER, b""))
        zigzag = cursor.varints(self.n_rows)
        if not cursor.at_end:
            raise Malformed("an order column that is too long")
        half = (zigzag >> np.uint64(1)).astype(np.int64)
        steps = np.where(zigzag & np.uint64(1), ~half, half)
        if not len(steps) or max(int(steps.max()), -int(steps.min())) < 1 << 40:  # no sum of MAX_ROWS of them is over 2^63
            orders = np.cumsum(steps + 1) - 1
        else:
            orders = _exact_sums(steps.tolist())
        if len(orders) and orders.min() < 0:
            raise Malformed("an order outside of 0 to 2**63 - 1")
        return orders

    @cached_property
    def names(self) -> Names:
        """The names."""
        cursor = Cursor(self._columns.get(NAMES, b""))
        prefixes, lengths = cursor.varints(self.n_rows), cursor.varints(self.n_rows)
        if self.n_rows and max(prefixes.max(), lengths.max()) > directory.MAX_NAME_BYTES:
            raise Malformed("a name of impossible length")
        sizes = (prefixes + lengths).astype(np.int64)
        if int(sizes.sum()) > directory.MAX_TEXT:
            raise Malformed(f"names of over {directory.MAX_TEXT} bytes")
        before = np.concatenate(([0], sizes[:-1]))
        if (prefixes > before[: self.n_rows]).any() or (sizes < 1).any() or (sizes > directory.MAX_NAME_BYTES).any():
            raise Malformed("a name of impossible length")
        parts, name = [], b""
        for shared, length in zip(prefixes.tolist(), lengths.tolist(), strict=True):
            name = name[:shared] + cursor.take(length)
            parts.append(name)
        if not cursor.at_end:
            raise Malformed("a name column that is too long")
        data = b"".join(parts)
        if not data.isascii():
            try:
                for part in parts:  # each by itself: halves of a character would fit together
                    part.decode()
            except UnicodeDecodeError as exc:
                raise Malformed(f"a name that is not UTF-8: {exc}") from exc
        return Names(data, np.cumsum(sizes))

    @cached_property
    def labels(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """A number for each row, int32 [rows], -1 for none, and the labels that they are places of."""
        if LABELS not in self._columns:
            return np.full(self.n_rows, -1, np.int32), []
        cursor = Cursor(self._columns[LABELS])
        n_labels = cursor.varint()
        if n_labels > self.n_rows:
            raise Malformed("more labels than items")
        labels = [cursor.text(cursor.varint()) for _ in range(n_labels)]
        numbers = cursor.varints(self.n_rows)
        if not cursor.at_end or (numbers > n_labels).any():
            raise Malformed("a label column that is too long or names a label that is not there")
        return numbers.astype(np.int32) - 1, labels

    @cached_property
    def _attributes(self) -> dict[str, tuple[list[int] | None, list[JSON]]]:
        """Of each attribute the rows that have it, rising, None for all, and their values."""
        found: dict[str, tuple[list[int] | None, list[JSON]]] = {}
        for key, column in parse_json(self._columns.get(ATTRIBUTES, b"{}"), directory.MAX_ATTRIBUTES).items():
            match column:
                case [None, list(values)] if len(values) == self.n_rows:
                    found[key] = None, values
                case [list(rows), list(values)] if len(values) == len(rows):
                    if not all(type(i) is int and 0 <= i < self.n_rows for i in rows):
                        raise Malformed(f"attribute {key!r} of an item that is not there")
                    if any(a >= b for a, b in pairwise(rows)):
                        raise Malformed(f"attribute {key!r} whose rows do not rise")
                    found[key] = rows, values
                case _:
                    raise Malformed(f"attribute column {key!r} is not [rows, values]")
        return found

    def rows(self, start: int, stop: int) -> list[Row]:
        """Some rows, all columns of the table checked."""
        orders, names = self.orders[start:stop].tolist(), self.names.texts(start, stop)
        numbers, labels = self.labels
        texts = [None if number < 0 else labels[number] for number in numbers[start:stop].tolist()]
        own: list[dict[str, JSON]] = [{} for _ in orders]
        for key, (rows, values) in self._attributes.items():
            if rows is None:
                found = zip(range(start, stop), values[start:stop], strict=True)
            else:
                part = slice(bisect.bisect_left(rows, start), bisect.bisect_left(rows, stop))
                found = zip(rows[part], values[part], strict=True)
            for row, value in found:
                own[row - start][key] = value
        return [Row(*fields) for fields in zip(orders, names, texts, own, strict=True)]


def _exact_sums(steps: Sequence[int]) -> npt.NDArray[np.int64]:
    """Orders of their steps, none beyond int64."""
    order, orders = -1, []
    for step in steps:
        order += 1 + step
        if not 0 <= order < 1 << 63:
            raise Malformed("an order outside of 0 to 2**63 - 1")
        orders.append(order)
    return np.array(orders, np.int64)


def parse_table(table: bytes, n_items: int) -> list[Row]:
    """The rows of a table, which must be as many as the block header says.

    Raises:
        Malformed: any of it is damaged.
    """
    return Columns(table, n_items).rows(0, n_items)
