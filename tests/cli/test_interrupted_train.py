"""Ctrl-C ends a training early: the best so far is a usable model, and --resume goes on."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from helpers import CONSOLE_SCRIPT, RunCli

from batchcodec.types import Pixels


def test_interrupted_train(run_cli: RunCli, gray_32: list[Pixels], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack(gray_32)[..., 0])
    model, log = tmp_path / "m.safetensors", tmp_path / "stderr"
    options = ["--width", "8,8,8", "--latent", "4", "--crop", "32", "--threads", "1", "--batch", "8"]
    command = [CONSOLE_SCRIPT, "train", tmp_path / "x.npy", "-o", model, *options]
    with log.open("w") as stderr:
        process = subprocess.Popen([*command, "--minutes", "2", "--progress", "--json"], stdout=subprocess.PIPE, stderr=stderr)
        deadline = time.monotonic() + 60
        while "step " not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b'"interrupted": true' in stdout
    assert "--resume goes on" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert model.exists()
    assert (tmp_path / "m.safetensors.checkpoint").exists()
    assert run_cli("pack", tmp_path / "x.npy", tmp_path / "a.cpack", "-c", "autoencoder-1", "-m", model).rc == 0

    resumed = run_cli("train", tmp_path / "x.npy", "-o", model, *options, "--resume", "--epochs", "0.001", "--json")
    assert resumed.rc == 0
    assert resumed.json["steps"] >= 1
    assert resumed.json["interrupted"] is False
