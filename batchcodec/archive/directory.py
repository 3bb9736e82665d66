"""The columnar table of a DIRECTORY block: order, names, labels and attributes of the items of the groups before it.

Columns keep like bytes together, which is what makes the zstd that follows so effective: for names such as `000123.png` a row
costs well under 2 bytes. Integers are LEB128 varints.

    table   = varint n_items, then columns until the end
    column  = u8 id, varint length, bytes
    ORDER      (1)  zigzag(order - previous order - 1) of each row, the first previous being -1
    NAMES      (2)  varints: bytes shared with the name before; varints: bytes that follow; those bytes, UTF-8
    LABELS     (3)  varint number of labels; each: varint length, UTF-8; then of each row 0 (none) or 1 + label
    ATTRIBUTES (4)  JSON object: key to [rows, values], rows null when all rows have the key

Columns 2 to 4 that are absent are empty (names never are). Unknown columns with an id below 128 are refused, others skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from batchcodec.archive.wire import MAX_ROWS, Malformed, pack_json, parse_json
from batchcodec.types import JSON

ORDER, NAMES, LABELS, ATTRIBUTES = 1, 2, 3, 4
FIRST_IGNORABLE = 128
MAX_NAME_BYTES = 4096
MAX_TEXT = 1 << 28
"""Bytes of all names of a segment: front coding could else make much of little."""
MAX_ATTRIBUTES = 1 << 26
"""Bytes of the ATTRIBUTES column."""


@dataclass(frozen=True, slots=True)
class Row:
    """One item in the directory.

    Attributes:
        order: its place in the dataset; unique in the archive.
        name: unique in the archive.
        label: its class, if any.
        attributes: JSON by key.
    """

    order: int
    name: str
    label: str | None = None
    attributes: Mapping[str, JSON] = field(default_factory=dict)


def varint(value: int) -> bytes:
    """LEB128 of a non-negative integer below 2**64."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Reads forward through bytes, never past their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    @property
    def at_end(self) -> bool:
        """Whether all was read."""
        return self.position == len(self.data)

    def take(self, n_bytes: int) -> bytes:
        """The next bytes."""
        if n_bytes > len(self.data) - self.position:
            raise Malformed("a directory that ends too early")
        self.position += n_bytes
        return self.data[self.position - n_bytes : self.position]

    def varint(self) -> int:
        """The next varint, below 2**64."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    raise Malformed("a varint over 64 bits")
                return value
            shift += 7
            if shift > 63:
                raise Malformed("a varint over 64 bits")

    def varints(self, count: int) -> list[int]:
        """The next `count` varints, all at once: a directory has a few for each item."""
        if not count:
            return []
        rest = np.frombuffer(self.data, np.uint8)[self.position : self.position + 10 * count]  # of 10 bytes at most each
        ends = np.flatnonzero(rest < 0x80)[:count]
        if len(ends) < count:
            raise Malformed("a directory that ends too early")
        starts = np.concatenate(([0], ends[:-1] + 1))
        lengths = ends - starts + 1
        if lengths.max() > 10 or (rest[ends[lengths == 10]] > 1).any():
            raise Malformed("a varint over 64 bits")
        values = np.zeros(count, np.uint64)
        for i in range(int(lengths.max())):
            longer = np.flatnonzero(lengths > i)
            values[longer] |= (rest[starts[longer] + i] & 0x7F).astype(np.uint64) << np.uint64(7 * i)
        self.position += int(ends[-1]) + 1
        return list(values.tolist())

    def text(self, n_bytes: int) -> str:
        """The next bytes as UTF-8."""
        try:
            return self.take(n_bytes).decode()
        except UnicodeDecodeError as exc:
            raise Malformed(f"text that is not UTF-8: {exc}") from exc


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -((value + 1) >> 1)


def _shared_prefix(a: bytes, b: bytes) -> int:
    limit = min(len(a), len(b))
    return next((i for i in range(limit) if a[i] != b[i]), limit)


def pack_table(rows: Sequence[Row]) -> bytes:
    """The table of these rows, in the order of their groups and of the images in them."""
    if len(rows) > MAX_ROWS or sum(len(row.name.encode()) for row in rows) > MAX_TEXT:
        raise Malformed(f"a directory of {len(rows)} rows is too large; use smaller groups")
    orders, prefixes, lengths, suffixes = bytearray(), bytearray(), bytearray(), bytearray()
    previous_order, previous = -1, b""
    for row in rows:
        orders += varint(_zigzag(row.order - previous_order - 1))
        previous_order = row.order
        name = row.name.encode()
        if not 1 <= len(name) <= MAX_NAME_BYTES:
            raise Malformed(f"a name of {len(name)} bytes; 1 to {MAX_NAME_BYTES} are allowed")
        shared = _shared_prefix(previous, name)
        prefixes += varint(shared)
        lengths += varint(len(name) - shared)
        suffixes += name[shared:]
        previous = name
    columns = [(ORDER, bytes(orders)), (NAMES, bytes(prefixes + lengths + suffixes))]
    if any(row.label is not None for row in rows):
        columns.append((LABELS, _pack_labels([row.label for row in rows])))
    if attributes := _transposed(rows):
        columns.append((ATTRIBUTES, pack_json(attributes)))
        if (n_bytes := len(columns[-1][1])) > MAX_ATTRIBUTES:
            raise Malformed(f"attributes of {n_bytes} bytes, {MAX_ATTRIBUTES} are allowed; use smaller groups")
    return varint(len(rows)) + b"".join(bytes([ident]) + varint(len(data)) + data for ident, data in columns)


def _pack_labels(labels: Sequence[str | None]) -> bytes:
    numbers = {label: i for i, label in enumerate(dict.fromkeys(v for v in labels if v is not None))}
    out = bytearray(varint(len(numbers)))
    for label in numbers:
        out += varint(len(label.encode())) + label.encode()
    for value in labels:
        out += varint(0 if value is None else 1 + numbers[value])
    return bytes(out)


def _transposed(rows: Iterable[Row]) -> dict[str, JSON]:
    """Attributes by key: [rows, values]."""
    columns: dict[str, tuple[list[JSON], list[JSON]]] = {}
    n_rows = 0
    for i, row in enumerate(rows):
        n_rows += 1
        for key, value in row.attributes.items():
            indices, values = columns.setdefault(key, ([], []))
            indices.append(i)
            values.append(value)
    return {key: [None if len(indices) == n_rows else indices, values] for key, (indices, values) in columns.items()}


def parse_table(table: bytes, n_items: int) -> list[Row]:
    """The rows of a table, which must be as many as the block header says."""
    cursor = Cursor(table)
    n_rows = cursor.varint()
    if n_rows != n_items or n_rows > MAX_ROWS:
        raise Malformed(f"a directory of {n_rows} rows where {n_items} were expected")
    columns: dict[int, bytes] = {}
    while not cursor.at_end:
        ident = cursor.take(1)[0]
        data = cursor.take(cursor.varint())
        if ident in columns:
            raise Malformed(f"directory column {ident} twice")
        if ident in (ORDER, NAMES, LABELS, ATTRIBUTES):
            columns[ident] = data
        elif ident < FIRST_IGNORABLE:
            raise Malformed(f"directory column {ident}, unknown to this batchcodec")
    if n_rows and not {ORDER, NAMES} <= columns.keys():
        raise Malformed("a directory without order or names")
    orders = _parse_orders(columns.get(ORDER, b""), n_rows)
    names = _parse_names(columns.get(NAMES, b""), n_rows)
    labels = _parse_labels(columns[LABELS], n_rows) if LABELS in columns else [None] * n_rows
    attributes = _parse_attributes(columns.get(ATTRIBUTES, b"{}"), n_rows)
    return [Row(*fields) for fields in zip(orders, names, labels, attributes, strict=True)]


def _parse_orders(data: bytes, n_rows: int) -> list[int]:
    cursor, orders, previous = Cursor(data), [], -1
    for step in cursor.varints(n_rows):
        previous += 1 + _unzigzag(step)
        if not 0 <= previous < 1 << 63:
            raise Malformed("an order outside of 0 to 2**63 - 1")
        orders.append(previous)
    if not cursor.at_end:
        raise Malformed("an order column that is too long")
    return orders


def _parse_names(data: bytes, n_rows: int) -> list[str]:
    cursor = Cursor(data)
    prefixes, lengths = cursor.varints(n_rows), cursor.varints(n_rows)
    if sum(prefixes) + sum(lengths) > MAX_TEXT:
        raise Malformed(f"names of over {MAX_TEXT} bytes")
    names, name = [], b""
    for shared, length in zip(prefixes, lengths, strict=True):
        if shared > len(name) or not 1 <= shared + length <= MAX_NAME_BYTES:
            raise Malformed("a name of impossible length")
        name = name[:shared] + cursor.take(length)
        try:
            names.append(name.decode())
        except UnicodeDecodeError as exc:
            raise Malformed(f"a name that is not UTF-8: {exc}") from exc
    if not cursor.at_end:
        raise Malformed("a name column that is too long")
    return names


def _parse_labels(data: bytes, n_rows: int) -> list[str | None]:
    cursor = Cursor(data)
    n_labels = cursor.varint()
    if n_labels > n_rows:
        raise Malformed("more labels than items")
    labels: list[str | None] = [None, *(cursor.text(cursor.varint()) for _ in range(n_labels))]
    numbers = cursor.varints(n_rows)
    if not cursor.at_end or any(number > n_labels for number in numbers):
        raise Malformed("a label column that is too long or names a label that is not there")
    return [labels[number] for number in numbers]


def _parse_attributes(data: bytes, n_rows: int) -> list[dict[str, JSON]]:
    rows: list[dict[str, JSON]] = [{} for _ in range(n_rows)]
    for key, column in parse_json(data, MAX_ATTRIBUTES).items():
        match column:
            case [None, list(values)] if len(values) == n_rows:
                indices: list[int] = list(range(n_rows))
            case [list(indices), list(values)] if len(values) == len(indices):
                if not all(type(i) is int and 0 <= i < n_rows for i in indices):
                    raise Malformed(f"attribute {key!r} of an item that is not there")
                if any(a >= b for a, b in pairwise(indices)):
                    raise Malformed(f"attribute {key!r} whose rows do not rise")
            case _:
                raise Malformed(f"attribute column {key!r} is not [rows, values]")
        for i, value in zip(indices, values, strict=True):
            rows[i][key] = value
    return rows
