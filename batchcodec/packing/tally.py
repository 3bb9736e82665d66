"""What is counted while a dataset is packed, and the report that is made of it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchcodec import metrics
from batchcodec.archive.writer import ByteCount
from batchcodec.choice import FALLBACK_CODEC, CodecChoice
from batchcodec.codec import Codec
from batchcodec.errors import InputError
from batchcodec.packing.grouping import Group
from batchcodec.packing.report import Seconds, Skipped
from batchcodec.types import JSON, GroupSpec, Item

MUCH_MODEL = 0.2
"""Part of an archive above which its weights are worth a word."""
MAX_LISTED = 10_000
"""Skipped items that the archive itself lists, with the first characters of name and reason; the report has all."""


@dataclass(frozen=True)
class Written:
    """A group that is in the archive. Errors as in `coding.Coded`."""

    codec: Codec
    spec: GroupSpec
    squared_error: float
    psnr_sum: float
    encode_seconds: float
    check_seconds: float
    write_seconds: float


class Tally:
    """Counts of one run.

    Attributes:
        n_items: that went into a group.
        n_done: that are written or left out.
        raw_bytes: of the pixels that are written.
        file_bytes: of the items' files; None where they are no files of their own.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.skipped: list[Skipped] = []
        self.notes: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()
        self.codecs: Counter[int] = Counter()
        self.seconds = Seconds()
        self.n_items = self.n_groups = self.n_done = 0
        self.raw_bytes = self.n_samples = 0
        self.file_bytes: int | None = 0 if source.is_dir() else None
        self.squared_error = self.psnr_sum = 0.0
        self.lossless = True
        self.can_refer = False

    def skip(self, item: str, reason: str) -> None:
        """Count an item that is left out."""
        self.skipped.append(Skipped(item, reason))
        self.n_done += 1

    def add(self, item: Item, n_file_bytes: int | None) -> None:
        """Count an item that goes into a group; None if it is no file of its own."""
        self.n_items += 1
        if item.notes:
            self.notes.update(item.notes)
        if self.file_bytes is not None:
            self.file_bytes = None if n_file_bytes is None else self.file_bytes + n_file_bytes

    def close(self, group: Group) -> None:
        """Count a group that is complete."""
        self.shapes[str(group.spec)] += len(group.items)

    def write(self, written: Written) -> None:
        """Count a group that is written."""
        spec = written.spec
        self.n_groups += 1
        self.n_done += spec.n_items
        self.raw_bytes += spec.n_bytes
        self.n_samples += int(np.prod(spec.shape))
        self.codecs[id(written.codec)] += spec.n_items
        self.lossless &= written.codec.lossless
        self.can_refer |= "model_ref" in written.codec.options_help
        self.squared_error += written.squared_error
        self.psnr_sum += written.psnr_sum
        self.seconds.encode += written.encode_seconds
        self.seconds.check += written.check_seconds
        self.seconds.write += written.write_seconds

    @property
    def mean_psnr(self) -> float:
        """Mean of the images' PSNR, dB."""
        return self.psnr_sum / self.n_items

    @property
    def pooled_psnr(self) -> float:
        """PSNR of all errors together, dB."""
        return min(metrics.LOSSLESS_PSNR, -10 * float(np.log10(max(self.squared_error / self.n_samples, 1e-30))))

    def by_codec(self, choice: CodecChoice) -> dict[str, int]:
        """Items of each codec, by its text."""
        texts = choice.texts()
        items: Counter[str] = Counter()
        for ident, count in self.codecs.items():
            items[texts[ident]] += count  # codecs of several models have one text
        return dict(sorted(items.items()))

    def source_bytes(self) -> int:
        """Of the files that were packed, or else of the source."""
        return _size_of(self.source) if self.file_bytes is None else self.file_bytes

    def summary(self, choice: CodecChoice) -> dict[str, JSON]:
        """What the archive itself says of it."""
        return {
            "codecs": dict(self.by_codec(choice)),
            "source_bytes": self.source_bytes(),
            "mean_psnr": round(self.mean_psnr, 4),
            "pooled_psnr": round(self.pooled_psnr, 4),
            "lossless": self.lossless,
            "notes": dict(sorted(self.notes.items())),
            "n_skipped": len(self.skipped),
            "skipped": [{"item": s.item[:300], "reason": s.reason[:300]} for s in self.skipped[:MAX_LISTED]],
        }

    def advice(self, choice: CodecChoice, reasons: list[str], count: ByteCount) -> list[str]:
        """What was decided by the dataset's size, and what would make the archive smaller."""
        advice = list(reasons)
        if choice.fell_back and not reasons:
            advice.append(
                f"few pixels: about {choice.n_pixels:,}, so {FALLBACK_CODEC} is taken: the weights of the default codec "
                "would outweigh what it saves"
            )
        if self.can_refer and not reasons and count.model > MUCH_MODEL * count.total:
            advice.append(
                f"the weights are {count.model / count.total:.0%} of the archive: --model-ref would leave them out, and "
                "reading would take the same model"
            )
        return advice


def _size_of(source: Path) -> int:
    """Bytes of the file, or of all files in the directory that are not hidden."""
    try:
        if source.is_file():
            return source.stat().st_size
        total = 0
        for folder, folders, files in os.walk(source):
            folders[:] = [name for name in folders if not name.startswith(".")]
            total += sum((Path(folder) / name).stat().st_size for name in files if not name.startswith("."))
    except OSError as exc:
        raise InputError(source, f"{exc.filename}: {exc.strerror}") from exc
    return total
