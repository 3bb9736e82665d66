"""Crashes on purpose: packs in child processes, in which one system call of `batchcodec.disk` goes wrong.

A child is forked, so that hundreds of them take seconds. What goes wrong, at the n-th call of any kind:

- "kill": the process gets SIGKILL before the call;
- "tear": half of a write is done, then SIGKILL;
- "fail": the call raises EIO (of a write, after half of it was done), once;
- "full": this write and all later ones raise ENOSPC;
- "power": the process is killed, and the parent makes of the files what a power cut may: see `power_cut`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import batchcodec
from batchcodec import disk
from batchcodec.errors import OutputError

CALLS = ("write", "sync", "truncate", "replace", "remove", "sync_directory")


@dataclass(frozen=True)
class Outcome:
    """How a child ended: "done", "killed", "failed" with an `OutputError`, or "broken": with anything else."""

    kind: str
    message: str = ""


def run(work: Callable[[], None]) -> Outcome:
    """Do it in a child process; wait for the end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reader)
            work()
            os.write(writer, b"done")
        except OutputError as exc:
            os.write(writer, f"failed{exc}".encode())
        except BaseException:
            os.write(writer, f"broken{traceback.format_exc()}".encode()[-4000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return Outcome("killed")
    return Outcome(said[:6].strip(), said[6:]) if said != "done" else Outcome("done")


class Saboteur:
    """Wraps the calls of `batchcodec.disk` in this process; makes the n-th go wrong, counted from 0.

    Args:
        mode: what goes wrong; "" only counts.
        n: which call.
        notes: where the state of unflushed data is written for `power_cut`.
    """

    def __init__(self, mode: str = "", n: int = -1, notes: Path | None = None) -> None:
        self.mode, self.n, self.notes = mode, n, notes
        self.count = 0
        self.synced: dict[str, int] = {}  # path: length that was flushed
        self.renamed: list[tuple[str, str, str]] = []  # old path, new path, copy of what was there; the directory not flushed
        self.real = {name: getattr(disk, name) for name in CALLS}
        for name in CALLS:
            setattr(disk, name, self._wrapped(name))

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self.real[name]

        def call(*args: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number == self.n or (self.mode == "full" and number > self.n >= 0):
                self._strike(name, args)
            if name == "replace" and self.notes is not None:
                copy = self.notes.with_suffix(f".{number}")
                copy.write_bytes(args[1].read_bytes() if args[1].exists() else b"")
                self.renamed.append((str(args[0]), str(args[1]), str(copy) if args[1].exists() else ""))
            result = real(*args)
            if name == "sync":
                self.synced[_path_of(args[0])] = os.fstat(args[0]).st_size
            elif name == "replace":
                self.synced[str(args[1])] = self.synced.pop(str(args[0]), 0)
            elif name == "truncate":
                path = _path_of(args[0])
                self.synced[path] = min(self.synced.get(path, 0), args[1])
            elif name == "sync_directory":
                self.renamed.clear()
            return result

        return call

    def _strike(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "write" and self.mode in ("tear", "fail"):
            self.real[name](args[0], bytes(args[1][: len(args[1]) // 2]), args[2])
        if self.mode == "power" and self.notes is not None:
            self.notes.write_text(json.dumps({"synced": self.synced, "renamed": self.renamed}))
        if self.mode in ("kill", "tear", "power"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mode == "fail":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.mode == "full" and name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def power_cut(folder: Path, notes: Path, rng: np.random.Generator, known: dict[str, int]) -> bool:
    """Make of files what a power cut may; whether there was anything to lose.

    Data that was not flushed is lost, torn or turned to garbage; renames are undone whose directory was not flushed.

    Args:
        folder: of the files.
        notes: what the child wrote: lengths that were flushed, by path, and renames.
        rng: decides.
        known: lengths of files that were on the disk before the child began.
    """
    noted = json.loads(notes.read_text())
    synced = {**known, **noted["synced"]}
    touched = False
    for old, new, copy in reversed(noted["renamed"]):
        if rng.integers(2):
            Path(new).rename(old)
            synced[old] = synced.pop(new, 0)
            if copy:
                shutil.copy(copy, new)
                synced[new] = Path(new).stat().st_size
            touched = True
    for path in folder.iterdir():
        flushed = min(synced.get(str(path), 0), path.stat().st_size)
        unflushed = path.stat().st_size - flushed
        if not unflushed:
            continue
        touched = True
        kept = int(rng.integers(unflushed + 1))  # the length may have reached the disk, and not the data
        with path.open("r+b") as file:
            file.truncate(flushed + kept)
            if rng.integers(2) and kept:
                file.seek(flushed + int(rng.integers(kept)))
                file.write(rng.bytes(flushed + kept - file.tell()) if rng.integers(2) else bytes(flushed + kept - file.tell()))
    return touched


def make_source(folder: Path, n_images: int = 24) -> Path:
    """A folder of small pictures of two shapes, with labels."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(n_images):
        side = 8 if i % 3 else 12
        path = folder / f"class{i % 2}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, 8, 3), np.uint8)).save(path)
    return folder


OPTIONS = {"codec": "zstd", "group_items": 2, "workers": 2}


def packing(source: Path, target: Path, *, resume: bool, force: bool, seconds: float = 0.0) -> Callable[[], None]:
    """What a child does, with so many seconds between two flushes: with 0 each group is flushed, with many none is."""

    def work() -> None:
        from batchcodec import partial
        from batchcodec.archive import writer

        partial.SYNC_SECONDS = seconds
        writer.SEGMENT_ITEMS = 8
        batchcodec.pack(source, target, batchcodec.PackOptions(**OPTIONS, resume=resume, force=force))

    return work


def digest(path: Path) -> str:
    """SHA-256, or "" where there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def count_calls(source: Path, target: Path) -> int:
    """System calls of an uninterrupted pack, which is made."""
    reader, writer = os.pipe()

    def work() -> None:
        saboteur = Saboteur()
        packing(source, target, resume=False, force=False)()
        os.write(writer, str(saboteur.count).encode())

    outcome = run(work)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    if outcome.kind != "done":
        sys.exit(f"the reference could not be packed: {outcome}")
    return int(said)
