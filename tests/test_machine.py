"""What the process does with its machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchcodec import PackOptions, pack

FAULTS = """
import resource, sys
import numpy as np
import batchcodec

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[2:]:  # what opening an archive does
    archive = batchcodec.open(sys.argv[2])
np.empty(1_000_000, np.uint8)  # the threshold is a megabyte now, and what is free beyond two goes back
for _ in range(2):
    before = faults()
    for _ in range(20):
        arrays = [np.ones(900_000, np.uint8) for _ in range(int(sys.argv[1]))]
        del arrays
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators do as they like")
def test_freed_memory_is_used_again(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8), np.uint8))
    archive = tmp_path / "images.cpack"
    pack(tmp_path / "images.npy", archive, PackOptions(codec="zstd"))

    def faults(*more: str | Path) -> int:
        command = [sys.executable, "-c", FAULTS, "8", *map(str, more)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    without = faults()  # 1,700 pages each time, or few where the system gives huge ones
    assert faults(archive) < max(2_000, without / 10)
