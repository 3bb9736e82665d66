"""How fast archives are written and read, beside JPEG, arrays and other libraries' formats, on the same images in one run.

    python benchmarks/throughput.py                        # all of it: half an hour on two cores
    python benchmarks/throughput.py --only 'fast|jpeg_loop'  # what matches; the rest stays as an earlier run left it
    python benchmarks/throughput.py --missing              # go on with a run that was interrupted
    python benchmarks/throughput.py --show                 # the tables of the JSON again, nothing measured
    python benchmarks/throughput.py --list                 # names of all measurements

Sets: the 10,000 test images of Fashion-MNIST at 64x64, gray; 5,000 EuroSAT tiles of 64x64, RGB; the 60,000 training images of
Fashion-MNIST; the 24 Kodak pictures. Lossy codecs get the quality whose mean PSNR is next to 33 dB on 256 images of the set.
Learned codecs code at effort 1; decoding is the same at all efforts. Each measurement is a process of its own, once with all
cores and once held to one. See `timing.py` for what is measured, `peers.py` for the other formats and what to install.

The profiles `fast` and `balanced` have models of this benchmark: they are made if they are not there, in an hour, and kept in
`runs/speed`. `balanced` is trained for some minutes, which is enough to time it. `fast` gets longer: beside its small networks
entropy decoding shows, and that takes as long as the model predicts badly. The bytes of both are more than a well trained model
takes. `small` is the model of `train_fashion.py`, and the shipped `photo-rgb`.

Needs BATCHCODEC_DATA with `fashion-mnist/`, `eurosat.tar`, `kodak/` and `photos-train.tar` in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers import PEERS
from rates import FASHION_SIZE, FASHION_TRAIN, data_folder, with_json
from speed_report import report
from speed_sets import CLASSICAL, GROUP, PROFILES, model_of

from batchcodec.parallel import cores

SETS = ("fashion", "eurosat")
LIBRARIES = (
    *("batchcodec", "torch", "numpy", "pillow", "imagecodecs", "simplejpeg", "webdataset", "datasets", "mosaicml-streaming"),
    *("zarr", "compressai"),
)
PACKED_ALONE = 2048
"""Images that `pack` is timed with on one core."""
TRAIN_MINUTES = {"fast": 25, "balanced": 2.5}


def quality_name(name: str, subject: str) -> str:
    """The measurement that says with what quality a subject codes a set."""
    of = {"pillow": "jpeg", "simplejpeg": "jpeg", "pillow-jpeg": "jpeg"}.get(subject, subject)
    if subject in PEERS and subject != "zarr-avif":
        of = "jpeg"
    return f"quality {name.removesuffix('-60k')} {of}"


def measurements(n_cores: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, and what `timing.py` is told; qualities come before what needs them."""
    coded = [*PROFILES, "avif-mosaic", "jxl-mosaic", "jpeg", "zarr-avif"]
    for name, subjects in (*((s, coded) for s in SETS), ("kodak", [*PROFILES, "jpeg", "pillow-avif"])):
        for subject in subjects:
            yield f"quality {name} {subject}", {"kind": "quality", "set": name, "subject": subject, "cores": n_cores}
    one_and_all = sorted({n_cores, 1}, reverse=True)
    for name in SETS:
        for kind, subjects in (
            ("codec", [*PROFILES, "avif-mosaic", "jxl-mosaic"]),
            ("jpeg_loop", ["pillow", "simplejpeg"]),
            ("archive", [*PROFILES, *CLASSICAL]),
            ("peer", list(PEERS)),
        ):
            for subject in subjects:
                for n in one_and_all:
                    more = {"pack_images": PACKED_ALONE} if n == 1 else {}
                    yield f"{kind} {name} {subject} {n}", {"kind": kind, "set": name, "subject": subject, "cores": n, **more}
    for subject in ("fast", "balanced"):
        for name, group in (("fashion", 16), ("fashion", 64), ("fashion-60k", GROUP)):
            task = {"kind": "archive", "set": name, "subject": subject, "cores": n_cores, "group": group, "pack": False}
            yield f"groups {name} {subject} {group}", task
        for name in SETS:
            yield f"stages {name} {subject}", {"kind": "stages", "set": name, "subject": subject, "cores": 1}
    for n in one_and_all:
        yield (
            f"in turn kodak {n}",
            {"kind": "in_turn", "set": "kodak", "subjects": ["fast", "balanced", "pillow-avif"], "cores": n},
        )
        for subject in (*PROFILES, "pillow-avif", "pillow-jpeg"):
            yield f"photos kodak {subject} {n}", {"kind": "photos", "set": "kodak", "subject": subject, "cores": n}
        for name in ("eurosat", "kodak"):
            yield f"compressai {name} bmshj2018-factorized {n}", {"kind": "compressai", "set": name, "cores": n}


