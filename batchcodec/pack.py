"""Dataset to archive: reads items, gathers them into groups of one shape, has them coded, and streams the archive to the disk.

Memory is bounded, whatever the dataset's size: groups hold about `GROUP_PIXELS` pixels, partly filled groups together at most
`BUFFER_BYTES` (with many shapes, the largest is closed early), and as many groups are in work as there are workers.

Each payload is decoded again before it is written: its digest goes into the archive, its error into the report. What was
written is known to decode.

The archive grows in a `partial.Partial`. A run that was killed can be taken up: groups that are done are read again but not
coded again, and the bytes are those of an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from batchcodec import metrics
from batchcodec.archive import digest, parity
from batchcodec.archive.directory import Row
from batchcodec.archive.reader import NOTES
from batchcodec.archive.wire import MAX_GROUP_BYTES, GroupHead, parse_group
from batchcodec.archive.writer import ArchiveWriter, ByteCount
from batchcodec.choice import FALLBACK_CODEC, CodecChoice, estimated_pixels
from batchcodec.codec import Codec
from batchcodec.dataset import FormatOptions
from batchcodec.errors import (
    BatchcodecError,
    CodecError,
    EmptyDatasetError,
    InputError,
    ItemError,
    OptionError,
    TargetExistsError,
    UnfinishedError,
    UnsupportedImageError,
)
from batchcodec.fit import fit_dataset
from batchcodec.names import check_name
from batchcodec.partial import ANEW, GroupDone, Partial
from batchcodec.preprocess import Preprocess
from batchcodec.registry import Registry, registry
from batchcodec.types import JSON, GroupSpec, ImageSpec, Item, Pixels
from batchcodec.version import __version__

GROUP_PIXELS = 1 << 20
MAX_DEFAULT_ITEMS = 4096
BUFFER_BYTES = 32 << 20
MUCH_MODEL = 0.2
"""Part of an archive above which its weights are worth a word."""
MAX_LISTED = 10_000
"""Skipped items that the archive itself lists, with the first characters of name and reason; the report has all."""


@dataclass(frozen=True)
class PackOptions:
    """Settings of `pack`.

    Attributes:
        codec: `name:key=value,...`, or "auto".
        model: a model file for a codec that works with one, or the name of a model; see `batchcodec.learned.shipped`.
        model_ref: the archive names its model by hash and name in place of holding it.
        fit_seconds: how long `hyperprior-1` is fitted to the dataset first; see `batchcodec.fit`.
        entropy: entropy coder of a codec that has a choice.
        preprocess: size and mode.
        group_items: images of a full group; by default about a million pixels.
        parity: part of the archive's blocks that may be lost and restored by `repair`, up to 0.25; see `archive.parity`.
        on_error: "fail" at the first item that cannot be packed, or "skip" and list such items.
        force: replace an existing target, and what an interrupted run left.
        resume: go on with what an interrupted run of the same source and options left, if it left anything.
        format: format id; by default recognised.
        format_options: how the dataset is read.
        workers: groups coded at once; 0 is one for each core.
    """

    codec: str = "auto"
    model: Path | None = None
    entropy: str | None = None
    model_ref: bool = False
    fit_seconds: float | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    group_items: int | None = None
    parity: float = 0.0
    on_error: str = "fail"
    force: bool = False
    resume: bool = False
    format: str | None = None
    format_options: FormatOptions = field(default_factory=FormatOptions)
    workers: int = 0

    def __post_init__(self) -> None:
        if self.on_error not in ("fail", "skip"):
            raise OptionError("on-error", self.on_error, "fail or skip")
        if self.group_items is not None and not 1 <= self.group_items <= 1 << 16:
            raise OptionError("group", self.group_items, "a number of images from 1 to 65536")
        if self.parity:
            parity.plan(1, self.parity)
        if not 0 <= self.workers <= 256:
            raise OptionError("workers", self.workers, "0 (all cores) to 256")


@dataclass(frozen=True)
class Skipped:
    """An item that was left out, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class PackReport:
    """What was packed. Sizes in bytes, PSNR in dB (mean of images, and of the pooled error).

    Attributes:
        codecs: what coded the images, with the number of items of each.
        shapes: image spec to number of items.
        source_bytes: of the files that were packed; other and skipped files of a directory do not count.
        raw_bytes: of the coded pixels without compression.
        notes: what reading and preprocessing changed, with the number of items.
        ignored: files of the source that are no images.
        advice: what was decided by the dataset's size, and what would make the archive smaller, a sentence each.
        n_resumed: groups that an interrupted run had coded.
    """

    source: str
    target: str
    format: str
    n_items: int
    n_groups: int
    codecs: dict[str, int]
    shapes: dict[str, int]
    source_bytes: int
    raw_bytes: int
    bytes: ByteCount
    n_bytes: int
    mean_psnr: float
    pooled_psnr: float
    lossless: bool
    notes: dict[str, int]
    skipped: list[Skipped]
    ignored: int
    advice: list[str] = field(default_factory=list)
    n_resumed: int = 0


