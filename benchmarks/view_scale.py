"""How fast `batchcodec view` answers for an archive of a million images, and what memory it takes.

The images are those of `scale.py`, gray and 32x32, with names in a thousand folders, which are the labels; the codec is zstd
at level 3. The server is a process of its own and is asked over its socket, one request after the other, as the page asks.
Times are medians over several requests of one kind, each for another place or word. The file is in the system's cache.

    python benchmarks/view_scale.py                    # some minutes, and 3 GB of disk
    python benchmarks/view_scale.py --images 100000
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from scale import generate

import batchcodec

PAGE, PICTURE = 64, 128
"""Items of a request, and pixels of a side of a small picture, as the page asks for them."""
LABELS = 1000


@dataclass(frozen=True)
class Result:
    """What was measured. Times in milliseconds, memory in MB, 10^6 bytes.

    Attributes:
        ready_ms: from the start of the process until it prints the address; python and imports are counted.
        page_ms: the page and its scripts, what the archive is, and names and small pictures of the first items.
        first_search_ms: a search at once, while the names are being read.
        labels_ms: the labels with their counts, after that.
        search_ms: of a part of a name, that some hundred names have.
        search_all_ms: of a part that all names have.
        pattern_ms: of a shell pattern.
        label_ms: the items of a label.
        search_again_ms: further items of a search that was made.
        names_ms: names of 64 items somewhere; parts of the directory are read for that.
        pictures_ms: small pictures of the same.
        pictures_again_ms: of places that were seen.
        peak_mb: largest resident set of the server.
        baseline_mb: largest resident set of a process that has imported the same and opened the archive.
    """

    images: int
    archive_bytes: int
    ready_ms: float
    page_ms: float
    first_search_ms: float
    labels_ms: float
    search_ms: float
    search_all_ms: float
    pattern_ms: float
    label_ms: float
    search_again_ms: float
    names_ms: float
    pictures_ms: float
    pictures_again_ms: float
    peak_mb: float
    baseline_mb: float


def make(folder: Path, n_images: int) -> Path:
    """An archive of generated images with names and labels."""
    pixels, source, target = folder / "pixels.npy", folder / "source.npz", folder / "scale.cpack"
    generate(pixels, n_images)
    each = -(-n_images // LABELS)
    labels = np.array([f"class-{i // each:03}" for i in range(n_images)])
    names = np.array([f"class-{i // each:03}/image-{i:06}.png" for i in range(n_images)])
    np.savez(source, images=np.load(pixels, mmap_mode="r"), labels=labels, names=names)
    pixels.unlink()
    batchcodec.pack(source, target, batchcodec.PackOptions(codec="zstd:level=3"))
    source.unlink()
    return target


def peak_mb(process: int) -> float:
    """Largest resident set of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1e6


