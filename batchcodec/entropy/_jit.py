"""Compile a kernel with numba, for one signature, and keep the machine code on disk where that is possible.

numba keeps it beside the source, else (a read-only installation) in the user's cache directory or `NUMBA_CACHE_DIR`. If none
of them can be written, numba refuses to compile with `cache=True`; the kernel then compiles once per process instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def jit(signature: object) -> Callable[[Kernel], Kernel]:
    """A decorator: compile for this signature now, without the GIL.

    One fixed signature with read-only inputs takes both read-only and writable arrays; numba's lazy mode would compile anew
    for each mixture of them.
    """

    def decorate(function: Kernel) -> Kernel:
        def build(cache: bool) -> Kernel:
            # error_model "numpy": no branch for division by zero, the callers have checked the tables
            return cast(Kernel, njit(signature, nogil=True, error_model="numpy", cache=cache)(function))

        try:
            return build(True)
        except (RuntimeError, OSError):  # nowhere to cache, or the disk is full
            return build(False)

    return decorate
