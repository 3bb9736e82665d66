"""The time that a plan has, in parts: how much of it may have gone when something ends. It can be stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Runs from when it is made.

    Attributes:
        started: when that was, by `time.monotonic`.
        seconds: that there are, without those for which the clock stands. May be changed.
    """

    def __init__(self, seconds: float) -> None:
        self.started = time.monotonic()
        self.seconds = seconds
        self._stood = 0.0

    def by(self, part: float) -> float:
        """When this part of the time is over, by `time.monotonic`."""
        return self.started + self._stood + part * self.seconds

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Inside, no time goes by."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._stood += time.monotonic() - begun
