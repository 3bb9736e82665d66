"""The system calls that decide whether data outlives a crash, in one place, so that tests can make any of them fail."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write at an offset; the number of bytes that were written, maybe not all."""
    return os.pwrite(descriptor, data, offset)


def sync(descriptor: int) -> None:
    """Return when the data of a file is on the disk, and its length."""
    os.fsync(descriptor)


def truncate(descriptor: int, length: int) -> None:
    """Cut a file."""
    os.ftruncate(descriptor, length)


def replace(path: Path, target: Path) -> None:
    """Rename a file over another, in one step."""
    path.replace(target)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    path.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make new and changed names in a directory durable, where the file system knows how."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # a platform that opens no directories
        return
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # what network file systems say that refuse it
            raise
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all bytes at an offset."""
    rest = memoryview(data)
    while rest:
        n_bytes = write(descriptor, rest[: 1 << 30], offset)
        rest, offset = rest[n_bytes:], offset + n_bytes
