"""What foreign readers say beside their results, kept away from the caller.

Pillow warns about sizes that it then reads (89 to 178 million pixels), about metadata that it skips and about formats that it
could not open; NumPy about headers that Python 2 wrote and about old names of dtypes, and Python about escapes in headers.
Reading here either gives the pixels or raises, so these warnings say nothing more; and where warnings are errors they would
turn a readable image into a failure.

Pillow, tifffile and imagecodecs log, and Python prints what nobody handles: `quiet_log` gives their logs a handler that does
nothing. An application that has set up logging still gets them.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_saved: warnings.catch_warnings[None] | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings raised in Pillow's modules, and what NumPy and Python say of headers.

    Threads may overlap: the last one out restores the filters.

    `warnings.catch_warnings` by itself is not safe with threads: two that overlap can put back each other's filters.
    """
    global _depth, _saved
    with _lock:
        if _depth == 0:
            _saved = warnings.catch_warnings()
            _saved.__enter__()
            warnings.filterwarnings("ignore", module=r"(PIL|numpy\.lib)(\.|$)|<unknown>$")
            warnings.filterwarnings("ignore", message=r"Reading `\.npy`")  # NumPy puts it on its caller
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _saved is not None:
                _saved.__exit__(None, None, None)
                _saved = None


def quiet_log(package: str) -> None:
    """Keep what a package logs from being printed where nobody has set up logging."""
    logger = logging.getLogger(package)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
