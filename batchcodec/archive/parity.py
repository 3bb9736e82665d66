"""Parity: Reed-Solomon blocks before the INDEX of a `.cpack` file, from which `healing` restores damaged bytes, bit for bit.

The covered bytes, all of the file before the first PARITY block, are laid out as `k` rows of equal length, the last one
continued with zeros. Below them stand `r` parity rows. Each column of k + r bytes is a codeword of a Reed-Solomon code over
GF(2^8): any k of its bytes give back the others. Damage is located by a checksum of each *chunk*, some bytes of one row.

Rows are read and written in *batches* of some chunk columns, so that memory is bounded. A PARITY block is one parity row of one
batch: if it is lost, each of its columns lacks one byte, as if a row of data had been lost. The blocks stand row by row. So
the file is one tall matrix, and a burst takes few bytes of each column wherever it lies, across the last data too.
The checksums of a batch's data chunks are spread over its blocks by the same code: any third of the blocks have them all.
"""

from __future__ import annotations

import contextlib
import math
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from batchcodec.archive import wire
from batchcodec.archive.reed_solomon import extend, restore
from batchcodec.archive.wire import Malformed
from batchcodec.errors import OptionError, OutputError

HEAD = struct.Struct("<QQIIIIBBBBI")
# check, covered bytes, chunk, chunks per row, width of a batch, batch, data rows, parity rows, parity row, two reserved

MAX_ROWS = 256
"""Rows of data and parity together: the points of GF(2^8)."""
MIN_CHUNK, MAX_CHUNK = 64, 1 << 12
"""Bytes; a row of one chunk may have fewer."""
MIN_RUN, MAX_RUN = 1 << 16, 1 << 18
"""Bytes of one row in a batch; a row of one batch may have fewer. So no file can ask for endless batches, or much memory."""
MAX_FRACTION = 0.25
SPOOL_BYTES = 1 << 25
"""What is kept in memory of bytes that wait for their use; the rest waits in a temporary file."""

_CHUNK, _WIDTH, _ROW = 1024, 64, 256
"""What is written: bytes of a chunk, chunks of a row in a batch, and the bytes that a row has at least."""
_SPREAD, _MARGIN = 5, 4
"""Parity rows beyond the mean number of rows that a column lacks: standard deviations, and so many more; see `plan`."""

