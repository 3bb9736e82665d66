"""Pixels of many items of an archive at once: each group is read once, groups side by side on a pool of threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from batchcodec.archive.groups import Groups
from batchcodec.archive.items import Items
from batchcodec.errors import ArchiveError, BatchcodecError, MixedShapesError, OptionError
from batchcodec.parallel import all_of, cores
from batchcodec.types import ImageSpec, Pixels

Indices: TypeAlias = Sequence[int] | npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class _Share:
    """What is wanted of one group.

    Attributes:
        group: its number.
        places: different places in the group, rising: int64 [m].
        rows: rows of the result: int64 [k].
        of: for each of these rows, which of the places it shows, rising: int64 [k].
    """

    group: int
    places: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    of: npt.NDArray[np.int64]


class Gatherer:
    """Reads many items of an archive.

    Args:
        path: of the archive, for messages.
        groups: decodes.
        items: knows where items are.
        workers: threads; 0 is one for each core.
    """

    def __init__(self, path: Path, groups: Groups, items: Items, workers: int) -> None:
        self._path, self._groups, self._items = path, groups, items
        self._workers = workers or cores()
        self._closed = False
        self.after_fork()

    def after_fork(self) -> None:
        """The child has none of the threads of its parent."""
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let the threads go."""
        with self._lock:
            self._closed = True
            if self._pool:
                self._pool.shutdown(wait=False)  # what waits will find the file closed, and tell those who wait for it
            self._pool = None

    def read(self, indices: npt.NDArray[np.int64], out: Pixels | None) -> Pixels:
        """As `Archive.read`, of indices that are within the dataset."""
        if not len(indices):
            first = self._groups.head(0).spec.image if len(self._groups.entries) else ImageSpec(0, 0, 0)
        else:
            first = self._groups.head(int(self._groups_of(indices[:1])[0])).spec.image
        shape = (len(indices), *first.shape)
        if out is None:
            out = np.empty(shape, first.dtype)
        elif out.shape != shape or str(out.dtype) != first.dtype or not out.flags.writeable:
            locked = "" if out.flags.writeable else ", read-only"
            raise OptionError("out", f"{out.dtype} {list(out.shape)}{locked}", f"{first.dtype} {list(shape)}, writable")
        target = out

        def work(share: _Share) -> None:
            pixels = self._decoded(share, indices)
            if pixels.shape[1:] != first.shape or str(pixels.dtype) != first.dtype:
                other = ImageSpec.of(pixels[0])
                names = [self._name(int(index)) for index in (indices[share.rows[0]], indices[0])]
                raise MixedShapesError(
                    self._path,
                    f"{names[0]} is {other}, {names[1]} is {first}: images of one array have one shape and type; "
                    "read_each() reads them one by one",
                )
            target[share.rows] = pixels if len(pixels) == len(share.of) else pixels[share.of]

        self._all(work, indices)
        return out

    def read_each(self, indices: npt.NDArray[np.int64]) -> list[Pixels]:
        """As `Archive.read_each`, of indices that are within the dataset."""
        found: list[Pixels | None] = [None] * len(indices)

        def work(share: _Share) -> None:
            pixels = self._decoded(share, indices)
            pixels.flags.writeable = False
            for row, place in zip(share.rows.tolist(), share.of.tolist(), strict=True):
                found[row] = pixels[place]

        self._all(work, indices)
        return [pixels for pixels in found if pixels is not None]

    def one(self, index: int) -> Pixels:
        """The pixels of one item, read-only, by its index within the dataset: what `read_each` gives, sooner."""
        position = self._items.positions(np.array([index]))
        group = int(self._items.groups(position)[0])
        with self.naming(index):
            pixels = self._groups.some(group, [int(position[0] - self._items.starts[group])])
        pixels.flags.writeable = False
        image: Pixels = pixels[0]
        return image

    @contextlib.contextmanager
    def naming(self, index: int) -> Iterator[None]:
        """Errors of the block say which item was asked for."""
        try:
            yield
        except BatchcodecError as exc:
            if "item" not in exc.fields:
                name = self._name(index)
                exc.message += f" (asked for: {name})"
                exc.fields["item"] = name
            raise

    def _name(self, index: int) -> str:
        with contextlib.suppress(BatchcodecError):  # the directory may be damaged too
            return f"item {index}, {self._items[int(self._items.positions(np.array([index]))[0])].name!r}"
        return f"item {index}"

    def _groups_of(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._items.groups(self._items.positions(indices))

    def _decoded(self, share: _Share, indices: npt.NDArray[np.int64]) -> Pixels:
        with self.naming(int(indices[share.rows[0]])):
            return self._groups.some(share.group, share.places.tolist())

    def _shares(self, indices: npt.NDArray[np.int64]) -> list[_Share]:
        """The indices by group, in the order of groups."""
        positions = self._items.positions(indices)
        order = np.argsort(positions, kind="stable")
        positions = positions[order]
        first = np.diff(positions, prepend=-1) != 0  # not of the item before
        groups = self._items.groups(positions)
        starts = self._items.starts[groups]
        cuts = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(order)]
        shares = []
        for part in map(slice, cuts, cuts[1:]):
            new = first[part]
            places = (positions[part] - starts[part])[new]
            shares.append(_Share(int(groups[part.start]), places, order[part], np.cumsum(new) - 1))
        return shares

    def _all(self, work: Callable[[_Share], None], indices: npt.NDArray[np.int64]) -> None:
        if not len(indices):
            return
        waiting = []
        for share in self._shares(indices):
            if self._workers > 1 and self._groups.cache.get(share.group) is None:
                waiting.append(share)
            else:
                work(share)
        if len(waiting) > 1:
            self._side_by_side(work, waiting)
        elif waiting:
            work(waiting[0])

    def _side_by_side(self, work: Callable[[_Share], None], shares: list[_Share]) -> None:
        with self._lock:
            if self._pool is None and not self._closed:
                self._pool = ThreadPoolExecutor(self._workers, "batchcodec-read")
            pool = self._pool
        try:
            if pool is not None:
                return all_of(pool, work, shares)
        except RuntimeError:  # a pool that was shut down meanwhile takes no more work
            if not self._closed:
                raise
        raise ArchiveError(self._path, "the archive was closed")
