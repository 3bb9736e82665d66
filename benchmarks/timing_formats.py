"""Measurements of whole formats: our archives, and those of `peers`."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from peers import PEERS, Peer, Stream, load
from speed_report import UNPACKED_TO
from speed_sets import (
    CLASSICAL,
    GROUP,
    N_FITTED,
    SPEED,
    Figures,
    codec_text,
    images_of,
    mean_psnr,
    model_of,
    packed,
    rate,
    singles,
)

import batchcodec
from batchcodec import PackOptions, pack
from batchcodec.archive import digest
from batchcodec.archive.blocks import BlockFile
from batchcodec.entropy import values
from batchcodec.learned.hyperprior.codec import HyperpriorCodec
from batchcodec.selection import Selection
from batchcodec.types import Pixels
from batchcodec.unpack import UnpackOptions, _Promised, unpack


def archive(task: Figures) -> Figures:
    """Our own archives: packed as a whole, and read through the public API."""
    from batchcodec.torch import CpackIterable

    images, cores, seconds = images_of(task["set"]), task["cores"], task["seconds"]
    path = packed(task)
    found: Figures = json.loads(path.with_suffix(".json").read_text())
    if task.get("pack", True):
        found["write_per_s"] = _pack_rate(task, images[: task.get("pack_images", len(images))])
    with batchcodec.open(path, cache_bytes=0, workers=cores) as opened:
        found["groups"] = opened.n_groups
        opened.decode_group(0)
        found["read_per_s"] = rate(lambda: map(len, opened.groups(workers=cores)), seconds)
        for name, shuffle in (("sequential_per_s", False), ("epoch_per_s", True)):
            stream = CpackIterable(opened, batch_size=GROUP, shuffle=shuffle, seed=1, workers=cores)
            found[name] = rate(partial(map, lambda batch: len(batch[0]), stream), seconds)
        rng = np.random.default_rng(0)
        drawn = itertools.count()  # batches do not end
        found["batch_per_s"] = rate(
            lambda: (len(opened.read(rng.choice(len(opened), GROUP, replace=False))) for _ in drawn), seconds
        )
        found |= singles(lambda i: opened[i], hopping(opened, rng), seconds)
    return found


def _pack_rate(task: Figures, images: Pixels) -> float:
    """Images per second of `pack` as a whole, from an array file."""
    subject = task["subject"]
    options = PackOptions(
        codec=codec_text(subject, task["quality"]),
        model=None if subject in CLASSICAL else model_of(subject, images.shape[3]),
        group_items=GROUP,
        workers=task["cores"],
        force=True,
    )
    with tempfile.TemporaryDirectory(dir=SPEED) as folder:
        for name, part in (("warm", images[:2]), ("all", images)):
            np.save(Path(folder, f"{name}.npy"), part)
        pack(Path(folder, "warm.npy"), Path(folder, "warm.cpack"), options)
        started = time.perf_counter()
        report = pack(Path(folder, "all.npy"), Path(folder, "all.cpack"), options)
        return report.n_items / (time.perf_counter() - started)


def hopping(opened: batchcodec.Archive, rng: np.random.Generator) -> Iterator[int]:
    """Random indices, none in the group of the one before, whose pixels are still there."""
    last = 0
    while True:
        order = rng.permutation(len(opened))
        for index, group in zip(order.tolist(), opened.groups_of(order).tolist(), strict=True):
            if group != last:
                last = group
                yield index


STAGES = {
    "entropy decoding": (values.Decoder, "take"),
    "reading": (BlockFile, "body"),
    "digest": (digest, "check"),
    "networks": (HyperpriorCodec, "decode"),
}
"""What stages are told by: called some times for each group, so a clock around them costs nothing."""


def stages(task: Figures) -> Figures:
    """Where the processor's time of `unpack` goes, on one thread, in parts of 1: to arrays, and to PNG files.

    Writing is all that is not asking for the next item: the format, the system's part of it, and to open and to end.
    """
    path = packed(task)
    found: Figures = {}
    for to in UNPACKED_TO:
        runs = []
        for repeat in range(4):
            with tempfile.TemporaryDirectory(dir=SPEED) as folder:
                some = Selection() if repeat else Selection(ranges=("0",))  # the first time loads what is needed
                options = UnpackOptions(to=to, workers=1, selection=some)
                runs.append(_stages_of(partial(unpack, path, Path(folder, "out"), options)))
        seconds = min(runs[1:], key=lambda run: run["all"])
        found[f"{to}_per_s"] = len(images_of(task["set"])) / seconds["all"]
        found[to] = {name: spent / seconds["all"] for name, spent in seconds.items() if name != "all"}
    return found


def _stages_of(run: Callable[[], object]) -> dict[str, float]:
    """Seconds of a thread by stage, and of the whole process."""
    spent: dict[str, float] = defaultdict(float)
    clock = time.thread_time

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = clock()
            result = function(*args, **kwargs)
            spent[name] += clock() - started
            return result

        return timed

    def stacks(promised: Any) -> Iterator[Any]:
        following = clocked("items", promised._found.__next__)
        with contextlib.suppress(StopIteration):
            while True:
                yield following()

    def items(promised: Any) -> Iterator[Any]:
        for stack in stacks(promised):
            yield from stack.items

    with contextlib.ExitStack() as stack:
        for name, (place, function) in STAGES.items():
            stack.enter_context(mock.patch.object(place, function, clocked(name, getattr(place, function))))
        stack.enter_context(mock.patch.object(_Promised, "__iter__", items))
        stack.enter_context(mock.patch.object(_Promised, "stacks", stacks))
        started = time.process_time()
        run()
        spent["all"] = time.process_time() - started
    whole, asked = spent["all"], spent["items"]
    spent["networks"] -= spent["entropy decoding"]
    seconds = {name: spent[name] for name in STAGES}
    return {**seconds, "writing": whole - asked, "the rest": asked - sum(seconds.values()), "all": whole}


def peer(task: Figures) -> Figures:
    """Another library's format: written by one process, read by as many as there are cores."""
    images, cores, seconds = np.array(images_of(task["set"])), task["cores"], task["seconds"]
    subject = PEERS[task["subject"]]
    if subject.module:
        load(subject.module)
    folder = SPEED / "peers" / f"{task['set']}-{task['subject']}-{task['quality']}"
    found: Figures = {}
    if task["cores"] == 1 or not folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started = time.perf_counter()
        subject.write(folder, images, task["quality"])
        found["write_per_s"] = len(images) / (time.perf_counter() - started)
    found["bytes_per_image"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / len(images)
    rng = np.random.default_rng(0)
    items = subject.items and subject.items(folder)
    if items is not None:
        found["mean_psnr"] = mean_psnr(images[:N_FITTED], np.stack([items[i] for i in range(N_FITTED)]))
        found |= singles(items.__getitem__, rng.permutation(len(items)).tolist(), seconds / 2)
    else:
        part = next(batches_of(stream_of(subject)(folder, 0, 1, False)))[:N_FITTED]
        found["mean_psnr"] = mean_psnr(images[: len(part)], part)
    found["read_per_s"] = passes(subject, folder, cores, seconds, shuffle=False)
    if items is not None:
        found["batch_per_s"] = passes(subject, folder, cores, seconds, shuffle=True)
    elif not subject.parallel:  # else there is no order but one
        found["epoch_per_s"] = passes(subject, folder, cores, seconds, shuffle=True)
    return found


def stream_of(subject: Peer) -> Stream:
    if subject.stream is None:
        raise RuntimeError(f"{subject.title} has neither items nor a stream")
    return subject.stream


def batches_of(found: Iterable[Pixels]) -> Iterator[Pixels]:
    """Items in batches of 256; what are batches already goes through."""
    waiting: list[Pixels] = []
    for pixels in found:
        if pixels.ndim == 4:
            yield np.ascontiguousarray(pixels)
            continue
        waiting.append(pixels)
        if len(waiting) == GROUP:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def passes(subject: Peer, folder: Path, cores: int, seconds: float, *, shuffle: bool) -> float:
    """Images per second in batches of 256, over passes through all of them."""
    rng = np.random.default_rng(0)

    def batches() -> Iterator[int]:
        yield from map(len, _loader(subject, folder, cores, shuffle, int(rng.integers(1 << 31))))

    for _ in batches():  # files are in the system's cache
        pass
    return rate(batches, seconds)


def _loader(subject: Peer, folder: Path, cores: int, shuffle: bool, seed: int) -> Iterable[Any]:
    """Batches [256, H, W, C], by the processes of a `DataLoader` where there are several cores."""
    import torch
    from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

    workers = cores if cores > 1 and not subject.parallel else 0

    class Streamed(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            info = get_worker_info()
            part, n_parts = (info.id, info.num_workers) if info else (0, 1)
            return map(torch.from_numpy, batches_of(stream_of(subject)(folder, part, n_parts, shuffle)))

    if subject.items is None:
        return DataLoader(Streamed(), batch_size=None, num_workers=workers)
    items = subject.items(folder)

    class Stored(Dataset[Any]):
        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, index: int) -> Any:
            return items[index]

    return DataLoader(
        Stored(),
        batch_size=GROUP,
        shuffle=shuffle,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=lambda images: torch.from_numpy(np.stack(images)),
        multiprocessing_context="fork" if workers else None,
    )
