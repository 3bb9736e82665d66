"""How long something takes on this machine: layers can be computed in two ways, and processors differ in which is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from batchcodec import machine

T = TypeVar("T")

MOST_THREADS = 4
"""Enough to show what threads cost each other."""


def least_seconds(work: Callable[[], object], times: int = 5) -> float:
    """The fastest of some times, on one of torch's threads."""
    found = []
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(times):
            started = time.perf_counter()
            work()
            found.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return min(found)


def side_by_side(work: Callable[[], object], times: int = 3) -> float:
    """The same where a thread for each core does it at once, as with groups: what holds a lock is slower then."""
    n_threads = min(machine.cores(), MOST_THREADS)
    if n_threads == 1:
        return least_seconds(work, times)
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def all_of_them() -> None:
            for done in [pool.submit(work) for _ in range(n_threads)]:
                done.result()

        return least_seconds(all_of_them, times)


def fastest(ways: Sequence[T], seconds: Callable[[T], float]) -> T:
    """The way that takes the fewest seconds; if there is only one, it is not timed."""
    return ways[0] if len(ways) == 1 else min(ways, key=seconds)
