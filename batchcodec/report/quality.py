"""Quality of an archive against the dataset that it was packed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchcodec import metrics
from batchcodec.archive.reader import Archive
from batchcodec.dataset import FormatOptions
from batchcodec.errors import ArchiveError, InputError, ItemError, OptionError
from batchcodec.opening import open_archive
from batchcodec.preprocess import Preprocess, parse_size
from batchcodec.registry import Registry, registry
from batchcodec.report.info import ArchiveInfo, describe
from batchcodec.types import JSON, Item

N_WORST = 10


@dataclass(frozen=True)
class ItemQuality:
    """One item against its original. PSNR in dB, inf for equal pixels."""

    index: int
    name: str
    label: str | None
    width: int
    height: int
    channels: int
    psnr: float
    ssim: float
    max_error: int
    mse: float


@dataclass(frozen=True)
class LabelQuality:
    """Items of one label."""

    label: str | None
    n_items: int
    mean_psnr: float
    min_psnr: float
    mean_ssim: float


@dataclass(frozen=True)
class Quality:
    """All items against their originals.

    Attributes:
        mean_psnr: mean over items, in dB; an item without error counts `metrics.LOSSLESS_PSNR`.
        pooled_psnr: of the mean squared error over all samples.
        p5_psnr: 5th percentile over items.
        n_equal: items without any error.
        max_error: largest error of a sample anywhere, in steps.
        missing: items of the archive that the dataset does not have (or cannot read), by name.
        worst: the items of lowest PSNR.
    """

    n_items: int
    mean_psnr: float
    pooled_psnr: float
    min_psnr: float
    p5_psnr: float
    median_psnr: float
    mean_ssim: float
    min_ssim: float
    mean_mse: float
    max_error: int
    n_equal: int
    missing: list[str]
    labels: list[LabelQuality]
    worst: list[ItemQuality]


@dataclass(frozen=True)
class Report:
    """Sizes, and quality where a dataset to compare with was given. `items` is in the order of the dataset."""

    info: ArchiveInfo
    quality: Quality | None
    items: list[ItemQuality]


def report(
    path: Path | str,
    against: Path | str | None = None,
    *,
    format_id: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    plugins: Registry | None = None,
) -> Report:
    """Describe an archive and, with `against`, compare each item with its original.

    The originals are read and preprocessed as the archive says they were when it was packed.

    Raises:
        ArchiveError: the archive cannot be read.
        InputError: the dataset cannot be read, or has none of the archive's items.
    """
    with open_archive(path) as archive:
        about = describe(archive)
        if against is None:
            return Report(about, None, [])
        originals = Originals(archive, Path(against), format_id, plugins or registry())
        items: list[ItemQuality] = []
        missing: list[str] = []
        done = 0
        for group in archive.groups():
            pairs: list[tuple[int, Item, Item]] = []
            for index, decoded in group:
                original = originals.find(index, decoded.name)
                if original is None or original.pixels.shape != decoded.pixels.shape:
                    missing.append(decoded.name)
                else:
                    pairs.append((index, original, decoded))
            if pairs:
                items += _measure(pairs)
            done += len(group)
            if progress:
                progress(done, len(archive))
        if not items:
            raise InputError(against, f"it has none of the {len(archive)} items of {path}, in the size that was packed")
        items.sort(key=lambda item: item.index)
        return Report(about, summarise(items, missing), items)


class Originals:
    """The items that an archive was packed from, preprocessed in the same way."""

    def __init__(self, archive: Archive, source: Path, format_id: str | None, plugins: Registry) -> None:
        self.source = source
        self._dataset: Sequence[Item] = plugins.format_of(source, recorded_options(archive.meta), format_id).read(source)
        self._preprocess = recorded_preprocess(archive)
        self._index_of: dict[str, int] | None = None

    def find(self, index: int, name: str) -> Item | None:
        """The original of an item, most likely at the same place; None when it is missing or cannot be read."""
        item = self._read(index) if index < len(self._dataset) else None
        if item is None or item.name != name:
            place = self._places().get(name)
            item = None if place is None else self._read(place)
        return None if item is None else self._preprocess(item)

    def _places(self) -> dict[str, int]:
        """Place of each name, for datasets that have changed since, or of which items were skipped."""
        if self._index_of is None:
            self._index_of = {}
            for i in range(len(self._dataset)):
                if (item := self._read(i)) is not None:
                    self._index_of.setdefault(item.name, i)
        return self._index_of

    def _read(self, index: int) -> Item | None:
        try:
            return self._dataset[index]
        except ItemError:
            return None


def recorded_options(meta: dict[str, JSON]) -> FormatOptions:
    """How the dataset was read when it was packed."""
    recorded = meta.get("format_options")
    known = FormatOptions.__dataclass_fields__
    if not isinstance(recorded, dict):
        return FormatOptions()
    # The record is a stranger's: what has another type than its default is left out.
    options: dict[str, Any] = {
        key: value for key, value in recorded.items() if key in known and isinstance(value, bool if key == "metadata" else str)
    }
    return FormatOptions(**options)


def recorded_preprocess(archive: Archive) -> Preprocess:
    """What was done to the items when they were packed."""
    recorded: Any = archive.meta.get("preprocess", {})
    try:
        return Preprocess(
            parse_size(str(recorded.get("size", "native"))),
            *(recorded[key] for key in ("resample", "fit", "mode") if key in recorded),
        )
    except (AttributeError, OptionError) as exc:
        raise ArchiveError(archive.path, f"its record of the preprocessing cannot be read: {exc}") from exc


def _measure(pairs: Sequence[tuple[int, Item, Item]]) -> list[ItemQuality]:
    """Quality of (place, original, decoded) of one shape."""
    original = np.stack([pair[1].pixels for pair in pairs])
    decoded = np.stack([pair[2].pixels for pair in pairs])
    error = metrics.mse(original, decoded)
    psnr = metrics.psnr_of_mse(error, float(np.iinfo(original.dtype).max))
    ssim, largest = metrics.ssim(original, decoded), metrics.max_error(original, decoded)
    height, width, channels = original.shape[1:]
    return [
        ItemQuality(
            index=index,
            name=item.name,
            label=item.label,
            width=width,
            height=height,
            channels=channels,
            psnr=float(psnr[k]),
            ssim=float(ssim[k]),
            max_error=int(largest[k]),
            mse=float(error[k]),
        )
        for k, (index, item, _) in enumerate(pairs)
    ]


def summarise(items: list[ItemQuality], missing: list[str]) -> Quality:
    """Statistics over items (at least one)."""
    psnr = np.minimum([item.psnr for item in items], metrics.LOSSLESS_PSNR)
    ssim = np.array([item.ssim for item in items])
    weights = np.array([item.width * item.height * item.channels for item in items], np.float64)
    # Relative to its peak, so that 8-bit and 16-bit items pool: 10^(-PSNR / 10) = MSE / peak^2.
    relative = np.array([10 ** (-item.psnr / 10) for item in items])
    pooled = float((relative * weights).sum() / weights.sum())
    by_label: dict[str | None, list[ItemQuality]] = {}
    for item in items:
        by_label.setdefault(item.label, []).append(item)
    return Quality(
        n_items=len(items),
        mean_psnr=float(psnr.mean()),
        pooled_psnr=min(metrics.LOSSLESS_PSNR, -10 * float(np.log10(max(pooled, 1e-30)))),
        min_psnr=float(psnr.min()),
        p5_psnr=float(np.percentile(psnr, 5)),
        median_psnr=float(np.median(psnr)),
        mean_ssim=float(ssim.mean()),
        min_ssim=float(ssim.min()),
        mean_mse=float(np.mean([item.mse for item in items])),
        max_error=max(item.max_error for item in items),
        n_equal=sum(item.max_error == 0 for item in items),
        missing=missing,
        labels=[_of_label(label, by_label[label]) for label in sorted(by_label, key=lambda v: (v is None, v))],
        worst=sorted(items, key=lambda item: (item.psnr, item.index))[:N_WORST],
    )


def _of_label(label: str | None, items: list[ItemQuality]) -> LabelQuality:
    psnr = np.minimum([item.psnr for item in items], metrics.LOSSLESS_PSNR)
    ssim = float(np.mean([item.ssim for item in items]))
    return LabelQuality(label, len(items), float(psnr.mean()), float(psnr.min()), ssim)
