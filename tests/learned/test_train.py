"""Training: reproducible, resumable, interruptible, and strict about what it is given."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import picture
from PIL import Image

from batchcodec.errors import EmptyDatasetError, InputError, ModelError, OptionError
from batchcodec.learned import model_file
from batchcodec.learned.autoencoder import AutoencoderCodec
from batchcodec.learned.data import load_images
from batchcodec.learned.settings import TrainStatus
from batchcodec.learned.train import AutoencoderTrainer, TrainOptions, train
from batchcodec.preprocess import Preprocess
from batchcodec.types import GroupSpec, Item, Pixels

SMALL = TrainOptions(latent=4, widths=(8, 8, 8), epochs=1, batch=8, crop=32, threads=1)


def _document(path: Path) -> dict[str, Any]:
    return model_file.parse(path.read_bytes())[1]


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_equal_seeds_give_equal_models(gray_32: list[Pixels], tmp_path: Path) -> None:
    models = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        report = train(gray_32, tmp_path / name, replace(SMALL, seed=seed))
        assert report.model_bytes == (tmp_path / name).stat().st_size
        models.append(model_file.parse((tmp_path / name).read_bytes())[0])
    assert all(np.array_equal(models[0][k], models[1][k]) for k in models[0])
    assert not all(np.array_equal(models[0][k], models[2][k]) for k in models[0])


def test_the_report(gray_32: list[Pixels], tmp_path: Path) -> None:
    report = train(gray_32, tmp_path / "m", SMALL)
    assert (report.n_train, report.n_validation) == (61, 3)
    assert report.steps == -(-61 // 8)
    assert not report.interrupted
    assert np.isfinite([report.psnr, report.bits_per_pixel]).all()
    assert [row["step"] for row in report.log] == [report.steps]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]
    assert _document(tmp_path / "m")["training"]["steps"] == report.steps


@pytest.mark.parametrize("rate_weight", [0, 1])
def test_training_learns_the_pictures(rate_weight: float, gray_32: list[Pixels], tmp_path: Path) -> None:
    report = train(gray_32, tmp_path / "m", replace(SMALL, epochs=40, rate_weight=rate_weight))
    images = np.stack(gray_32)
    codec = AutoencoderCodec(model=(tmp_path / "m").read_bytes())
    error = np.square(codec.decode(codec.encode(images), GroupSpec.of(images)) - images.astype(float)).mean()
    assert error < images.var() / 4
    assert abs(10 * np.log10(255**2 / error) - report.psnr) < 3


class _Interrupt:
    """A progress callback at which the user presses Ctrl-C."""

    def __init__(self, after: int = 1) -> None:
        self.after = after

    def __call__(self, status: TrainStatus) -> None:
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt


def _interrupted(images: list[Pixels], out: Path) -> int:
    report = train(images, out, replace(SMALL, epochs=1000, minutes=1), progress=_Interrupt())
    assert report.interrupted
    return report.steps


def test_an_interrupt_keeps_the_best_so_far_and_a_checkpoint(gray_32: list[Pixels], tmp_path: Path) -> None:
    steps = _interrupted(gray_32, tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "m.checkpoint"]
    assert _document(tmp_path / "m.checkpoint")["step"] == steps > 0
    images = np.stack(gray_32)
    codec = AutoencoderCodec(model=(tmp_path / "m").read_bytes())
    assert codec.decode(codec.encode(images), GroupSpec.of(images)).shape == images.shape


def test_resume_goes_on(gray_32: list[Pixels], tmp_path: Path) -> None:
    steps = _interrupted(gray_32, tmp_path / "m")
    epochs = (steps + 20) * SMALL.batch / 61
    report = train(gray_32, tmp_path / "m", replace(SMALL, epochs=epochs), resume=True)
    assert abs(report.steps - (steps + 20)) <= 1
    assert not (tmp_path / "m.checkpoint").exists()
    fresh = train(gray_32, tmp_path / "fresh", SMALL, resume=True)  # nothing to resume: starts at the beginning
    assert fresh.steps == 8


def test_a_stopped_and_resumed_run_is_the_whole_run(gray_32: list[Pixels], tmp_path: Path, monkeypatch: Any) -> None:
    """The checkpoint holds all state: the random numbers of batches, the optimiser, the averages."""
    from batchcodec.learned import train as module

    options = SMALL  # with a rate term, whose noise is drawn by torch
    train(gray_32, tmp_path / "whole", options)
    step = module.AutoencoderTrainer.train_step

    def stopping(run: Any) -> float:
        if run.step == 4 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return step(run)

    stopped: list[bool] = []
    monkeypatch.setattr(module.AutoencoderTrainer, "train_step", stopping)
    assert train(gray_32, tmp_path / "parts", options).steps == 4
    assert train(gray_32, tmp_path / "parts", options, resume=True).steps == 8
    whole, parts = (model_file.parse((tmp_path / name).read_bytes())[0] for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("change", [{"latent": 5}, {"widths": (8, 8, 9)}, {"seed": 3}, {"rate_weight": 1.0}, {"batch": 4}])
def test_resume_refuses_other_settings(change: dict[str, Any], gray_32: list[Pixels], tmp_path: Path) -> None:
    _checkpoint(gray_32, tmp_path)
    with pytest.raises(ModelError, match=f"other settings .*{next(iter(change))}"):
        train(gray_32, tmp_path / "m", replace(SMALL, **change), resume=True)


def test_resume_refuses_other_images_and_damage(gray_32: list[Pixels], tmp_path: Path) -> None:
    _checkpoint(gray_32, tmp_path)
    with pytest.raises(ModelError, match="channels"):
        train([picture((32, 32, 3), i) for i in range(4)], tmp_path / "m", SMALL, resume=True)
    checkpoint = tmp_path / "m.checkpoint"
    tensors, document = model_file.parse(checkpoint.read_bytes())
    checkpoint.write_bytes(model_file.dump({k: v for k, v in tensors.items() if not k.startswith("model.")}, document))
    with pytest.raises(ModelError, match="checkpoint"):
        train(gray_32, tmp_path / "m", SMALL, resume=True)
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(ModelError):
        train(gray_32, tmp_path / "m", SMALL, resume=True)


def _checkpoint(images: list[Pixels], folder: Path) -> None:
    trainer = AutoencoderTrainer(images, SMALL)
    trainer.train_step()
    trainer.save(folder / "m.checkpoint")
    json.dumps(_document(folder / "m.checkpoint")["settings"])


@pytest.mark.parametrize(
    "option",
    [
        {"latent": 0},
        {"latent": 513},
        {"batch": 0},
        {"crop": 4},
        {"crop": 60},
        {"rate_weight": -1},
        {"rate_weight": float("nan")},
        {"learning_rate": 0},
        {"validation": 0},
        {"validation": 0.6},
        {"epochs": 0},
        {"minutes": 0},
        {"minutes": float("nan")},
        {"device": "tpu"},
    ],
    ids=str,
)
def test_bad_options(option: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        TrainOptions(**option)


def test_images_that_it_cannot_train_on(gray_32: list[Pixels], tmp_path: Path) -> None:
    for images in (
        [],
        gray_32[:1],
        [gray_32[0], picture((32, 32, 3))],
        [picture((32, 32, 4))] * 3,
        [picture((32, 32, 1), dtype="uint16")] * 3,
    ):
        with pytest.raises(InputError):
            train(images, tmp_path / "m", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_images_smaller_than_the_crop_and_of_many_sizes(tmp_path: Path) -> None:
    images = [picture((height, width, 1), height) for height, width in ((1, 1), (5, 40), (40, 5), (33, 65), (8, 8))]
    report = train(images, tmp_path / "m", replace(SMALL, batch=2))
    assert (report.n_train, report.n_validation) == (4, 1)


def test_load_images_makes_mixed_data_rgb(tmp_path: Path) -> None:
    Image.fromarray(picture((9, 9))).save(tmp_path / "gray.png")
    Image.fromarray(picture((8, 9, 3))).save(tmp_path / "rgb.png")
    Image.fromarray(picture((8, 9, 4))).save(tmp_path / "rgba.png")
    (tmp_path / "bad.png").write_bytes(b"x")
    images = load_images(tmp_path, Preprocess())
    assert sorted(image.shape for image in images) == [(8, 9, 3), (8, 9, 3), (9, 9, 3)]
    assert {image.shape[2] for image in load_images(tmp_path, Preprocess(mode="gray"))} == {1}
    assert {image.shape for image in load_images(tmp_path, Preprocess(size=(6, 4)))} == {(4, 6, 3)}
    (tmp_path / "rgb.png").unlink()
    (tmp_path / "rgba.png").unlink()
    assert [image.shape for image in load_images(tmp_path, Preprocess())] == [(9, 9, 1)]
    (tmp_path / "gray.png").unlink()
    with pytest.raises(EmptyDatasetError):
        load_images(tmp_path, Preprocess())


def test_load_images_keeps_a_sample_that_fits(tmp_path: Path, gray_32: list[Pixels]) -> None:
    np.save(tmp_path / "x.npy", np.stack(gray_32)[..., 0])
    found = load_images(tmp_path / "x.npy", Preprocess(), max_bytes=10 * 1024, seed=1)
    assert len(found) == 10
    again = load_images(tmp_path / "x.npy", Preprocess(), max_bytes=10 * 1024, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_load_images_reads_forwards(gray_32: list[Pixels]) -> None:
    """A compressed file starts anew at each step back: in random order 60,000 images took hours."""
    asked: list[int] = []

    class Recorder(list[Item]):
        def __getitem__(self, index: Any) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    recorder = Recorder(Item(str(i), image) for i, image in enumerate(gray_32))
    plugins: Any = SimpleNamespace(format_of=lambda *_: SimpleNamespace(read=lambda _: recorder))
    found = load_images(Path("x"), Preprocess(), max_bytes=20 * 1024, plugins=plugins)
    assert len(found) == 20
    assert sum(b < a for a, b in itertools.pairwise(asked)) <= 1  # once, after the look at the first ones