@dataclass(frozen=True)
class PackStatus:
    """Progress: items read of all, and bytes of the archive so far."""

    done: int
    total: int
    n_bytes: int


@dataclass
class _Group:
    """Items of one spec on their way into a group."""

    orders: list[int] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True)
class _Coded:
    """One coded group, ready to be written."""

    codec: Codec
    head: GroupHead
    payload: bytes
    rows: list[Row]
    items_check: int
    squared_error: float
    psnr_sum: float


def pack(
    source: Path | str,
    target: Path | str,
    options: PackOptions | None = None,
    *,
    progress: Callable[[PackStatus], None] | None = None,
    fit_progress: Callable[[str, float], None] | None = None,
    plugins: Registry | None = None,
) -> PackReport:
    """Pack a dataset into a `.cpack` archive, which appears whole at `target` or not at all.

    If it fails or is killed with some groups done, these are kept beside the target for a run with `resume`.

    Raises:
        InputError, OutputError, CodecError, OptionError: see `batchcodec.errors`.
    """
    source, target, options, plugins = Path(source), Path(target), options or PackOptions(), plugins or registry()
    if target.exists() and not options.force:
        raise TargetExistsError(target)
    if target.is_dir():
        raise OptionError("target", str(target), "a file name, not a directory")
    if target.exists() and source.exists() and target.samefile(source):
        raise OptionError("target", str(target), "another file than the source")
    reader = plugins.format_of(source, options.format_options, options.format)
    dataset = reader.read(source)
    if not len(dataset):
        raise EmptyDatasetError(source, "there is no image in it")
    identity = _identity(options, len(dataset))
    stamp = _stamp(source)
    with Partial(target, identity, resume=options.resume, force=options.force) as partial:
        choice, reasons = _choice(source, dataset, options, plugins, partial, fit_progress)
        packing = _Packing(source, options, choice, reasons, partial)
        writer = ArchiveWriter(partial, parity=bool(options.parity))
        writer.add_meta(
            {
                "created_by": f"batchcodec {__version__}",
                "source_format": reader.format_id,
                "format_options": asdict(options.format_options),
                "preprocess": options.preprocess.to_json(),
            }
        )
        with contextlib.closing(packing.run(dataset, writer, progress)) as groups:  # no worker outlives a failure
            for coded in groups:
                reference = writer.add_codec(plugins.record(coded.codec))
                writer.add_group(replace(coded.head, codec_ref=reference), coded.payload, coded.rows)
                partial.note(coded.items_check, coded.squared_error, coded.psnr_sum)
        if not packing.n_items:
            raise EmptyDatasetError(source, f"none of its {len(dataset)} images could be packed")
        if _stamp(source) != stamp:
            raise InputError(source, "it was changed while it was packed")
        report = packing.finish(writer, target, reader.format_id, getattr(dataset, "ignored", 0))
        partial.finish()
        return report


def _identity(options: PackOptions, n_items: int) -> dict[str, Any]:
    """What decides the bytes of an archive besides the images, as `partial` keeps it."""
    model = None if options.model is None else str(options.model)
    if options.model is not None and options.model.is_file():
        model = hashlib.sha256(options.model.read_bytes()).hexdigest()
    return {
        "codec": options.codec,
        "model": model,
        "entropy": options.entropy,
        "model-ref": options.model_ref,
        "fit": options.fit_seconds,
        "preprocess": options.preprocess.to_json(),
        "group": options.group_items,
        "parity": options.parity,
        "format": options.format,
        "format options": asdict(options.format_options),
        "number of images": n_items,
    }


