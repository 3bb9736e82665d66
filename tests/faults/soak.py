"""Kill, tear, fail and unplug `pack` in every way that `crashes` knows, go on, and compare with an undisturbed run.

    python tests/faults/soak.py --kills 1000     # what `make soak` runs

Prints what was done and what was lost, and ends with 1 if anything was lost or any result differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from crashes import Outcome, Saboteur, count_calls, digest, make_source, packing, power_cut, run

import batchcodec

SHOWN = ("resumes", "byte-identical results", "torn tails", "failed calls", "items lost")
OLD = b"the archive that was there before"


class Soak:
    """Counts what happens. Each round is one archive, packed through crashes until it is done."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.folder = folder
        self.source = make_source(folder / "images")
        self.target = folder / "work" / "a.cpack"
        self.notes = folder / "notes.json"
        (folder / "work").mkdir()
        self.n_calls = count_calls(self.source, folder / "reference.cpack")
        self.reference = digest(folder / "reference.cpack")
        with batchcodec.open(folder / "reference.cpack") as archive:
            self.n_items = len(archive)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def start(self, existing: bool) -> None:
        """An empty folder, or one with an older archive of that name."""
        shutil.rmtree(self.target.parent)
        self.target.parent.mkdir()
        if existing:
            self.target.write_bytes(OLD)

    def disturbed(self, mode: str, n: int, *, resume: bool, existing: bool) -> Outcome:
        """One run in which a call goes wrong."""

        def work() -> None:
            Saboteur(mode, n, self.notes)
            seconds = 1e9 if n % 5 == 0 else 0.0
            packing(self.source, self.target, resume=resume, force=existing, seconds=seconds)()

        self.notes.unlink(missing_ok=True)
        before = {str(path): path.stat().st_size for path in self.target.parent.iterdir()}
        outcome = run(work)
        if outcome.kind == "killed" and mode == "power" and self.notes.exists():
            self.counts["torn tails"] += power_cut(self.target.parent, self.notes, self.rng, before)
        self.look_at_target(existing, f"{mode} at call {n}")
        if outcome.kind == "broken":
            self.failures.append(f"{mode} at call {n}: {outcome.message}")
        return outcome

    def look_at_target(self, existing: bool, what: str) -> None:
        """It is whole at any time: the new one, or what was there before."""
        found = self.target.read_bytes() if self.target.exists() else None
        if found != (OLD if existing else None) and digest(self.target) != self.reference:
            self.failures.append(f"{what}: the target is neither the old archive nor the new one")

    def finish(self, what: str, *, existing: bool) -> None:
        """Go on undisturbed, and compare."""
        if digest(self.target) != self.reference:
            self.counts["resumes"] += 1
            outcome = run(packing(self.source, self.target, resume=True, force=existing))
            if outcome.kind != "done":
                self.failures.append(f"{what}: resume: {outcome}")
        if digest(self.target) == self.reference:
            self.counts["byte-identical results"] += 1
        else:
            self.counts["items lost"] += self.n_items
            self.failures.append(f"{what}: other bytes")
        # After the rename the run may have been killed before it tidied up; the next pack to this name does.
        left = {path.name for path in self.target.parent.iterdir()} - {"a.cpack", "a.cpack.partial.journal"}
        if left:
            self.failures.append(f"{what}: left {left}")

    def at_every_call(self, mode: str) -> None:
        """One disturbance at each system call of a pack, and of the run that goes on after it."""
        for n in range(self.n_calls):
            existing = bool(n % 2)
            self.start(existing)
            outcome = self.disturbed(mode, n, resume=False, existing=existing)
            self.counts["kills" if outcome.kind == "killed" else "failed calls"] += 1
            if n % 3 == 0 and digest(self.target) != self.reference:
                again = self.disturbed(mode, int(self.rng.integers(self.n_calls)), resume=True, existing=existing)
                self.counts["kills"] += again.kind == "killed"
                self.counts["failed calls"] += again.kind == "failed"
            self.finish(f"{mode} at call {n}", existing=existing)

    def at_random_times(self, n_kills: int) -> None:
        """SIGKILL from outside, after a random time, again and again until the archive is done."""
        seconds = self._time_of_a_pack()
        chance = random.Random(int(self.rng.integers(1 << 30)))
        while self.counts["kills"] < n_kills:
            self.start(existing=False)
            for attempt in range(8):
                pid = os.fork()
                if not pid:
                    with contextlib.suppress(BaseException):
                        packing(self.source, self.target, resume=attempt > 0, force=False)()
                    os._exit(0)
                time.sleep(chance.uniform(0, 1.2 * seconds))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                self.counts["kills"] += os.WIFSIGNALED(status)
                self.look_at_target(False, "killed at a random time")
                if self.target.exists():
                    break
            self.finish("killed at random times", existing=False)

    def _time_of_a_pack(self) -> float:
        self.start(existing=False)
        started = time.monotonic()
        run(packing(self.source, self.target, resume=False, force=False))
        return time.monotonic() - started

    def command_line(self, n_kills: int) -> None:
        """The real command, killed from outside, with its own imports and its own time between flushes."""
        command = [sys.executable, "-m", "batchcodec.cli", "pack", str(self.source), str(self.target)]
        command += ["--codec", "zstd", "--group", "2", "--no-progress", "--resume", "--quiet"]
        undisturbed = self.folder / "undisturbed.cpack"
        subprocess.run([*command[:5], str(undisturbed), *command[6:]], check=True)
        expected = digest(undisturbed)
        for _ in range(n_kills):
            self.start(existing=False)
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while process.poll() is None and not list(self.target.parent.glob("*.partial")):
                time.sleep(0.001)
            time.sleep(float(self.rng.uniform(0, 0.05)))
            process.kill()
            self.counts["kills of the command"] += process.wait() == -signal.SIGKILL
            subprocess.run(command if not self.target.exists() else ["true"], check=True)
            if digest(self.target) != expected:
                self.failures.append("the command, killed: other bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="at least so many, in all")
    parser.add_argument("--commands", type=int, default=20, help="of which so many are of the command line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), args.seed)
        for mode in ("kill", "tear", "fail", "full", "power"):
            soak.at_every_call(mode)
        soak.at_random_times(args.kills - args.commands)
        soak.command_line(args.commands)
    counts = {
        "system calls of one pack": soak.n_calls,
        "kills": soak.counts["kills"] + soak.counts["kills of the command"],
        **{
            name: soak.counts[name]
            for name in ("resumes", "byte-identical results", "torn tails", "failed calls", "items lost")
        },
        "failures": len(soak.failures),
    }
    if args.json:
        print(json.dumps({**counts, "messages": soak.failures}))
    else:
        print("\n".join(f"{name:<26} {count:,}" for name, count in counts.items()))
        print("\n".join(soak.failures[:20]))
    sys.exit(bool(soak.failures))


if __name__ == "__main__":
    main()
