"""The order of a stream of items that decodes each group once: groups in random order, cut into shares, shuffled in windows.

Pure functions of sizes, seed and epoch, the same in all processes. A share is a run of the stream, so that shares are equal to
within one item: at its borders a group may be cut, and is then decoded by both neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchcodec.errors import OptionError


@dataclass(frozen=True, slots=True)
class Piece:
    """Some items of a group, at the places from `start` to below `stop` in it."""

    group: int
    start: int
    stop: int

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Plan:
    """How the items of an archive are streamed.

    Attributes:
        group_sizes: items of each group: int64 [groups].
        shuffle: else groups and items come in their order.
        seed: of the order.
        window: groups whose items are shuffled together.
        batch: items of a batch, None for none; the shares of workers are then whole batches, but for the last.
        drop_last: leave out a last batch that is smaller.
        equal: leave out items so that all ranks have the same number.

    Raises:
        OptionError: an option has a bad value.
    """

    group_sizes: npt.NDArray[np.int64]
    shuffle: bool = True
    seed: int = 0
    window: int = 4
    batch: int | None = None
    drop_last: bool = False
    equal: bool = False

    def __post_init__(self) -> None:
        if self.window < 1:
            raise OptionError("window", self.window, "1 or more groups")
        if self.seed < 0:
            raise OptionError("seed", self.seed, "0 or more")
        if self.batch is not None and self.batch < 1:
            raise OptionError("batch_size", self.batch, "1 or more, or None")

    def _run(self, rank: int, world_size: int) -> tuple[int, int]:
        """Start and stop of a rank's run of the stream."""
        total = int(self.group_sizes.sum())
        if self.equal:
            each = total // world_size
            start, stop = rank * each, (rank + 1) * each
        else:
            start, stop = rank * total // world_size, (rank + 1) * total // world_size
        if self.batch and self.drop_last:
            stop = start + (stop - start) // self.batch * self.batch
        return start, stop

    def length(self, rank: int = 0, world_size: int = 1) -> int:
        """Batches of a rank, or items without batches."""
        start, stop = self._run(rank, world_size)
        return -(-(stop - start) // self.batch) if self.batch else stop - start

    def pieces(self, epoch: int, rank: int = 0, world_size: int = 1, worker: int = 0, n_workers: int = 1) -> list[Piece]:
        """What one worker of one rank reads, in this order.

        Batches are shared out whole. Single items are shared out by whole groups, as evenly as these allow.
        """
        n_groups = len(self.group_sizes)
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(n_groups) if self.shuffle else np.arange(n_groups)
        ends = np.cumsum(self.group_sizes[order])
        start, stop = self._run(rank, world_size)
        if self.batch:
            n_batches = -(-(stop - start) // self.batch)
            cuts = [min(stop, start + share * n_batches // n_workers * self.batch) for share in (worker, worker + 1)]
        else:
            borders = np.array([start, *ends[(ends > start) & (ends < stop)], stop])
            even = [start + share * (stop - start) // n_workers for share in (worker, worker + 1)]
            cuts = [int(borders[np.abs(borders - cut).argmin()]) for cut in even]
        return self._cut(order, ends, *cuts)

    def _cut(self, order: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], start: int, stop: int) -> list[Piece]:
        """The pieces of the stream from `start` to below `stop`."""
        pieces = []
        for place in range(int(np.searchsorted(ends, start, "right")), len(ends)):
            group = int(order[place])
            first = int(ends[place]) - int(self.group_sizes[group])
            if max(first, start) >= stop:
                break
            pieces.append(Piece(group, max(0, start - first), min(stop, int(ends[place])) - first))
        return pieces

    def windows(self, pieces: list[Piece], epoch: int) -> Iterator[tuple[list[Piece], npt.NDArray[np.int64]]]:
        """The pieces of each window, and the order of its items, counted through these pieces: int64 [items]."""
        for start in range(0, len(pieces), self.window):
            part = pieces[start : start + self.window]
            order = np.arange(sum(piece.n_items for piece in part))
            if self.shuffle:
                order = np.random.default_rng([self.seed, epoch, 1, part[0].group, part[0].start]).permutation(order)
            yield part, order