def _stamp(source: Path) -> tuple[int, int] | None:
    """Length and time of a source that is one file: both change when it is written to."""
    try:
        found = source.stat()
    except OSError as exc:
        raise InputError(source, exc.strerror or str(exc)) from exc
    return (found.st_size, found.st_mtime_ns) if source.is_file() else None


def _choice(
    source: Path,
    dataset: Sequence[Item],
    options: PackOptions,
    plugins: Registry,
    partial: Partial,
    fit_progress: Callable[[str, float], None] | None,
) -> tuple[CodecChoice, list[str]]:
    """What codes the images, fitted to them if that was asked for, and a word on what was decided."""
    if options.fit_seconds is not None:
        if options.model_ref:
            raise OptionError("model-ref", True, "no --fit beside it: nobody else has a model that is fitted now")
        if earlier := partial.fitted():
            reason, models = earlier
        else:
            fitted = fit_dataset(
                source,
                dataset,
                options.fit_seconds,
                codec=options.codec,
                model=options.model,
                preprocess=options.preprocess,
                format_id=options.format,
                format_options=options.format_options,
                plugins=plugins,
                progress=fit_progress,
            )
            reason, models = fitted.reason, fitted.models
            partial.keep_fit(reason, models)
        codec = options.codec if models and options.codec != "auto" else "auto"
        n_pixels = None if models else 0
        model = options.model if codec != "auto" else None
        choice = CodecChoice(codec, model, options.entropy, plugins, n_pixels=n_pixels, fitted=models)
        return choice, [f"fit chose {reason}"]
    n_pixels = None
    if options.codec == "auto" and not options.model_ref:  # a model that is only named weighs nothing
        n_pixels = estimated_pixels(dataset, options.preprocess)
    choice = CodecChoice(options.codec, options.model, options.entropy, plugins, model_ref=options.model_ref, n_pixels=n_pixels)
    return choice, []


