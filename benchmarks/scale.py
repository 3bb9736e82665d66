"""Whether cost and memory stay flat: 10,000, 100,000 and 1,000,000 images, each packed by a process of its own.

The images are generated, gray and 32x32, in one .npy for each number. A process packs a few first, so that what happens once
(imports, compiling, the model) is not counted, then all of them, and tells its time and its largest resident set. Another one
opens the archive and reads an item from the middle, with the file in the system's cache.

Ratios are to the smallest number of images. Flat is 1.0; `--most` (1.1) is what may be, and ends the program with 1 beyond.

    python benchmarks/scale.py                                      # zstd and hyperprior-1: ten minutes on two cores
    python benchmarks/scale.py --codec store --images 10000,1000000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

SIDE = 32
MIDDLE = 500_000
"""The item that is read, or the one in the middle of fewer."""
CODECS = {"zstd:level=3": 1_000_000, "hyperprior-1": 1_000_000}
"""What is measured by default, up to how many images."""


@dataclass(frozen=True)
class Row:
    """One archive. Times in seconds unless the name says another unit; memory in MB, 10^6 bytes.

    Attributes:
        microseconds: of packing one image, by the clock.
        cpu_microseconds: of all threads, for one image.
        peak_mb: largest resident set of the process that packed.
        overhead_bytes: of one image: directory, index and framing.
        open_seconds: to have the archive open.
        item_seconds: to read an item from the middle after that.
        open_peak_mb: largest resident set of the process that did these.
    """

    codec: str
    images: int
    microseconds: float
    cpu_microseconds: float
    peak_mb: float
    overhead_bytes: float
    archive_bytes: int
    open_seconds: float
    item_seconds: float
    open_peak_mb: float


def generate(path: Path, n_images: int) -> None:
    """Smooth random pictures with a little noise, written piece by piece."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, SIDE)
    y, x = ramp[:, None], ramp[None, :]
    header = {"descr": "|u1", "fortran_order": False, "shape": (n_images, SIDE, SIDE)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n_images, 1000):
            n = min(1000, n_images - start)
            corners = rng.uniform(0, 200, (n, 3, 1, 1))
            smooth = corners[:, 0] * (1 - y) * (1 - x) + corners[:, 1] * y * (1 - x) + corners[:, 2] * x
            file.write((smooth + rng.uniform(0, 20, (n, SIDE, SIDE))).astype(np.uint8).tobytes())


def peak_mb() -> float:
    """Largest resident set of this process; `getrusage` would count that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1e6


def pack_here(source: Path, target: Path, codec: str, workers: int) -> None:
    """Pack in this process and print the figures as JSON."""
    import batchcodec

    few = target.with_name("few.npy")
    np.save(few, np.load(source, mmap_mode="r")[:64])
    options = batchcodec.PackOptions(codec=codec, workers=workers, force=True)
    batchcodec.pack(few, target.with_name("few.cpack"), options)
    started, cpu = time.perf_counter(), time.process_time()
    report = batchcodec.pack(source, target, options)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    figures = {
        "microseconds": 1e6 * seconds / report.n_items,
        "cpu_microseconds": 1e6 * cpu / report.n_items,
        "peak_mb": peak_mb(),
        "overhead_bytes": report.bytes.overhead / report.n_items,
        "archive_bytes": report.n_bytes,
    }
    print(json.dumps(figures))


def open_here(target: Path) -> None:
    """Open an archive, read an item, and print the figures as JSON."""
    import batchcodec

    with batchcodec.open(target.with_name("few.cpack")) as archive:
        archive[0]
    started = time.perf_counter()
    with batchcodec.open(target) as archive:
        opened = time.perf_counter()
        archive[min(MIDDLE, len(archive) // 2)]
        read = time.perf_counter()
    print(json.dumps({"open_seconds": opened - started, "item_seconds": read - opened, "open_peak_mb": peak_mb()}))


def child(*arguments: object) -> dict[str, float]:
    """What this program prints when it is run with these arguments."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(folder: Path, codec: str, n_images: int, workers: int) -> Row:
    """One row."""
    source, target = folder / f"{n_images}.npy", folder / "out.cpack"
    if not source.exists():
        generate(source, n_images)
    packed = child("--pack", source, target, codec, workers)
    opened = child("--open", target)
    return Row(codec=codec, images=n_images, **packed, **opened)  # type: ignore[arg-type]


def line(row: Row, first: Row) -> str:
    """One row as text."""
    return (
        f"{row.codec:<16} {row.images:>9,} {row.microseconds:8.1f} {row.cpu_microseconds:8.1f} {row.peak_mb:8.1f} "
        f"{row.overhead_bytes:9.3f} {1000 * row.open_seconds:8.1f} {1000 * row.item_seconds:8.1f} {row.open_peak_mb:8.1f}   "
        f"cost x {row.cpu_microseconds / first.cpu_microseconds:.2f}, memory x {row.peak_mb / first.peak_mb:.2f}"
    )


def numbers(text: str) -> list[int]:
    """`10000,100000`."""
    return sorted(int(part) for part in text.split(",") if part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", action="append", default=[], help="codec text; may be repeated")
    parser.add_argument("--images", type=numbers, default=None, help="numbers of images, such as 10000,1000000")
    parser.add_argument("--workers", type=int, default=0, help="as of `pack`; 0 is one for each core")
    parser.add_argument("--most", type=float, default=1.1, help="ratio of cost and of memory that may be")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("results") / "scale.json")
    parser.add_argument("--pack", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--open", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pack:
        source, target, codec, workers = options.pack
        pack_here(Path(source), Path(target), codec, int(workers))
        return
    if options.open:
        open_here(Path(options.open))
        return
    jobs = [
        (codec, n_images)
        for codec in options.codec or CODECS
        for n_images in options.images or (10_000, 100_000, 1_000_000)
        if options.images or options.codec or n_images <= CODECS[codec]
    ]
    rows: list[Row] = []
    beyond = False
    print(
        f"{'codec':<16} {'images':>9} {'us/image':>8} {'CPU us':>8} {'peak MB':>8} {'overhead':>9} {'open ms':>8} "
        f"{'item ms':>8} {'peak MB':>8}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for codec, n_images in jobs:
            row = measure(Path(folder), codec, n_images, options.workers)
            rows.append(row)
            first = next(r for r in rows if r.codec == codec)
            beyond |= max(row.cpu_microseconds / first.cpu_microseconds, row.peak_mb / first.peak_mb) > options.most
            print(line(row, first), flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print(f"written to {options.json}")
    if beyond:
        sys.exit(f"cost or memory grew by more than {options.most:.2f} times")


if __name__ == "__main__":
    main()
