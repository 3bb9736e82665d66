"""The measurements of `throughput.py`, a process for each: `python benchmarks/timing.py TASK RESULT`, both files of JSON.

A task is an object: `kind`, one of `KINDS`; `cores`, how many the process may use; what else the kind wants. Rates are images
per second of the clock on the wall. What a first use imports, compiles or loads comes before the clock starts. Each rate is
taken over `seconds`, again and again through the same images where they are too few: the best of three such times.
"""

from __future__ import annotations

import io
import json
import mmap
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from peers import decode_pillow, decode_simplejpeg, encode_jpeg, load
from PIL import Image
from rates import kodak
from speed_sets import GROUP, N_FITTED, TARGET_DB, WINDOWS, Figures, codec_of, images_of, mean_psnr, rate
from timing_formats import archive, peer, stages

from batchcodec import machine, metrics
from batchcodec.bench.measures import peak_mb
from batchcodec.parallel import in_order
from batchcodec.types import GroupSpec, ImageSpec, Pixels

# ---- qualities


def quality(task: Figures) -> Figures:
    """The quality of a subject whose mean PSNR on a part of a set is next to the target."""
    images = images_of(task["set"])
    part = np.ascontiguousarray(images[:: max(1, len(images) // N_FITTED)][:N_FITTED])
    spec = GroupSpec.of(part)

    def psnr(q: int) -> float:
        if task["subject"] == "jpeg":
            return mean_psnr(part, np.stack([decode_pillow(encode_jpeg(image, q)) for image in part]))
        if task["subject"] == "pillow-avif":
            return mean_psnr(part, np.stack([decode_pillow(encode_avif(image, q)) for image in part]))
        if task["subject"] == "zarr-avif":
            avif = load("imagecodecs.numcodecs").Avif(level=q, speed=4)
            mosaic = part.reshape(-1, *part.shape[2:])
            mosaic = np.repeat(mosaic, 3, axis=2) if mosaic.shape[2] == 1 else mosaic
            back = avif.decode(avif.encode(mosaic))[..., : part.shape[3]]
            return mean_psnr(part, back.reshape(part.shape))
        codec = codec_of(task["subject"], q, part.shape[3])
        return mean_psnr(part, codec.decode(codec.encode(part), spec))

    low, high = 1, 100
    found = {}
    while low <= high:
        middle = (low + high) // 2
        found[middle] = psnr(middle)
        low, high = (middle + 1, high) if found[middle] < TARGET_DB else (low, middle - 1)
    best = min(found, key=lambda q: abs(found[q] - TARGET_DB))
    return {"quality": best, "mean_psnr": found[best]}


# ---- the codecs alone, in memory


def codec(task: Figures) -> Figures:
    """Encoding and decoding of groups of 256 in memory, groups side by side on as many threads as there are cores."""
    images, cores, seconds = images_of(task["set"]), task["cores"], task["seconds"]
    subject = codec_of(task["subject"], task["quality"], images.shape[3])
    groups = [np.ascontiguousarray(images[i : i + GROUP]) for i in range(0, len(images) - GROUP + 1, GROUP)]
    spec = GroupSpec.of(groups[0])
    subject.decode(subject.encode(groups[0][:2]), GroupSpec(2, spec.image))
    payloads: list[bytes] = []

    def encode(group: Pixels) -> bytes:
        return subject.encode(group)

    def encoded() -> Iterator[int]:
        for payload in in_order(encode, groups, workers=cores):
            if len(payloads) < len(groups):
                payloads.append(payload)
            yield GROUP

    encode_rate = rate(encoded, seconds)
    while len(payloads) < min(len(groups), 2 * cores + 2):
        payloads.append(subject.encode(groups[len(payloads)]))
    decoder = type(subject).restore(subject.get_config(), subject.get_model())
    decoder.decode(payloads[0], spec)
    decode: Callable[[bytes], int] = lambda payload: len(decoder.decode(payload, spec))  # noqa: E731
    many = payloads * -(-len(groups) // len(payloads))  # starting threads anew must not weigh
    result = {"encode_per_s": encode_rate, "decode_per_s": rate(lambda: in_order(decode, many, workers=cores), seconds)}
    back = np.concatenate([decoder.decode(payload, spec) for payload in payloads[:4]])
    return result | {
        "bytes_per_image": sum(map(len, payloads)) / GROUP / len(payloads),
        "weight_bytes": len(subject.get_model()),
        "mean_psnr": mean_psnr(np.concatenate(groups[:4])[: len(back)], back),
    }


def jpeg_loop(task: Figures) -> Figures:
    """A loop of Pillow over JPEG files in memory: on threads, and in processes that share the memory for the pixels."""
    images, cores, seconds, q = images_of(task["set"]), task["cores"], task["seconds"], task["quality"]
    images = np.array(images[: len(images) // GROUP * GROUP])
    decode = decode_simplejpeg if task["subject"] == "simplejpeg" else decode_pillow
    files = [encode_jpeg(image, q) for image in images]
    out = np.frombuffer(mmap.mmap(-1, images.nbytes), np.uint8).reshape(images.shape)  # shared with children
    starts = range(0, len(images), GROUP)

    def encode_part(start: int) -> int:
        return len([encode_jpeg(image, q) for image in images[start : start + GROUP]])

    def decode_part(start: int) -> int:
        for i in range(start, start + GROUP):
            out[i] = decode(files[i])
        return GROUP

    found: Figures = {
        "bytes_per_image": sum(map(len, files)) / len(files),
        "mean_psnr": mean_psnr(images[:1024], np.stack([decode(file) for file in files[:1024]])),
    }
    for name, work in (("encode", encode_part), ("decode", decode_part)):
        for start in starts[:4]:
            work(start)
        threads = rate(partial(in_order, work, starts, workers=cores if cores > 1 else 0), seconds)
        found[f"{name}_per_s"] = found[f"{name}_threads_per_s"] = threads
        if cores > 1:
            found[f"{name}_processes_per_s"] = in_processes(work, starts, cores, seconds)
            found[f"{name}_per_s"] = max(threads, found[f"{name}_processes_per_s"])
    return found


_work: Callable[[int], int]


def _call(start: int) -> int:
    return _work(start)


def in_processes(work: Callable[[int], int], starts: Sequence[int], cores: int, seconds: float) -> float:
    """The rate of work that forked processes do."""
    global _work
    _work = work  # children inherit it
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        pool.map(_call, starts[: 2 * cores], chunksize=1)
        return rate(lambda: pool.map(_call, starts, chunksize=4), seconds)


# ---- large pictures


def photos(task: Figures) -> Figures:
    """Kodak, one picture after the other: milliseconds to encode and decode one, the best of three runs of each, mean."""
    images = kodak()[1][: task.get("images")]
    encode, decode = _photo_coder(task["subject"], task["quality"])
    files = [encode(image) for image in images]
    specs = [GroupSpec(1, ImageSpec.of(image)) for image in images]
    decoded = [decode(file, spec) for file, spec in zip(files, specs, strict=True)]
    times = np.array([[_seconds(decode, file, spec) for file, spec in zip(files, specs, strict=True)] for _ in range(WINDOWS)])
    error = [metrics.mse(image[None], back[None])[0] for image, back in zip(images, decoded, strict=True)]
    return {
        "decode_ms": 1000 * float(times.min(0).mean()),
        "encode_ms": 1000 * float(np.mean([min(_seconds(encode, image) for _ in range(2)) for image in images[:8]])),
        "bytes_per_image": float(np.mean([len(file) for file in files])),
        "mean_psnr": metrics.mean_psnr(metrics.psnr_of_mse(np.array(error), 255.0)),
    }


def _photo_coder(subject: str, q: int) -> tuple[Callable[[Pixels], bytes], Callable[[bytes, GroupSpec], Pixels]]:
    """How a subject codes and decodes one picture."""
    if subject.startswith("pillow-"):
        encode = encode_avif if subject == "pillow-avif" else encode_jpeg
        return lambda image: encode(image, q), lambda data, _: decode_pillow(data)
    codec = codec_of(subject, q, 3)
    return lambda image: codec.encode(image[None]), lambda data, spec: codec.decode(data, spec)[0]


def in_turn(task: Figures) -> Figures:
    """Kodak, each picture decoded by several subjects in turn: milliseconds for one, the best of three runs, mean.

    On a machine whose speed changes they have the same moments.
    """
    images = kodak()[1][: task.get("images")]
    specs = [GroupSpec(1, ImageSpec.of(image)) for image in images]
    coders = {subject: _photo_coder(subject, task["qualities"][subject]) for subject in task["subjects"]}
    files = {subject: [encode(image) for image in images] for subject, (encode, _) in coders.items()}
    times: dict[str, list[float]] = {subject: [] for subject in coders}
    for place, spec in enumerate(specs):
        runs = [[_seconds(coders[s][1], files[s][place], spec) for s in coders] for _ in range(1 + WINDOWS)]
        for subject, best in zip(coders, np.min(runs[1:], 0), strict=True):  # the first run warms up
            times[subject].append(float(best))
    return {f"{subject}_ms": 1000 * float(np.mean(found)) for subject, found in times.items()}


def encode_avif(image: Pixels, quality: int) -> bytes:
    """uint8 [H, W, 3] to an AVIF file, at Pillow's own speed and subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "AVIF", quality=quality)
    return buffer.getvalue()


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def compressai(task: Figures) -> Figures:
    """CompressAI's bmshj2018-factorized (N 128, M 192) with untrained weights: for its time only, its bytes mean nothing."""
    import torch

    torch.set_num_threads(task["cores"])
    torch.manual_seed(0)
    network = load("compressai.models").FactorizedPrior(128, 192).eval()
    network.update(force=True)
    if task["set"] == "kodak":
        batches = [image[None] for image in kodak()[1][:4]]
    else:
        images = images_of(task["set"])
        batches = [np.array(images[i : i + 64]) for i in (0, 64, 128)]
    times = []
    with torch.no_grad():
        for batch in batches:
            x = torch.from_numpy(batch.copy()).permute(0, 3, 1, 2).float() / 255
            coded = network.compress(x)
            runs = [
                (_seconds(network.compress, x), _seconds(network.decompress, coded["strings"], coded["shape"]))
                for _ in range(2)
            ]
            times.append(np.min(runs, axis=0))
    encode, decode = np.mean(times, axis=0) / len(batches[0])
    return {
        "encode_ms": 1000 * float(encode),
        "decode_ms": 1000 * float(decode),
        "encode_per_s": 1 / float(encode),
        "decode_per_s": 1 / float(decode),
        "version": load("compressai").__version__,
    }


KINDS: dict[str, Callable[[Figures], Figures]] = {
    "quality": quality,
    "codec": codec,
    "jpeg_loop": jpeg_loop,
    "archive": archive,
    "peer": peer,
    "stages": stages,
    "photos": photos,
    "in_turn": in_turn,
    "compressai": compressai,
}


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    import torch

    torch.set_num_threads(task["cores"])
    machine.reuse_freed_memory()  # as packing and archives do; else chance decides whether a codec alone gets cleared pages
    try:
        found = KINDS[task["kind"]](task)
    except ImportError as exc:
        found = {"missing": str(exc)}
    Path(sys.argv[2]).write_text(json.dumps({**found, "peak_mb": peak_mb()}))
    os._exit(0)  # some libraries leave threads that do not end


if __name__ == "__main__":
    main()
