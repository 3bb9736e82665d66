"""The settings of `pack`, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from batchcodec import machine
from batchcodec.archive import parity
from batchcodec.dataset import FormatOptions
from batchcodec.errors import OptionError
from batchcodec.preprocess import Preprocess

MAX_WORKERS = 256
MAX_BATCH = 1 << 16
WORKER_BYTES = 256 << 20
"""Memory that a worker may come to need: a group, its decoded pixels, and what a network makes of them in between."""
DEVICES = ("auto", "cpu", "cuda")


def as_paths(options: object, *names: str) -> None:
    """Make paths of what was given as text, in settings that are being made."""
    for name in names:
        given = getattr(options, name)
        if given is not None:
            object.__setattr__(options, name, Path(given))


@dataclass(frozen=True)
class PackOptions:
    """Settings of `pack`.

    Attributes:
        codec: `name:key=value,...`, or "auto".
        model: a model file for a codec that works with one, or the name of a model; see `batchcodec.learned.shipped`.
        model_ref: the archive names its model by hash and name in place of holding it.
        fit_seconds: how long `hyperprior-1` is fitted to the dataset first; see `batchcodec.fit`.
        entropy: entropy coder of a codec that has a choice.
        bits: precision of a codec that has a choice, such as 4 or "auto:4.5"; see `autoencoder-1`.
        bits_map: a JSON file with the precision of each channel.
        preprocess: size and mode.
        group_items: images of a full group; by default about a million pixels.
        parity: part of the archive's blocks that may be lost and restored by `repair`, up to 0.25; see `archive.parity`.
        on_error: "fail" at the first item that cannot be packed, or "skip" and list such items.
        force: replace an existing target, and what an interrupted run left.
        resume: go on with what an interrupted run of the same source and options left, if it left anything.
        format: format id; by default recognised.
        format_options: how the dataset is read.
        workers: groups coded at once, and threads that read; 0 is one for each core, fewer where memory is short.
        batch: images that a reading thread takes at a time; 0 goes by how long they take. The bytes do not depend on it.
        device: where networks run: "cpu", "cuda", or "auto", which is cuda if there is one and the codec can use it.
    """

    codec: str = "auto"
    model: Path | None = None
    entropy: str | None = None
    bits: float | str | None = None
    bits_map: Path | None = None
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
    batch: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        as_paths(self, "model", "bits_map")
        if self.on_error not in ("fail", "skip"):
            raise OptionError("on-error", self.on_error, "fail or skip")
        if self.group_items is not None and not 1 <= self.group_items <= 1 << 16:
            raise OptionError("group", self.group_items, "a number of images from 1 to 65536")
        if self.parity:
            parity.plan(1, self.parity)
        if not 0 <= self.workers <= MAX_WORKERS:
            raise OptionError("workers", self.workers, f"0 (by cores and memory) to {MAX_WORKERS}")
        if not 0 <= self.batch <= MAX_BATCH:
            raise OptionError("batch", self.batch, f"0 (by itself) to {MAX_BATCH}")
        if self.device not in DEVICES:
            raise OptionError("device", self.device, "auto, cpu or cuda")

    def n_workers(self) -> int:
        """How many workers there are to be on this machine, as it is now."""
        if self.workers:
            return self.workers
        memory = machine.available_memory()
        most = MAX_WORKERS if memory is None else max(1, memory // WORKER_BYTES)
        return min(machine.cores(), most, MAX_WORKERS)
