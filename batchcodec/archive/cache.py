"""Decoded groups that stay in memory, the one used longest ago dropped first; and what was asked for lately of others.

All methods may be called from several threads. A group that several threads ask for is decoded by one of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchcodec.types import Pixels


@dataclass(slots=True)
class _Seen:
    """A group that was not decoded as a whole.

    Attributes:
        n_bytes: of its pixels.
        next_place: after the last that was asked for.
        seconds: that its parts took.
    """

    n_bytes: int = 0
    next_place: int = -1
    seconds: float = 0.0


class GroupCache:
    """A bounded cache of groups.

    Args:
        limit: bytes of pixels to keep; the group that was asked for last is kept in any case.

    Attributes:
        n_bytes: that are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.n_bytes = 0
        self._kept: OrderedDict[int, Pixels] = OrderedDict()
        self.after_fork()

    def after_fork(self) -> None:
        """In the child: what is kept stays, what other threads were doing will not be done."""
        self._lock = threading.Lock()
        self._decoding: dict[int, threading.Event] = {}
        self._seen: OrderedDict[int, _Seen] = OrderedDict()
        self._seen_bytes = 0
        self.n_bytes = sum(pixels.nbytes for pixels in self._kept.values())

    def get(self, group: int) -> Pixels | None:
        """The pixels of a group, if they are kept."""
        with self._lock:
            return self._get(group)

    def _get(self, group: int) -> Pixels | None:
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        return None

    def load(self, group: int, decode: Callable[[], Pixels]) -> Pixels:
        """The pixels of a group, kept or decoded; other threads that want the same group wait for it."""
        while True:
            with self._lock:
                pixels = self._get(group)
                if pixels is not None:
                    return pixels
                other = self._decoding.get(group)
                if other is None:
                    own = self._decoding[group] = threading.Event()
                    break
            other.wait()  # should it fail there, the next thread tries for itself
        try:
            pixels = decode()
            with self._lock:
                self._keep(group, pixels)
            return pixels
        finally:
            with self._lock:
                self._decoding.pop(group, None)
            own.set()

    def _keep(self, group: int, pixels: Pixels) -> None:
        self._kept[group] = pixels
        self.n_bytes += pixels.nbytes
        while self.n_bytes > self.limit and len(self._kept) > 1:
            self.n_bytes -= self._kept.popitem(last=False)[1].nbytes

    def worth_all(self, group: int, places: Sequence[int], n_bytes: int, seconds: float) -> bool:
        """Whether all of a group had better be decoded, not some of it: it is read in order, or parts took as long by now.

        Only what was asked for so lately counts that it would still be kept, had it been. Who reads at random never pays more
        than twice what it would have cost to know what comes.

        Args:
            group: its number.
            places: what is asked for of it.
            n_bytes: of its pixels.
            seconds: about what all of it takes.
        """
        with self._lock:
            seen = self._seen.pop(group, None) or _Seen()
            in_order, seen.next_place = seen.next_place == min(places), max(places) + 1
            self._seen_bytes += n_bytes - seen.n_bytes
            seen.n_bytes = n_bytes
            self._seen[group] = seen
            while self._seen_bytes > self.limit and len(self._seen) > 1:
                self._seen_bytes -= self._seen.popitem(last=False)[1].n_bytes
            return in_order or seen.seconds >= seconds

    def spent(self, group: int, seconds: float) -> None:
        """Some of a group was decoded, which took so long."""
        with self._lock:
            if group in self._seen:
                self._seen[group].seconds += seconds