class _Packing:
    """The state of one run."""

    def __init__(self, source: Path, options: PackOptions, choice: CodecChoice, reasons: list[str], partial: Partial) -> None:
        self.source, self.options, self.choice, self.reasons, self.partial = source, options, choice, reasons, partial
        self.can_refer = False
        self.open_groups: dict[ImageSpec, _Group] = {}
        self.buffered = 0
        self.buffer_bytes = BUFFER_BYTES
        self.skipped: list[Skipped] = []
        self.notes: Counter[str] = Counter()
        self.codecs: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()
        self.n_items = self.n_groups = 0
        self.raw_bytes = self.n_samples = 0
        self.file_bytes: int | None = 0 if source.is_dir() else None
        self.squared_error = 0.0
        self.psnr_sum = 0.0
        self.lossless = True

    def run(self, dataset: Any, writer: ArchiveWriter, progress: Callable[[PackStatus], None] | None) -> Generator[_Coded]:
        """Coded groups in the order in which they are to be written."""
        workers = self.options.workers or os.cpu_count() or 1
        waiting: deque[Future[_Coded]] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            for number, (codec, group) in enumerate(self._groups(dataset, writer, progress)):
                if number < len(self.partial.done):
                    work = pool.submit(_recalled, codec, group, self.partial, number)
                else:
                    work = pool.submit(_code, codec, group)
                waiting.append(work)
                while len(waiting) > workers:
                    yield self._counted(waiting.popleft().result())
            while waiting:
                yield self._counted(waiting.popleft().result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _groups(
        self, dataset: Any, writer: ArchiveWriter, progress: Callable[[PackStatus], None] | None
    ) -> Generator[tuple[Codec, _Group]]:
        """Full groups as the dataset is read, then what is left."""
        for index in range(len(dataset)):
            try:
                item = self._item(dataset, index)
                codec = self._codec_for(item)
                writer.add_name(item.name, str(self.source))
            except (ItemError, UnsupportedImageError) as exc:
                if self.options.on_error == "fail":
                    raise
                reason = exc.reason if isinstance(exc, ItemError) else exc.fields.get("reason", exc.message)
                self.skipped.append(Skipped(str(exc.fields.get("item", f"item {index}")), str(reason)))
                continue
            finally:
                if progress:
                    progress(PackStatus(index + 1, len(dataset), writer.bytes.total))
            spec = ImageSpec.of(item.pixels)
            group = self.open_groups.setdefault(spec, _Group())
            group.orders.append(self.n_items)
            group.items.append(item)
            self._count_item(item, spec)
            if len(group.items) == self._capacity(spec):
                yield codec, self._close(spec)
            while self.buffered > self.buffer_bytes:
                largest = max(self.open_groups, key=lambda s: s.n_bytes * len(self.open_groups[s].items))
                yield self.choice.for_spec(largest), self._close(largest)
        for spec in list(self.open_groups):
            yield self.choice.for_spec(spec), self._close(spec)

    def _item(self, dataset: Any, index: int) -> Item:
        """One item, preprocessed and checked."""
        try:
            item: Item = self.options.preprocess(dataset[index])
        except (BatchcodecError, MemoryError):
            raise
        except Exception as exc:  # a plugin's format may let anything escape
            raise ItemError(self.source, f"item {index}", f"{type(exc).__name__}: {exc}") from exc
        check_name(self.source, item.name)
        if ImageSpec.of(item.pixels).n_bytes > MAX_GROUP_BYTES:
            raise ItemError(self.source, item.name, f"larger than {MAX_GROUP_BYTES} bytes of pixels")
        return item

    def _codec_for(self, item: Item) -> Codec:
        """The codec of an item; the error for one that no codec holds names it."""
        try:
            return self.choice.for_spec(ImageSpec.of(item.pixels))
        except UnsupportedImageError as exc:
            fields = {**exc.fields, "item": item.name, "reason": exc.message}
            raise UnsupportedImageError(f"{self.source}: {item.name!r}: {exc}", **fields) from exc

    def _capacity(self, spec: ImageSpec) -> int:
        if self.options.group_items:
            capacity = min(self.options.group_items, max(1, MAX_GROUP_BYTES // spec.n_bytes))
            self.buffer_bytes = max(self.buffer_bytes, capacity * spec.n_bytes)  # a group that was asked for must fit
            return capacity
        return max(1, min(MAX_DEFAULT_ITEMS, GROUP_PIXELS // (spec.height * spec.width)))

    def _close(self, spec: ImageSpec) -> _Group:
        group = self.open_groups.pop(spec)
        self.buffered -= spec.n_bytes * len(group.items)
        return group

    def _count_item(self, item: Item, spec: ImageSpec) -> None:
        self.n_items += 1
        self.buffered += spec.n_bytes
        self.raw_bytes += spec.n_bytes
        self.shapes[str(spec)] += 1
        self.notes.update(item.notes)
        if self.file_bytes is not None:
            try:
                self.file_bytes += (self.source / item.name).stat().st_size
            except (OSError, ValueError):  # items that are no files of their own, such as frames
                self.file_bytes = None

    def _counted(self, coded: _Coded) -> _Coded:
        self.n_groups += 1
        self.codecs[self.choice.texts()[id(coded.codec)]] += len(coded.rows)
        self.lossless &= coded.codec.lossless
        self.can_refer |= "model_ref" in coded.codec.options_help
        self.squared_error += coded.squared_error
        self.n_samples += int(np.prod(coded.head.spec.shape))
        self.psnr_sum += coded.psnr_sum
        return coded

    def finish(self, writer: ArchiveWriter, target: Path, format_id: str, ignored: int) -> PackReport:
        """Write what is known at the end, and report it."""
        source_bytes = _size_of(self.source) if self.file_bytes is None else self.file_bytes
        mean_psnr = self.psnr_sum / self.n_items
        pooled = min(metrics.LOSSLESS_PSNR, -10 * float(np.log10(max(self.squared_error / self.n_samples, 1e-30))))
        summary: dict[str, JSON] = {
            "codecs": dict(sorted(self.codecs.items())),
            "source_bytes": source_bytes,
            "mean_psnr": round(mean_psnr, 4),
            "pooled_psnr": round(pooled, 4),
            "lossless": self.lossless,
            "notes": dict(sorted(self.notes.items())),
            "n_skipped": len(self.skipped),
            "skipped": [{"item": s.item[:300], "reason": s.reason[:300]} for s in self.skipped[:MAX_LISTED]],
        }
        writer.add_meta(summary)
        if self.options.parity:
            writer.add_parity(lambda n_bytes: parity.parity_blocks(self.partial.read, n_bytes, self.options.parity))
        count = writer.finish()
        return PackReport(
            source=str(self.source),
            target=str(target),
            format=format_id,
            n_items=self.n_items,
            n_groups=self.n_groups,
            codecs=dict(sorted(self.codecs.items())),
            shapes=dict(self.shapes.most_common()),
            source_bytes=source_bytes,
            raw_bytes=self.raw_bytes,
            bytes=count,
            n_bytes=count.total,
            mean_psnr=mean_psnr,
            pooled_psnr=pooled,
            lossless=self.lossless,
            notes=dict(self.notes.most_common()),
            skipped=self.skipped,
            ignored=ignored,
            advice=self._advice(count),
            n_resumed=len(self.partial.done),
        )

    def _advice(self, count: ByteCount) -> list[str]:
        advice = list(self.reasons)
        if self.choice.fell_back and not self.reasons:
            advice.append(
                f"few pixels: about {self.choice.n_pixels:,}, so {FALLBACK_CODEC} is taken: the weights of the default codec "
                "would outweigh what it saves"
            )
        if self.can_refer and not self.reasons and count.model > MUCH_MODEL * count.total:
            advice.append(
                f"the weights are {count.model / count.total:.0%} of the archive: --model-ref would leave them out, and "
                "reading would take the same model"
            )
        return advice


def _code(codec: Codec, group: _Group) -> _Coded:
    """Encode a group, decode it again, and measure."""
    images: Pixels = np.stack([item.pixels for item in group.items])
    spec = GroupSpec.of(images)
    try:
        payload = codec.encode(images)
        decoded = codec.decode(payload, spec)
    except (BatchcodecError, MemoryError):
        raise
    except Exception as exc:  # a plugin's codec may let anything escape
        raise CodecError(f"codec {codec.codec_id} failed on {spec.image}: {type(exc).__name__}: {exc}") from exc
    if codec.lossless and not np.array_equal(decoded, images):
        raise CodecError(f"codec {codec.codec_id} says that it is lossless and gave other pixels back: {spec.image}")
    error = metrics.mse(images, decoded)
    peak = float(np.iinfo(images.dtype).max)
    rows = _rows(group)
    head = GroupHead(0, spec, digest.digest(decoded), () if codec.exact else digest.sketch(decoded))
    return _Coded(
        codec=codec,
        head=head,
        payload=payload,
        rows=rows,
        items_check=_items_check(images, rows),
        squared_error=float(error.sum()) / peak**2 * spec.image.height * spec.image.width * spec.image.channels,
        psnr_sum=float(np.minimum(metrics.psnr_of_mse(error, peak), metrics.LOSSLESS_PSNR).sum()),
    )


def _recalled(codec: Codec, group: _Group, partial: Partial, number: int) -> _Coded:
    """A group that an interrupted run has coded, if it was of the same images."""
    done: GroupDone = partial.done[number]
    images: Pixels = np.stack([item.pixels for item in group.items])
    rows = _rows(group)
    if _items_check(images, rows) != done.items_check:
        what = f"{rows[0].name!r} to {rows[-1].name!r}" if len(rows) > 1 else repr(rows[0].name)
        raise UnfinishedError(partial.path, f"its group {number} was packed from other images than {what} are now; {ANEW}")
    body, n_items = partial.stored_group(number)
    head = parse_group(body, n_items)
    return _Coded(codec, head, body[head.n_bytes :], rows, done.items_check, done.squared_error, done.psnr_sum)


def _rows(group: _Group) -> list[Row]:
    rows = []
    for order, item in zip(group.orders, group.items, strict=True):
        attributes = dict(item.attributes)
        if item.notes:
            attributes[NOTES] = list(item.notes)
        rows.append(Row(order, item.name, item.label, attributes))
    return rows


def _items_check(images: Pixels, rows: list[Row]) -> int:
    """XXH3-64 of all that a group is made of."""
    state = xxhash.xxh3_64(np.ascontiguousarray(images).reshape(-1).view(np.uint8).data)
    described = [(row.order, row.name, row.label, dict(row.attributes)) for row in rows]
    state.update(repr((images.shape, str(images.dtype), described)).encode())
    return state.intdigest()


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
