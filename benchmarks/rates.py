"""What the other benchmarks share: real archives to points of rate and distortion, and what is computed from such points.

Every size is that of a `.cpack` file: payloads, index, names, labels and framing divided by the number of images, with the
weights in a column of their own. Every PSNR is of the pixels that the archive decodes to: the mean of the images' PSNR, and the
PSNR of all their errors together ("pooled"). Times are CPU seconds of one thread, which is what an idle machine takes: encoding
is the codec's own work in `pack`, without reading, checking and writing; decoding is reading all items from the closed archive.

    from rates import Dataset, measure
    points = [measure(dataset, f"avif:quality={q},speed=4,mosaic=true") for q in (20, 30, 40)]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from batchcodec import PackOptions, Preprocess, pack
from batchcodec.comparing import measuring
from batchcodec.comparing.curves import Point, around, bd_rate, bd_rate_of, bytes_at, curve
from batchcodec.comparing.measuring import Subject as Dataset
from batchcodec.learned.data import load_images
from batchcodec.opening import open_archive
from batchcodec.registry import registry
from batchcodec.types import Pixels

__all__ = ["Dataset", "Point", "around", "bd_rate", "bd_rate_of", "bytes_at", "curve", "measure", "search"]

RESULTS = Path(__file__).with_name("results")
FASHION_TRAIN = "fashion-mnist/train-images-idx3-ubyte.gz"
FASHION_TEST = "fashion-mnist/t10k-images-idx3-ubyte.gz"
FASHION_MODEL = Path(__file__).with_name("models") / "fashion64-hyperprior.safetensors"
FASHION_SIZE = Preprocess(size=(64, 64), resample="bicubic")
TARGETS = (30.75, 35.0)
"""dB at which bytes are compared on Fashion-MNIST; the first is the source paper's."""


def data_folder(needs: str) -> Path:
    """The folder that BATCHCODEC_DATA names, with `needs` in it; ends the program where there is none."""
    folder = os.environ.get("BATCHCODEC_DATA")
    if not folder:
        sys.exit(f"set BATCHCODEC_DATA to the folder that has {needs}; see docs/data.md")
    if not Path(folder, needs).exists():
        sys.exit(f"BATCHCODEC_DATA is {folder}, where there is no {needs}; see docs/data.md")
    return Path(folder)


def fashion(folder: Path, n_images: int | None = None, *, training: bool = False) -> Dataset:
    """Fashion-MNIST at 64x64: all test (or training) images as they are on disk, or an .npz in `folder` of the first."""
    name = FASHION_TRAIN if training else FASHION_TEST
    source = data_folder(name) / name
    images = load_images(source, FASHION_SIZE)
    if n_images is None or n_images >= len(images):
        return Dataset(source, images, FASHION_SIZE)
    return from_arrays(folder / "first.npz", images[:n_images])


def kodak(n_images: int | None = None) -> tuple[Path, list[Pixels]]:
    """The folder and its pictures, in the order of their names."""
    folder = data_folder("kodak") / "kodak"
    return folder, load_images(folder, Preprocess())[:n_images]


def from_arrays(path: Path, images: Sequence[Pixels], *, group_items: int | None = None) -> Dataset:
    """Images of one shape, written to an .npz that is packed."""
    np.savez(path, images=np.stack(images))
    return Dataset(path, images, group_items=group_items)


def measure(dataset: Dataset, text: str, model: Path | None = None, **more: Any) -> Point:
    """`batchcodec.comparing.measuring.measure` with CPU seconds, after whatever a first use does."""
    with tempfile.TemporaryDirectory() as folder, _timed_encoding(text.partition(":")[0]) as encoded:
        _warm_up(Path(folder), dataset, text, model)
        encoded.clear()
        clock = time.process_time  # some decoders use a thread of their own
        point = measuring.measure(dataset, text, model, clock=clock, **more)
        return replace(point, encode_seconds=sum(encoded))


@contextmanager
def _timed_encoding(codec: str) -> Iterator[list[float]]:
    """CPU seconds of each call of the codec's `encode`, which all run on the thread that calls it."""
    kind = registry().codec_class(codec)
    encode: Callable[..., bytes] = kind.encode
    seconds: list[float] = []

    def timed(self: Any, images: Pixels) -> bytes:
        started = time.thread_time()
        payload = encode(self, images)
        seconds.append(time.thread_time() - started)
        return payload

    with mock.patch.object(kind, "encode", timed):
        yield seconds


_warm: set[str] = set()


def _warm_up(folder: Path, dataset: Dataset, text: str, model: Path | None) -> None:
    """Compile, load and import what the first call of a codec does, outside of what is timed."""
    name = text.partition(":")[0]
    if name in _warm:
        return
    np.savez(folder / "small.npz", images=dataset.images[0][None, :64, :64])
    pack(folder / "small.npz", folder / "small.cpack", PackOptions(codec=text, model=model, workers=1))
    with open_archive(folder / "small.cpack") as archive:
        list(archive)
    _warm.add(name)


def search(pack_at: Callable[[int], Point], target: float, start: int, *, low: int = 1, high: int = 100) -> list[Point]:
    """Points at rising qualities around a mean PSNR: `pack_at` is called until the target is bracketed, closely.

    `start` is a guess; the step grows while the target is not passed, and the last gap is closed to a few qualities.
    """
    points = {start: pack_at(start)}
    side = 1 if points[start].mean_psnr < target else -1
    quality, step = start, 2
    while (points[quality].mean_psnr < target) == (side > 0):
        following = min(high, max(low, quality + side * step))
        if following == quality:
            break
        points[following] = pack_at(following)
        quality, step = following, 2 * step
    while True:  # halve the gap that holds the target
        below = [q for q, p in points.items() if p.mean_psnr <= target]
        above = [q for q, p in points.items() if p.mean_psnr > target]
        if not below or not above or min(above) - max(below) <= 4:
            return [points[q] for q in sorted(points)]
        middle = (max(below) + min(above)) // 2
        points[middle] = pack_at(middle)


# ---- output


def table(points: Sequence[Point]) -> str:
    """Aligned lines with a head."""
    lines = [
        f"{'codec':<16} {'setting':<34} {'B/image':>9} {'bpp':>7} {'dB':>7} {'pooled':>7} {'weights':>9} "
        f"{'enc ms':>8} {'dec ms':>8} {'images/s':>9}"
    ]
    lines += [line(point) for point in points]
    return "\n".join(lines)


def line(p: Point) -> str:
    """One point; milliseconds of CPU for one image, and images that are encoded per second on one core."""
    weights = f"{p.weight_bytes:,}" if p.weight_bytes else ""
    encode, decode = 1000 * p.encode_seconds / p.n_items, 1000 * p.decode_seconds / p.n_items
    return (
        f"{p.codec:<16} {p.setting:<34} {p.bytes_per_item:9.1f} {p.bits_per_pixel:7.4f} {p.mean_psnr:7.2f} "
        f"{p.pooled_psnr:7.2f} {weights:>9} {encode:8.2f} {decode:8.2f} {1000 / max(encode, 1e-9):9.1f}"
    )


def numbers(text: str) -> list[int]:
    """A list as options have it: "1,9"."""
    return [int(part) for part in text.split(",") if part]


def with_json(parser: argparse.ArgumentParser, name: str) -> None:
    """Add `--json`."""
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", help="where the figures go")


def write_json(path: Path, **content: Any) -> None:
    """Figures to a file; points become objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, default=lambda p: asdict(p) if isinstance(p, Point) else str(p)) + "\n")
    print(f"written to {path}")
