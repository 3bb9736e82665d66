"""Reading archives at random: opening many items, one item of a group, and whether to map the file.

    python benchmarks/reading.py
    python benchmarks/reading.py --items 100000 --codec webp:quality=80 --json reading.json

1. Archives of `--items` items of 4x4 pixels, in groups of 256, in groups of 1, and in mixed order: seconds to open one, for the
   first item by place, the next one, the first by name, and for all names; and what the process grew by, in MB.
2. `--images` pictures of 64x64, packed with each codec: milliseconds for an item at random, as the median, with nothing kept:
   whole groups (`strict=True`), and what is decoded by default.
3. Microseconds to read and checksum a payload, by position (as archives do) and through a mapping of the file.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from memory import generate

import batchcodec
from batchcodec.archive import digest
from batchcodec.archive.directory import Row
from batchcodec.archive.wire import CodecRecord, GroupHead
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.types import GroupSpec

CODECS = ["store", "zstd", "webp:quality=80", "hyperprior-1"]


def many_items(path: Path, n_items: int, per_group: int, mixed: bool) -> None:
    """An archive of tiny images with names, labels and, in part, attributes."""
    rng = np.random.default_rng(0)
    orders = (rng.permutation(n_items) if mixed else np.arange(n_items)).tolist()
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        reference = writer.add_codec(CodecRecord("store", {}, b"", True, "batchcodec"))
        for start in range(0, n_items, per_group):
            pixels = rng.integers(0, 256, (min(per_group, n_items - start), 4, 4, 1), dtype=np.uint8)
            rows = [
                Row(order, f"class{order % 100:02}/img_{order:08}.png", f"class{order % 100:02}", {} if order % 7 else {"k": 1})
                for order in orders[start : start + per_group]
            ]
            writer.add_group(GroupHead(reference, GroupSpec.of(pixels), digest.digest(pixels)), pixels.tobytes(), rows)
        writer.finish()


def opening(path: Path) -> dict[str, float]:
    """Seconds, and MB that the process grew by; to be run in a process of its own."""
    batchcodec.open(path).close()  # imports and plugins
    before = resident()
    times = {}
    started = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        times[name] = time.perf_counter() - started
        started = time.perf_counter()

    with batchcodec.open(path) as archive:
        lap("open")
        _ = archive[len(archive) // 2]
        lap("first")
        _ = archive[len(archive) // 2 + 1]
        lap("next")
        grown = resident() - before
        started = time.perf_counter()
        _ = archive["class00/img_00000000.png"]
        lap("by_name")
        _ = archive.names
        lap("names")
        return times | {"mb": grown, "mb_names": resident() - before}


def resident() -> float:
    """MB of this process in memory; its peak would be that of its parent."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def single(path: Path, strict: bool, n_reads: int) -> float:
    """Median milliseconds of an item at random, with nothing kept in memory."""
    times = []
    with batchcodec.open(path, cache_bytes=0, strict=strict) as archive:
        _ = archive[0]
        for index in np.random.default_rng(0).integers(0, len(archive), n_reads).tolist():
            started = time.perf_counter()
            _ = archive[index]
            times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def mapped(path: Path, n_bytes: int) -> tuple[float, float]:
    """Microseconds of a payload by position and through a mapping, checksum included; the file is in the page cache."""
    n = 200_000_000 // n_bytes
    path.write_bytes(os.urandom(n_bytes) * n)
    places = [i * n_bytes for i in np.random.default_rng(0).permutation(n).tolist()]
    found = []
    with path.open("rb", buffering=0) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        view = memoryview(whole)
        for _ in range(2):  # the first round warms up
            started = time.perf_counter()
            for place in places:
                xxhash.xxh3_64_intdigest(os.pread(file.fileno(), n_bytes, place))
            by_position = time.perf_counter() - started
            started = time.perf_counter()
            for place in places:
                xxhash.xxh3_64_intdigest(view[place : place + n_bytes])
            found = [by_position, time.perf_counter() - started]
        view.release()
    path.unlink()
    return 1e6 * found[0] / n, 1e6 * found[1] / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--reads", type=int, default=60)
    parser.add_argument("--codec", action="append", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(opening(options.measure)))
        return
    result: dict[str, Any] = {"items": options.items, "images": options.images, "opening": {}, "single": {}, "payload": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{options.items:,} items        open s   first    next  by name  names    MB  with names")
        for kind, per_group, mixed in (("groups of 256", 256, False), ("groups of 1", 1, False), ("mixed order", 256, True)):
            path = folder / "many.cpack"
            many_items(path, options.items, per_group, mixed)
            command = [sys.executable, __file__, "--measure", str(path)]
            row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            result["opening"][kind] = row
            seconds = "".join(f"{row[key]:8.4f}" for key in ("open", "first", "next", "by_name", "names"))
            print(f"{kind:<16} {seconds} {row['mb']:7.0f} {row['mb_names']:7.0f}")
        generate(folder / "images.npy", options.images)
        print("\none item at random, ms     whole group  by default")
        for codec in options.codec or CODECS:
            path = folder / "images.cpack"
            path.unlink(missing_ok=True)
            batchcodec.pack(folder / "images.npy", path, batchcodec.PackOptions(codec=codec))
            times = [single(path, strict, options.reads) for strict in (True, False)]
            result["single"][codec] = dict(zip(("whole", "default"), times, strict=True))
            print(f"{codec:<24} {times[0]:12.2f} {times[1]:11.2f}")
        print("\npayload, us, with checksum   by position   mapped")
        for n_bytes in (8_000, 100_000, 1_000_000):
            both = mapped(folder / "payload.bin", n_bytes)
            result["payload"][n_bytes] = both
            print(f"{n_bytes:>10,} bytes {both[0]:20.1f} {both[1]:10.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
