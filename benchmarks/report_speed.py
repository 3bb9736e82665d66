"""Time and memory of `report --against` beside those of `unpack`, on many small images.

    python benchmarks/report_speed.py --json benchmarks/results/report-speed.json

Generates an .npy of `--images` gray images of 64x64, packs it with each codec, and runs `unpack` to `.npz`, `unpack` to a
folder and `report --against ... --html`, each in a process of its own, one after the other, `--rounds` times; the least time of
each counts, as other work on the machine only adds to it. Processor time is that of the process with all of its threads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from memory import generate

CODECS = ["zstd", "jpeg:mosaic=true", "auto"]


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock and of the processor, and its largest resident set."""

    seconds: float
    processor_seconds: float
    peak_mb: float


def timed(*arguments: str) -> Run:
    """The command line in a process of its own, which must end well."""
    started = time.monotonic()
    command = [sys.executable, "-m", "batchcodec.cli", *arguments]
    pid = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return Run(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def best(runs: list[Run]) -> Run:
    """The least time of each kind, and the largest memory."""
    return Run(min(run.seconds for run in runs), min(run.processor_seconds for run in runs), max(run.peak_mb for run in runs))


def measure(source: Path, folder: Path, codec: str, n_images: int, rounds: int) -> dict[str, object]:
    """One codec."""
    archive, page = folder / "a.cpack", folder / "report.html"
    timed("pack", str(source), str(archive), "--codec", codec, "--force", "--quiet")
    timed("report", str(archive), "--against", str(source), "--quiet")  # kernels are compiled once for an installation
    found: dict[str, list[Run]] = {"unpack_npz": [], "unpack_folder": [], "report": []}
    for _ in range(rounds):
        for name, target in (("unpack_npz", folder / "u.npz"), ("unpack_folder", folder / "u")):
            found[name].append(timed("unpack", str(archive), str(target), "--quiet"))
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        found["report"].append(
            timed("report", str(archive), "--against", str(source), "--html", str(page), "--force", "--quiet")
        )
    runs = {name: best(of_name) for name, of_name in found.items()}
    report = runs["report"]
    return {
        "codec": codec,
        "images": n_images,
        **{name: asdict(run) for name, run in runs.items()},
        "to_npz": report.seconds / runs["unpack_npz"].seconds,
        "to_npz_processor": report.processor_seconds / runs["unpack_npz"].processor_seconds,
        "to_folder": report.seconds / runs["unpack_folder"].seconds,
        "page_bytes": page.stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--codec", action="append", help="codec text; may be repeated", default=[])
    parser.add_argument("--json", type=Path, help="write the figures here, after each codec")
    parser.add_argument("--add", action="store_true", help="keep the figures of other codecs that are there")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    if options.json and options.add:
        rows = json.loads(options.json.read_text())["rows"]
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "images.npy")
        generate(source, options.images)
        for codec in options.codec or CODECS:
            rows = [row for row in rows if row["codec"] != codec]
            row = measure(source, Path(name), codec, options.images, options.rounds)
            rows.append(row)
            shown = {key: value for key, value in row.items() if key.startswith(("to_", "page"))}
            print(codec, " ".join(f"{key} {value:,.2f}" for key, value in shown.items()), flush=True)
            for kind in ("unpack_npz", "unpack_folder", "report"):
                print(f"  {kind:<14}", row[kind], flush=True)
            if options.json:
                result = {"side": 64, "cores": os.cpu_count(), "rounds": options.rounds, "rows": rows}
                options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
