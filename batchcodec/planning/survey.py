"""What is in a dataset: shapes, sizes, labels, broken images, images that are there twice. Bounded in time.

Headers are read of all items, or of blocks of consecutive items spread over a large dataset; then items are decoded as far as
the time goes, spread likewise. A dataset that is a compressed stream is read from its beginning as far as the time goes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xxhash

from batchcodec.errors import BatchcodecError
from batchcodec.planning.order import spread_order
from batchcodec.preprocess import Preprocess
from batchcodec.types import ImageSpec, Item

MAX_LOOKED = 200_000
"""Items whose headers are read at most."""
BLOCK_ITEMS = 4096
"""Of a block of a larger dataset: some full groups of small images, or one."""
CHUNK_ITEMS = 64
"""Items that are looked at before the clock is."""
MAX_LISTED = 20

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out about an item.

    Attributes:
        place: in the dataset.
        spec: of the pixels as they would be coded; None if it cannot be read.
        label: where it has one.
        n_bytes: of its own file; None if it is part of an array, or unknown.
        digest: of the pixels; None if it was not decoded.
        notes: what reading changed.
        error: why it cannot be read.
        seconds: that reading it took.
    """

    place: int
    spec: ImageSpec | None
    label: str | None = None
    n_bytes: int | None = None
    digest: int | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Survey:
    """What is in a dataset.

    Attributes:
        n_items: of the dataset.
        n_looked: items whose header was read; the counts below are of these.
        n_decoded: items that were decoded: broken ones and duplicates are among these.
        shapes: image spec (as coded) to number of items.
        n_pixels: of all items together, estimated where not all were looked at.
        file_bytes: of the looked at items' own files; None where they are part of arrays.
        labels: label to number of items.
        n_unlabelled: items without a label.
        n_unreadable: items that cannot be read.
        unreadable: the first of them, with the reason.
        n_duplicates: items whose pixels are those of an item before.
        notes: what reading changes, with the number of decoded items.
        ignored: files of the source that are no images.
        from_start: only the beginning of the dataset could be looked at.
        read_seconds: of one item, on one thread.
        parallel: whether several threads can read at once.
    """

    n_items: int
    n_looked: int
    n_decoded: int
    shapes: dict[str, int]
    n_pixels: int
    file_bytes: int | None
    labels: dict[str, int]
    n_unlabelled: int
    n_unreadable: int
    unreadable: list[str]
    n_duplicates: int
    notes: dict[str, int]
    ignored: int
    from_start: bool
    read_seconds: float
    parallel: bool

    @property
    def n_packed(self) -> float:
        """Items that can be read, estimated where not all were looked at; at least 1."""
        return max(1.0, self.n_items * (1 - self.n_unreadable / max(1, self.n_looked)))


@dataclass
class Looked:
    """The survey, and what it is made of.

    Attributes:
        survey: the counts.
        blocks: consecutive items each, in the dataset's order; one block if all items were looked at.
        n_blocks: that the dataset would have.
    """

    survey: Survey
    blocks: list[list[Seen]] = field(default_factory=list)
    n_blocks: float = 1.0


class _Surveyor:
    """Looks at items until a deadline."""

    def __init__(self, dataset: Sequence[Item], preprocess: Preprocess, workers: int) -> None:
        self._dataset, self._preprocess = dataset, preprocess
        self._head: Callable[[int], Any] | None = getattr(dataset, "head", None)
        self.parallel: bool = getattr(dataset, "parallel_reads", False)
        self._workers = workers if self.parallel else 0

    @property
    def knows_heads(self) -> bool:
        """Whether there is a way to look at items without reading them."""
        return self._head is not None and self._head(0) is not None

    def look(self, place: int) -> Seen:
        """By the header if it tells, else by reading."""
        head = self._head(place) if self._head is not None else None
        if head is None:
            return self.read(place)
        return Seen(place, self._preprocess.spec_of(head.spec), head.label, head.n_bytes)

    def read(self, place: int) -> Seen:
        """By decoding."""
        started = time.perf_counter()
        try:
            item = self._preprocess(self._dataset[place])
        except BatchcodecError as exc:
            return Seen(place, None, error=str(exc))
        except Exception as exc:  # a plugin's format may let anything escape
            return Seen(place, None, error=f"item {place}: {type(exc).__name__}: {exc}")
        seconds = time.perf_counter() - started
        samples = np.ascontiguousarray(item.pixels).reshape(-1).view(np.uint8)
        digest = xxhash.xxh3_64_intdigest(samples.data, item.pixels.shape[1])
        return Seen(place, ImageSpec.of(item.pixels), item.label, None, digest, item.notes, None, seconds)

    def each(
        self, work: Callable[[int], Seen], chunks: Sequence[range], deadline: float, progress: Callable[[float], None]
    ) -> Iterator[tuple[int, list[Seen]]]:
        """The chunks' numbers and what was found, in order, until the deadline; the first chunk always."""

        def chunk(number: int) -> list[Seen] | None:
            if number and time.monotonic() > deadline:
                return None
            return [work(place) for place in chunks[number]]

        if not self._workers:
            for number in range(len(chunks)):
                found = chunk(number)
                if found is None:
                    return
                yield number, found
                progress((number + 1) / len(chunks))
            return
        with ThreadPoolExecutor(self._workers, "batchcodec-survey") as pool:
            futures: list[Future[list[Seen] | None]] = [pool.submit(chunk, number) for number in range(len(chunks))]
            for number, future in enumerate(futures):
                found = future.result()
                if found is None:
                    return
                yield number, found
                progress((number + 1) / len(chunks))


