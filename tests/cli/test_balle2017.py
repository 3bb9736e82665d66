"""`balle2017-1` and the shape of networks through the command line: train, pack, verify, report, unpack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli

from batchcodec.learned import model_file
from batchcodec.types import Pixels

SMALL = ("--crop", 32, "--batch", 8, "--epochs", 1, "--threads", 1)


@pytest.fixture(scope="module")
def gray_file(tmp_path_factory: pytest.TempPathFactory, gray_32: list[Pixels]) -> Path:
    path = tmp_path_factory.mktemp("gray") / "x.npy"
    np.save(path, np.stack(gray_32)[..., 0])
    return path


def test_train_then_use(run_cli: RunCli, gray_file: Path, tmp_path: Path) -> None:
    model, archive = tmp_path / "m.safetensors", tmp_path / "a.cpack"
    shape = ("--latent", 16, "--width", 8, "--depth", 2, "--activation", "gdn", "--upsample", "pixelshuffle")
    done = run_cli("train", gray_file, "-o", model, "-c", "balle2017-1", *SMALL, *shape, "--lambda", "0.002,0.05", "--json")
    assert done.rc == 0
    assert done.json["codec"] == "balle2017-1"
    assert [point["quality"] for point in done.json["points"]] == [10, 40, 70, 95]
    config = model_file.parse(model.read_bytes())[1]["config"]
    assert (config["latent"], config["width"], config["depth"], config["upsample"]) == (16, 8, 2, "pixelshuffle")
    packed = run_cli("pack", gray_file, archive, "-c", "balle2017-1:quality=80", "-m", model, "--json")
    assert packed.rc == 0
    assert run_cli("verify", archive, "--deep").rc == 0
    report = run_cli("report", archive, "--against", gray_file, "--json")
    assert report.rc == 0
    assert run_cli("unpack", archive, tmp_path / "again.npy").rc == 0
    decoded = np.load(tmp_path / "again.npy").astype(float)
    original = np.load(gray_file)
    assert np.square(decoded - original).mean() < original.var() / 2
    listed = run_cli("codecs")
    assert "balle2017-1" in listed.stdout


def test_resume_to_more_passes(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    """A run that was ended by --patience is finished; one that is to go on has its checkpoint."""
    model = tmp_path / "m.safetensors"
    command = ("train", gray_file, "-o", model, "-c", "balle2017-1", "--latent", 8, "--width", 4, "--depth", 2, *SMALL)
    assert invoke(*command).rc == 0
    assert not (tmp_path / "m.safetensors.checkpoint").exists()
    assert invoke(*command, "--resume").rc == 2
    assert invoke(*command, "--force", "--patience", 5, "--flip").rc == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-c", "balle2017-1", "--rate-weight", 3), "no such option"),
        (("-c", "balle2017-1", "--norm", "batch"), "no such option"),
        (("-c", "balle2017-1", "--profile", "fast"), "no such option"),
        (("-c", "hyperprior-1", "--minutes", 1, "--depth", 3), "no such option"),
        (("--lambda", "0.1,0.2"), "no such option"),
        (("-c", "balle2017-1", "--lambda", "0.1"), "2 numbers"),
        (("-c", "balle2017-1", "--lambda", "0.1,x"), "2 numbers"),
        (("-c", "balle2017-1", "--lambda", "0.2,0.1"), "rising"),
        (("-c", "balle2017-1", "--width", "32,64,128"), "1 number"),
        (("-c", "balle2017-1", "--width", 1000), "from 1 to 512"),
        (("-c", "balle2017-1", "--depth", 9), "from 1 to 5"),
        (("-c", "balle2017-1", "--activation", "swish"), "gdn or"),
        (("--depth", 2, "--width", "8,8,8"), "2 numbers"),
        (("--depth", 9), "1 to 6 numbers"),
        (("--depth", 4, "--crop", 24), "multiple of 16"),
        (("--activation", "swish"), "gdn or"),
        (("--norm", "layer"), "batch or none"),
        (("--upsample", "bicubic"), "transpose or"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_2(
    options: tuple[object, ...], says: str, invoke: RunCli, gray_file: Path, tmp_path: Path
) -> None:
    done = invoke("train", gray_file, "-o", tmp_path / "m", *options)
    assert done.rc == 2
    assert says in " ".join(done.stderr.split())
    assert not (tmp_path / "m").exists()


def test_an_autoencoder_of_another_shape(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    shape = ("--depth", 2, "--width", "6,8", "--activation", "gelu", "--norm", "none", "--upsample", "resize")
    assert invoke("train", gray_file, "-o", model, "--latent", 4, *shape, *SMALL).rc == 0
    config = model_file.parse(model.read_bytes())[1]["config"]
    assert config["network"] == {"widths": [6, 8], "activation": "gelu", "upsample": "resize"}
    assert "widths" not in config, "versions that know nothing of it must refuse it"
    assert invoke("pack", gray_file, tmp_path / "a.cpack", "-c", "autoencoder-1", "-m", model).rc == 0
    assert invoke("verify", tmp_path / "a.cpack", "--deep").rc == 0


def test_the_paper_s_autoencoder_is_stored_as_ever(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    assert invoke("train", gray_file, "-o", model, "--latent", 4, "--width", "8,8,8", *SMALL).rc == 0
    config = model_file.parse(model.read_bytes())[1]["config"]
    assert config == {"channels": 1, "latent": 4, "widths": [8, 8, 8]}
