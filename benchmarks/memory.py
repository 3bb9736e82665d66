"""Peak memory of packing a large array, beside a bare interpreter with torch loaded.

Generates an .npy of `--images` gray images of 64x64 (819 MB for 200,000), packs it once with each codec in a process of its
own, and prints the largest resident set of that process, as `/usr/bin/time -v` gives it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE = 64


def generate(path: Path, n_images: int) -> None:
    """Smooth random pictures, written piece by piece."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n_images, SIDE, SIDE))
    ramp = np.linspace(0, 1, SIDE)
    for start in range(0, n_images, 1000):
        n = min(1000, n_images - start)
        corners = rng.uniform(0, 200, (n, 4, 1, 1))
        y, x = ramp[:, None], ramp[None, :]
        smooth = corners[:, 0] * (1 - y) * (1 - x) + corners[:, 1] * y * (1 - x) + corners[:, 2] * (1 - y) * x
        array[start : start + n] = smooth + corners[:, 3] * y * x + rng.uniform(0, 40, (n, SIDE, SIDE))
    array.flush()


def peak(*command: str) -> tuple[float, float]:
    """(largest resident set in MB, seconds) of a process that must end well."""
    started = time.monotonic()
    pid = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1000, time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--codec", action="append", help="codec text; may be repeated", default=[])
    parser.add_argument("--model", type=Path, help="also pack with autoencoder-1 and this model (64x64 gray)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    tool = str(Path(sys.executable).with_name("batchcodec"))
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "images.npy"), Path(folder, "out.cpack")
        generate(source, options.images)
        base, _ = peak(sys.executable, "-c", "import torch")
        print(f"source {source.stat().st_size / 1e6:.0f} MB; interpreter with torch loaded: {base:.0f} MB")
        jobs = [["--codec", codec] for codec in options.codec or ["zstd:level=3", "jpeg:mosaic=true", "auto"]]
        if options.model:
            jobs.append(["--codec", "autoencoder-1", "--model", str(options.model)])
        for job in jobs:
            megabytes, seconds = peak(tool, "pack", str(source), str(target), "--force", "--quiet", *job)
            print(
                f"{job[1]:<24} peak {megabytes:6.0f} MB, {megabytes - base:+6.0f} MB beside torch; "
                f"{options.images / seconds:,.0f} images/s, {target.stat().st_size / options.images:.1f} bytes per image",
                flush=True,
            )
            rows.append({"codec": job[1], "peak_mb": megabytes, "beside_torch_mb": megabytes - base, "images": options.images})
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"interpreter_with_torch_mb": base, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
