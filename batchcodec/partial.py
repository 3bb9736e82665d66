"""An archive in the making, which outlives the process that makes it.

    OUT.cpack.partial            header and blocks, as the finished archive has them; a rename makes it OUT.cpack
    OUT.cpack.partial.journal    what of them is done: a line for each group
    OUT.cpack.partial.model-N    models that were fitted for it, which no second run would fit alike

A group's line is written when its blocks are on the disk, and is itself flushed then. So whatever a line tells of is there
after a crash or a power cut, whatever else of the last second is lost or torn; checksums prove it when a later run goes on.

Going on is *replaying*: the later run reads the dataset from its start and does all again but the coding of the groups that are
done. What it would write is compared with what is there, byte by byte, and what it read with what was packed, by checksum. So
the archive is the one that an uninterrupted run makes, or an error.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batchcodec import disk, journal
from batchcodec.archive.blocks import RawFile
from batchcodec.archive.found import FoundBlock
from batchcodec.archive.scan import sound_prefix
from batchcodec.archive.wire import BlockType
from batchcodec.atomic import write_atomically
from batchcodec.errors import OutputError, UnfinishedError
from batchcodec.version import __version__

ANEW = "--force without --resume starts anew"
SYNC_SECONDS = 0.5
"""A power cut costs at most this much work, and the group in hand."""


@dataclass(frozen=True, slots=True)
class GroupDone:
    """What the journal keeps of a finished group.

    Attributes:
        end: length of the file up to the last block that was written with it.
        items_check: XXH3-64 of what was packed: pixels, names, labels, attributes, places in the dataset.
        squared_error: of all its samples together, as a part of the peak's square.
        psnr_sum: of its images, dB.
    """

    end: int
    items_check: int
    squared_error: float
    psnr_sum: float


@dataclass(frozen=True)
class FitDone:
    """Why a fit chose what it did, and the SHA-256 of each model by the channels of the images that it is for."""

    reason: str
    models: dict[str, str]


class Partial:
    """The unfinished archive of a target, open for writing; use it in a `with` block, which ends with `finish`.

    Args:
        target: what it will be.
        identity: what decides the bytes of the archive, besides the images; JSON. A run that goes on must have the same.
        resume: go on with what an earlier run left; else that is refused.
        force: start anew where `resume` is not given, whatever an earlier run left.

    Attributes:
        done: the groups of an earlier run that need not be coded again.

    Raises:
        UnfinishedError: an earlier run left something, and it was not said what to do with it, or it does not fit.
        OutputError: another process is at it, or the file system refuses.
    """

    def __init__(self, target: Path, identity: dict[str, Any], *, resume: bool, force: bool) -> None:
        self.target, self.identity = target, identity
        self.path = target.with_name(target.name + ".partial")
        self.journal_path = self.path.with_name(self.path.name + ".journal")
        self.done: list[GroupDone] = []
        self._fit: FitDone | None = None
        self._groups: list[FoundBlock] = []  # that are done
        self._position = self._n_durable = 0
        self._pending: list[bytes] = []
        self._n_noted = 0
        self._finished = self._broken = False
        self._synced = time.monotonic()
        with contextlib.ExitStack() as stack, self._writing():
            self._file = _locked(self.path)
            stack.callback(os.close, self._file)
            if not self.journal_path.exists():
                stack.callback(self._remove_if_empty)
            self._open(resume, force)
            stack.pop_all()

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            if not os.fstat(self._file).st_size:
                disk.remove(self.path)
                self._remove_beside()

    # ---- what an earlier run left

    def _open(self, resume: bool, force: bool) -> None:
        records = journal.parsed(self.journal_path.read_bytes() if self.journal_path.is_file() else b"")
        fit = next((FitDone(**record) for record in records if record.keys() == _fields(FitDone)), None)
        with RawFile(self.path) as file:
            blocks = sound_prefix(file)
        ends, groups = {block.end for block in blocks}, [block for block in blocks if block.type == BlockType.GROUP]
        if groups or fit:
            if not (resume or force):
                what = f"{len(groups)} groups of an unfinished archive are in it" if groups else "a fit for it is done"
                raise UnfinishedError(self.path, f"{what}; --resume goes on with that, --force starts anew")
            if resume and not records:
                raise UnfinishedError(self.path, f"its journal is lost; `batchcodec repair` saves what is in it, {ANEW}")
        if resume and records:
            self._compare(records[0])
            self._fit = fit
            noted = [GroupDone(**record) for record in records if record.keys() == _fields(GroupDone)]
            # Blocks are sound up to some point; a journal that knows more was on the disk before them, against its word.
            self.done = list(itertools.takewhile(lambda group: group.end in ends, noted))
            self._groups = groups[: len(self.done)]
        self._n_noted = len(self.done)
        self._n_durable = self.done[-1].end if self.done else 0
        lines: list[dict[str, Any]] = [{"batchcodec": __version__, "identity": self.identity}]
        lines += [asdict(self._fit)] if self._fit else []
        lines += [asdict(group) for group in self.done]
        data = b"".join(map(journal.packed, lines))
        self._journal = self._new_journal(data)
        self._journal_end = len(data)
        disk.truncate(self._file, self._n_durable)

    def _new_journal(self, data: bytes) -> int:
        """Put a journal in the place of what is there, at once: a crash must not lose both. Its descriptor."""
        new = self.journal_path.with_name(self.journal_path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
        try:
            disk.write_all(descriptor, data, 0)
            disk.sync(descriptor)
            disk.replace(new, self.journal_path)
            disk.sync_directory(new.parent)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _compare(self, head: dict[str, Any]) -> None:
        if head.get("batchcodec") != __version__:
            raise UnfinishedError(self.path, f"batchcodec {head.get('batchcodec')} made it, and this is {__version__}; {ANEW}")
        before = head.get("identity")
        before = before if isinstance(before, dict) else {}
        for key in sorted(before.keys() | self.identity.keys()):
            if before.get(key) != self.identity.get(key):
                now = self.identity.get(key)
                raise UnfinishedError(self.path, f"it has {key} {before.get(key)!r}, not {now!r}; {ANEW}")

    def stored_group(self, number: int) -> tuple[bytes, int]:
        """Body and number of items of a group of `done`."""
        block = self._groups[number]
        return self._read(block.body, block.header.n_bytes), block.n_items

    def fitted(self) -> tuple[str, dict[int, bytes]] | None:
        """What an earlier run fitted: the reason of the choice, and models by channels. None if there is nothing to go on with.

        Raises:
            UnfinishedError: groups were coded with it, and it is lost.
        """
        if self._fit is None:
            return None
        models = {}
        for channels, sha256 in self._fit.models.items():
            path = self._model_path(int(channels))
            model = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(model).hexdigest() != sha256:
                if self.done:
                    raise UnfinishedError(path, f"the model that was fitted for its groups is lost; {ANEW}")
                return None
            models[int(channels)] = model
        return self._fit.reason, models

    # ---- writing

    def keep_fit(self, reason: str, models: dict[int, bytes]) -> None:
        """Remember what a fit gave, for a run that goes on."""
        for channels, model in models.items():
            write_atomically(self._model_path(channels), model)
        hashes = {str(channels): hashlib.sha256(model).hexdigest() for channels, model in models.items()}
        self._fit = FitDone(reason, hashes)
        self._pending.append(journal.packed(asdict(self._fit)))
        self._flush()

    def write(self, data: bytes) -> int:
        """Write on, or find that the same is there already.

        Raises:
            UnfinishedError: something else is there.
        """
        start, end = self._position, self._position + len(data)
        if start >= self._n_durable:
            with self._writing():
                disk.write_all(self._file, data, start)
        elif end > self._n_durable or self._read(start, len(data)) != data:
            raise UnfinishedError(self.path, f"byte {start} would be another in an uninterrupted run; {ANEW}")
        self._position = end
        return len(data)

    def read(self, offset: int, n_bytes: int) -> bytes:
        """What was written."""
        return self._read(offset, n_bytes)

    def note(self, items_check: int, squared_error: float, psnr_sum: float) -> None:
        """A group is written; its line follows when it is on the disk."""
        if self._position <= self._n_durable:
            return  # it was noted by the run that wrote it
        group = GroupDone(self._position, items_check, squared_error, psnr_sum)
        self._pending.append(journal.packed(asdict(group)))
        self._n_noted += 1
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._flush()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Say which file cannot be written. After that nothing is flushed: what did not reach the disk may pass for written."""
        try:
            yield
        except OSError as exc:
            self._broken = True
            raise OutputError(self.target, exc.strerror or str(exc)) from exc

    def _flush(self) -> None:
        lines = b"".join(self._pending)
        with self._writing():
            disk.sync(self._file)
            disk.write_all(self._journal, lines, self._journal_end)
            disk.sync(self._journal)
        self._journal_end += len(lines)
        self._pending.clear()
        self._synced = time.monotonic()

    def finish(self) -> None:
        """Make it the target, whole and durable."""
        with self._writing():
            disk.sync(self._file)
            disk.replace(self.path, self.target)
            self._finished = True
            disk.sync_directory(self.target.parent)
        self._remove_beside()

    def _remove_beside(self) -> None:
        with contextlib.suppress(OSError):  # they do no harm without the file that they stand beside
            for path in self.path.parent.glob(f"{glob.escape(self.path.name)}.*"):
                disk.remove(path)

    def _model_path(self, channels: int) -> Path:
        return self.path.with_name(f"{self.path.name}.model-{channels}")

    def _read(self, offset: int, n_bytes: int) -> bytes:
        return _read(self._file, offset, n_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Without `finish`: keep what later runs can use, and nothing else."""
        try:
            if not self._finished and (self._n_noted or self._fit):
                if not self._broken:
                    with contextlib.suppress(OutputError):
                        self._flush()
                if error is not None and not isinstance(error, UnfinishedError):
                    error.add_note(f"what was done is kept in {self.path}; the same command with --resume goes on")
            elif not self._finished:
                with contextlib.suppress(OSError):
                    disk.remove(self.path)
                self._remove_beside()
        finally:
            os.close(self._journal)
            os.close(self._file)


def _locked(path: Path) -> int:
    """Open a file, new or old, that no other process has open in this way; its descriptor.

    Raises:
        OutputError: one has.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(path, "another process is writing it") from None
            except OSError as exc:
                if exc.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # file systems that know no locks
                    raise
            # The process that held the lock may have finished the file, or removed it: then this is not its name any more.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _read(descriptor: int, offset: int, n_bytes: int) -> bytes:
    """Bytes at an offset, fewer at the end of the file."""
    parts = []
    while n_bytes and (part := os.pread(descriptor, min(n_bytes, 1 << 30), offset)):
        parts.append(part)
        offset, n_bytes = offset + len(part), n_bytes - len(part)
    return b"".join(parts)


def _fields(kind: type[GroupDone] | type[FitDone]) -> set[str]:
    return {field.name for field in fields(kind)}
