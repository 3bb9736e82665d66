"""An archive against the dataset that it was packed from: decoded and measured group by group, on several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchcodec import metrics
from batchcodec.archive.reader import Archive
from batchcodec.errors import InputError, OptionError
from batchcodec.metrics import Measures
from batchcodec.opening import open_archive
from batchcodec.parallel import cores, in_order
from batchcodec.registry import Registry, registry
from batchcodec.report.info import ArchiveInfo, describe
from batchcodec.report.measured import ItemQuality, ItemTable, Quality, summarise
from batchcodec.report.originals import Originals
from batchcodec.types import ImageSpec, Item, Pixels

__all__ = ["ItemQuality", "ItemTable", "Originals", "Quality", "Report", "report", "summarise"]


@dataclass(frozen=True)
class Report:
    """Sizes, and quality where a dataset to compare with was given.

    Attributes:
        info: what is in the archive, and where its bytes are.
        quality: statistics; None without a dataset.
        items: what was measured of each item, in the order of the dataset; empty without one.
        n_rounded: groups of an inexact codec that did not decode to the very pixels that were packed, but within rounding.
    """

    info: ArchiveInfo
    quality: Quality | None
    items: Sequence[ItemQuality]
    n_rounded: int = 0


def report(
    path: Path | str,
    against: Path | str | None = None,
    *,
    format_id: str | None = None,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    plugins: Registry | None = None,
) -> Report:
    """Describe an archive and, with `against`, compare each item with its original.

    The originals are read and preprocessed as the archive says they were when it was packed. In memory are a few groups of
    pixels, and of each item its name and some numbers.

    Args:
        path: the archive.
        against: the dataset.
        format_id: of the dataset; by default recognised.
        workers: threads that decode and measure; 0 is one for each core.
        progress: called with the items that are done, and their number.
        plugins: what reads the dataset.

    Raises:
        ArchiveError: the archive cannot be read.
        InputError: the dataset cannot be read, or has none of the archive's items.
        OptionError: a bad number of workers.
    """
    if not 0 <= workers <= 256:
        raise OptionError("workers", workers, "0 (all cores) to 256")
    with open_archive(path, strict=True) as archive:
        about = describe(archive)
        if against is None:
            return Report(about, None, [])
        originals = Originals(archive, Path(against), format_id, plugins or registry())
        parts: list[_Measured] = []
        done = 0
        for part in _measured(archive, originals, workers or cores()):
            parts.append(part)
            done += len(part.indices) + len(part.missing)
            if progress:
                progress(done, len(archive))
        if not any(len(part.indices) for part in parts):
            raise InputError(against, f"it has none of the {len(archive)} items of {path}, in the size that was packed")
        items = _gathered(archive, parts)
        missing = [archive.names[index] for part in parts for index in part.missing]
        return Report(about, summarise(items, missing), items, len(archive.rounded_groups))


@dataclass(frozen=True)
class _Measured:
    """A group: places in the dataset of the items that were compared and of those that were not."""

    spec: ImageSpec
    indices: npt.NDArray[np.int64]
    missing: list[int]
    measures: Measures


def _measured(archive: Archive, originals: Originals, workers: int) -> Iterator[_Measured]:
    """All groups, in order. The threads decode, measure and, where the dataset allows that, read originals."""
    names = archive.names  # once, and before the threads start

    def read(group: int) -> list[Item | None]:
        return [originals.find(index, names[index]) for index in archive.group_indices(group).tolist()]

    def tasks() -> Iterator[tuple[int, list[Item | None] | None]]:
        for group in range(archive.n_groups):
            yield group, None if originals.parallel else read(group)

    def work(task: tuple[int, list[Item | None] | None]) -> _Measured:
        group, found = task
        decoded = archive.decode_group(group, keep=False)
        return _compared(archive.group_indices(group), decoded, read(group) if found is None else found)

    def n_bytes(task: tuple[int, object]) -> int:
        return 2 * archive.group_head(task[0]).spec.n_bytes  # decoded and original pixels

    return in_order(work, tasks(), workers=workers if workers > 1 else 0, size=n_bytes)


def _compared(indices: npt.NDArray[np.int64], decoded: Pixels, found: list[Item | None]) -> _Measured:
    """A group against its originals; those of another shape or type count as missing."""
    spec = ImageSpec.of(decoded[0])
    kept = [
        i
        for i, item in enumerate(found)
        if item is not None and item.pixels.shape == spec.shape and item.pixels.dtype == decoded.dtype
    ]
    original = np.empty((len(kept), *spec.shape), spec.dtype)
    for row, i in enumerate(kept):
        original[row] = found[i].pixels  # type: ignore[union-attr]  # those that are None were left out
    pixels = decoded if len(kept) == len(decoded) else decoded[kept]
    missing = np.delete(indices, kept).tolist()
    return _Measured(spec, indices[kept], missing, metrics.measure(original, pixels))


def _gathered(archive: Archive, parts: Sequence[_Measured]) -> ItemTable:
    """The columns of all groups as one table, in the order of the dataset."""
    numbers: dict[ImageSpec, int] = {}
    for part in parts:
        if len(part.indices):
            numbers.setdefault(part.spec, len(numbers))
    kinds = np.concatenate([np.full(len(part.indices), numbers.get(part.spec, 0)) for part in parts])
    indices = np.concatenate([part.indices for part in parts])
    order = np.argsort(indices)
    indices, names = indices[order], archive.names

    def column(name: str) -> npt.NDArray[np.float64]:
        values: npt.NDArray[np.float64] = np.concatenate([getattr(part.measures, name) for part in parts])[order]
        return values

    return ItemTable(
        indices=indices,
        names=[names[i] for i in indices.tolist()],
        classes=archive.classes,
        targets=archive.targets[indices],
        specs=list(numbers),
        kinds=kinds[order],
        psnr=column("psnr"),
        ssim=column("ssim"),
        ms_ssim=column("ms_ssim"),
        max_error=column("max_error").astype(np.int64),
        mse=column("mse"),
    )
