"""`hyperprior-1` through the command line: its default models, models by name, archives without their model, training."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers import CONSOLE_SCRIPT, RunCli, picture
from PIL import Image

import batchcodec
from batchcodec import Item, PackOptions, choice
from batchcodec.choice import estimated_pixels
from batchcodec.learned import model_file
from batchcodec.registry import registry
from batchcodec.types import ImageSpec, Pixels

HYPERPRIOR = ("-c", "hyperprior-1")
DEFAULT = choice.DEFAULT_CODEC
FALLBACK = choice.FALLBACK_CODEC


@pytest.fixture
def rgb_images(tmp_path: Path) -> Path:
    np.save(tmp_path / "rgb.npy", np.stack([picture((16, 24, 3), i) for i in range(3)]))
    return tmp_path / "rgb.npy"


@pytest.fixture
def eight_bits(pictures: Path) -> Path:
    """L, LA, RGB and RGBA."""
    (pictures / "dog" / "sixteen.png").unlink()
    return pictures


@pytest.mark.usefixtures("tiny_shipped")
def test_no_model_is_needed(invoke: RunCli, eight_bits: Path, tmp_path: Path) -> None:
    done = invoke("pack", eight_bits, tmp_path / "a.cpack", *HYPERPRIOR, "--json")
    assert done.rc == 0
    assert done.json["codecs"] == {"hyperprior-1": 10}
    assert done.json["mean_psnr"] > 25
    codecs = invoke("info", tmp_path / "a.cpack", "--json").json["codecs"]
    # each model once: photo-rgb for RGB, photo-gray for all others
    assert [(c["codec_id"], c["config"], c["exact"], c["model_name"]) for c in codecs] == [("hyperprior-1", {}, True, None)] * 2
    assert len({c["model_sha256"] for c in codecs}) == 2
    assert {c["n_items"] for c in codecs} == {7, 3}
    assert invoke("unpack", tmp_path / "a.cpack", tmp_path / "out").rc == 0
    with Image.open(tmp_path / "out" / "dog" / "rgba.png") as image:
        assert image.mode == "RGBA"


def test_16_bits_are_refused(invoke: RunCli, pictures: Path, tiny_shipped: Path, tmp_path: Path) -> None:
    done = invoke("pack", pictures, tmp_path / "a.cpack", *HYPERPRIOR, "--json")
    assert (done.rc, done.json["error"]["type"], done.json["error"]["item"]) == (5, "UnsupportedImageError", "dog/sixteen.png")


def test_without_a_default_model_one_is_asked_for(invoke: RunCli, rgb_images: Path, tiny_shipped: Path, tmp_path: Path) -> None:
    (tiny_shipped / "photo-rgb.safetensors").unlink()
    done = invoke("pack", rgb_images, tmp_path / "a.cpack", *HYPERPRIOR, "--json")
    assert (done.rc, done.json["error"]["name"]) == (2, "model")
    assert not (tmp_path / "a.cpack").exists()


def test_a_model_by_name_and_by_file(run_cli: RunCli, rgb_images: Path, hyperprior_models: Path, tmp_path: Path) -> None:
    environment = {"BATCHCODEC_MODELS": str(hyperprior_models)}
    named = run_cli("pack", rgb_images, tmp_path / "a.cpack", *HYPERPRIOR, "-m", "tiny-rgb", env=environment, cwd=tmp_path)
    assert named.rc == 0, named.stderr
    file = hyperprior_models / "tiny-rgb.safetensors"
    assert run_cli("pack", rgb_images, tmp_path / "b.cpack", *HYPERPRIOR, "--model", file).rc == 0
    with batchcodec.open(tmp_path / "a.cpack") as a, batchcodec.open(tmp_path / "b.cpack") as b:
        assert [record.model for record in a.codecs.values()] == [record.model for record in b.codecs.values()]
    refused = run_cli("pack", rgb_images, tmp_path / "c.cpack", *HYPERPRIOR, "-m", "tiny-rgb", "--json", cwd=tmp_path)
    assert (refused.rc, refused.json["error"]["type"]) == (5, "ModelError")
    assert "known: " in refused.json["error"]["message"]


# ---- archives that name their model


def test_model_ref(invoke: RunCli, rgb_images: Path, tiny_shipped: Path, tmp_path: Path) -> None:
    whole, named = tmp_path / "whole.cpack", tmp_path / "named.cpack"
    embedded = invoke("pack", rgb_images, whole, *HYPERPRIOR, "--json").json
    assert embedded["bytes"]["model"] > 0.2 * embedded["n_bytes"]
    assert ["--model-ref would leave them out" in line for line in embedded["advice"]] == [True]
    referring = invoke("pack", rgb_images, named, *HYPERPRIOR, "--model-ref", "--json").json
    assert (referring["bytes"]["model"], referring["advice"]) == (0, [])
    assert "--model-ref" in invoke("pack", rgb_images, whole, *HYPERPRIOR, "-f").stdout

    (inside,), (outside,) = (invoke("info", path, "--json").json["codecs"] for path in (whole, named))
    assert outside["model_sha256"] == inside["model_sha256"]
    assert (outside["model_name"], outside["model_bytes"], inside["model_name"]) == ("tiny-rgb", 0, None)
    assert outside["config"] == {"model": {"sha256": inside["model_sha256"], "name": "tiny-rgb"}}
    text = invoke("info", named).stdout
    assert "weights NOT in the archive: model tiny-rgb" in text
    assert inside["model_sha256"] in text

    for path in (whole, named):
        assert invoke("unpack", path, path.with_suffix(".npy")).rc == 0
    assert np.array_equal(np.load(whole.with_suffix(".npy")), np.load(named.with_suffix(".npy")))
    assert invoke("report", named, "--against", rgb_images).rc == 0

    (tiny_shipped / "photo-rgb.safetensors").unlink()
    assert invoke("info", named).rc == 0  # saying what is missing does not take it
    done = invoke("unpack", named, tmp_path / "again.npy", "--json")
    assert (done.rc, done.json["error"]["type"]) == (5, "ModelError")
    assert inside["model_sha256"] in done.json["error"]["message"]
    assert "BATCHCODEC_MODELS" in done.json["error"]["message"]
    assert invoke("unpack", whole, tmp_path / "again.npy").rc == 0


@pytest.mark.usefixtures("tiny_shipped")
def test_an_archive_with_a_reference_is_described_without_torch(rgb_images: Path, tmp_path: Path) -> None:
    from test_import_light import HEAVY, RUN

    batchcodec.pack(rgb_images, tmp_path / "a.cpack", PackOptions(codec="hyperprior-1", model_ref=True))
    done = subprocess.run(
        [sys.executable, "-c", RUN, "info", str(tmp_path / "a.cpack")], capture_output=True, text=True, timeout=60, check=True
    )
    assert not set(done.stderr.rpartition("IMPORTED")[2].split()) & set(HEAVY)


@pytest.mark.usefixtures("tiny_shipped")
@pytest.mark.parametrize("options", [(), ("--model-ref",)], ids=["", "ref"])
@pytest.mark.parametrize("codec", ["hyperprior-1", "hyperprior-1:quality=5,grain=80"])
def test_the_reference_decoder_gives_the_same_pixels(
    invoke: RunCli, eight_bits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, options: tuple[str, ...]
) -> None:
    from batchcodec.learned.hyperprior.codec import HyperpriorCodec

    archive = tmp_path / "a.cpack"
    assert invoke("pack", eight_bits, archive, "-c", codec, *options).rc == 0
    assert ("grain=80" in invoke("info", archive).stdout) == ("grain" in codec)
    assert invoke("unpack", archive, tmp_path / "usual").rc == 0
    with monkeypatch.context() as patch:
        patch.delattr(HyperpriorCodec, "decode")  # so it is known to be the other one
        done = invoke("unpack", archive, tmp_path / "reference", "--reference", "--json")
        assert (done.rc, done.json["n_items"], done.json["n_rounded"]) == (0, 10, 0)
    for path in sorted((tmp_path / "usual").rglob("*.png")):
        assert path.read_bytes() == (tmp_path / "reference" / path.relative_to(tmp_path / "usual")).read_bytes()


def test_the_reference_decoder_leaves_other_codecs_alone(
    invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path
) -> None:
    assert invoke("unpack", rgb_archive[1], tmp_path / "out", "--reference").rc == 0


# ---- the default


def test_auto_with_many_pixels(
    invoke: RunCli, pictures: Path, tiny_shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "FEW_PIXELS", 2000)
    found = invoke("pack", pictures, tmp_path / "a.cpack", "--json").json
    assert found["codecs"][DEFAULT] == 8
    assert found["codecs"][FALLBACK] == 2  # LA and RGBA
    assert sum(found["codecs"].values()) == 11
    assert not any("few pixels" in line for line in found["advice"])


@pytest.mark.usefixtures("tiny_shipped")
def test_auto_with_few_pixels_says_so(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    found = invoke("pack", pictures, tmp_path / "a.cpack", "--json").json
    assert found["codecs"][FALLBACK] == 10
    assert [line.startswith("few pixels: about 7,695, ") for line in found["advice"]] == [True]
    text = invoke("pack", pictures, tmp_path / "b.cpack")
    assert len([line for line in text.stdout.splitlines() if line.startswith("few pixels: ")]) == 1
    # a model that is only named weighs nothing
    found = invoke("pack", pictures, tmp_path / "c.cpack", "--model-ref", "--json").json
    assert found["codecs"][DEFAULT] == 8
    assert found["bytes"]["model"] == 0
    assert found["advice"] == []


@pytest.mark.usefixtures("tiny_shipped")
def test_auto_says_nothing_where_the_size_decides_nothing(invoke: RunCli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([picture((9, 9), i, "uint16") for i in range(2)]))
    assert invoke("pack", tmp_path / "x.npy", tmp_path / "a.cpack", "--json").json["advice"] == []


class _Counted(Sequence[Item]):
    """Images of 100 x 100 that count how often they are read; some cannot be."""

    def __init__(self, n_items: int, bad: Sequence[int] = ()) -> None:
        self.n_items, self.bad = n_items, bad
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.n_items

    def __getitem__(self, index):
        self.read.append(index)
        if index in self.bad:
            raise OSError("cannot be read")
        return Item(f"{index}", np.zeros((100, 100, 3), np.uint8))


@pytest.mark.parametrize(
    ("n_items", "bad", "pixels", "n_read"),
    [
        (3, (), 30_000, 3),
        (100, (), 1_000_000, 8),
        (100, (0, 5), 1_000_000, 8),
        (100, range(8), None, 8),
        (10_000_000, (), 10_000_000, 0),
    ],
)
def test_the_estimate(n_items: int, bad: Sequence[int], pixels: int | None, n_read: int) -> None:
    dataset = _Counted(n_items, bad)
    assert estimated_pixels(dataset, lambda item: item) == pixels
    assert dataset.read == list(range(n_read))


def test_the_estimate_reads_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "FEW_PIXELS", 15_000)
    dataset = _Counted(100)
    assert estimated_pixels(dataset, lambda item: item) == 1_000_000
    assert dataset.read == [0, 1]


@pytest.mark.usefixtures("tiny_shipped")
def test_a_compressed_tar_with_bad_images_is_packed_by_auto(invoke: RunCli, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        for i in range(20):
            out = io.BytesIO()
            Image.fromarray(picture((8, 8, 3), i)).save(out, "PNG")
            blob = out.getvalue() if i % 3 else b"no image"
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(blob)
            tar.addfile(member, io.BytesIO(blob))
    done = invoke("pack", tmp_path / "x.tar.gz", tmp_path / "a.cpack", "--on-error", "skip", "--json")
    assert (done.rc, done.json["n_items"], len(done.json["skipped"])) == (0, 13, 7)


@pytest.mark.usefixtures("tiny_shipped")
def test_one_codec_for_all_sizes() -> None:
    chosen = choice.CodecChoice("auto", None, None, registry(), n_pixels=10**9)
    found = {id(chosen.for_spec(ImageSpec(side, 8, 3))) for side in range(8, 40)}
    assert len(found) == 1
    assert chosen.texts() == {found.pop(): DEFAULT}


# ---- training


@pytest.fixture
def gray_file(gray_32: list[Pixels], tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.stack(gray_32)[..., 0])
    return tmp_path / "x.npy"


TRAIN = ("--codec", "hyperprior-1", "--crop", 32, "--batch", 4, "--threads", 1)


def test_train_then_pack(invoke: RunCli, gray_file: Path, hyperprior_models: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine.safetensors"
    start = ("--from", hyperprior_models / "tiny-gray.safetensors")
    done = invoke("train", gray_file, "-o", model, *TRAIN, *start, "--minutes", 0.01, "--json", "-v")
    assert done.rc == 0
    assert done.json["steps"] > 0
    assert done.json["model_bytes"] == model.stat().st_size
    assert done.json["interrupted"] is False
    assert "psnr" in done.stderr
    assert not model_file.checkpoint_path(model).exists()
    assert model_file.parse(model.read_bytes())[1]["name"] == "mine"
    assert invoke("train", gray_file, "-o", model, *TRAIN, *start, "--minutes", 0.01).rc == 2
    packed = invoke("pack", gray_file, tmp_path / "x.cpack", *HYPERPRIOR, "-m", model, "--json")
    assert packed.rc == 0
    assert packed.json["bytes"]["model"] > 0


def test_train_a_profile(invoke: RunCli, gray_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine.safetensors"
    done = invoke("train", gray_file, "-o", model, *TRAIN, "--profile", "fast", "--ms-ssim", 0.5, "--minutes", 0.01)
    assert done.rc == 0
    assert "bits per pixel (quality " in done.stdout
    document = model_file.parse(model.read_bytes())[1]
    assert (document["config"]["width"], document["config"]["channels"]) == (24, 1)
    assert document["training"]["settings"]["ms_ssim"] == 0.5


def test_grain(invoke: RunCli, gray_file: Path, hyperprior_models: Path, tmp_path: Path) -> None:
    model, rough = hyperprior_models / "tiny-gray.safetensors", tmp_path / "rough.cpack"
    assert invoke("pack", gray_file, rough, "-c", "hyperprior-1:quality=10,grain=100", "-m", model).rc == 0
    assert "grain=100" in invoke("info", rough).stdout
    assert invoke("verify", rough).rc == 0
    done = invoke("pack", gray_file, tmp_path / "x.cpack", "-c", "hyperprior-1:grain=101", "-m", model)
    assert done.rc == 2
    assert "0 to 100" in done.stderr


def test_train_from_what_does_not_fit(
    invoke: RunCli, gray_file: Path, tiny_model: Path, hyperprior_models: Path, tmp_path: Path
) -> None:
    model = tmp_path / "m.safetensors"
    for start, error in ((tiny_model, "ModelError"), ("no-such-model", "ModelError"), ("tiny-rgb", "InputError")):
        path = hyperprior_models / f"{start}.safetensors" if start == "tiny-rgb" else start
        done = invoke("train", gray_file, "-o", model, *TRAIN, "--from", path, "--minutes", 0.01, "--json")
        assert done.json["error"]["type"] == error
    assert not model.exists()


def test_interrupted_train(run_cli: RunCli, gray_file: Path, hyperprior_models: Path, tmp_path: Path) -> None:
    model, log = tmp_path / "m.safetensors", tmp_path / "stderr"
    options = [*map(str, TRAIN), "--from", "tiny-gray"]
    environment = {"BATCHCODEC_MODELS": str(hyperprior_models)}
    command = [CONSOLE_SCRIPT, "train", gray_file, "-o", model, *options, "--minutes", "2", "--progress", "--json"]

    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=os.environ | environment)
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
    assert model_file.checkpoint_path(model).exists()
    assert run_cli("pack", gray_file, tmp_path / "a.cpack", *HYPERPRIOR, "-m", model).rc == 0

    resumed = run_cli("train", gray_file, "-o", model, *options, "--resume", "--minutes", "0.0001", "--json", env=environment)
    assert resumed.rc == 0, resumed.stderr
    assert resumed.json["steps"] >= 1
    assert resumed.json["interrupted"] is False
    assert not model_file.checkpoint_path(model).exists()