Read = Callable[[int, int], bytes]
"""(offset, number) to so many bytes of the file; all of them or an error."""
Bytes = bytes | bytearray | memoryview
Sums = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the covered bytes lie as rows, chunks and batches.

    Attributes:
        n_covered: bytes from the start of the file to the first PARITY block.
        chunk: bytes of a chunk.
        columns: chunks of a row.
        width: chunks of a row in one batch; the last batch may have fewer.
        n_data, n_parity: rows.

    Raises:
        Malformed: no writer makes this.
    """

    n_covered: int
    chunk: int
    columns: int
    width: int
    n_data: int
    n_parity: int

    def __post_init__(self) -> None:
        if not (self.n_data >= 1 and self.n_parity >= 1 and self.n_data + self.n_parity <= MAX_ROWS):
            raise Malformed(f"{self.n_data} rows of data and {self.n_parity} of parity; at most {MAX_ROWS} together")
        if not (1 <= self.chunk <= MAX_CHUNK and (self.chunk >= MIN_CHUNK or self.columns == 1)):
            raise Malformed(f"chunks of {self.chunk} bytes")
        run = self.width * self.chunk
        if not (0 < run <= MAX_RUN and (run >= MIN_RUN or self.columns <= self.width)):
            raise Malformed(f"batches of {self.width} chunks of {self.chunk} bytes")
        # The last row is not empty, and a single row is no longer than it must be. So there is no more of all than of bytes.
        if not ((self.n_data - 1) * self.row_bytes < self.n_covered <= self.n_data * self.row_bytes):
            raise Malformed(f"{self.n_data} rows of {self.row_bytes} bytes for {self.n_covered} bytes")
        if not (self.columns - 1) * self.chunk < self.n_covered:
            raise Malformed(f"rows of {self.row_bytes} bytes for {self.n_covered} bytes")

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.columns * self.chunk

    @property
    def n_batches(self) -> int:
        """Batches, each with one PARITY block for each parity row."""
        return -(-self.columns // self.width)

    @property
    def n_pieces(self) -> int:
        """PARITY blocks of a batch that it takes to have the checksums of its data chunks."""
        return -(-self.n_parity // 3)

    def chunks(self, batch: int) -> int:
        """Chunk columns of a batch."""
        return min(self.width, self.columns - batch * self.width)

    def piece_bytes(self, batch: int) -> int:
        """Bytes of a block's share of the checksums of the data chunks."""
        return -(-4 * self.n_data * self.chunks(batch) // self.n_pieces)

    def head_bytes(self, batch: int) -> int:
        """Bytes of a block's body before its row."""
        return HEAD.size + 4 * self.chunks(batch) + self.piece_bytes(batch)

    def body_bytes(self, batch: int) -> int:
        """Bytes of a block's body."""
        return self.head_bytes(batch) + self.chunks(batch) * self.chunk

    def offset(self, row: int, batch: int) -> int:
        """Where the block of a parity row and batch starts in the file."""
        full, last = (wire.BLOCK.size + self.body_bytes(b) for b in (0, self.n_batches - 1))
        return self.n_covered + row * ((self.n_batches - 1) * full + last) + batch * full

    @property
    def end(self) -> int:
        """Where the last PARITY block ends."""
        return self.offset(self.n_parity, 0)


def plan(n_covered: int, fraction: float) -> Geometry:
    """The geometry with which up to a fraction of an archive's blocks may be lost, wherever they lie.

    Lost blocks hit some columns more often than others, about as a Poisson distribution has it, so there is more parity than
    that. Spread and margin are about the least with which 99.9 % of simulated losses can be restored, in archives of 50 to
    10,000 groups of equal and of mixed sizes: `benchmarks/parity.py margin`. An archive too small for all 256 rows, some 60 KB,
    has the same share of parity with fewer rows, and so less of a margin.

    Args:
        n_covered: bytes, at least 1.
        fraction: above 0, up to 0.25.

    Raises:
        OptionError: another fraction.
    """
    if not 0 < fraction <= MAX_FRACTION:
        raise OptionError("parity", fraction, f"a part of the blocks above 0 and up to {MAX_FRACTION:.0%}")
    hits = fraction * MAX_ROWS
    full = math.ceil(hits + _SPREAD * math.sqrt(hits) + _MARGIN)
    n_data = min(MAX_ROWS - full, -(-n_covered // _ROW))
    n_parity = max(2, -(-full * n_data // (MAX_ROWS - full)))
    length = -(-n_covered // n_data)
    columns = -(-length // _CHUNK)
    # In large files chunks begin where sectors do. In small ones that would leave much of the last row empty.
    chunk = _CHUNK if columns >= 32 else -(-length // columns)
    columns = -(-length // chunk)
    return Geometry(n_covered, chunk, columns, _WIDTH, -(-n_covered // (columns * chunk)), n_parity)


def parity_blocks(read: Read, n_covered: int, fraction: float) -> Iterator[bytes]:
    """The bodies of the PARITY blocks of a file, in their order.

    Needs some 20 MiB of memory, and a temporary file for what does not fit into another 32 MiB.

    Args:
        read: gives the covered bytes.
        n_covered: bytes from the start of the file to the first PARITY block.
        fraction: of the blocks that may be lost; see `plan`.

    Raises:
        OptionError: a fraction that `plan` refuses.
        OutputError: there is no room for the temporary file.
    """
    geometry = plan(n_covered, fraction)
    return _in_order(read, geometry)


def _in_order(read: Read, geometry: Geometry) -> Iterator[bytes]:
    """Batches are computed one after the other, and the file has rows: what comes early waits."""
    with spool() as waiting:
        for batch in range(geometry.n_batches):
            for row, body in enumerate(bodies(read_rows(read, geometry, batch), geometry, batch)):
                with spooling():
                    waiting.seek(geometry.offset(row, batch) - geometry.n_covered)
                    waiting.write(body)
        for row in range(geometry.n_parity):
            for batch in range(geometry.n_batches):
                with spooling():
                    waiting.seek(geometry.offset(row, batch) - geometry.n_covered)
                    body = waiting.read(geometry.body_bytes(batch))
                yield body


def spool() -> tempfile.SpooledTemporaryFile[bytes]:
    """A place for bytes that wait: memory, and a temporary file once there are many."""
    return tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)


@contextlib.contextmanager
def spooling() -> Iterator[None]:
    """Turn what goes wrong with a spool into an `OutputError`."""
    try:
        yield
    except OSError as exc:
        raise OutputError(tempfile.gettempdir(), f"{exc.strerror or exc}; the variable TMPDIR names another place") from exc


def read_rows(read: Read, geometry: Geometry, batch: int) -> list[bytes]:
    """What each row of data has in a batch, continued with zeros where the covered bytes end."""
    n_bytes = geometry.chunks(batch) * geometry.chunk
    rows = []
    for row in range(geometry.n_data):
        start = row * geometry.row_bytes + batch * geometry.width * geometry.chunk
        there = max(0, min(n_bytes, geometry.n_covered - start))
        rows.append((read(start, there) if there else b"") + bytes(n_bytes - there))
    return rows


def bodies(rows: Sequence[Bytes], geometry: Geometry, batch: int) -> list[bytes]:
    """The bodies of the PARITY blocks of a batch, one for each parity row, from its rows of data."""
    parity = extend(rows, geometry.n_parity)
    table = np.stack([chunk_sums(row, geometry.chunk) for row in rows]).tobytes()
    n_bytes = geometry.piece_bytes(batch)
    table = table.ljust(n_bytes * geometry.n_pieces, b"\0")
    pieces = [table[start : start + n_bytes] for start in range(0, len(table), n_bytes)]
    pieces += extend(pieces, geometry.n_parity - geometry.n_pieces)
    return [
        _pack_head(geometry, row, batch, chunk_sums(chunks, geometry.chunk), piece) + chunks
        for row, (chunks, piece) in enumerate(zip(parity, pieces, strict=True))
    ]


def _pack_head(geometry: Geometry, row: int, batch: int, sums: Sums, piece: bytes) -> bytes:
    n_covered, chunk, columns, width, n_data, n_parity = astuple(geometry)
    rest = HEAD.pack(0, n_covered, chunk, columns, width, batch, n_data, n_parity, row, 0, 0)[8:] + sums.tobytes() + piece
    return struct.pack("<Q", wire.checksum(rest)) + rest


def parse_place(body: bytes) -> tuple[Geometry, int, int]:
    """(geometry, parity row, batch) from the first bytes of a body; its check is not looked at yet.

    Raises:
        Malformed: fields that no writer makes.
    """
    if len(body) < HEAD.size:
        raise Malformed("a PARITY block that is too short")
    _, n_covered, chunk, columns, width, batch, n_data, n_parity, row, *reserved = HEAD.unpack_from(body)
    geometry = Geometry(n_covered, chunk, columns, width, n_data, n_parity)
    if row >= n_parity or batch >= geometry.n_batches or any(reserved):
        raise Malformed(f"row {row} of {n_parity}, batch {batch} of {geometry.n_batches}")
    return geometry, row, batch


def parse_head(body: bytes, geometry: Geometry, row: int, batch: int) -> tuple[Sums, bytes]:
    """(checksums of the chunks that follow, share of the checksums of the data chunks) from a body.

    Raises:
        Malformed: it is damaged, or another block.
    """
    if parse_place(body) != (geometry, row, batch):
        raise Malformed("another PARITY block than belongs here")
    head = memoryview(body)[: geometry.head_bytes(batch)]
    if wire.checksum(head[8:]) != int.from_bytes(head[:8], "little"):
        raise Malformed("the check of a PARITY block's head is wrong")
    sums = np.frombuffer(head, "<u4", geometry.chunks(batch), HEAD.size)
    return sums, bytes(head[HEAD.size + sums.nbytes :])


def parse_table(pieces: Mapping[int, bytes], geometry: Geometry, batch: int) -> Sums:
    """Checksums of a batch's data chunks, uint32 [data rows, chunks], from enough blocks' shares by their parity row."""
    table = b"".join(restore(pieces, geometry.n_pieces, geometry.n_parity))
    n_sums = geometry.n_data * geometry.chunks(batch)
    return np.frombuffer(table, "<u4", n_sums).reshape(geometry.n_data, -1)


def chunk_sums(row: Bytes, chunk: int) -> Sums:
    """The low 32 bits of the XXH3-64 of each chunk of a row."""
    view = memoryview(row)
    digest = xxhash.xxh3_64_intdigest
    return np.array([digest(view[i : i + chunk]) & 0xFFFFFFFF for i in range(0, len(view), chunk)], "<u4")
