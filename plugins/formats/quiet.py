"""Pillow's warnings, kept away from the caller while images are read.

Pillow warns about sizes that it then reads (89 to 178 million pixels), about metadata that it skips and about formats that it
could not open. Reading here either gives the pixels or raises, so these warnings say nothing more; and where
warnings are errors they would turn a readable image into a failure.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_saved: warnings.catch_warnings[None] | None = None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore warnings raised in Pillow's modules. Threads may overlap: the last one out restores the filters.

    `warnings.catch_warnings` by itself is not safe with threads: two that overlap can put back each other's filters.
    """
    global _depth, _saved
    with _lock:
        if _depth == 0:
            _saved = warnings.catch_warnings()
            _saved.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _saved is not None:
                _saved.__exit__(None, None, None)
                _saved = None
