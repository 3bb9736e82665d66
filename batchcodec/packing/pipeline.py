"""The threads of `pack` behind the one that forms groups: several that code, and one that writes.

Groups are written in the order in which they were handed in, whichever is coded first, so the bytes know nothing of threads.
So do errors: the one that is raised is that of the first group that fails. What is under way is bounded by `depth`; who hands
in more waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

C = TypeVar("C")
W = TypeVar("W")


class Pipeline(Generic[C, W]):
    """Codes on `workers` threads and writes on one more. Close it, whatever happens: then no thread of it is left.

    Args:
        write: takes what was coded. It is called by one thread, in order, and never again after it or a coding has failed.
        workers: what is coded at once.
        depth: groups that are waiting, coded or written at once.

    Attributes:
        wait_seconds: for which handing in and `finish` waited.
    """

    def __init__(self, write: Callable[[C], W], *, workers: int, depth: int) -> None:
        self._write, self._depth = write, depth
        self._coders = ThreadPoolExecutor(workers, "batchcodec-code")
        self._writer = ThreadPoolExecutor(1, "batchcodec-write")
        self._under_way: deque[Future[W]] = deque()
        self._failed = False
        self.wait_seconds = 0.0

    def put(self, code: Callable[[], C]) -> Iterator[W]:
        """Hand in a group, once there is room; what was written since.

        Raises:
            Exception: what coding or writing an earlier group raised.
        """
        while self._under_way and (len(self._under_way) >= self._depth or self._under_way[0].done()):
            yield self._first()
        coded = self._coders.submit(code)
        self._under_way.append(self._writer.submit(self._written, coded))

    def finish(self) -> Iterator[W]:
        """Wait for all that was handed in; what was written since. Raises as `put` does."""
        while self._under_way:
            yield self._first()

    def _first(self) -> W:
        started = time.perf_counter()
        written = self._under_way.popleft().result()
        self.wait_seconds += time.perf_counter() - started
        return written

    def _written(self, coded: Future[C]) -> W:
        if self._failed:
            raise RuntimeError("a group before it has failed")  # nobody asks for this result
        try:
            return self._write(coded.result())
        except BaseException:
            self._failed = True
            raise

    def close(self) -> None:
        """Drop what has not begun, wait for what has."""
        self._coders.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._coders.shutdown(wait=True)