class Client:
    """Asks the server over one connection.

    Args:
        url: of the page.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        self._root = parts.path

    def get(self, path: str, **parameters: Any) -> bytes:
        """The body of an answer."""
        self._connection.request("GET", f"{self._root}{path}?{urlencode(parameters)}")
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            sys.exit(f"{path} {parameters}: {answer.status} {body[:200]!r}")
        return body

    def items(self, **parameters: Any) -> dict[str, Any]:
        """Names and labels of items."""
        found: dict[str, Any] = json.loads(self.get("items", **{"count": PAGE, **parameters}))
        return found

    def pictures(self, indices: Sequence[int]) -> None:
        """Small pictures of items, which must all be there."""
        body = self.get("thumbnails", items=",".join(map(str, indices)), side=PICTURE)
        (n_head,) = struct.unpack_from("<I", body)
        heads = json.loads(body[4 : 4 + n_head])
        if len(heads) != len(indices) or any(head["error"] or not head["bytes"] for head in heads):
            sys.exit(f"pictures of {indices[:3]}... are missing")


def timed(calls: Sequence[Any]) -> float:
    """Median time of some calls, in milliseconds."""
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def expect(found: dict[str, Any], total: int) -> None:
    """A search that finds something else ends the program: its time would mean nothing."""
    if found["total"] != total:
        sys.exit(f"{found['total']} items where {total} were expected: {found['items'][:2]}")


def started(archive: Path) -> tuple[subprocess.Popen[str], str]:
    """A server and the address that it printed."""
    command = [sys.executable, "-m", "batchcodec.cli", "view", str(archive), "--no-open", "--json", "--idle", "10m"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    printed = ""
    while process.stdout and (line := process.stdout.readline()):
        printed += line
        if line.startswith("}"):
            url: str = json.loads(printed)["url"]
            return process, url
    sys.exit("the server did not start")


def baseline(archive: Path) -> float:
    """Largest resident set of a process that opens the archive and reads an item."""
    code = (
        "import sys, batchcodec, batchcodec.view.server\n"
        "with batchcodec.open(sys.argv[1]) as archive:\n    archive[0]\n    print(open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(archive)], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1]) / 1e6


def measure(archive: Path, n_images: int) -> Result:
    """All figures of one archive."""
    begin = time.perf_counter()
    process, url = started(archive)
    ready = 1000 * (time.perf_counter() - begin)
    try:
        client = Client(url)

        def first_page() -> None:
            for name in ("", "theme.css", "view.css", "view.js", "grid.js", "detail.js", "server.js", "archive"):
                client.get(name)
            client.pictures([item["index"] for item in client.items()["items"]])

        page = timed([first_page])
        hundred = n_images // 100 * 100 - 100  # the last full hundred: 100 names have its leading digits
        word = f"image-{hundred:06}"[:-2]
        first = timed([lambda: expect(client.items(name=word), 100)])
        labels = timed([lambda: client.get("labels")])
        words = [f"image-{hundred - 100 * k:06}"[:-2] for k in range(1, 6)]
        search = timed([lambda word=word: expect(client.items(name=word), 100) for word in words])
        alike = ("image", ".png", "class-", "png", "ima")
        search_all = timed([lambda word=word: expect(client.items(name=word), n_images) for word in alike])
        again = timed([lambda k=k: client.items(name="png", **{"from": k * n_images // 7}) for k in range(1, 6)])
        patterns = [f"class-00{k}/*0.png" for k in range(5)]
        pattern = timed([lambda p=p: expect(client.items(name=p), -(-n_images // LABELS) // 10) for p in patterns])
        label = timed(
            [lambda k=k: expect(client.items(label=f"class-{k:03}"), n_images // LABELS) for k in range(1, LABELS, 200)]
        )
        places = [n_images // 2 + 5_077 * k for k in range(5)]
        names = timed([lambda p=p: client.items(**{"from": p}) for p in places])
        pictures = timed([lambda p=p: client.pictures(range(p, p + PAGE)) for p in places])
        pictures_again = timed([lambda p=p: client.pictures(range(p, p + PAGE)) for p in places])
        peak = peak_mb(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    if code != 130:
        sys.exit(f"the server ended with {code}")
    return Result(
        images=n_images,
        archive_bytes=archive.stat().st_size,
        ready_ms=ready,
        page_ms=page,
        first_search_ms=first,
        labels_ms=labels,
        search_ms=search,
        search_all_ms=search_all,
        pattern_ms=pattern,
        label_ms=label,
        search_again_ms=again,
        names_ms=names,
        pictures_ms=pictures,
        pictures_again_ms=pictures_again,
        peak_mb=peak,
        baseline_mb=baseline(archive),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000, help="number of images, a multiple of 10,000")
    parser.add_argument("--folder", type=Path, help="keep the archive there, or take it from there")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("results") / "view-scale.json")
    options = parser.parse_args()
    if options.images % 10_000 or options.images < 50_000:
        parser.error("--images must be a multiple of 10,000, from 50,000")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder / "scale.cpack"
        if not archive.exists():
            make(folder, options.images)
        result = measure(archive, options.images)
    for name, value in asdict(result).items():
        print(f"{name:<18} {value:>14,.1f}" if isinstance(value, float) else f"{name:<18} {value:>14,}")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": machine, **asdict(result)}, indent=1) + "\n")
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
