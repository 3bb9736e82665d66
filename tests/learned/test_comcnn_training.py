"""Training of `comcnn-1`: turns, real codecs in the loop, and what comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import picture
from scipy.fft import dctn

from batchcodec.errors import InputError, ModelError, OptionError
from batchcodec.learned import loop, model_file
from batchcodec.learned.architecture import ACTIVATIONS, UPSAMPLINGS
from batchcodec.learned.comcnn import training
from batchcodec.learned.comcnn.architecture import Architecture
from batchcodec.learned.comcnn.codec import ComcnnCodec
from batchcodec.learned.comcnn.model import LoadedModel
from batchcodec.learned.comcnn.network import Networks
from batchcodec.learned.comcnn.training import COMCNN_EVERY, ComcnnSettings, ComcnnTrainer
from batchcodec.types import GroupSpec, Pixels

ARCH = Architecture(channels=1, width=8, depth=4)
SETTINGS = ComcnnSettings(crop=32, batch=4, epochs=1, validation=2)


def images(n: int = 20, channels: int = 1) -> list[Pixels]:
    return [picture((40, 40, channels), i) for i in range(n)]


def trainer(arch: Architecture = ARCH, **changes: Any) -> ComcnnTrainer:
    return ComcnnTrainer(images(channels=arch.channels), replace(SETTINGS, **changes), arch)


@torch.no_grad()
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
@pytest.mark.parametrize("compact", [True, False])
def test_the_start_is_plain_resampling(upsample: str, compact: bool) -> None:
    networks = Networks(Architecture(3, 8, 5, "relu", upsample, compact))
    x = torch.rand(2, 3, 16, 24) * 255
    coded = networks.compact(x)
    plain, residual = networks.decoder(coded)
    assert coded.shape == ((2, 3, 8, 12) if compact else x.shape)
    assert plain.shape == residual.shape == x.shape
    assert not residual.any()
    if compact:
        assert coded.mean() == pytest.approx(float(x.mean()), rel=0.02)
    else:
        assert torch.equal(plain, x)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
def test_all_architectures_train_and_code(activation: str, upsample: str) -> None:
    compact = len(activation) % 2 == 0
    run = trainer(Architecture(1, 8, 2 + len(activation) % 3, activation, upsample, compact))
    assert np.isfinite([run.train_step() for _ in range(4)]).all()
    stack = np.stack(images(3))
    codec = ComcnnCodec(model=run.release(), quality=40)
    assert codec.decode(codec.encode(stack), GroupSpec.of(stack)).shape == stack.shape


def test_the_networks_learn_in_turns() -> None:
    run = trainer()
    run.settings = replace(run.settings, epochs=1000)
    for _ in range(2 * COMCNN_EVERY):  # the last layers begin at zero, so the first gradients reach only these
        run.train_step()
    for step in range(2 * COMCNN_EVERY):
        run.step = step
        run.before_step()
        run._gradients(run.batch())
        changed = {name.partition(".")[0] for name, p in run.model.named_parameters() if p.grad is not None and p.grad.any()}
        assert changed == ({"decoder"} if step % COMCNN_EVERY else {"encoder"})


def test_without_a_compact_image_only_the_filter_learns() -> None:
    run = trainer(replace(ARCH, compact=False))
    run._gradients(run.batch())
    assert all(name.startswith("decoder.") for name, _ in run.model.named_parameters())
    assert all(p.grad is not None for p in run.model.parameters())


def test_the_error_falls_below_that_of_plain_resampling() -> None:
    run = trainer(replace(ARCH, compact=False), qualities=(5, 10))
    before = run.validate()["loss"]
    run.started_at = -loop.WARM_UP  # the learning rate is no longer warming up
    run.settings = replace(run.settings, epochs=1000)
    for _ in range(150):
        run.train_step()
    assert run.validate()["loss"] < 0.97 * before


def test_the_rate_keeps_compact_images_cheap() -> None:
    """Of noise, which is dear, ComCNN lets less through if it pays for bits."""
    rng, bits = np.random.default_rng(0), {}
    noise = [rng.integers(0, 256, (32, 32, 1), np.uint8) for _ in range(12)]
    for weight in (0.0, 10.0):
        run = ComcnnTrainer(noise, replace(SETTINGS, rate_weight=weight, learning_rate=0.01, epochs=1000), ARCH)
        run.started_at = -loop.WARM_UP
        for _ in range(40):
            run.step = 0  # ComCNN's turn, again and again
            run.train_step()
        with torch.no_grad():
            compact = run.model.compact(run.gray_levels(run.data.sample(8, seed=0)))
            bits[weight] = float(training.estimated_bits(compact, 60).mean())
    assert bits[10.0] < 0.95 * bits[0.0]


def test_the_transform_is_the_dct() -> None:
    block = np.random.default_rng(0).normal(0, 50, (8, 8))
    matrix = training.dct(training.BLOCK).double().numpy()
    assert matrix @ block @ matrix.T == pytest.approx(dctn(block, norm="ortho"), abs=1e-4)


def test_estimated_bits_follow_content_and_quality() -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(128, 40, (2, 3, 16, 16))).float()
    flat = torch.full((2, 3, 16, 16), 128.0)
    assert training.estimated_bits(flat, 50).tolist() == pytest.approx([0, 0], abs=1e-4)
    rising = [float(training.estimated_bits(noise, quality)[0]) for quality in (5, 30, 60, 95)]
    assert rising == sorted(rising)
    assert rising[0] > 0.05


def test_all_bases_and_qualities_are_drawn() -> None:
    run = trainer(base="jpeg,webp,store", qualities=(20, 30))
    run.settings = replace(run.settings, epochs=1000)
    seen = set()
    for step in range(300):
        torch.manual_seed(step)
        run.before_step()
        assert 20 <= run.quality <= 30
        seen.add((run.coder.codec_id, run.quality))
    assert {ident for ident, _ in seen} == {"jpeg", "webp", "store"}
    assert {quality for ident, quality in seen if ident == "jpeg"} >= {20, 25, 30}


def test_a_stopped_and_resumed_run_is_the_whole_run(tmp_path: Path) -> None:
    whole = trainer(epochs=2)
    whole.run()
    first = trainer(epochs=2)
    first.run(until=0.5)
    assert 0 < first.step < whole.step
    first.save(tmp_path / "x.checkpoint")
    second = trainer(epochs=2)
    second.load(tmp_path / "x.checkpoint")
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))
    one, other = (model_file.parse(run.release())[0] for run in (whole, second))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "change", [{"base": "webp"}, {"qualities": (10, 70)}, {"rate_weight": 2.0}], ids=lambda change: next(iter(change))
)
def test_checkpoints_of_other_runs(change: dict[str, Any], tmp_path: Path) -> None:
    trainer().save(tmp_path / "x.checkpoint")
    with pytest.raises(ModelError, match=rf"other settings \({next(iter(change))}"):
        trainer(**change).load(tmp_path / "x.checkpoint")


@pytest.mark.parametrize(
    "change",
    [
        {"base": "nothing"},
        {"base": ""},
        {"base": "jpeg,hyperprior-1"},
        {"qualities": (0, 50)},
        {"qualities": (50, 10)},
        {"qualities": (50, 100)},
        {"rate_weight": -1.0},
        {"rate_weight": float("nan")},
        {"validation": 0},
    ],
    ids=str,
)
def test_bad_settings(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        replace(SETTINGS, **change)


@pytest.mark.parametrize(
    "change", [{"width": 513}, {"depth": 1}, {"activation": "x"}, {"channels": 5}, {"compact": 1}], ids=str
)
def test_bad_architectures(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Architecture.chosen(**change)


def test_images_that_it_cannot_train_on() -> None:
    for bad in ([], images(1), [*images(3), *images(3, 3)], images(5, 3)):
        with pytest.raises(InputError):
            ComcnnTrainer(bad, SETTINGS, ARCH)
    with pytest.raises(OptionError, match="multiple of 16"):
        trainer(crop=24)


def test_a_run_goes_on_from_a_model_with_its_encoder() -> None:
    first = trainer()
    for _ in range(4):
        first.train_step()
    start = LoadedModel(first.release())
    then = ComcnnTrainer(images(), SETTINGS, start=start)
    assert then.arch == ARCH
    for name, tensor in then.model.state_dict().items():
        assert torch.equal(tensor, first.average.state_dict()[name].half().float())
    for_archives = LoadedModel(start.without_encoder())
    with pytest.raises(ModelError, match="no encoder"):
        ComcnnTrainer(images(), SETTINGS, start=for_archives)
    with pytest.raises(InputError, match="channels"):
        ComcnnTrainer(images(channels=3), SETTINGS, start=start)
