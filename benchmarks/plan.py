"""Whether what `batchcodec plan` says comes true: plan, run the command that it recommends, and compare.

    python benchmarks/plan.py                                  # all sets, two minutes each, four with a fit
    python benchmarks/plan.py --sets eurosat kodak --minutes 1 # beside the figures of an earlier run

Each row is an archive that was really packed: its bytes, mean and pooled PSNR and time, beside the intervals that were stated
before. The sets are planned as they are; some again with a goal, and some with the learned codec alone and a fit that is asked
for, so that what is said of a fitted model is held to what comes true, too. Time is printed and not held to anything: it is
that of a machine that may have other work.

Needs BATCHCODEC_DATA.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rates import data_folder, with_json, write_json

FIT = ("--codecs", "hyperprior-1", "--fit", "40s", "--minutes", "4")
SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "eurosat": ("eurosat.tar", ()),
    "fashion-train": ("fashion-mnist/train-images-idx3-ubyte.gz", ()),
    "fashion-test": ("fashion-mnist/t10k-images-idx3-ubyte.gz", ()),
    "kodak": ("kodak", ()),
    "chest-xray": ("medical/chest-xray", ()),
    "photos": ("photos-train.tar", ()),
    "science": ("science", ()),
    "odd": ("odd", ()),
    "eurosat-35db": ("eurosat.tar", ("--min-psnr", "35")),
    "eurosat-fit": ("eurosat.tar", FIT),
    "fashion-fit": ("fashion-mnist/train-images-idx3-ubyte.gz", FIT),
    "fashion-12mb": ("fashion-mnist/train-images-idx3-ubyte.gz", ("--target-size", "12MB")),
}


def run(words: list[str]) -> dict[str, Any]:
    """What a command of batchcodec prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "batchcodec.cli", *words, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"batchcodec {shlex.join(words)}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def checked(source: Path, more: tuple[str, ...], minutes: float) -> dict[str, Any]:
    """Plan and pack one set."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "planned.cpack")
        planned = run(["plan", str(source), "--minutes", str(minutes), "--to", str(target), *more])
        if planned["command"] is None:
            raise SystemExit(f"{source}: nothing recommended: {planned['reasons']}")
        started = time.perf_counter()
        packed = run(shlex.split(planned["command"])[1:])
        seconds = time.perf_counter() - started
    stated = next(f for f in planned["forecasts"] if f["codec"] == planned["recommended"])
    actual = {"n_bytes": packed["n_bytes"], "mean_psnr": packed["mean_psnr"], "pooled_psnr": packed["pooled_psnr"]}
    return {
        "images": packed["n_items"],
        "groups": round(sum(planned["kinds"].values()), 1),
        "groups_tried": stated["n_groups"],
        "codec": planned["recommended"],
        "goal": planned["goal"],
        "plan_seconds": planned["seconds"],
        "stated": {name: stated[name] for name in (*actual, "seconds")},
        "actual": {**actual, "seconds": seconds},
        "inside": {name: _inside(stated[name], value) for name, value in actual.items()},
        "reasons": planned["reasons"],
        "notes": planned["notes"],
        "refused": planned["refused"],
        "fit": planned["fit"] and {name: value for name, value in planned["fit"].items() if name != "saved"},
        "forecasts": [
            {name: f[name] for name in ("codec", "n_bytes", "mean_psnr", "weight_bytes", "n_groups")}
            for f in planned["forecasts"]
        ],
    }


def _inside(stated: dict[str, float | None], value: float) -> bool:
    low, high = stated["low"], stated["high"]
    return (low is None or low <= value) and (high is None or value <= high)


def line(name: str, row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [f"{name:<14} {row['codec']:<38} {row['groups_tried']:>3} of {row['groups']:<6.0f}"]
    for what, unit, digits in (("n_bytes", 1000.0, 1), ("mean_psnr", 1.0, 2), ("pooled_psnr", 1.0, 2), ("seconds", 1.0, 0)):
        stated, actual = row["stated"][what], row["actual"][what]
        shown = [f"{stated[end] / unit:,.{digits}f}" if stated[end] is not None else "?" for end in ("low", "high")]
        mark = "" if what == "seconds" else " yes" if row["inside"][what] else " NO"
        cells.append(f"{' to '.join(shown):>20}: {actual / unit:,.{digits}f}{mark}")
    return "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--minutes", type=float, default=2.0)
    with_json(parser, "plan")
    args = parser.parse_args()
    rows: dict[str, Any] = json.loads(args.json.read_text())["sets"] if args.json.exists() else {}
    print("set, codec, groups tried; then of kB, mean dB, pooled dB and seconds of packing what was stated: what came true")
    for name in args.sets:
        source, more = SETS[name]
        rows[name] = checked(data_folder(source) / source, more, args.minutes)
        print(line(name, rows[name]), flush=True)
        write_json(args.json, minutes=args.minutes, sets={key: rows[key] for key in SETS if key in rows})
    n_inside = sum(ok for row in rows.values() for ok in row["inside"].values())
    print(f"{n_inside} of {sum(len(row['inside']) for row in rows.values())} figures are inside of their intervals")


if __name__ == "__main__":
    main()
