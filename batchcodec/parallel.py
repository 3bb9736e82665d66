"""Work on several threads whose results come in order: they do not depend on the number of threads.

Decoding and coding run in compiled code that lets other threads run, so threads are enough. What is under way is bounded, by
number and by bytes, so a slow consumer does not fill the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from batchcodec.machine import cores

T = TypeVar("T")
R = TypeVar("R")

__all__ = ["AHEAD_BYTES", "all_of", "cores", "in_order"]

AHEAD_BYTES = 64 << 20
"""What may be under way or wait for its turn by default, as `size` counts it."""


def in_order(
    work: Callable[[T], R],
    tasks: Iterable[T],
    *,
    workers: int,
    size: Callable[[T], int] | None = None,
    n_bytes: int = AHEAD_BYTES,
    ahead: int = 0,
) -> Generator[R, None, None]:
    """`map(work, tasks)` on some threads. Tasks are taken from the caller's thread, ahead of what was asked for.

    Closing the iterator, an error or Ctrl-C drops what has not begun; nothing waits for what has.

    Args:
        work: called with one task; must be thread-safe.
        tasks: taken one by one.
        workers: threads; with 0 there is none, and nothing is done ahead.
        size: bytes that the result of a task holds.
        n_bytes: results that may be held; at least one task is always under way.
        ahead: results that may be held, besides one for each thread and one more.
    """
    if workers < 1:
        yield from map(work, tasks)
        return
    pool = ThreadPoolExecutor(workers, "batchcodec")
    waiting: deque[tuple[Future[R], int]] = deque()
    held = 0
    try:
        for task in tasks:
            more = size(task) if size else 0
            # One result more than there are threads: a thread that is done finds the next task while the first one is used.
            while waiting and (len(waiting) > workers + ahead or held + more > n_bytes):
                future, n = waiting.popleft()
                yield future.result()
                held -= n
            waiting.append((pool.submit(work, task), more))
            held += more
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def all_of(pool: ThreadPoolExecutor, work: Callable[[T], object], tasks: Iterable[T]) -> None:
    """Do all tasks on a pool and wait for them.

    Raises:
        Exception: what the first task that failed raised; the others that had not begun are dropped.
    """
    futures = [pool.submit(work, task) for task in tasks]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
