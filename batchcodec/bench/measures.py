"""The measurements themselves, each made in a process of its own by `child`.

Times are seconds of the clock on the wall. What a first use imports, compiles and loads is done before the clock starts, but
for `open`, whose `first_ms` is just that. Reading keeps no decoded groups beyond the last one, so that a small sample does not
come from the cache. It goes on until the archive is read or the time is up.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from batchcodec.archive.reader import Archive
from batchcodec.bench.job import Job
from batchcodec.opening import open_archive
from batchcodec.pack import PackOptions, PackReport, pack
from batchcodec.parallel import cores
from batchcodec.registry import registry
from batchcodec.sampling import SamplingRegistry, spread
from batchcodec.unpack import UnpackOptions, unpack

Figures = dict[str, Any]
WARM_IMAGES = 2
MAX_SINGLES = 500
N_OPENS = 9


def measure(job: Job) -> Figures:
    """The figures of one measurement, and the peak of this process's memory in MB."""
    figures = _KINDS[job.kind](job)
    return {**figures, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """The largest resident set of this process so far, in MB (10^6 bytes)."""
    try:
        # What getrusage says is at least the size that the parent had when it started this process.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError, ValueError):
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


# ---- writing


def _pack(job: Job) -> Figures:
    with TemporaryDirectory(dir=job.archive.parent) as folder:
        _packed(replace(job, images=WARM_IMAGES, archive=Path(folder, "warm.cpack")))
    started = time.perf_counter()
    report = _packed(job)
    seconds = time.perf_counter() - started
    return {
        "images": report.n_items,
        "groups": report.n_groups,
        "shapes": len(report.shapes),
        "raw_bytes": report.raw_bytes,
        "n_bytes": report.n_bytes,
        "weight_bytes": report.bytes.model,
        "mean_psnr": report.mean_psnr,
        "lossless": report.lossless,
        "skipped": len(report.skipped),
        "pack_per_s": report.n_items / seconds,
    }


def _packed(job: Job) -> PackReport:
    options = PackOptions(
        codec=job.codec,
        model=job.model,
        preprocess=job.preprocess,
        group_items=job.group_items,
        on_error="skip",
        format=job.format,
        format_options=job.format_options,
        workers=job.workers,
    )
    return pack(
        job.source, job.archive, options, plugins=SamplingRegistry(registry(), lambda n_items: spread(n_items, job.images))
    )


# ---- reading


def _unpack(job: Job) -> Figures:
    with _opened(job) as archive:
        one_shape = _one_shape(archive)
        archive.decode_group(0)
    to = "npz" if one_shape else "folder"
    with TemporaryDirectory(dir=job.archive.parent) as folder:
        started = time.perf_counter()
        report = unpack(job.archive, Path(folder, "out.npz" if one_shape else "out"), UnpackOptions(to=to, workers=job.workers))
        seconds = time.perf_counter() - started
    return {"unpack_per_s": report.n_items / seconds, "unpacked_to": to}


def _open(job: Job) -> Figures:
    started = time.perf_counter()
    with open_archive(job.archive) as archive:
        _ = archive[0]
    first = time.perf_counter() - started
    seconds = []
    for _ in range(N_OPENS):
        started = time.perf_counter()
        open_archive(job.archive).close()
        seconds.append(time.perf_counter() - started)
    return {"first_ms": 1000 * first, "open_ms": 1000 * float(np.median(seconds))}


def _read(job: Job) -> Figures:
    with _opened(job) as archive:
        archive.decode_group(0)
        rate = _rate(archive.groups(workers=job.workers or cores()), len, job.seconds)
    return {"read_per_s": rate}


def _single(job: Job) -> Figures:
    """Single items in random order, never two of one group one after the other."""
    rng = np.random.default_rng(job.seed)
    milliseconds: list[float] = []
    with _opened(job) as archive:
        if archive.n_groups > 1:
            archive.decode_group(0)
            deadline = time.perf_counter() + job.seconds
            for index in _hopping(archive, rng):
                started = time.perf_counter()
                _ = archive[index]
                ended = time.perf_counter()
                milliseconds.append(1000 * (ended - started))
                if len(milliseconds) == MAX_SINGLES or ended > deadline:
                    break
    if not milliseconds:  # all would come from the group that was decoded last
        return {"single_ms": None, "single_p95_ms": None, "singles": 0}
    middle, late = np.percentile(milliseconds, [50, 95])
    return {"single_ms": float(middle), "single_p95_ms": float(late), "singles": len(milliseconds)}


def _hopping(archive: Archive, rng: np.random.Generator) -> Iterator[int]:
    """Random indices without end, each in another group than the one before."""
    last = 0
    while True:
        order = rng.permutation(len(archive))
        for index, group in zip(order.tolist(), archive.groups_of(order).tolist(), strict=True):
            if group != last:
                last = group
                yield index


def _batch(job: Job) -> Figures:
    """Batches drawn from the whole archive."""
    rng = np.random.default_rng(job.seed)
    with _opened(job) as archive:
        size = min(job.batch, len(archive))
        archive.decode_group(0)

        def batches() -> Iterator[int]:
            while True:
                archive.read_each(rng.choice(len(archive), size, replace=False))
                yield size

        return {"batch_per_s": _rate(batches(), int, job.seconds), "batch": size}


def _epoch(job: Job) -> Figures:
    """An epoch as training reads it: groups in random order, items shuffled within a window of them."""
    from batchcodec.torch import CpackIterable

    with _opened(job) as archive:
        batch = job.batch if _one_shape(archive) else None  # images of several shapes make no batch
        stream = CpackIterable(archive, batch_size=batch, seed=job.seed, workers=job.workers)
        archive.decode_group(0)
        return {"epoch_per_s": _rate(iter(stream), lambda part: len(part[1]) if batch else 1, job.seconds)}


def _one_shape(archive: Archive) -> bool:
    return len({archive.group_head(group).spec.image for group in range(archive.n_groups)}) == 1


def _opened(job: Job) -> Archive:
    return open_archive(job.archive, cache_bytes=0, workers=job.workers)


def _rate(parts: Iterator[Any], count: Callable[[Any], int], seconds: float) -> float:
    """Images per second, until the parts end or the time is up."""
    n = 0
    started = now = time.perf_counter()
    for part in parts:
        n += count(part)
        now = time.perf_counter()
        if now - started > seconds:
            break
    return n / (now - started)


_KINDS: dict[str, Callable[[Job], Figures]] = {
    "pack": _pack,
    "unpack": _unpack,
    "open": _open,
    "read": _read,
    "single": _single,
    "batch": _batch,
    "epoch": _epoch,
}
