"""What must hold of every target, whatever the input: the one judge of the fuzzer and of the replay in the test suite.

- Only the errors that the target documents escape.
- Nothing is printed and no warning is given.
- It ends within `SECONDS` of processor time.
- It needs no more than `MAX_BYTES` plus `BYTES_PER_BYTE` for each byte of the input. Limits that are large by design are
  lowered for the time (`SMALL_LIMITS`): the same checks with smaller numbers, so that a length that is not checked stands out.

What else must hold of a target (two decoders agree, pixels have their digest) it asserts itself.
"""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from PIL import Image

from batchcodec.archive import directory, wire
from batchcodec.errors import BatchcodecError

SECONDS = 10.0
MAX_BYTES = 128 << 20
BYTES_PER_BYTE = 1 << 12

SMALL_LIMITS: tuple[tuple[Any, str, int], ...] = (
    (wire, "MAX_GROUP_BYTES", 1 << 20),
    (wire, "MAX_MODEL", 1 << 24),
    (wire, "MAX_DIRECTORY", 1 << 22),
    (wire, "MAX_ROWS", 1 << 14),
    (directory, "MAX_ROWS", 1 << 14),
    (directory, "MAX_TEXT", 1 << 22),
    (Image, "MAX_IMAGE_PIXELS", 1 << 19),
)


CORPUS = Path(__file__).parent / "corpus"


class BrokenError(AssertionError):
    """A target did what none may do."""


class _Printed(io.StringIO):
    """What a target prints; libFuzzer's alarm, which a paused process gets as well, asks standard error for its descriptor."""

    def fileno(self) -> int:
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else super().fileno()


class _Slow(BaseException):
    """Out of time; not an `Exception`, which a reader may turn into one of its own."""


@dataclass(frozen=True)
class Target:
    """One reader under test.

    Attributes:
        name: of the target and of its corpus.
        run: reads the input, and asserts what else must hold.
        seeds: makes the inputs to start from, small ones, most of them sound; see `make.py`.
        allowed: errors that may escape.
        mutate: a change that keeps the structure (checksums, compression), given a way to change bytes; None for plain changes.
        max_length: of an input, bytes.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    allowed: tuple[type[Exception], ...] = (BatchcodecError,)
    mutate: Callable[[bytes, Callable[[bytes], bytes], int], bytes] | None = None
    max_length: int = 1 << 13


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """Lower the limits that are large by design."""
    before = [getattr(place, name) for place, name, _ in SMALL_LIMITS]
    for place, name, value in SMALL_LIMITS:
        setattr(place, name, value)
    try:
        yield
    finally:
        for (place, name, _), value in zip(SMALL_LIMITS, before, strict=True):
            setattr(place, name, value)


def corpus(target: Target) -> list[Path]:
    """The files of the regression corpus of a target: seeds and what was found."""
    return sorted((CORPUS / target.name).iterdir())


def warm_up(target: Target) -> None:
    """Run the seeds unjudged: what is imported and compiled at first use is not an input's fault."""
    for path in corpus(target):
        if path.name.startswith("seed-"):
            with contextlib.suppress(*target.allowed):
                target.run(path.read_bytes())


def check(target: Target, data: bytes) -> bool:
    """Run a target; whether it took the input. Call within `small_limits`.

    Raises:
        BrokenError: it did what none may do.
    """
    out, taken = _Printed(), False
    start = _start_of_peak()
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            _time_limit(),
        ):
            warnings.simplefilter("always")
            target.run(data)
            taken = True
    except target.allowed:
        pass
    except _Slow as exc:
        raise BrokenError(f"it needs more than {SECONDS} s") from exc
    except MemoryError as exc:
        raise BrokenError("it asks for more memory than there is") from exc
    if warned:
        raise BrokenError(f"a warning: {warned[0].category.__name__}: {warned[0].message}")
    if out.getvalue():
        raise BrokenError(f"it prints: {out.getvalue()[:200]!r}")
    limit = MAX_BYTES + BYTES_PER_BYTE * len(data)
    if start is not None and (used := _peak() - start) > limit:
        raise BrokenError(f"it needs {used >> 20} MiB for {len(data)} bytes, allowed are {limit >> 20}")
    return taken


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def expired(number: int, frame: FrameType | None) -> None:
        raise _Slow

    before = signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def _start_of_peak() -> int | None:
    """Forget the peak of resident memory, and what it is now; None where the system cannot."""
    if sys.platform != "linux":
        return None
    try:
        _CLEAR.write_text("5")
    except OSError:
        return None
    return _peak()


def _peak() -> int:
    """Peak of resident memory since then, bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10
