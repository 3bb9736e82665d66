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
This module writes tables; `columns` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from batchcodec.archive import wire
from batchcodec.archive.wire import Malformed, pack_json
from batchcodec.types import JSON

ORDER, NAMES, LABELS, ATTRIBUTES = 1, 2, 3, 4
FIRST_IGNORABLE = 128
MAX_ROWS = wire.MAX_ROWS
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

    def varints(self, count: int) -> npt.NDArray[np.uint64]:
        """The next `count` varints, all at once: a directory has a few for each item."""
        if not count:
            return np.zeros(0, np.uint64)
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
        return values

    def text(self, n_bytes: int) -> str:
        """The next bytes as UTF-8."""
        try:
            return self.take(n_bytes).decode()
        except UnicodeDecodeError as exc:
            raise Malformed(f"text that is not UTF-8: {exc}") from exc


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _shared_prefix(a: bytes, b: bytes) -> int:
    limit = min(len(a), len(b))
    return next((i for i in range(limit) if a[i] != b[i]), limit)


def pack_table(rows: Sequence[Row]) -> bytes:
    """The table of these rows, in the order of their groups and of the images in them."""
    if len(rows) > MAX_ROWS or sum(len(row.name.encode()) for row in rows) > MAX_TEXT:
        raise Malformed(f"a directory of {len(rows)} rows is too large; use smaller groups")
    orders, prefixes, lengths, suffixes = bytearray(), bytearray(), bytearray(), bytearray()
    previous_order, previous, shared = -1, b"", 0
    for row in rows:
        step = row.order - previous_order - 1
        previous_order = row.order
        if step:
            orders += varint(_zigzag(step))
        else:
            orders.append(0)
        name = row.name.encode()
        if not 1 <= len(name) <= MAX_NAME_BYTES:
            raise Malformed(f"a name of {len(name)} bytes; 1 to {MAX_NAME_BYTES} are allowed")
        # Of numbered names, nine of ten share as much with the one before as that one did.
        if previous[:shared] != name[:shared] or previous[shared : shared + 1] == name[shared : shared + 1]:
            shared = _shared_prefix(previous, name)
        length = len(name) - shared
        if shared < 0x80 and length < 0x80:
            prefixes.append(shared)
            lengths.append(length)
        else:
            prefixes += varint(shared)
            lengths += varint(length)
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
    if len(numbers) < 0x7F:
        out += bytes(0 if value is None else 1 + numbers[value] for value in labels)
    else:
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
