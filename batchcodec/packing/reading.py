"""Items of a dataset in their order, read and prepared ahead in batches.

A dataset that says `parallel_reads` is read by several threads at once: decoders and filters run in compiled code that lets
other threads run. Any other is read by the thread that asks for the items, in order; other threads only resize what it read.

Read ahead are one batch more than there are threads. A batch ends early at `BATCH_BYTES` of pixels, so that is what bounds the
memory; its number of images decides over nothing but speed.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from batchcodec.archive.wire import MAX_GROUP_BYTES
from batchcodec.errors import BatchcodecError, ItemError
from batchcodec.names import check_name
from batchcodec.preprocess import Preprocess
from batchcodec.types import Item

BATCH_BYTES = 4 << 20
BATCH_SECONDS = 0.01
"""What a batch takes if its size is free: long beside the handing over, and short beside all that is to be done."""
MAX_FREE_BATCH = 256
NO_FILE = -1


@dataclass
class Batch:
    """Consecutive items, and what was found out about them.

    Attributes:
        indices: their places in the dataset.
        outcomes: of each the item as it is coded, or why there is none.
        file_bytes: of each the length of its file, or `NO_FILE`; empty where the source is no directory.
        n_bytes: pixels as they were read.
        read_seconds: in the dataset.
        prepare_seconds: in preprocessing and checks.
    """

    indices: range
    outcomes: list[Item | Exception] = field(default_factory=list)
    file_bytes: list[int] = field(default_factory=list)
    n_bytes: int = 0
    read_seconds: float = 0.0
    prepare_seconds: float = 0.0

    @property
    def rest(self) -> range:
        """What was not read because there were bytes enough."""
        return self.indices[len(self.outcomes) :]


class Reader:
    """Reads a dataset once, from its first item to its last.

    Args:
        source: where it is, for messages and the lengths of its files.
        preprocess: what is done to each item.
        threads: that read, or that preprocess where the dataset is read by one.
        batch: images of a batch; 0 goes by how long they take.

    Attributes:
        file_bytes: whether lengths of files are found out. Setting it to False ends that.
        wait_seconds: for which `batches` had nothing to give.
    """

    def __init__(
        self, dataset: Sequence[Item], source: Path, preprocess: Preprocess, *, threads: int = 1, batch: int = 0
    ) -> None:
        self._dataset, self._source, self._preprocess = dataset, source, preprocess
        self._root = f"{source}{os.sep}"
        self._threads = threads
        self._size, self._is_free = batch or 1, not batch
        self._next = 0
        self._stopped = False
        self.parallel: bool = getattr(dataset, "parallel_reads", False)
        self.file_bytes = source.is_dir()
        self.wait_seconds = 0.0

    def batches(self) -> Generator[Batch]:
        """All items, some at a time. When it is closed, no thread of it is left."""
        ahead: deque[Future[Batch]] = deque()
        overlapping = self.parallel or self._preprocess.changes_pixels
        depth = self._threads + 1 if overlapping else 1
        pool = ThreadPoolExecutor(self._threads, "batchcodec-read")
        try:
            while True:
                while len(ahead) < depth and self._next < len(self._dataset):
                    ahead.append(self._started(pool, overlapping))
                if not ahead:
                    return
                started = time.perf_counter()
                batch = ahead.popleft().result()
                self.wait_seconds += time.perf_counter() - started
                if batch.rest and self.parallel:
                    ahead.appendleft(pool.submit(self._read_and_prepare, batch.rest))
                self._learn(batch)
                yield batch
        finally:
            self._stopped = True
            pool.shutdown(wait=True, cancel_futures=True)

    def _started(self, pool: ThreadPoolExecutor, overlapping: bool) -> Future[Batch]:
        """The next batch, under way."""
        indices = range(self._next, min(len(self._dataset), self._next + self._size))
        if self.parallel:
            self._next = indices.stop
            return pool.submit(self._read_and_prepare, indices)
        batch = self._read(indices)
        self._next += len(batch.outcomes)
        if overlapping:
            return pool.submit(self._prepare, batch)
        done: Future[Batch] = Future()
        done.set_result(self._prepare(batch))
        return done

    def _learn(self, batch: Batch) -> None:
        """Take more or fewer images next time."""
        if self._is_free:
            n_items = len(batch.outcomes)
            by_time = n_items * BATCH_SECONDS / max(batch.read_seconds + batch.prepare_seconds, 1e-9)
            by_bytes = n_items * BATCH_BYTES / max(batch.n_bytes, 1)
            self._size = max(1, min(4 * self._size, MAX_FREE_BATCH, int(by_time), int(by_bytes)))

    def _read_and_prepare(self, indices: range) -> Batch:
        return self._prepare(self._read(indices))

    def _read(self, indices: range) -> Batch:
        """At least one of the items, as the dataset has them."""
        started = time.perf_counter()
        batch = Batch(indices)
        for index in indices:
            outcome: Item | Exception
            try:
                outcome = self._dataset[index]
                batch.n_bytes += outcome.pixels.nbytes
            except Exception as exc:  # a plugin's format may let anything escape
                outcome = self._error(exc, f"item {index}")
            batch.outcomes.append(outcome)
            if batch.n_bytes >= BATCH_BYTES or self._stopped:
                break
        batch.read_seconds = time.perf_counter() - started
        return batch

    def _prepare(self, batch: Batch) -> Batch:
        """Make the items those that are coded, and check them."""
        started = time.perf_counter()
        changes = self._preprocess.changes_pixels
        for place, item in enumerate(batch.outcomes):
            if isinstance(item, Exception):
                continue
            try:
                if changes:
                    batch.outcomes[place] = item = self._preprocess(item)
                self._check(item)
            except Exception as exc:
                batch.outcomes[place] = self._error(exc, f"item {batch.indices[place]}")
        if self.file_bytes:
            batch.file_bytes = [NO_FILE if isinstance(o, Exception) else self._length(o.name) for o in batch.outcomes]
        batch.prepare_seconds = time.perf_counter() - started
        return batch

    def _check(self, item: Item) -> None:
        """Raise `ItemError` if an archive cannot hold it, whatever the codec."""
        check_name(self._source, item.name)
        pixels = item.pixels
        if pixels.ndim != 3 or not pixels.size:
            raise ItemError(self._source, item.name, f"pixels of shape {list(pixels.shape)} are no image")
        if pixels.nbytes > MAX_GROUP_BYTES:
            raise ItemError(self._source, item.name, f"larger than {MAX_GROUP_BYTES} bytes of pixels")

    def _error(self, exc: Exception, item: str) -> Exception:
        if isinstance(exc, BatchcodecError | MemoryError):
            return exc
        error = ItemError(self._source, item, f"{type(exc).__name__}: {exc}")
        error.__cause__ = exc
        return error

    def _length(self, name: str) -> int:
        try:
            return os.stat(self._root + name).st_size  # noqa: PTH116  (a Path for each item costs more than the call)
        except (OSError, ValueError):  # items that are no files of their own, such as frames
            return NO_FILE
