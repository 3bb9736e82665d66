"""`comcnn-1` through the command line: train, pack, verify, report, unpack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli

from batchcodec.learned import model_file
from batchcodec.types import Pixels

SMALL = ("-c", "comcnn-1", "--crop", 32, "--batch", 8, "--epochs", 2, "--threads", 1)


@pytest.fixture(scope="module")
def gray_file(tmp_path_factory: pytest.TempPathFactory, gray_32: list[Pixels]) -> Path:
    path = tmp_path_factory.mktemp("gray") / "x.npy"
    np.save(path, np.stack(gray_32)[..., 0])
    return path


def test_train_then_use(run_cli: RunCli, gray_file: Path, tmp_path: Path) -> None:
    model, archive = tmp_path / "m.safetensors", tmp_path / "a.cpack"
    shape = ("--width", 8, "--depth", 3, "--activation", "leaky-relu", "--upsample", "transpose")
    codecs = ("--base", "jpeg,webp", "--qualities", "20,60", "--rate-weight", 0.5)
    done = run_cli("train", gray_file, "-o", model, *SMALL, *shape, *codecs, "--json")
    assert done.rc == 0
    assert done.json["codec"] == "comcnn-1"
    assert [point["quality"] for point in done.json["points"]] == [20, 35, 60]
    config = model_file.parse(model.read_bytes())[1]["config"]
    assert (config["width"], config["depth"], config["upsample"], config["compact"]) == (8, 3, "transpose", True)
    assert run_cli("pack", gray_file, archive, "-c", "comcnn-1:base=webp,quality=80", "-m", model, "--json").rc == 0
    assert run_cli("verify", archive, "--deep").rc == 0
    assert run_cli("report", archive, "--against", gray_file, "--json").rc == 0
    assert run_cli("unpack", archive, tmp_path / "again.npy").rc == 0
    decoded, original = np.load(tmp_path / "again.npy").astype(float), np.load(gray_file)
    assert np.square(decoded - original).mean() < original.var() / 2
    assert "comcnn-1" in run_cli("codecs").stdout


def test_a_filter_for_a_lossless_archive(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    model, archive = tmp_path / "m.safetensors", tmp_path / "a.cpack"
    assert invoke("train", gray_file, "-o", model, *SMALL, "--width", 8, "--depth", 4, "--no-compact").rc == 0
    assert invoke("pack", gray_file, archive, "-c", "comcnn-1:base=png", "-m", model).rc == 0
    assert invoke("unpack", archive, tmp_path / "again.npy").rc == 0
    assert np.load(tmp_path / "again.npy").shape == np.load(gray_file).shape


def test_training_goes_on_from_a_model(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert invoke("train", gray_file, "-o", first, *SMALL, "--width", 8, "--depth", 3).rc == 0
    assert invoke("train", gray_file, "-o", second, *SMALL, "--base", "webp", "--from", first, "--learning-rate", 1e-5).rc == 0
    (before, then), (after, now) = (model_file.parse(path.read_bytes()) for path in (first, second))
    assert then["config"] == now["config"]
    assert all(np.abs(after[name].astype(float) - before[name]).max() < 0.01 for name in before)
    assert any((after[name] != before[name]).any() for name in before)
    refused = invoke("train", gray_file, "-o", tmp_path / "c.safetensors", *SMALL, "--from", first, "--width", 8)
    assert refused.rc == 2
    assert "none beside --from" in refused.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--latent", 8), "no such option"),
        (("--lambda", "0.1,0.2"), "no such option"),
        (("--base", "nothing"), "a codec without a model"),
        (("--qualities", "10"), "2 numbers"),
        (("--qualities", "60,10"), "the lower one first"),
        (("--width", "8,16"), "1 number"),
        (("--depth", 1), "from 2 to 64"),
        (("--crop", 24), "multiple of 16"),
    ],
)
def test_bad_options_of_train(options: tuple[object, ...], says: str, invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    refused = invoke("train", gray_file, "-o", tmp_path / "m.safetensors", *SMALL, *options)
    assert refused.rc == 2
    assert says in " ".join(refused.stderr.split())
    assert not (tmp_path / "m.safetensors").exists()


def test_compact_is_for_comcnn_alone(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    refused = invoke("train", gray_file, "-o", tmp_path / "m.safetensors", "--no-compact")
    assert refused.rc == 2
    assert "no such option" in refused.stderr


def test_pack_needs_a_model(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    refused = invoke("pack", gray_file, tmp_path / "a.cpack", "-c", "comcnn-1:base=jpeg")
    assert refused.rc == 2
    assert "option model" in refused.stderr
