"""One run of `pack` from the first item to the last group: items come from a `Reader`, are gathered, and go into a `Pipeline`.

    reading threads          this thread                 coding threads           the writing thread
    read, prepare     ->     names, codecs, groups  ->   encode, check     ->     file, journal

Each arrow is a bounded queue. Order is decided on this thread alone: names are reserved, groups formed and errors raised in the
order of the dataset. An item that cannot be packed stops the run when the groups before it are written, so which error is
raised, and what a later run can go on with, do not depend on how far the threads were.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial as bind
from pathlib import Path

from batchcodec import machine
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.choice import CodecChoice
from batchcodec.codec import Codec
from batchcodec.errors import ItemError, UnsupportedImageError
from batchcodec.packing.coding import Coded, code, recall
from batchcodec.packing.grouping import Group, Grouping
from batchcodec.packing.options import PackOptions
from batchcodec.packing.pipeline import Pipeline
from batchcodec.packing.reading import NO_FILE, Batch, Reader
from batchcodec.packing.report import PackStatus
from batchcodec.packing.tally import Tally, Written
from batchcodec.partial import Partial
from batchcodec.registry import Registry
from batchcodec.types import ImageSpec, Item


class Run:
    """Packs the items of a dataset into an archive that has its header, and writes everything but its end.

    Args:
        depth: groups under way at once; by default one more than there are workers. It does not change the bytes.
    """

    def __init__(
        self,
        source: Path,
        options: PackOptions,
        choice: CodecChoice,
        plugins: Registry,
        partial: Partial,
        writer: ArchiveWriter,
        *,
        depth: int = 0,
    ) -> None:
        self.source, self.options, self.choice, self.plugins = source, options, choice, plugins
        self.partial, self.writer = partial, writer
        self.tally = Tally(source)
        self.workers = options.n_workers()
        self._depth = depth or self.workers + 1
        self._grouping = Grouping(options.group_items)
        self._n_groups = 0
        self._references: dict[int, int] = {}  # CODEC blocks by the identity of their codec, which `choice` keeps alive

    def run(self, dataset: Sequence[Item], progress: Callable[[PackStatus], None] | None) -> None:
        """Write all groups.

        Raises:
            InputError, OutputError, CodecError, OptionError: see `batchcodec.errors`; the first one in the dataset's order.
        """
        machine.reuse_freed_memory()
        started = time.perf_counter()
        reader = Reader(dataset, self.source, self.options.preprocess, threads=self.workers, batch=self.options.batch)
        pipeline = Pipeline(self._write, workers=self.workers, depth=self._depth)
        total = len(dataset)

        def take(written: Written) -> None:
            self.tally.write(written)
            show()

        def show() -> None:
            if progress:
                tally = self.tally
                progress(PackStatus(tally.n_done, total, self.writer.bytes.total, tally.raw_bytes))

        with contextlib.closing(pipeline), contextlib.closing(reader.batches()) as batches:
            for batch in batches:
                groups, error = self._gathered(batch, reader)
                for group in groups:
                    for written in pipeline.put(self._coding(group)):
                        take(written)
                if error is not None:
                    for written in pipeline.finish():
                        take(written)
                    raise error
                show()
            for group in self._grouping.rest():
                for written in pipeline.put(self._coding(group)):
                    take(written)
            for written in pipeline.finish():
                take(written)
        seconds = self.tally.seconds
        seconds.wait_read, seconds.wait_code = reader.wait_seconds, pipeline.wait_seconds
        seconds.total = time.perf_counter() - started

    def _gathered(self, batch: Batch, reader: Reader) -> tuple[list[Group], Exception | None]:
        """The groups that are full by a batch, and the error that ends the run in the middle of it."""
        tally, grouping, add_name, source = self.tally, self._grouping, self.writer.add_name, str(self.source)
        tally.seconds.read += batch.read_seconds
        tally.seconds.prepare += batch.prepare_seconds
        lengths = batch.file_bytes or [NO_FILE] * len(batch.outcomes)
        groups: list[Group] = []
        for index, item, n_bytes in zip(batch.indices, batch.outcomes, lengths, strict=False):
            if isinstance(item, Exception):
                error = item
            else:
                try:
                    kind = grouping.kind_of(item.pixels, self._codec_for)
                    add_name(item.name, source)
                except Exception as exc:
                    error = self._named(exc, item)
                else:
                    groups += grouping.add(kind, item, tally.n_items)
                    tally.add(item, None if n_bytes == NO_FILE else n_bytes)
                    continue
            if self.options.on_error == "fail" or not isinstance(error, ItemError | UnsupportedImageError):
                return groups, error
            reason = error.reason if isinstance(error, ItemError) else error.fields.get("reason", error.message)
            tally.skip(str(error.fields.get("item", f"item {index}")), str(reason))
        reader.file_bytes = tally.file_bytes is not None
        return groups, None

    def _codec_for(self, spec: ImageSpec) -> Codec:
        return self.choice.for_spec(spec)

    def _named(self, exc: Exception, item: Item) -> Exception:
        """The error for an item that no codec holds names it."""
        if not isinstance(exc, UnsupportedImageError):
            return exc
        fields = {**exc.fields, "item": item.name, "reason": exc.message}
        error = UnsupportedImageError(f"{self.source}: {item.name!r}: {exc}", **fields)
        error.__cause__ = exc
        return error

    def _coding(self, group: Group) -> Callable[[], Coded]:
        """What is to be done with the next group."""
        self.tally.close(group)
        number, self._n_groups = self._n_groups, self._n_groups + 1
        if number < len(self.partial.done):
            return bind(recall, group, self.partial, number)
        return bind(code, group)

    def _write(self, coded: Coded) -> Written:
        """Put a group into the file. Only the writing thread is here."""
        started = time.perf_counter()
        reference = self._references.get(id(coded.codec))
        if reference is None:
            reference = self._references[id(coded.codec)] = self.writer.add_codec(self.plugins.record(coded.codec))
        self.writer.add_group(replace(coded.head, codec_ref=reference), coded.payload, coded.rows)
        self.partial.note(coded.items_check, coded.squared_error, coded.psnr_sum)
        return Written(
            coded.codec,
            coded.head.spec,
            coded.squared_error,
            coded.psnr_sum,
            coded.encode_seconds,
            coded.check_seconds,
            time.perf_counter() - started,
        )
