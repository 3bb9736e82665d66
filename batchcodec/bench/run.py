"""Measures codecs on a dataset: packing, unpacking, and reading in several orders, each in a process of its own.

The dataset is sampled (`images`), packed with each codec to a temporary folder, and read from there. Nothing of it stays.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from batchcodec.bench.generated import write_npz
from batchcodec.bench.job import KINDS, Job
from batchcodec.choice import CodecChoice
from batchcodec.dataset import FormatOptions
from batchcodec.errors import BatchcodecError, CodecError, EmptyDatasetError, OptionError
from batchcodec.pack import PackOptions
from batchcodec.parallel import cores
from batchcodec.preprocess import Preprocess
from batchcodec.registry import registry

DEFAULT_CODECS = ("hyperprior-1", "avif:quality=60,mosaic=true", "jpeg", "zstd")
"""The default codec with the model that comes with it, its strongest classical rival, the common one, and a lossless one."""

Progress = Callable[[str, int, int], None]
"""Called with what is measured next, and how many measurements are done of how many."""


@dataclass(frozen=True)
class BenchOptions:
    """Settings of `bench`.

    Attributes:
        codecs: `name:key=value,...` each.
        model: for the codecs that take one.
        images: of the dataset that are measured with, evenly spread; or that are generated.
        group_items: images of a group; None is the library's choice.
        workers: threads; 0 is one for each core.
        batch: images of a shuffled batch.
        seconds: about how long each reading goes on.
        seed: of what is shuffled or generated.
        preprocess: size and mode.
        format: of the dataset; by default recognised.
        format_options: how the dataset is read.
    """

    codecs: Sequence[str] = DEFAULT_CODECS
    model: Path | None = None
    images: int = 2000
    group_items: int | None = None
    workers: int = 0
    batch: int = 256
    seconds: float = 5.0
    seed: int = 0
    preprocess: Preprocess = field(default_factory=Preprocess)
    format: str | None = None
    format_options: FormatOptions = field(default_factory=FormatOptions)

    def __post_init__(self) -> None:
        for name, value, most in (("images", self.images, 10_000_000), ("batch", self.batch, 65_536)):
            if not 1 <= value <= most:
                raise OptionError(name, value, f"a number from 1 to {most}")
        if not 0 < self.seconds <= 3600:
            raise OptionError("seconds", self.seconds, "a number of seconds above 0, up to 3600")
        if self.seed < 0:
            raise OptionError("seed", self.seed, "0 or more")
        if len(set(self.codecs)) != len(self.codecs) or not self.codecs:
            raise OptionError("codec", ", ".join(self.codecs), "at least one codec, each once")
        PackOptions(group_items=self.group_items, workers=self.workers)
        if self.model is not None and not any(map(self._model_for, self.codecs)):
            raise OptionError("model", str(self.model), "a --codec that uses a model, such as hyperprior-1")
        for text in self.codecs:
            CodecChoice(text, self._model_for(text), None, registry())  # a typing error shows before hours of measuring

    def _model_for(self, text: str) -> Path | None:
        if self.model is None or text == "auto" or not registry().codec_class(text.partition(":")[0]).needs_model:
            return None
        return self.model

    def job(self, kind: str, source: Path, archive: Path, codec: str) -> Job:
        """One measurement under these settings."""
        return Job(
            kind=kind,
            source=source,
            archive=archive,
            codec=codec,
            model=self._model_for(codec),
            images=self.images,
            group_items=self.group_items,
            workers=self.workers,
            batch=self.batch,
            seconds=self.seconds,
            seed=self.seed,
            preprocess=self.preprocess,
            format=self.format,
            format_options=self.format_options,
        )


@dataclass(frozen=True)
class BenchRow:
    """One codec. Rates are images per second; what could not be measured is None.

    Attributes:
        codec: as it was asked for.
        errors: measurements that failed, and why; after a failed `pack` there is nothing else.
        images: that were packed.
        groups: of the archive.
        skipped: images that the codec or the reader refused.
        bytes_per_image: of the archive without weights.
        weight_bytes: decoder weights, in the archive once.
        mean_psnr: dB; None where nothing is lost.
        pack_per_s: reading the source, coding, decoding again to check, and writing.
        unpack_per_s: to an .npz, or to a folder of PNG files where images are of several shapes.
        read_per_s: all items in the order of the archive.
        single_ms: one item at random, the median.
        single_p95_ms: the same, of which 95 of 100 are below.
        batch_per_s: in batches drawn from the whole archive.
        epoch_per_s: as training reads it, shuffled by groups.
        open_ms: opening the file.
        first_ms: in a new process, from opening to the first image: with all that is imported, compiled and loaded.
        pack_mb: peak memory of the process that packs, MB.
        read_mb: peak memory of the process that reads all items.
    """

    codec: str
    errors: dict[str, str] = field(default_factory=dict)
    images: int | None = None
    groups: int | None = None
    skipped: int | None = None
    bytes_per_image: float | None = None
    weight_bytes: int | None = None
    mean_psnr: float | None = None
    pack_per_s: float | None = None
    unpack_per_s: float | None = None
    read_per_s: float | None = None
    single_ms: float | None = None
    single_p95_ms: float | None = None
    batch_per_s: float | None = None
    epoch_per_s: float | None = None
    open_ms: float | None = None
    first_ms: float | None = None
    pack_mb: float | None = None
    read_mb: float | None = None


@dataclass(frozen=True)
class BenchReport:
    """What was measured.

    Attributes:
        source: the dataset; None where pictures were generated.
        images: at most so many.
        cores: that the process may run on.
        workers: threads.
        batch: images of a shuffled batch.
        rows: one for each codec.
    """

    source: str | None
    images: int
    cores: int
    workers: int
    batch: int
    rows: list[BenchRow]


def bench(source: Path | str | None, options: BenchOptions | None = None, *, progress: Progress | None = None) -> BenchReport:
    """Measure.

    Raises:
        InputError: the source cannot be read.
        CodecError: no codec could be measured. If some could, the others' rows say why not.
    """
    options = options or BenchOptions()
    with tempfile.TemporaryDirectory(prefix="batchcodec-bench-") as folder:
        path = Path(folder, "generated.npz") if source is None else Path(source)
        if source is None:
            write_npz(path, options.images, options.seed)
        else:  # what is wrong with all of it is one error, not one for each codec
            if not len(registry().format_of(path, options.format_options, options.format).read(path)):
                raise EmptyDatasetError(path, "there is no image in it")
        rows = []
        for number, codec in enumerate(options.codecs):
            archive = Path(folder, f"{number}.cpack")

            def begin(kind: str, codec: str = codec, done: int = number * len(KINDS)) -> None:
                if progress:
                    progress(f"{codec}: {kind}", done + KINDS.index(kind), len(KINDS) * len(options.codecs))

            rows.append(_row(options, path, archive, codec, begin))
            archive.unlink(missing_ok=True)
    if not any(row.images for row in rows):
        raise CodecError(f"no codec could be measured; {rows[0].codec}: {rows[0].errors['pack']}")
    threads = options.workers or cores()
    return BenchReport(None if source is None else str(source), options.images, cores(), threads, options.batch, rows)


def _row(options: BenchOptions, source: Path, archive: Path, codec: str, begin: Callable[[str], None]) -> BenchRow:
    """All measurements of one codec."""
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for kind in KINDS:
        begin(kind)
        try:
            figures = run(options.job(kind, source, archive, codec))
        except BatchcodecError as exc:
            errors[kind] = str(exc)
            if kind == "pack":
                return BenchRow(codec, errors)
            continue
        if kind in ("pack", "read"):
            figures[f"{kind}_mb"] = figures["peak_mb"]
        found |= figures
    found["bytes_per_image"] = (found["n_bytes"] - found["weight_bytes"]) / found["images"]
    if found["lossless"]:
        del found["mean_psnr"]
    known = {name.name for name in fields(BenchRow)}
    return BenchRow(codec, errors, **{name: value for name, value in found.items() if name in known})


def run(job: Job) -> dict[str, Any]:
    """The figures of a measurement that another process makes.

    Raises:
        BatchcodecError: it failed; with the message from there.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        done = subprocess.run(
            [sys.executable, "-m", "batchcodec.bench.child", str(result)],
            input=json.dumps(job.to_json()),
            env=_environment(job.workers),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not result.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise BatchcodecError(f"the process that measures ended with {done.returncode}: {last}")
        figures: dict[str, Any] = json.loads(result.read_text())
    if "error" in figures:
        raise BatchcodecError(figures["error"])
    return figures


def _environment(workers: int) -> dict[str, str]:
    """Libraries that start threads of their own are held to as many as were asked for."""
    return dict(os.environ) | ({"OMP_NUM_THREADS": str(workers)} if workers else {})
