"""Files appear whole or not at all: a temporary sibling, flushed to the disk, then renamed, and the directory flushed too."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from batchcodec import disk
from batchcodec.errors import OutputError


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[BinaryIO]:
    """A file to write (and read back) that becomes `target` when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: the directory is missing or not writable, or the disk is full.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".partial", dir=target.parent)
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield cast("BinaryIO", file)
            file.flush()
            disk.sync(file.fileno())
        # mkstemp makes private files; the result gets the permissions that any new file here would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        disk.replace(temporary, target)
        disk.sync_directory(target.parent)
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(target: Path, data: bytes) -> None:
    """Write a whole file at once, or leave what was there."""
    with atomic_file(target) as file:
        file.write(data)
