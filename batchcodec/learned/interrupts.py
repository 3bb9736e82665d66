"""Ctrl-C that waits for the end of a step, so that what is saved is the state between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def between_steps() -> Iterator[Callable[[], None]]:
    """Inside, the first SIGINT waits until what is given here is called, and is raised there as KeyboardInterrupt.

    A second one is raised at once. Threads other than the main one get no signals, and nothing changes for them.
    """
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield check
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
