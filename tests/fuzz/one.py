"""Fuzz one target until the time is up: `python -m fuzz.one TARGET CORPUS FINDINGS [libFuzzer options]`, in the folder `tests`.

A finding is written to a file with its traceback beside it, once for each place in the code, and the run goes on. What ends the
process (a crash of a C library, a loop that no signal ends) is kept by libFuzzer, in the same folder.
"""

from __future__ import annotations

import hashlib
import random
import sys
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["batchcodec", "batchcodec_plugins"]):
    from fuzz import oracle
    from fuzz.targets import TARGETS


def _place(exc: BaseException) -> str:
    """Kind of error and the last lines of code in the traceback: what makes two findings one."""
    frames = traceback.extract_tb((exc.__cause__ or exc).__traceback__)[-3:]
    text = str(exc)[:20] if isinstance(exc, oracle.BrokenError) else ""
    return " ".join([type(exc).__name__, text, *(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)])


def main() -> None:
    """Set libFuzzer up and run."""
    name, corpus, findings = sys.argv[1:4]
    target, folder, known = TARGETS[name], Path(findings), set[str]()

    def test(data: bytes) -> None:
        try:
            oracle.check(target, data)
        except Exception as exc:
            place = _place(exc)
            if place not in known:
                known.add(place)
                stem = folder / f"found-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
                stem.with_suffix(".bin").write_bytes(data)
                stem.with_suffix(".txt").write_text(place + "\n\n" + "".join(traceback.format_exception(exc)))

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        def change(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, max(len(part) + 64, 64)))

        structured = target.mutate is not None and random.Random(seed).random() < 0.75
        changed = target.mutate(data, change, seed) if structured and target.mutate else change(data)
        return changed if len(changed) <= max_size else change(data)[:max_size]

    options = [f"-max_len={target.max_length}", "-timeout=60", "-rss_limit_mb=3000", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *sys.argv[4:], *options, corpus], test, custom_mutator=mutate)
    with oracle.small_limits():
        oracle.warm_up(target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
