"""The check of decoded pixels tolerates the rounding of another CPU, and no more than that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import picture

import batchcodec
from batchcodec.errors import DriftError
from batchcodec.learned import autoencoder

DECODE = """
import sys
import numpy as np
import batchcodec
with batchcodec.open(sys.argv[1]) as archive:
    np.save(sys.argv[2], np.stack([item.pixels for group in archive.groups() for _, item in group]))
"""


@pytest.fixture(scope="module")
def archive(tiny_rgb_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    np.save(folder / "x.npy", np.stack([picture((64, 64, 3), i) for i in range(8)]))
    options = batchcodec.PackOptions(codec="autoencoder-1", model=tiny_rgb_model, group_items=4)
    batchcodec.pack(folder / "x.npy", folder / "a.cpack", options)
    return folder / "a.cpack"


@pytest.mark.parametrize(
    "environment",
    [
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
        {"OMP_NUM_THREADS": "1"},
    ],
    ids=["oldest CPU", "one thread"],
)
def test_other_cpus_decode_within_one_step(environment: dict[str, str], archive: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", DECODE, str(archive), str(tmp_path / "there.npy")],
        env=os.environ | environment,
        check=True,
        timeout=120,
    )
    with batchcodec.open(archive) as opened:
        here = np.stack([item.pixels for item in opened])
    difference = np.abs(np.load(tmp_path / "there.npy").astype(int) - here)
    assert difference.max() <= 1


@pytest.mark.parametrize("shift", [3, -3])
def test_a_wrong_decoder_is_found(shift: int, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesised = autoencoder.AutoencoderCodec._synthesised

    def wrong(self: autoencoder.AutoencoderCodec, latents: np.ndarray) -> np.ndarray:
        return np.clip(synthesised(self, latents).astype(int) + shift, 0, 255).astype(np.uint8)

    monkeypatch.setattr(autoencoder.AutoencoderCodec, "_synthesised", wrong)
    with batchcodec.open(archive) as opened, pytest.raises(DriftError):
        opened[0]
