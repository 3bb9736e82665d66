"""What the measurements of `throughput.py` share: sets of images, models, and the archives that are read."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rates import FASHION_MODEL, FASHION_SIZE, FASHION_TEST, FASHION_TRAIN, data_folder, kodak

import batchcodec
from batchcodec import PackOptions, metrics, pack
from batchcodec.codec import Codec
from batchcodec.learned.data import load_images
from batchcodec.preprocess import Preprocess
from batchcodec.registry import registry
from batchcodec.types import Pixels

Figures = dict[str, Any]

SPEED = Path(__file__).parents[1] / "runs" / "speed"
SHIPPED = Path(batchcodec.__file__).parent / "models"
GROUP = 256
TARGET_DB = 33.0
"""Mean PSNR that the quality of each lossy codec is chosen for, on each set of images."""
LEARNED = "hyperprior-1:quality={q},effort=1,tune=mse"
PROFILES = ("fast", "balanced", "small")
CLASSICAL = {
    "jpeg": "jpeg:quality={q}",
    "avif-mosaic": "avif:quality={q},speed=4,mosaic=true",
    "jxl-mosaic": "jxl:quality={q},mosaic=true",
    "zstd": "zstd",
}
"""Codecs of ours by the name of a subject. Learned ones are the names of profiles."""
WINDOWS = 3
N_FITTED = 256
"""Images that qualities are chosen on."""


def model_of(profile: str, channels: int) -> Path:
    """The model of a profile, for gray or RGB images."""
    if profile == "small":
        return FASHION_MODEL if channels == 1 else SHIPPED / "photo-rgb.safetensors"
    return SPEED / f"{'gray' if channels == 1 else 'rgb'}-{profile}.safetensors"


def images_of(name: str) -> Pixels:
    """uint8 [N, 64, 64, C] of a set, for Kodak a corner of each picture; kept beside the models, as resizing takes its time."""
    kept = SPEED / "images" / f"{name}.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        if name == "eurosat":
            images = load_images(data_folder("eurosat.tar") / "eurosat.tar", Preprocess())
            order = np.random.default_rng(0).permutation(len(images))  # classes mixed, as in a data set that was shuffled
            images = [images[i] for i in order]
        elif name == "kodak":
            images = [image[-384:, :384] for image in kodak()[1]]
        else:
            file = {"fashion": FASHION_TEST, "fashion-60k": FASHION_TRAIN}[name]
            images = load_images(data_folder(file) / file, FASHION_SIZE)
        partial = kept.with_suffix(".partial.npy")
        np.save(partial, np.stack(images))
        partial.rename(kept)
    pixels: Pixels = np.load(kept, mmap_mode="r")
    return pixels


def codec_text(subject: str, quality: int) -> str:
    return CLASSICAL.get(subject, LEARNED).format(q=quality)


def codec_of(subject: str, quality: int, channels: int) -> Codec:
    """A codec ready to encode."""
    more = {} if subject in CLASSICAL else {"model": model_of(subject, channels).read_bytes()}
    return registry().make_codec(codec_text(subject, quality), **more)


def mean_psnr(images: Pixels, decoded: Pixels) -> float:
    return metrics.mean_psnr(metrics.psnr_of_mse(metrics.mse(images, decoded), 255.0))


def rate(passes: Callable[[], Iterable[int]], seconds: float) -> float:
    """Images per second in the best of `WINDOWS` windows of time: what else runs on the machine disturbs not all of them.

    Args:
        passes: gives the number of images of each part, through all images; called again and again.
        seconds: of a window.
    """
    best = 0.0
    parts = itertools.chain.from_iterable(passes() for _ in itertools.count())
    for _ in range(WINDOWS):
        n = 0
        started = time.perf_counter()
        for part in parts:
            n += part
            passed = time.perf_counter() - started
            if passed >= seconds:
                best = max(best, n / passed)
                break
    return best


def singles(read: Callable[[int], Any], indices: Iterable[int], seconds: float, most: int = 1000) -> Figures:
    """Milliseconds of single reads."""
    found: list[float] = []
    deadline = time.perf_counter() + seconds
    for index in itertools.islice(indices, most):
        started = time.perf_counter()
        read(index)
        ended = time.perf_counter()
        found.append(1000 * (ended - started))
        if ended > deadline:
            break
    middle, late = np.percentile(found, [50, 95])
    return {"single_ms": float(middle), "single_p95_ms": float(late), "singles": len(found)}


def packed(task: Figures) -> Path:
    """The archive of a set, made if it is not there yet for this model and quality."""
    images = images_of(task["set"])
    channels, subject, group = images.shape[3], task["subject"], task.get("group", GROUP)
    text = codec_text(subject, task["quality"])
    model = None if subject in CLASSICAL else model_of(subject, channels)
    weights = b"" if model is None else hashlib.sha256(model.read_bytes()).digest()
    key = hashlib.sha256(f"{text} {group}".encode() + weights).hexdigest()[:12]
    path = SPEED / "archives" / f"{task['set']}-{subject}-{group}-{key}.cpack"
    facts = path.with_suffix(".json")
    if not (path.exists() and facts.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        source = SPEED / "images" / f"{task['set']}.npy"
        report = pack(source, path, PackOptions(codec=text, model=model, group_items=group, force=True))
        content = {
            "bytes_per_image": (report.n_bytes - report.bytes.model) / report.n_items,
            "weight_bytes": report.bytes.model,
            "mean_psnr": report.mean_psnr,
        }
        facts.write_text(json.dumps(content))
    return path
