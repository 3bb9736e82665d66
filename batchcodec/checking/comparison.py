"""Decoded items against the dataset that they were packed from, group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batchcodec import metrics
from batchcodec.archive.directory import Row
from batchcodec.archive.reader import Archive
from batchcodec.archive.recovery import name_key
from batchcodec.errors import ItemError
from batchcodec.registry import Registry
from batchcodec.report.originals import Originals, recorded_options
from batchcodec.types import Item, Pixels

MAX_LISTED = 100
"""Names of missing and extra items that are listed; all are counted."""
N_WORST = 10


@dataclass(frozen=True)
class ItemDifference:
    """One item against its original: largest error in steps, mean squared error, PSNR in dB (inf for equal pixels)."""

    name: str
    max_error: int
    mse: float
    psnr: float


@dataclass(frozen=True)
class Comparison:
    """All items against their originals.

    Attributes:
        n_items: compared.
        n_equal: of these, without any error.
        max_error: largest error of a sample, in steps.
        mean_psnr: mean over items in dB; an item without error counts `metrics.LOSSLESS_PSNR`. None if none was compared.
        lossless: whether the archive says that it was packed without loss.
        n_missing: items of the archive that the source does not have, or not in this size, or not readable.
        n_extra: items of the source that the archive does not have.
        missing: the first of their names.
        extra: the first of their names.
        n_unreadable: items of the source that cannot be read.
        worst: the items of largest error.
        items: all of them.
    """

    source: str
    n_items: int
    n_equal: int
    max_error: int
    mean_psnr: float | None
    lossless: bool
    n_missing: int
    n_extra: int
    n_unreadable: int
    missing: list[str]
    extra: list[str]
    worst: list[ItemDifference]
    items: list[ItemDifference]


@dataclass
class Comparer:
    """Takes decoded groups, in any order.

    Args:
        archive: of the items; what it says of reading and preprocessing holds for the originals too.
        source: the dataset.
        format_id: of the dataset; by default recognised.
        plugins: what reads it.

    Raises:
        ArchiveError: what the archive says of reading and preprocessing cannot be read.
        InputError: the dataset cannot be read.
    """

    archive: Archive
    source: Path
    format_id: str | None
    plugins: Registry
    items: list[ItemDifference] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    names: set[int] = field(default_factory=set)
    n_missing: int = 0

    def __post_init__(self) -> None:
        self.originals = Originals(self.archive, self.source, self.format_id, self.plugins)
        self.lossless = self.archive.meta.get("lossless") is True

    def add(self, rows: Sequence[Row], pixels: Pixels | None) -> None:
        """A group of the archive: its rows, and its pixels [N, H, W, C] unless they cannot be had."""
        self.names.update(name_key(row.name) for row in rows)
        if pixels is None:
            return
        found: list[tuple[int, Item]] = []
        for i, row in enumerate(rows):
            original = self.originals.find(row.order, row.name)
            if original is None or (original.pixels.shape, original.pixels.dtype) != (pixels[i].shape, pixels.dtype):
                self.n_missing += 1
                self.missing += [row.name] * (len(self.missing) < MAX_LISTED)
            else:
                found.append((i, original))
        if not found:
            return
        decoded, original_pixels = pixels[[i for i, _ in found]], np.stack([item.pixels for _, item in found])
        mse, largest = metrics.mse(original_pixels, decoded), metrics.max_error(original_pixels, decoded)
        psnr = metrics.psnr_of_mse(mse, float(np.iinfo(pixels.dtype).max))
        for k, (i, _) in enumerate(found):
            self.items.append(ItemDifference(rows[i].name, int(largest[k]), float(mse[k]), float(psnr[k])))

    def finish(self) -> Comparison:
        """What was found, and what the source has besides."""
        extra, n_extra, n_unreadable = self._extra()
        psnr = np.array([item.psnr for item in self.items])
        return Comparison(
            source=str(self.source),
            n_items=len(self.items),
            n_equal=sum(item.max_error == 0 for item in self.items),
            max_error=max((item.max_error for item in self.items), default=0),
            mean_psnr=metrics.mean_psnr(psnr) if len(psnr) else None,
            lossless=self.lossless,
            n_missing=self.n_missing,
            n_extra=n_extra,
            n_unreadable=n_unreadable,
            missing=self.missing,
            extra=extra,
            worst=sorted(self.items, key=lambda item: (-item.max_error, item.psnr))[:N_WORST],
            items=self.items,
        )

    def _extra(self) -> tuple[list[str], int, int]:
        """Names of items that the source has besides, their number, and that of items that cannot be read."""
        options = recorded_options(self.archive.meta)
        dataset = self.plugins.format_of(self.source, options, self.format_id).read(self.source)
        extra: list[str] = []
        n_extra = n_unreadable = 0
        if len(dataset) == len(self.names) - self.n_missing:
            return extra, 0, 0  # each has its item; reading them all again for their names can be spared
        for i in range(len(dataset)):
            try:
                name = dataset[i].name
            except ItemError:
                n_unreadable += 1
                continue
            if name_key(name) not in self.names:
                n_extra += 1
                extra += [name] * (len(extra) < MAX_LISTED)
        return extra, n_extra, n_unreadable
