"""Training of `balle2017-1`, and what the shared loop does for it."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import picture

from batchcodec.errors import InputError, ModelError, OptionError
from batchcodec.learned import loop, model_file
from batchcodec.learned.architecture import ACTIVATIONS, UPSAMPLINGS
from batchcodec.learned.balle.architecture import Architecture
from batchcodec.learned.balle.codec import Balle2017Codec
from batchcodec.learned.balle.model import LoadedModel
from batchcodec.learned.balle.network import Transforms
from batchcodec.learned.balle.prior import CumulativePrior
from batchcodec.learned.balle.training import BalleSettings, BalleTrainer
from batchcodec.learned.interrupts import between_steps
from batchcodec.learned.run import run_to_file
from batchcodec.types import GroupSpec, Pixels

ARCH = Architecture(channels=1, latent=16, width=8, depth=2, anchors=3)
SETTINGS = BalleSettings(crop=16, batch=4, epochs=1, validation=2)


def images(n: int = 20, channels: int = 1) -> list[Pixels]:
    return [picture((24, 24, channels), i) for i in range(n)]


def trainer(arch: Architecture = ARCH, **changes: Any) -> BalleTrainer:
    return BalleTrainer(images(channels=arch.channels), replace(SETTINGS, **changes), arch)


@torch.no_grad()
def true_loss(run: BalleTrainer) -> float:
    x = run.gray_levels(run.data.held_out())
    costs = [run.cost(run.model, x, torch.full((len(x),), q), noise=False) for q in (10.0, 50.0, 90.0)]
    worth = [run.weights(torch.tensor(q)) for q in (10.0, 50.0, 90.0)]
    return float(sum((f * (bits + w * error)).mean() for (bits, error), (w, f) in zip(costs, worth, strict=True)))


# ---- networks


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("upsample", ["transpose", "pixelshuffle"])
def test_the_start_is_a_transform_and_its_inverse(channels: int, upsample: str) -> None:
    """As many latents as samples, no activation: what comes back is the image, but for what begins small."""
    arch = Architecture(channels, 64 * channels, 64 * channels, 2, "none", upsample, 2)
    torch.manual_seed(0)
    net, pictures = Transforms(arch), images(60, channels)
    net.start_linear(pictures, 100, 10)
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        y = net.analysed(x)
        error = (net.synthesised(y) - x).square().mean()
    assert y.shape == (60, arch.latent, 3, 3)
    assert error < 0.02 * x.var()
    energy = y.square().mean((0, 2, 3))
    assert energy[: arch.latent // 4].sum() > 0.8 * energy.sum(), "the first components hold most"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
def test_all_architectures_train_and_code(activation: str, upsample: str) -> None:
    run = trainer(replace(ARCH, activation=activation, upsample=upsample, depth=1 + len(activation) % 2))
    assert np.isfinite([run.train_step() for _ in range(3)]).all()
    stack = np.stack(images(3))
    codec = Balle2017Codec(model=run.release(), quality=90)
    assert LoadedModel(codec.get_model()).arch == run.arch
    assert codec.decode(codec.encode(stack), GroupSpec.of(stack)).shape == stack.shape


def test_gains_are_interpolated() -> None:
    net = Transforms(ARCH)
    net.start_linear(images(), 64, 4)
    with torch.no_grad():
        steps = net.step(torch.tensor([0.0, 49.5, 99.0]))[:, 0, 0, 0] * 32
        gains = net.gain(torch.tensor([0.0, 49.5, 99.0]))[:, 0, 0, 0] / 32
    assert steps.tolist() == pytest.approx([64, 16, 4])
    assert gains.tolist() == pytest.approx([1 / 64, 1 / 16, 1 / 4])


def test_the_prior_is_a_distribution() -> None:
    torch.manual_seed(0)
    prior = CumulativePrior(3)
    prior.scale.copy_(torch.tensor([0.5, 1.0, 4.0]))
    with torch.no_grad():
        for name, parameter in prior.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) * ("matrix" in name or "factor" in name))
        grid = torch.arange(-200.0, 201).reshape(1, 1, -1, 1).expand(1, 3, -1, 1)
        mass = 2 ** -prior.bits(grid, torch.ones(1, 1, 1, 1))
        assert mass.sum((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=2e-3)
        halves = torch.tensor([0.25, -0.25]).reshape(1, 1, 2, 1).expand(1, 3, -1, 1)
        fine = 2 ** -prior.bits(halves, torch.full((1, 1, 1, 1), 0.5))
    whole = mass[0, :, 200, 0]
    assert fine.sum((0, 2, 3)).tolist() == pytest.approx(whole.tolist(), abs=1e-5), "halves make the whole"


# ---- runs


def test_the_loss_falls() -> None:
    run = trainer()
    before = true_loss(run)
    run.started_at = -loop.WARM_UP  # the learning rate is no longer warming up
    run.settings = replace(run.settings, epochs=1000)
    losses = [run.train_step() for _ in range(80)]
    assert np.isfinite(losses).all()
    assert true_loss(run) < 0.9 * before


def test_a_stopped_and_resumed_run_is_the_whole_run(tmp_path: Path) -> None:
    """Bit for bit, noise and qualities too: random numbers follow from the seed and the step."""
    whole = trainer(epochs=2)
    whole.run()
    first = trainer(epochs=2)
    first.run(until=0.5)
    assert 0 < first.step < whole.step
    first.save(tmp_path / "x.checkpoint")
    second = trainer(epochs=2)
    second.load(tmp_path / "x.checkpoint")
    second.run()
    assert second.step == whole.step
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))
    one, other = (model_file.parse(run.release())[0] for run in (whole, second))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_an_interrupt_waits_for_the_end_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a resumed run would do half a step twice."""
    whole = trainer(epochs=2)
    whole.run()
    first, draw = trainer(epochs=2), BalleTrainer.draw

    def interrupted(self: BalleTrainer, n: int) -> tuple[torch.Tensor, ...]:
        if self is first and self.step == 3:  # in the middle of a step: the batch is drawn, nothing is learned yet
            signal.raise_signal(signal.SIGINT)
        return draw(self, n)

    monkeypatch.setattr(BalleTrainer, "draw", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "x.checkpoint")
    assert first.step == 4
    assert signal.getsignal(signal.SIGINT) is before
    second = trainer(epochs=2)
    second.load(tmp_path / "x.checkpoint")
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))


