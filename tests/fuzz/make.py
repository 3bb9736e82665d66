"""Write the seeds of the regression corpus: `python tests/fuzz/make.py [TARGET ...]`, for all targets that have none yet.

The files are kept in the repository, like golden files, so that tests and runs do not depend on what today's encoders write.
Seeds that are there are never rewritten; what a fuzzer or a reader found lies beside them, under names that say what it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from fuzz.oracle import CORPUS, small_limits
from fuzz.targets import TARGETS


def main() -> None:
    """Write what is missing."""
    for name in sys.argv[1:] or TARGETS:
        folder = CORPUS / name
        if any(folder.glob("seed-*")):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with small_limits():
            for i, seed in enumerate(TARGETS[name].seeds()):
                (folder / f"seed-{i:02}.bin").write_bytes(seed)


if __name__ == "__main__":
    main()
