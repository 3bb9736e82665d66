"""`import batchcodec` and the commands that only look start fast: no heavy package is imported for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numba", "PIL", "matplotlib", "imagecodecs", "tifffile", "imageio", "scipy", "pyarrow")

RUN = """
import sys
sys.argv = ["batchcodec", *sys.argv[1:]]
if len(sys.argv) > 1:
    from batchcodec.cli import main
    try:
        main()
    except SystemExit as exc:
        if exc.code:
            raise
else:
    import batchcodec
print("IMPORTED", *sorted(name.partition(".")[0] for name in sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--version"],
        ["--help"],
        ["info", "ARCHIVE", "--json"],
        ["info", "ARCHIVE"],
        ["ls", "ARCHIVE"],
        ["codecs"],
        ["formats"],
    ],
    ids=lambda arguments: " ".join(arguments) or "import",
)
def test_nothing_heavy_is_imported(arguments: list[str], rgb_archive: tuple[Path, Path]) -> None:
    filled = [str(rgb_archive[1]) if a == "ARCHIVE" else a for a in arguments]
    done = subprocess.run([sys.executable, "-c", RUN, *filled], capture_output=True, text=True, timeout=60, check=True)
    imported = set(done.stderr.rpartition("IMPORTED")[2].split())
    assert "batchcodec" in imported
    assert not imported & set(HEAVY)


def test_an_archive_with_a_learned_codec_is_described_without_torch(tiny_model: Path, tmp_path: Path) -> None:
    import numpy as np

    import batchcodec

    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), np.uint8))
    batchcodec.pack(tmp_path / "x.npy", tmp_path / "a.cpack", batchcodec.PackOptions(codec="autoencoder-1", model=tiny_model))
    done = subprocess.run(
        [sys.executable, "-c", RUN, "info", str(tmp_path / "a.cpack"), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not set(done.stderr.rpartition("IMPORTED")[2].split()) & set(HEAVY)