def test_a_second_interrupt_waits_for_nothing() -> None:
    with between_steps() as check:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            check()


def test_threads_share_a_batch() -> None:
    """Two halves have the gradient of the whole, but for the order of sums."""
    one, two = trainer(threads=1), trainer(threads=2)
    x, quality = one.batch(), torch.tensor([5.0, 30.0, 60.0, 95.0])
    torch.manual_seed(0)
    loss = one._gradients(x, quality)
    assert two._gradients(x, quality) == pytest.approx(loss, rel=0.2)  # the noise is another
    for a, b in zip(one._parameters, two._parameters, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert a.grad.shape == b.grad.shape


def test_a_pause_is_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped for an hour goes on where it was: the clock decides the learning rate."""
    run, hours = trainer(minutes=10), iter(range(100))
    monkeypatch.setattr(loop.time, "monotonic", lambda: 3600.0 * next(hours))
    with pytest.raises(KeyboardInterrupt):
        run.run(progress=lambda status: signal.raise_signal(signal.SIGINT))
    assert run.seconds == loop.LONGEST_STEP
    assert run.done == pytest.approx(0.1)


def test_patience_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "VALIDATED_STEPS", 2)
    run = trainer(epochs=1000, patience=3)
    losses = iter([5.0, 4.0, 4.5, 4.6, 4.7, 1.0])
    monkeypatch.setattr(run, "measure", lambda: {"loss": next(losses)})
    run.run()
    assert run.step == 10
    assert [row["loss"] for row in run.log] == [5.0, 4.0, 4.5, 4.6, 4.7]
    assert run.done < 1


def test_the_run_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    report = run_to_file(trainer(), out, name="m")
    assert report.codec == "balle2017-1"
    assert report.model_bytes == out.stat().st_size
    assert (report.n_train, report.n_validation) == (18, 2)
    assert [point["quality"] for point in report.points] == [10, 40, 70, 95]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors"]
    document = model_file.parse(out.read_bytes())[1]
    assert document["name"] == "m"
    assert document["training"]["steps"] == report.steps


def test_the_density_is_that_of_the_latents() -> None:
    """The tables of a release cost about what the integers' own entropy is."""
    run = trainer()
    run.run()
    model = LoadedModel(run.release())
    stack = run.data.sample(100, seed=0, side=32)
    quantised = Balle2017Codec(model=run.release(), quality=60)._quantised(stack).transpose(1, 0, 2, 3).reshape(16, -1)
    bank = model.bank(60)
    for channel, integers in enumerate(quantised):
        index = np.full(len(integers), channel)
        share = np.unique(integers, return_counts=True)[1] / len(integers)
        entropy = -(share * np.log2(share)).sum()
        assert bank.bits(integers, index).mean() < entropy + 0.3


# ---- what is refused


@pytest.mark.parametrize("change", [{"latent": 17}, {"width": 9}, {"activation": "relu"}, {"upsample": "resize"}], ids=str)
def test_checkpoints_of_other_networks(change: dict[str, Any], tmp_path: Path) -> None:
    trainer().save(tmp_path / "x.checkpoint")
    with pytest.raises(ModelError, match=r"other settings \(arch"):
        trainer(replace(ARCH, **change)).load(tmp_path / "x.checkpoint")
    with pytest.raises(ModelError, match=r"other settings \(lambdas"):
        trainer(lambdas=(0.001, 0.1)).load(tmp_path / "x.checkpoint")


@pytest.mark.parametrize(
    "change",
    [
        {"lambdas": (0.1, 0.01)},
        {"lambdas": (0.1, 0.1)},
        {"lambdas": (0.0, 0.1)},
        {"lambdas": (0.1, float("nan"))},
        {"validation": 0},
        {"patience": -1},
        {"threads": -1},
        {"batch": 0},
        {"epochs": 0},
    ],
    ids=str,
)
def test_bad_settings(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        replace(SETTINGS, **change)


@pytest.mark.parametrize(
    "change", [{"latent": 0}, {"width": 513}, {"depth": 6}, {"activation": "x"}, {"upsample": "x"}, {"channels": 5}], ids=str
)
def test_bad_architectures(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Architecture.chosen(**change)


def test_images_that_it_cannot_train_on() -> None:
    for bad in ([], images(1), [*images(3), *images(3, 3)], images(5, 3), [picture((24, 24, 1), 0, "uint16")] * 3):
        with pytest.raises(InputError):
            BalleTrainer(bad, SETTINGS, ARCH)
    with pytest.raises(OptionError, match="multiple of 8"):
        trainer(crop=12)
