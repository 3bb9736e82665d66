"""Training of `hyperprior-1` on tiny data: what a run must do, survive and keep, and what it must refuse."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from helpers import picture
from torch import Tensor

from batchcodec.errors import InputError, ModelError, OptionError
from batchcodec.learned import loop, model_file
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior import model as models
from batchcodec.learned.hyperprior import trainer as trainers
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.codec import HyperpriorCodec
from batchcodec.learned.hyperprior.model import LoadedModel, exact_layers
from batchcodec.learned.hyperprior.trainer import Settings, Trainer, loaded_for_training
from batchcodec.learned.hyperprior.training import KAPPA, SIMILARITY_UNIT, Model
from batchcodec.learned.settings import TrainStatus
from batchcodec.types import GroupSpec

ARCH = Architecture(
    channels=1,
    slices=(4, 12),
    width=6,
    blocks=1,
    fine_width=5,
    fine_blocks=1,
    hyper=4,
    hyper_width=8,
    context_width=8,
    anchors=3,
)
ENCODER = {"width": 8, "blocks": 0, "fine_width": 8}
SETTINGS = Settings(minutes=1000, batch=4, crop=32, learning_rate=0.01, validation=2, bfloat16=False)


@pytest.fixture(scope="module")
def untrained() -> Trainer:
    return Trainer([picture((32, 32, 1), i) for i in range(12)], SETTINGS, arch=ARCH, encoder=ENCODER)


@pytest.fixture
def trainer(untrained: Trainer) -> Trainer:
    """One of its own, as it was made."""
    torch.manual_seed(1)
    return copy.deepcopy(untrained)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    state = {f"model.{k}": v for k, v in trainer.model.state_dict().items()}
    return {k: v.clone() for k, v in (state | {f"average.{k}": v for k, v in trainer.average.state_dict().items()}).items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def step(trainer: Trainer, n: int = 1) -> list[float]:
    with numerics():
        return [trainer.train_step() for _ in range(n)]


@torch.no_grad()
def true_cost(trainer: Trainer) -> float:
    """Cost of the training images at some qualities, with the weights that are trained."""
    x = torch.from_numpy(np.stack(trainer.data.train)).permute(0, 3, 1, 2).float()
    with numerics():
        qualities = [torch.full((len(x),), quality) for quality in (10.0, 50.0, 90.0)]
        return sum(float(trainer.model.loss(trainer.model(x, q, noise=False), q)) for q in qualities)


def test_the_loss_falls(trainer: Trainer) -> None:
    before = true_cost(trainer)
    trainer.step = 200  # the learning rate is no longer warming up
    losses = step(trainer, 60)
    assert np.isfinite(losses).all()
    assert true_cost(trainer) < 0.9 * before
    assert (trainer.step, trainer.skipped) == (260, 0)


def test_a_run_saves_and_validates(trainer: Trainer, tmp_path: Path) -> None:
    trainer.settings = dataclasses.replace(SETTINGS, minutes=0.5 / 60)
    seen: list[TrainStatus] = []
    trainer.run(tmp_path / "x.checkpoint", seen.append)
    assert trainer.done == 1
    assert all(0 <= status.done <= 1 for status in seen)
    (row,) = trainer.log
    assert row["step"] == trainer.step > 0
    assert [point["quality"] for point in row["points"]] == list(trainers.VALIDATION_QUALITIES)
    rates, psnrs = ([point[key] for point in row["points"]] for key in ("bits_per_pixel", "psnr"))
    assert rates == sorted(rates)
    assert psnrs == sorted(psnrs)
    assert (tmp_path / "x.checkpoint").exists()


def test_an_interrupt_leaves_a_checkpoint(trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Trainer) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(tmp_path / "x.checkpoint")
    assert (tmp_path / "x.checkpoint").exists()


def test_a_resumed_run_goes_on(untrained: Trainer, trainer: Trainer, tmp_path: Path) -> None:
    step(trainer, 3)
    trainer.seconds = 12.5
    trainer.log.append({"step": 3, "seconds": 12, "points": []})
    trainer.save(tmp_path / "x.checkpoint")
    resumed = copy.deepcopy(untrained)
    resumed.load(tmp_path / "x.checkpoint")
    assert (resumed.step, resumed.seconds, resumed.log) == (3, 12.5, trainer.log)
    assert equal(weights(resumed), weights(trainer))
    assert resumed.data.random.bit_generator.state == trainer.data.random.bit_generator.state
    trainer.started_at = resumed.started_at  # both warm up from there
    torch.manual_seed(5)
    expected = step(trainer, 3)
    torch.manual_seed(5)
    assert step(resumed, 3) == expected
    assert equal(weights(resumed), weights(trainer))
    resumed.save(tmp_path / "y.checkpoint")
    trainer.save(tmp_path / "x.checkpoint")
    assert (tmp_path / "y.checkpoint").read_bytes() == (tmp_path / "x.checkpoint").read_bytes()


def test_two_runs_from_one_checkpoint_are_the_same(untrained: Trainer, trainer: Trainer, tmp_path: Path) -> None:
    step(trainer, 2)
    trainer.save(tmp_path / "x.checkpoint")
    runs = []
    for _ in range(2):
        resumed = copy.deepcopy(untrained)
        resumed.load(tmp_path / "x.checkpoint")
        runs.append((step(resumed, 2), weights(resumed)))
    assert runs[0][0] == runs[1][0]
    assert equal(runs[0][1], runs[1][1])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_batch_without_a_finite_loss_is_skipped(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    step(trainer)
    before, original = weights(trainer), Model.loss
    with monkeypatch.context() as patched:
        patched.setattr(
            Model, "loss", lambda self, *args: original(self, *args) * sum(p.sum() for p in self.parameters()) * value
        )
        (loss,) = step(trainer)
    assert not np.isfinite(loss)
    assert (trainer.skipped, trainer.step) == (1, 2)
    assert equal(weights(trainer), before)
    (loss,) = step(trainer)
    assert np.isfinite(loss)
    assert trainer.skipped == 1
    assert not equal(weights(trainer), before)
    assert all(torch.isfinite(tensor).all() for tensor in weights(trainer).values())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_one_bad_batch_is_no_reason_to_go_back(trainer: Trainer, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """`run` looks at the mean of the losses every 250 steps: a batch that was skipped must not weigh in it for ever."""
    seen: list[float] = []

    def fake_step(self: Trainer) -> float:
        self.step += 1
        if self.step == 600:
            self.seconds = 1e9
            raise KeyboardInterrupt
        return value if self.step in (1, 260) else 5.0

    def watched(self: Trainer, loss: float) -> float:
        seen.append(loss)
        return loss

    monkeypatch.setattr(Trainer, "train_step", fake_step)
    monkeypatch.setattr(Trainer, "go_back_if_lost", watched)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert seen == pytest.approx([5.0, 5.0])


@pytest.mark.parametrize("loss", [100.0, float("inf"), float("nan")])
def test_it_goes_back_when_it_is_lost(trainer: Trainer, loss: float) -> None:
    step(trainer, 2)
    good = weights(trainer)
    assert trainer.go_back_if_lost(4.0) == 4.0
    step(trainer, 3)
    lost = weights(trainer)
    assert not equal(lost, good)
    assert trainer.go_back_if_lost(7.0) == 7.0, "neither sound nor lost"
    assert equal(weights(trainer), lost)
    assert trainer.go_back_if_lost(loss) == 4.0
    assert equal(weights(trainer), good)
    assert trainer.caution == pytest.approx(0.7)
    assert trainer.log[-1]["step"] == 5
    assert "went_back" in trainer.log[-1]
    step(trainer, 2)
    assert not equal(weights(trainer), good)
    assert trainer.go_back_if_lost(loss) == 4.0
    assert equal(weights(trainer), good), "what is remembered is not trained on"
    assert trainer.caution == pytest.approx(0.49)


def test_it_goes_back_when_no_gradient_is_finite(trainer: Trainer) -> None:
    """Then weights stay as they are, and the mean of the finite losses says nothing of it."""
    step(trainer, 2)
    good = weights(trainer)
    assert trainer.go_back_if_lost(4.0) == 4.0
    with torch.no_grad():
        next(iter(trainer.model.parameters())).fill_(float("nan"))
    step(trainer, loop.CHECKED_STEPS // 2 + 1)
    assert trainer.go_back_if_lost(4.0) == 4.0
    assert equal(weights(trainer), good)
    assert (trainer.skipped, trainer.log[-1]["went_back"]) == (0, "stuck")
    step(trainer)
    assert not equal(weights(trainer), good)


def test_a_run_that_goes_on_warms_up_again(trainer: Trainer, tmp_path: Path) -> None:
    trainer.step = trainer.started_at = 5000
    trainer.save(tmp_path / "checkpoint")
    trainer.started_at = 0
    trainer.load(tmp_path / "checkpoint")
    step(trainer)
    highest = trainer.settings.learning_rate
    assert trainer.optimiser.param_groups[0]["lr"] < 0.02 * highest
    trainer.step += loop.WARM_UP
    step(trainer)
    assert max(group["lr"] for group in trainer.optimiser.param_groups) > 0.9 * highest


def test_caution_slows_it_down(trainer: Trainer) -> None:
    trainer.step = 500
    step(trainer)
    rates = [group["lr"] for group in trainer.optimiser.param_groups]
    trainer.caution = 0.5
    step(trainer)
    assert [group["lr"] for group in trainer.optimiser.param_groups] == pytest.approx([rate / 2 for rate in rates], rel=1e-3)


def test_nothing_to_go_back_to(trainer: Trainer) -> None:
    before = weights(trainer)
    assert trainer.go_back_if_lost(float("inf")) == float("inf")
    assert equal(weights(trainer), before)
    assert trainer.caution == 1


def _changed(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    parsed, document = model_file.parse(path.read_bytes())
    tensors = dict(parsed)
    change(tensors, document)
    path.write_bytes(model_file.dump(tensors, document))


BAD_CHECKPOINTS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "another architecture": lambda tensors, document: document["identity"]["arch"].update(hyper=5),
    "no architecture": lambda tensors, document: document.pop("identity"),
    "another kind": lambda tensors, document: document.update(checkpoint="autoencoder-1"),
    "no step": lambda tensors, document: document.pop("step"),
    "a step of text": lambda tensors, document: document.update(step="x"),
    "no random state": lambda tensors, document: document.update(random={}),
    "a weight less": lambda tensors, document: tensors.pop("model.decoder.linear.weight"),
    "a weight of another shape": lambda tensors, document: tensors.update(
        {"model.decoder.linear.weight": np.ones((2, 2), np.float32)}
    ),
    "no average": lambda tensors, document: [tensors.pop(key) for key in list(tensors) if key.startswith("average.")],
}


@pytest.mark.parametrize("change", BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_checkpoints_that_do_not_fit(
    trainer: Trainer, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]
) -> None:
    trainer.save(tmp_path / "x.checkpoint")
    _changed(tmp_path / "x.checkpoint", change)
    with pytest.raises(ModelError):
        trainer.load(tmp_path / "x.checkpoint")


def test_what_is_no_checkpoint(trainer: Trainer, tmp_path: Path) -> None:
    for blob in (b"", b"junk" * 100, trainer.release()):
        (tmp_path / "x.checkpoint").write_bytes(blob)
        with pytest.raises(ModelError):
            trainer.load(tmp_path / "x.checkpoint")
    with pytest.raises(ModelError):
        trainer.load(tmp_path / "missing.checkpoint")


def test_the_release_is_the_average(trainer: Trainer) -> None:
    step(trainer, 5)
    trainer.validate()
    blob = trainer.release(name="some")
    loaded = LoadedModel(blob)
    assert (loaded.document["name"], loaded.document["training"]["steps"]) == ("some", 5)
    assert loaded.document["training"]["log"] == trainer.log
    released = dict(exact_layers(loaded.decoder))
    for name, layer in exact_layers(trainer.average.decoder):
        weight, bias = layer.quantised()
        assert torch.equal(released[name].weight, weight), name
        assert torch.equal(released[name].bias, bias), name
    steps = torch.exp2(trainer.average.decoder.log_steps.detach()).round()
    assert np.array_equal(loaded.tensors["steps"], steps.numpy())
    encoder = trainer.average.encoder.state_dict()
    assert all(torch.equal(tensor, encoder[name].half().float()) for name, tensor in loaded.encoder.state_dict().items())
    assert trainer.release(name="some") == blob


def test_the_release_codes(trainer: Trainer) -> None:
    step(trainer, 5)
    images = np.stack([picture((20, 33, 1), i) for i in range(3)])
    codec = HyperpriorCodec(model=trainer.release(), quality=90)
    decoded = codec.decode(codec.encode(images), GroupSpec.of(images))
    assert np.abs(decoded.astype(int) - images).mean() < 8


def decoder_tensors(blob: bytes) -> dict[str, np.ndarray]:
    parsed = model_file.parse(blob)[0]
    return {name: tensor for name, tensor in parsed.items() if name.startswith("decoder.") or name in ("steps", "offset")}


def test_what_is_loaded_for_training_is_what_was_released(trainer: Trainer) -> None:
    step(trainer, 5)
    blob = trainer.release()
    again = blob
    for _ in range(2):
        start = LoadedModel(again)
        model = loaded_for_training(start)
        assert torch.equal(cast(Tensor, model.nominal), torch.tensor(start.document["nominal"]))
        tables = {name: tensor for name, tensor in start.tensors.items() if name.startswith(("hyper.", "scales."))}
        again = models.dump(model.decoder, model.encoder, tables, {"nominal": start.document["nominal"]})
        found, expected = decoder_tensors(again), decoder_tensors(blob)
        assert found.keys() == expected.keys()
        assert [name for name in found if not np.array_equal(found[name], expected[name])] == []


def test_training_goes_on_from_a_model_file(trainer: Trainer) -> None:
    step(trainer, 5)
    start = LoadedModel(trainer.release())
    more = Trainer([picture((32, 32, 1), i) for i in range(12)], SETTINGS, start=start)
    assert more.arch == ARCH
    step(more, 2)
    assert not np.array_equal(more.model.decoder.linear.weight.detach(), start.decoder.linear.weight)
    with pytest.raises(ModelError, match="no encoder"):
        loaded_for_training(LoadedModel(LoadedModel(trainer.release()).without_encoder()))
    with pytest.raises(InputError):
        Trainer([picture((32, 32, 3), i) for i in range(12)], SETTINGS, start=start)


@pytest.mark.parametrize(
    "images",
    [
        [],
        [picture((32, 32, 1))],
        [picture((32, 32, 1)), picture((32, 32, 3))],
        [picture((32, 32, 3)), picture((32, 32, 3))],
        [picture((32, 32, 1), i, "uint16") for i in range(4)],
        [picture((32, 32, 1)), picture((32, 32, 1), 1, "uint16")],
    ],
    ids=["none", "one", "mixed channels", "another number of channels", "16 bits", "one of 16 bits"],
)
def test_images_that_it_cannot_train_on(images: list[Any]) -> None:
    with pytest.raises(InputError):
        Trainer(images, SETTINGS, arch=ARCH, encoder=ENCODER)


@pytest.mark.parametrize("shape", [(8, 8, 1), (3, 5, 1), (1, 40, 1), (40, 1, 1)], ids=str)
def test_small_images(shape: tuple[int, int, int], untrained: Trainer) -> None:
    """Of one position of latents, the second pass has none."""
    images = [picture(shape, i) for i in range(4)]
    small = Trainer(images, SETTINGS, start=LoadedModel(untrained.release()))
    assert np.isfinite(step(small, 2)).all()
    with numerics():
        assert len(small.validate()["points"]) == len(trainers.VALIDATION_QUALITIES)
    stack = np.stack(images)
    codec = HyperpriorCodec(model=small.release())
    assert codec.decode(codec.encode(stack), GroupSpec.of(stack)).shape == stack.shape


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minutes", -1.0),
        ("minutes", 1e7),
        ("minutes", float("nan")),
        ("batch", 0),
        ("batch", 5000),
        ("crop", 7),
        ("crop", 5000),
        ("learning_rate", 0.0),
        ("learning_rate", 2.0),
        ("coarsest", 2000.0),
        ("coarsest", 0.5),
        ("finest", 0.5),
        ("finest", 150.0),
        ("threads", 0),
        ("weight_limit", 0),
        ("weight_limit", 128),
        ("qualities", (0, 50)),
        ("qualities", (50, 101)),
        ("qualities", (60, 50)),
        ("validation", 0),
        ("validation", -3),
        ("seed", -1),
    ],
)
def test_settings_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        Settings(**{name: value})
    assert caught.value.fields["name"] in (name.replace("_", "-"), "coarsest", "finest")


@pytest.mark.parametrize("limit", [1, 31, 127])
def test_weights_keep_to_their_limit(limit: int) -> None:
    torch.manual_seed(0)
    net = Model(ARCH, **ENCODER)
    for _, layer in exact_layers(net.decoder):
        layer.weight_limit = limit
        assert layer.integers()[0].abs().max() in range(limit // 2, limit + 1)


def test_a_share_of_ms_ssim_is_part_of_the_loss(trainer: Trainer) -> None:
    images = np.stack([picture((32, 32, 1), i) for i in range(4)])
    quality = torch.full((4,), 29.0)
    plain = trainer.cost_of(images, 30)
    assert plain.similarity.tolist() == [1.0] * 4
    losses = {}
    for share in (0.0, 0.25, 1.0):
        trainer.average.similarity_share = share
        cost = trainer.cost_of(images, 30)
        assert torch.equal(cost.bits_per_pixel, plain.bits_per_pixel)
        losses[share] = float(trainer.average.loss(cost, quality))
    assert (cost.similarity < 1).all()
    step = float(trainer.average.nominal_step(quality)[0])
    weight = step / float(cast(Tensor, trainer.average.nominal).log().mean().exp())
    by_hand = cost.bits_per_pixel + KAPPA / step**2 * SIMILARITY_UNIT * (1 - cost.similarity)
    assert losses[1.0] == pytest.approx(weight * float(by_hand.mean()), rel=1e-5)
    assert losses[0.25] == pytest.approx(0.75 * losses[0.0] + 0.25 * losses[1.0], rel=1e-5)


def test_training_for_ms_ssim_runs_and_says_how_far_it_came(trainer: Trainer) -> None:
    run = Trainer(
        [picture((64, 64, 1), i) for i in range(12)],
        dataclasses.replace(SETTINGS, crop=64, ms_ssim=0.5),
        arch=ARCH,
        encoder=ENCODER,
    )
    assert np.isfinite([run.train_step() for _ in range(5)]).all()
    assert all(0 < point["ms_ssim"] < 1 for point in run.measure()["points"])
    assert "ms_ssim" not in trainer.measure()["points"][0]


def test_the_share_of_ms_ssim_is_checked_and_kept_by_checkpoints(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="ms-ssim"):
        dataclasses.replace(SETTINGS, ms_ssim=1.5)
    trainer.save(tmp_path / "c")
    other = Trainer(
        [picture((32, 32, 1), i) for i in range(12)],
        dataclasses.replace(SETTINGS, ms_ssim=0.5),
        arch=ARCH,
        encoder=ENCODER,
    )
    with pytest.raises(ModelError, match="ms_ssim"):
        other.load(tmp_path / "c")
