"""Models that do not fit: each is refused before or while packing with exit code 5, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, picture

from batchcodec.learned import model_file


@pytest.fixture
def rgb_images(tmp_path: Path) -> Path:
    np.save(tmp_path / "rgb.npy", np.stack([picture((16, 16, 3), i) for i in range(3)]))
    return tmp_path / "rgb.npy"


def _refused(invoke: RunCli, source: Path, model: Path, *options: str) -> dict[str, str]:
    target = source.with_name("a.cpack")
    done = invoke("pack", source, target, "-c", "autoencoder-1", "--model", model, "--json", *options)
    assert done.rc == 5
    assert not target.exists()
    error: dict[str, str] = done.json["error"]
    return error


def test_a_gray_model_on_rgb_images(invoke: RunCli, rgb_images: Path, tiny_model: Path) -> None:
    error = _refused(invoke, rgb_images, tiny_model)
    assert error["type"] == "UnsupportedImageError"
    assert "trained on L images" in error["message"]
    assert "--mode gray" in error["message"]
    target = rgb_images.with_name("gray.cpack")
    assert invoke("pack", rgb_images, target, "-c", "autoencoder-1", "-m", tiny_model, "--mode", "gray").rc == 0


@pytest.mark.parametrize("n_bytes", [0, 7, 8, 100, 2000, -1])
def test_a_truncated_model(n_bytes: int, invoke: RunCli, rgb_images: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(tiny_model.read_bytes()[:n_bytes])
    assert _refused(invoke, rgb_images, tmp_path / "cut")["type"] == "ModelError"


def test_a_text_file_as_model(invoke: RunCli, rgb_images: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a model, but a text that is longer than any header of eight bytes")
    assert "not a batchcodec model" in _refused(invoke, rgb_images, tmp_path / "text")["message"]


def test_a_missing_model_and_a_folder(invoke: RunCli, rgb_images: Path, tmp_path: Path) -> None:
    assert _refused(invoke, rgb_images, tmp_path / "missing")["type"] == "ModelError"
    assert _refused(invoke, rgb_images, tmp_path)["type"] == "ModelError"


def test_a_model_for_another_codec(invoke: RunCli, rgb_images: Path, tiny_model: Path, tmp_path: Path) -> None:
    tensors, document = model_file.parse(tiny_model.read_bytes())
    (tmp_path / "other").write_bytes(model_file.dump(tensors, document | {"codec": "hyperprior-1"}))
    assert "'hyperprior-1'" in _refused(invoke, rgb_images, tmp_path / "other")["message"]


def test_a_checkpoint_is_no_model(invoke: RunCli, rgb_images: Path, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(model_file.dump({"x": np.zeros(1, np.float32)}, {"checkpoint": 1}))
    assert _refused(invoke, rgb_images, tmp_path / "c")["type"] == "ModelError"


def test_an_unknown_entropy_coder_is_a_usage_error(
    invoke: RunCli, rgb_images: Path, tiny_rgb_model: Path, tmp_path: Path
) -> None:
    done = invoke("pack", rgb_images, tmp_path / "a.cpack", "-c", "autoencoder-1", "-m", tiny_rgb_model, "--entropy", "lzma")
    assert done.rc == 2
    twice = ("-c", "autoencoder-1:entropy=zstd", "--entropy", "rans")
    assert invoke("pack", rgb_images, tmp_path / "a.cpack", "-m", tiny_rgb_model, *twice).rc == 2


@pytest.mark.parametrize("entropy", ["none", "zstd", "huffman", "rans"])
def test_each_entropy_coder_through_the_command_line(
    entropy: str, invoke: RunCli, rgb_images: Path, tiny_rgb_model: Path, tmp_path: Path
) -> None:
    options = ("-c", "autoencoder-1", "-m", tiny_rgb_model, "--entropy", entropy)
    assert invoke("pack", rgb_images, tmp_path / "a.cpack", *options).rc == 0
    info = invoke("info", tmp_path / "a.cpack", "--json").json
    assert info["codecs"][0]["config"] == {"entropy": entropy}
    assert info["codecs"][0]["model_sha256"]
    assert invoke("unpack", tmp_path / "a.cpack", tmp_path / "out.npy").rc == 0
    assert np.load(tmp_path / "out.npy").shape == (3, 16, 16, 3)
