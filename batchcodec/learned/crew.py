"""Cores that nothing else uses help with what one thread has to do.

Pipelines decode groups side by side, one on each core, which scales best. A caller that waits for one group, or for one large
image, leaves cores idle: they take a share of its loops. Results do not depend on it, as shares are independent.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from batchcodec import machine

_lock = threading.Lock()
_busy = 0
"""Threads inside of `working`, and those that help them."""


@lru_cache(1)
def _cores() -> int:
    return machine.cores()


@lru_cache(1)
def _helpers() -> ThreadPoolExecutor:
    import torch

    # the number of torch's threads is a setting of each thread
    return ThreadPoolExecutor(max(1, _cores() - 1), "batchcodec-helper", initializer=torch.set_num_threads, initargs=(1,))


def _after_fork() -> None:
    """Threads do not survive a fork."""
    global _lock, _busy
    _lock, _busy = threading.Lock(), 0
    _helpers.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def working() -> Iterator[None]:
    """The calling thread keeps a core busy."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(more: int) -> None:
    global _busy
    with _lock:
        _busy += more


def share(n: int, least: int, work: Callable[[int, int], None]) -> None:
    """work(first, last) for parts of 0..n that cover it: one on this thread, others on idle cores. Call within `working`.

    Args:
        n: how much there is to do.
        least: what is worth a part of its own.
        work: does a part; parts run at the same time.

    Raises:
        Exception: what a part raised, after all parts have ended.
    """
    global _busy
    with _lock:
        n_helpers = max(0, min(n // max(1, least), 1 + _cores() - max(1, _busy)) - 1)
        _busy += n_helpers
    if not n_helpers:
        work(0, n)
        return
    bounds = [n * part // (n_helpers + 1) for part in range(n_helpers + 2)]
    try:
        futures = [_helpers().submit(work, *pair) for pair in itertools.pairwise(bounds[1:])]
        try:
            work(bounds[0], bounds[1])
        finally:
            errors = [future.exception() for future in futures]  # waits: arrays that they write into are the caller's
        for error in errors:
            if error is not None:
                raise error
    finally:
        _count(-n_helpers)
