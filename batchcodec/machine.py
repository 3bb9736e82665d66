"""What this process may use of its machine: cores and memory, inside of a container too; and memory that it uses again."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_KEPT_BYTES = 16 << 20
"""More than most arrays of a group."""


def cores() -> int:
    """Cores that this process may keep busy: those it may run on, or fewer where a container has a share of time."""
    try:
        n_cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        n_cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        if quota != "max":
            n_cores = min(n_cores, max(1, int(quota) // int(period)))
    return n_cores


@lru_cache(1)
def reuse_freed_memory() -> None:
    """Keep glibc from handing freed arrays back to the system, which clears each page again when the next group needs them.

    Clearing took a third of the time of a group of 256 small images. glibc gets memory of more than a threshold from the system
    directly, and gives back what is free beyond twice that; the threshold rises to what such a piece had when it is freed, up
    to 32 MiB (mallopt(3), M_MMAP_THRESHOLD). This one is never touched, so it takes no memory. Other allocators do as they
    like.
    """
    import numpy as np  # those who ask for cores alone need not wait for it

    np.empty(_KEPT_BYTES, np.uint8)


def available_memory() -> int | None:
    """Bytes that can be had without taking them from others, as the system estimates it; None if it does not say."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with contextlib.suppress(OSError, ValueError):
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(max(0, int(limit) - int((_CGROUP / "memory.current").read_text())))
    return min(found, default=None)
