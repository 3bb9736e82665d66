"""Datasets for PyTorch's `DataLoader` that read from an archive.

    from torch.utils.data import DataLoader
    from batchcodec.torch import CpackDataset, CpackIterable

    loader = DataLoader(CpackDataset("train.cpack"), batch_size=64, shuffle=True, num_workers=2)
    stream = CpackIterable("train.cpack", batch_size=64, seed=1)
    loader = DataLoader(stream, batch_size=None, num_workers=2)

`CpackDataset` is map-style: any order, any sampler. `CpackIterable` shuffles groups and the items of a few groups at a time, so
it decodes each group once an epoch: much faster where an epoch does not fit into the cache.

An example is a pair of image and target. An image is a tensor [C, H, W], uint8, or int32 for 16 bits (few operations take
uint16), or what `transform` makes of it. A target is the place of the label in `classes`, -1 without a label, or what
`target_transform` makes of it. Errors are those of `batchcodec.errors`.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info

from batchcodec.archive.reader import CACHE_BYTES, Archive
from batchcodec.errors import ArchiveError, MixedShapesError, OptionError
from batchcodec.opening import open_archive
from batchcodec.parallel import cores, in_order
from batchcodec.shuffling import Piece, Plan
from batchcodec.types import Pixels

Transform = Callable[[Tensor], Any]


class _Source:
    """The archive of a dataset, and what makes examples of its items; the same in all processes.

    Args:
        archive: path, or an open archive.
        transform: of images, tensors [C, H, W].
        target_transform: of targets, integers.
        classes: the labels that targets are places of; by default those of the archive, sorted.
        options: of `batchcodec.open`, for a path.

    Raises:
        ArchiveError: it cannot be read.
        OptionError: an item has a label that is not among `classes`.
    """

    def __init__(
        self,
        archive: Archive | Path | str,
        transform: Transform | None,
        target_transform: Callable[[int], Any] | None,
        classes: Sequence[str] | None,
        **options: Any,
    ) -> None:
        if isinstance(archive, Archive):
            self.archive = archive
        else:
            self.archive = open_archive(archive, **options)
            weakref.finalize(self, self.archive.close)
        self.transform, self.target_transform = transform, target_transform
        self.classes = list(self.archive.classes if classes is None else classes)
        self._given = classes is not None
        _ = self.targets  # a label that is not known shows here, and not in the first epoch

    @cached_property
    def targets(self) -> npt.NDArray[np.int64]:
        """Of each item the place of its label in `classes`, -1 without a label: int64 [items]."""
        if not self._given:
            return self.archive.targets
        places = {label: i for i, label in enumerate(self.classes)}
        own = self.archive.classes
        unknown = [label for label in own if label not in places]
        if unknown:
            raise OptionError("classes", self.classes, f"all labels of {self.archive.path}, also {unknown[0]!r}")
        return np.array([*(places[label] for label in own), -1])[self.archive.targets]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "targets"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        weakref.finalize(self, self.archive.close)  # it was opened here

    def images(self, pixels: Pixels) -> Tensor:
        """[n, H, W, C], uint8 or uint16, to tensors [n, C, H, W], uint8 or int32, laid out as they came."""
        array = pixels.astype(np.int32) if pixels.dtype == np.uint16 else pixels
        if not array.flags.writeable:
            array = array.copy()
        return torch.from_numpy(array).permute(0, 3, 1, 2)

    def example(self, image: Tensor, index: int) -> tuple[Any, Any]:
        """The pair of an image [C, H, W] and its item."""
        target: Any = int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        return image, target if self.target_transform is None else self.target_transform(target)


class CpackDataset(Dataset[tuple[Any, Any]]):
    """The items of an archive, by place. Pickled by path, so it works with any number of workers, forked or spawned.

    Args:
        archive: path, or an open archive.
        transform: makes something else of each image, a tensor [C, H, W].
        target_transform: the same for targets, integers.
        classes: the labels that targets are places of; by default those of the archive, sorted. Give those of the training set
            to read a test set that lacks some.
        cache_bytes: decoded pixels to keep, in each process.
        strict: decode whole groups only; see `batchcodec.open`.

    Attributes:
        archive: the open archive.
        classes: see above.
        targets: of each item, int64 [items]; for samplers that balance.

    Raises:
        ArchiveError: the archive cannot be read.
        OptionError: an item has a label that is not among `classes`.
    """

    def __init__(
        self,
        archive: Archive | Path | str,
        *,
        transform: Transform | None = None,
        target_transform: Callable[[int], Any] | None = None,
        classes: Sequence[str] | None = None,
        cache_bytes: int = CACHE_BYTES,
        strict: bool = False,
    ) -> None:
        options = {"cache_bytes": cache_bytes, "strict": strict}
        self._source = _Source(archive, transform, target_transform, classes, **options)

    @property
    def archive(self) -> Archive:
        """The open archive."""
        return self._source.archive

    @property
    def classes(self) -> list[str]:
        """The labels that targets are places of."""
        return self._source.classes

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Of each item the place of its label in `classes`, -1 without a label: int64 [items]."""
        return self._source.targets

    @property
    def labels(self) -> list[str | None]:
        """Labels of the items."""
        return self.archive.labels

    def __len__(self) -> int:
        return len(self.archive)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Image and target of an item."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """Images and targets of some items, each group read once; what `DataLoader` calls for a batch."""
        try:
            images = list(self._source.images(self.archive.read(indices)))
        except MixedShapesError:
            images = [self._source.images(pixels[None])[0] for pixels in self.archive.read_each(indices)]
        return [self._source.example(image, index) for image, index in zip(images, indices, strict=True)]


class CpackIterable(IterableDataset[Any]):
    """The items of an archive as a stream, each once an epoch, each group read once.

    Groups come in random order, and the items of `window` groups at a time are shuffled among each other. The order depends on
    `seed` and epoch alone (and on how many shards there are). The archive is split between the processes of a distributed run,
    to within one item of equal, and there between the workers of the `DataLoader`; together they give each item once.

    With `batch_size` it yields whole batches, (images [n, C, H, W], targets [n]), and the `DataLoader` is given
    `batch_size=None`; without, it yields single examples. Images of several shapes make batches only through a `transform`.

    Args:
        archive: path, or an open archive.
        batch_size: items of a batch; None for single examples.
        drop_last: leave out the last batch of the epoch if it is smaller.
        shuffle: else the order of the groups.
        seed: of the order.
        window: groups whose items are shuffled together, and are in memory.
        equal: leave out items, fewer than there are ranks, so that all ranks have the same number.
        rank: of this process, from 0; by default that of `torch.distributed`, where it is used, else 0.
        world_size: number of processes; by default as `rank`.
        workers: threads that decode ahead; 0 is one in a worker of a `DataLoader`, else one for each core.
        collate: makes a batch of examples where there is a transform.
        transform, target_transform, classes, strict: as of `CpackDataset`.

    Raises:
        ArchiveError: the archive cannot be read.
        OptionError: an option has a bad value, or an item has a label that is not among `classes`.
    """

    def __init__(
        self,
        archive: Archive | Path | str,
        *,
        batch_size: int | None = None,
        drop_last: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        window: int = 4,
        equal: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int = 0,
        collate: Callable[[list[Any]], Any] = default_collate,
        transform: Transform | None = None,
        target_transform: Callable[[int], Any] | None = None,
        classes: Sequence[str] | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        if (rank is None) != (world_size is None) or (rank is not None and not 0 <= rank < (world_size or 0)):
            raise OptionError("rank", f"{rank} of {world_size}", "rank and world_size, rank from 0 to below world_size")
        self._source = _Source(archive, transform, target_transform, classes, strict=strict)
        self._plan = Plan(self.archive.group_sizes, shuffle, seed, window, batch_size, drop_last, equal)
        self._shard = None if rank is None or world_size is None else (rank, world_size)
        self._workers, self._collate = workers, collate
        # Shared with the workers: persistent ones are copied once, and set_epoch is called in the main process.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def archive(self) -> Archive:
        """The open archive."""
        return self._source.archive

    @property
    def classes(self) -> list[str]:
        """The labels that targets are places of."""
        return self._source.classes

    @property
    def epoch(self) -> int:
        """The epoch whose order the next iteration has."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration. Call it before each epoch; else all have the same order."""
        self._epoch.fill_(epoch)

    def _sharding(self) -> tuple[int, int]:
        """Rank and number of processes."""
        if self._shard is None:
            used = torch.distributed.is_available() and torch.distributed.is_initialized()
            self._shard = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if used else (0, 1)
        return self._shard

    def __getstate__(self) -> dict[str, Any]:
        self._sharding()  # a spawned worker is not told of the distributed run
        return self.__dict__

    def __len__(self) -> int:
        """Batches of this rank, or examples without `batch_size`."""
        return self._plan.length(*self._sharding())

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker, n_workers = (info.id, info.num_workers) if info else (0, 1)
        pieces = self._plan.pieces(self.epoch, *self._sharding(), worker, n_workers)
        pixels = in_order(
            self._decoded,
            pieces,
            workers=self._workers or (1 if info else cores()),
            size=self._n_bytes,
            ahead=self._plan.window,
        )
        items = self._mixed(pixels, pieces, self.epoch)
        return self._batches(items) if self._plan.batch else (self._example(pixels, index) for pixels, index in items)

    def _n_bytes(self, piece: Piece) -> int:
        try:
            return self.archive.group_head(piece.group).spec.n_bytes
        except ArchiveError:  # decoding it says so
            return 0

    def _decoded(self, piece: Piece) -> Pixels:
        """The images of a piece; its group is decoded whole, so they are proven."""
        return self.archive.decode_group(piece.group, keep=False)[piece.start : piece.stop]

    def _mixed(self, decoded: Iterator[Pixels], pieces: list[Piece], epoch: int) -> Iterator[tuple[Pixels, int]]:
        """Image [H, W, C] and index of each item, window by window."""
        for part, order in self._plan.windows(pieces, epoch):
            arrays = [next(decoded) for _ in part]
            indices = [self.archive.group_indices(piece.group)[piece.start : piece.stop].tolist() for piece in part]
            found = [(a, row, index) for a, of in zip(arrays, indices, strict=True) for row, index in enumerate(of)]
            for place in order.tolist():
                array, row, index = found[place]
                yield array[row], index

    def _example(self, pixels: Pixels, index: int) -> tuple[Any, Any]:
        return self._source.example(self._source.images(pixels[None])[0], index)

    def _batches(self, items: Iterator[tuple[Pixels, int]]) -> Iterator[Any]:
        """Batches of examples, as `collate` makes them; of images alone at once."""
        while batch := list(itertools.islice(items, self._plan.batch)):
            if self._source.transform is not None or self._source.target_transform is not None:
                yield self._collate([self._example(pixels, index) for pixels, index in batch])
                continue
            images, indices = zip(*batch, strict=True)
            kinds = {(image.shape, image.dtype): index for image, index in batch}
            if len(kinds) > 1:
                (_, one), (_, other) = list(kinds.items())[:2]
                names = f"{self.archive.names[one]!r} and {self.archive.names[other]!r}"
                raise MixedShapesError(self.archive.path, f"{names} do not go into one batch; a transform can make them alike")
            yield self._source.images(np.stack(images)), torch.from_numpy(self._source.targets[list(indices)])
