"""What was measured of each item, in columns, and the statistics that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from batchcodec import metrics
from batchcodec.types import ImageSpec

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

N_SHOWN = 10
"""Worst items that a summary holds."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass(frozen=True)
class ItemQuality:
    """One item against its original. PSNR in dB, inf for equal pixels; errors in steps of its own type."""

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
    ms_ssim: float


@dataclass(frozen=True, eq=False)
class ItemTable(Sequence[ItemQuality]):
    """All items that were compared, in the order of the dataset: a sequence of `ItemQuality`, kept in columns.

    Attributes:
        indices: places in the dataset, ascending: [n].
        names: [n].
        classes: the different labels, sorted.
        targets: of each item the place of its label in `classes`, -1 without a label: [n].
        specs: the different shapes and types.
        kinds: of each item the place of its own in `specs`: [n].
        psnr: dB, inf without any error: [n]; and so on.
    """

    indices: Integers
    names: list[str]
    classes: list[str]
    targets: Integers
    specs: list[ImageSpec]
    kinds: Integers
    psnr: Floats
    ssim: Floats
    ms_ssim: Floats
    max_error: Integers
    mse: Floats

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int) -> ItemQuality: ...
    @overload
    def __getitem__(self, key: slice) -> list[ItemQuality]: ...
    def __getitem__(self, key: int | slice) -> ItemQuality | list[ItemQuality]:
        """An item, or some, as objects of their own."""
        if isinstance(key, slice):
            return [self[i] for i in range(*key.indices(len(self)))]
        if not -len(self) <= key < len(self):
            raise IndexError(f"item {key} of {len(self)}")
        spec, target = self.specs[int(self.kinds[key])], int(self.targets[key])
        return ItemQuality(
            index=int(self.indices[key]),
            name=self.names[key],
            label=None if target < 0 else self.classes[target],
            width=spec.width,
            height=spec.height,
            channels=spec.channels,
            psnr=float(self.psnr[key]),
            ssim=float(self.ssim[key]),
            max_error=int(self.max_error[key]),
            mse=float(self.mse[key]),
            ms_ssim=float(self.ms_ssim[key]),
        )

    def worst_first(self) -> Integers:
        """Rows by ascending PSNR, then by place: [n]."""
        return np.lexsort((self.indices, self.psnr))


@dataclass(frozen=True)
class LabelQuality:
    """Items of one label; None are those without."""

    label: str | None
    n_items: int
    mean_psnr: float
    min_psnr: float
    mean_ssim: float
    mean_ms_ssim: float


@dataclass(frozen=True)
class ShapeQuality:
    """Items of one shape and type, such as `64x64 L`."""

    shape: str
    n_items: int
    mean_psnr: float
    min_psnr: float
    mean_ssim: float
    mean_ms_ssim: float
    n_scales: int


@dataclass(frozen=True)
class Quality:
    """All items against their originals.

    Attributes:
        mean_psnr: mean over items, in dB; an item without error counts `metrics.LOSSLESS_PSNR`.
        pooled_psnr: of the mean squared error over all samples.
        p5_psnr: 5th percentile over items.
        psnr_percentiles: of those in `PERCENTILES`, by their number as text.
        mean_ms_ssim: over items; of how many scales each shape has is in `shapes`.
        n_equal: items without any error.
        max_error: largest error of a sample anywhere, in steps.
        missing: items of the archive that the dataset does not have (or cannot read), by name.
        labels: by label, sorted; items without one come last.
        shapes: by number of items.
        worst: the items of lowest PSNR.
    """

    n_items: int
    mean_psnr: float
    pooled_psnr: float
    min_psnr: float
    p5_psnr: float
    median_psnr: float
    psnr_percentiles: dict[str, float]
    mean_ssim: float
    min_ssim: float
    mean_ms_ssim: float
    min_ms_ssim: float
    mean_mse: float
    max_error: int
    n_equal: int
    missing: list[str]
    labels: list[LabelQuality]
    shapes: list[ShapeQuality]
    worst: list[ItemQuality]


def summarise(items: ItemTable, missing: list[str]) -> Quality:
    """Statistics over items (at least one)."""
    psnr = np.minimum(items.psnr, metrics.LOSSLESS_PSNR)
    n_samples = np.array([spec.height * spec.width * spec.channels for spec in items.specs], np.float64)[items.kinds]
    # Relative to its peak, so that 8-bit and 16-bit items pool: 10^(-PSNR / 10) = MSE / peak^2.
    pooled = float((10 ** (-items.psnr / 10) * n_samples).sum() / n_samples.sum())
    percentiles = np.percentile(psnr, PERCENTILES)
    return Quality(
        n_items=len(items),
        mean_psnr=float(psnr.mean()),
        pooled_psnr=min(metrics.LOSSLESS_PSNR, -10 * float(np.log10(max(pooled, 1e-30)))),
        min_psnr=float(psnr.min()),
        p5_psnr=float(percentiles[PERCENTILES.index(5)]),
        median_psnr=float(percentiles[PERCENTILES.index(50)]),
        psnr_percentiles={str(p): float(value) for p, value in zip(PERCENTILES, percentiles, strict=True)},
        mean_ssim=float(items.ssim.mean()),
        min_ssim=float(items.ssim.min()),
        mean_ms_ssim=float(items.ms_ssim.mean()),
        min_ms_ssim=float(items.ms_ssim.min()),
        mean_mse=float(items.mse.mean()),
        max_error=int(items.max_error.max()),
        n_equal=int((items.max_error == 0).sum()),
        missing=missing,
        labels=_labels(items, psnr),
        shapes=_shapes(items, psnr),
        worst=[items[row] for row in items.worst_first()[:N_SHOWN].tolist()],
    )


_Statistics = tuple[int, float, float, float, float]


def _parts(items: ItemTable, psnr: Floats, numbers: Integers, n: int) -> Callable[[int], _Statistics]:
    """Gives of a part by its number: items, mean and least PSNR, mean SSIM and MS-SSIM. Computed for all parts at once."""
    counts = np.bincount(numbers, minlength=n)
    least = np.full(n, np.inf)
    np.minimum.at(least, numbers, psnr)
    sums = [np.bincount(numbers, values, minlength=n) for values in (psnr, items.ssim, items.ms_ssim)]

    def of(number: int) -> _Statistics:
        count = int(counts[number])
        mean_psnr, mean_ssim, mean_ms_ssim = (float(total[number]) / count for total in sums)
        return count, mean_psnr, float(least[number]), mean_ssim, mean_ms_ssim

    return of


def _labels(items: ItemTable, psnr: Floats) -> list[LabelQuality]:
    n = len(items.classes)
    numbers = np.where(items.targets < 0, n, items.targets)
    of = _parts(items, psnr, numbers, n + 1)
    return [LabelQuality([*items.classes, None][k], *of(k)) for k in np.unique(numbers).tolist()]


def _shapes(items: ItemTable, psnr: Floats) -> list[ShapeQuality]:
    of = _parts(items, psnr, items.kinds, len(items.specs))
    found = [ShapeQuality(str(spec), *of(k), metrics.n_scales(spec.height, spec.width)) for k, spec in enumerate(items.specs)]
    return sorted(found, key=lambda shape: (-shape.n_items, shape.shape))