def ensure_models() -> None:
    """Train what is missing."""
    for channels, source in ((1, FASHION_TRAIN), (3, "photos-train.tar")):
        for profile in ("fast", "balanced"):
            target = model_of(profile, channels)
            if target.exists():
                continue
            print(f"training {target} for {TRAIN_MINUTES[profile]} minutes", flush=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            size = ["--size", "{}x{}".format(*FASHION_SIZE.size)] if channels == 1 and FASHION_SIZE.size else ["--mode", "rgb"]
            path = data_folder(source) / source
            tool = str(Path(sys.executable).with_name("batchcodec"))
            command = [tool, "train", str(path), "-o", str(target), "--codec", "hyperprior-1", "--profile", profile]
            subprocess.run([*command, "--minutes", str(TRAIN_MINUTES[profile]), *size], check=True)


def run(task: dict[str, Any], prefix: str, timeout: float) -> dict[str, Any]:
    """The figures of one measurement, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        said, found = Path(folder, "task.json"), Path(folder, "result.json")
        said.write_text(json.dumps(task))
        command = [*shlex.split(prefix), sys.executable, str(Path(__file__).with_name("timing.py")), str(said), str(found)]
        n, mine = task["cores"], sorted(os.sched_getaffinity(0))
        environment = os.environ | {"OMP_NUM_THREADS": str(n), "TOKENIZERS_PARALLELISM": "false"}
        try:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                preexec_fn=lambda: os.sched_setaffinity(0, mine[:n]),  # no thread of this process can be in the way
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took more than {timeout:.0f} s"}
        if not found.exists():
            return {"error": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
        result: dict[str, Any] = json.loads(found.read_text())
        return result


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    name = platform.processor()
    with contextlib.suppress(OSError, IndexError):
        name = Path("/proc/cpuinfo").read_text().split("model name\t: ")[1].splitlines()[0]
    versions = {}
    for library in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[library] = version(library)
    return {"processor": name, "cores": cores(), "python": platform.python_version(), "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="measurements whose name it is found in")
    parser.add_argument("--missing", action="store_true", help="only those that the JSON has no figures of")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each rate is taken over, three times")
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds that one measurement may take")
    parser.add_argument("--prefix", default="", help="a command that starts each measurement, such as `nice -n -5`")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--show", action="store_true", help="print the tables and stop")
    with_json(parser, "throughput")
    args = parser.parse_args()
    content = json.loads(args.json.read_text()) if args.json.exists() else {"measured": {}}
    known: dict[str, Any] = content["measured"]
    wanted = [(name, task) for name, task in measurements(cores()) if re.search(args.only, name)]
    if args.list:
        print("\n".join(name for name, _ in wanted))
        return
    if not args.show:
        ensure_models()
        for name, task in wanted:
            if args.missing and name in known and "error" not in known[name]:
                continue
            setting = known.get(quality_name(task["set"], task.get("subject", "")), {})
            several = {s: known.get(quality_name(task["set"], s), {}).get("quality") for s in task.get("subjects", [])}
            told = {"seconds": args.seconds, "quality": setting.get("quality"), "qualities": several, **task}
            found = run(told, args.prefix, args.timeout)
            known[name] = {"quality": setting["quality"], **found} if "quality" in setting else found
            print(name, json.dumps({key: _short(value) for key, value in known[name].items()}), flush=True)
            content = {"machine": machine(), "measured": known}
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(content, indent=1) + "\n")
    print(report(content))


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