def survey(
    dataset: Sequence[Item],
    preprocess: Preprocess,
    *,
    look_seconds: float,
    read_seconds: float,
    workers: int,
    progress: Progress,
    max_looked: int = MAX_LOOKED,
    block_items: int = BLOCK_ITEMS,
) -> Looked:
    """Look at a dataset for about so many seconds: at headers, then at pixels."""
    n = len(dataset)
    surveyor = _Surveyor(dataset, preprocess, workers)
    forward = not surveyor.parallel and not surveyor.knows_heads
    starts, length = _starts(n, max_looked, block_items)
    chunks = [
        range(i, min(i + CHUNK_ITEMS, start + length, n))
        for start in starts
        for i in range(start, min(start + length, n), CHUNK_ITEMS)
    ]
    per_block = -(-length // CHUNK_ITEMS)
    found: dict[int, list[Seen]] = {}
    if forward:  # looking is reading, and only in order
        order = list(range(-(-min(n, max_looked) // CHUNK_ITEMS)))
        chunks = [range(i * CHUNK_ITEMS, min((i + 1) * CHUNK_ITEMS, n)) for i in order]
        look_seconds += read_seconds
    else:
        blocks = spread_order(-(-len(chunks) // per_block))
        order = [c for b in blocks for c in range(b * per_block, min((b + 1) * per_block, len(chunks)))]
    ordered = [chunks[i] for i in order]
    deadline = time.monotonic() + look_seconds
    for number, seen in surveyor.each(surveyor.look, ordered, deadline, lambda part: progress("looking at headers", part)):
        found[order[number]] = seen
    if not forward:
        deadline = time.monotonic() + read_seconds
        again = [i for i in spread_order(len(chunks)) if i in found] if surveyor.parallel else sorted(found)
        places = [chunks[i] for i in again]
        for number, seen in surveyor.each(surveyor.read, places, deadline, lambda part: progress("decoding", part)):
            headers = found[again[number]]
            found[again[number]] = [replace(s, n_bytes=h.n_bytes) for s, h in zip(seen, headers, strict=True)]
    whole = len(found) == len(chunks) and sum(map(len, chunks)) == n
    joined = _joined(found)
    if not whole:  # a block that the time cut off ends early, as the last group of it does
        joined = [block for block in joined if len(block) * 2 >= min(length, n)] or joined
    looked = [seen for block in joined for seen in block]
    return Looked(
        _counted(looked, n, surveyor, getattr(dataset, "ignored", 0), forward and not whole),
        joined,
        1.0 if whole else n * len(joined) / len(looked),
    )


def _starts(n: int, max_looked: int, block_items: int) -> tuple[list[int], int]:
    """Where blocks begin, and how long they are."""
    if n <= max_looked:
        return list(range(0, n, block_items)), block_items
    n_blocks = max(1, max_looked // block_items)
    return [b * (n - block_items) // max(1, n_blocks - 1) for b in range(n_blocks)], block_items


def _joined(found: dict[int, list[Seen]]) -> list[list[Seen]]:
    """Chunks that follow each other become one block."""
    blocks: list[list[Seen]] = []
    for seen in sorted(found.values(), key=lambda seen: seen[0].place):
        if blocks and blocks[-1][-1].place + 1 == seen[0].place:
            blocks[-1] += seen
        else:
            blocks.append(list(seen))
    return blocks


def _counted(looked: list[Seen], n_items: int, surveyor: _Surveyor, ignored: int, from_start: bool) -> Survey:
    good = [seen for seen in looked if seen.spec is not None]
    pixels = sum(seen.spec.height * seen.spec.width for seen in good if seen.spec)
    bad = [seen for seen in looked if seen.error is not None]
    digests = [seen.digest for seen in looked if seen.digest is not None]
    lengths = [seen.n_bytes for seen in good]
    labels = Counter(seen.label for seen in good if seen.label is not None)
    return Survey(
        n_items=n_items,
        n_looked=len(looked),
        n_decoded=len(digests) + len(bad),
        shapes=dict(Counter(str(seen.spec) for seen in good).most_common()),
        n_pixels=round(pixels * n_items / max(1, len(looked))),
        file_bytes=None if None in lengths else sum(n for n in lengths if n is not None),
        labels=dict(labels.most_common()),
        n_unlabelled=len(good) - sum(labels.values()),
        n_unreadable=len(bad),
        unreadable=[str(seen.error) for seen in bad[:MAX_LISTED]],
        n_duplicates=len(digests) - len(set(digests)),
        notes=dict(Counter(note for seen in looked for note in seen.notes).most_common()),
        ignored=ignored,
        from_start=from_start,
        read_seconds=sum(seen.seconds for seen in looked) / max(1, len(digests)),
        parallel=surveyor.parallel,
    )
