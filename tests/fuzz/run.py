"""Fuzz targets one after the other and print a line for each: `python tests/fuzz/run.py --minutes 30 [--target directory]`.

The minutes are of processor time, so that a busy machine does not shorten the search.

The corpora grow in `runs/fuzz/<target>/corpus`, and later runs go on from there; findings lie beside them. A run starts from
the seeds and the regression corpus as well. Coverage is of the Python code of batchcodec and its plugins: libFuzzer's count of
edges that any input of the corpus takes. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from fuzz import oracle  # noqa: E402  (the folder of the tests is no installed package)
from fuzz.targets import TARGETS  # noqa: E402

GRACE_SECONDS = 180
"""To start, to run the last input, and to end; what takes longer is killed."""

OF_THE_RUN = ("slow-unit-", "timeout-", "oom-")
"""Files of libFuzzer that say that time has passed or that memory has grown, which need not be the input's fault.

What takes more than ten seconds of the processor, or too much memory, `oracle` finds. atheris itself keeps some kilobytes of
each input of some targets.
"""

HANGS_SECONDS = 60
"""Of the processor, to start and for one input."""

BROKEN = 1
"""What Python exits with: libFuzzer has other codes for what it finds."""

_LINE = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


def main() -> int:
    """Run, report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30, help="for each target")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="one of the targets; all by default")
    parser.add_argument("--folder", type=Path, default=HERE.parent.parent / "runs" / "fuzz")
    given = parser.parse_args()
    print(f"{'target':20} {'executions':>12} {'per second':>10} {'edges':>7} {'new':>6} {'findings':>8}", flush=True)
    n_findings = sum(fuzz(name, 60 * given.minutes, given.folder / name) for name in given.target or TARGETS)
    return 1 if n_findings else 0


def fuzz(name: str, seconds: float, folder: Path) -> int:
    """Fuzz one target, print its line; the number of findings."""
    corpus, findings = folder / "corpus", folder / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    old = set(findings.iterdir())
    for path in oracle.corpus(TARGETS[name]):
        seed = path.read_bytes()
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)  # the name that libFuzzer gives
    n_before = sum(1 for _ in corpus.iterdir())
    command = [sys.executable, "-m", "fuzz.one", name, str(corpus.resolve()), str(findings.resolve())]
    n_runs = n_edges = 0
    started = processor_seconds()
    while (left := int(seconds - (processor_seconds() - started))) > 0:  # a crash ends the process, and a new one goes on
        log = folder / "log.txt"
        ended = None
        with log.open("wb") as file, contextlib.suppress(subprocess.TimeoutExpired):
            ended = subprocess.run(
                [*command, f"-max_total_time={left}"],
                cwd=HERE.parent,
                stdout=file,
                stderr=file,
                check=False,
                timeout=left + GRACE_SECONDS,
            )
        text = log.read_bytes()
        if spoilt := _CONTROL.search(text):  # C libraries write to stderr by themselves
            (findings / "found-control-characters.bin").write_bytes(text[max(0, spoilt.start() - 500) :][:1000])
        lines = _LINE.findall(text.decode(errors="replace"))
        n_runs += int(lines[-1][0]) if lines else 0
        n_edges = max([n_edges, *(int(edges) for _, edges in lines)])
        if not lines or (ended is not None and ended.returncode == BROKEN):
            raise SystemExit(f"{name} does not start, or its harness is broken: see {log}")
    new = [path for path in findings.iterdir() if path not in old and path.suffix != ".txt"]
    found = [path for path in new if not path.name.startswith(OF_THE_RUN) or fails_alone(name, path)]
    spent = processor_seconds() - started
    n_new = sum(1 for _ in corpus.iterdir()) - n_before
    print(f"{name:20} {n_runs:12,} {n_runs / spent:10,.0f} {n_edges:7,} {n_new:6,} {len(found):8,}", flush=True)
    for path in found:
        print(f"    {path}", flush=True)
    return len(found)


def fails_alone(name: str, path: Path) -> bool:
    """Whether an input does not end, or takes all memory, in a process of its own."""
    command = [sys.executable, "-m", "fuzz.one", name, str(path.resolve()), str(path.parent.resolve())]
    started = processor_seconds()
    ended = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        ended = subprocess.run(command, cwd=HERE.parent, capture_output=True, check=False, timeout=GRACE_SECONDS)
    return processor_seconds() - started > HANGS_SECONDS or (ended is not None and ended.returncode != 0)


def processor_seconds() -> float:
    """Spent so far by the fuzzers that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
