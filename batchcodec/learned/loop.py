"""The training loop of all learned codecs: batches, optimiser, averaged weights, validation, checkpoints, and guards.

A codec's own trainer is a subclass that brings a model (an `nn.Module` with all that is trained), a loss, a measure and the
model file at the end. What is here is the same for all of them:

- The learning rate warms up over `WARM_UP` steps, then follows `schedule`.
- Gradients are clipped to a norm of 1. A step without a finite gradient is skipped, and counted. Where the loss ran away, or no
  step is finite any more, the run goes back to the last sound state, and on with a lower learning rate.
- Weights are averaged (EMA). The average is what is validated and released; with `keeps_best` as it was when it was best.
- All state is in a checkpoint. Random numbers of the images come from a generator whose state is in it, those of torch from
  the seed and the step: a run by passes (`epochs`) that is stopped and resumed gives the same weights as one that was not, bit
  for bit, on one machine with the same threads. A run by the clock cannot, and warms up anew where it goes on.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from batchcodec.learned import checkpoints
from batchcodec.learned.data import Crops
from batchcodec.learned.devices import torch_device
from batchcodec.learned.interrupts import between_steps
from batchcodec.learned.settings import RunSettings, TrainStatus
from batchcodec.types import Pixels

Settings = TypeVar("Settings", bound=RunSettings)

WARM_UP = 200
"""Steps."""
CHECKED_STEPS = 250
"""Between two looks at whether training ran away."""
CHECKPOINT_SECONDS = 120
LOGGED = 60
"""Most rows of the log that are kept in a model file."""
VALIDATED_STEPS = 1000
LONGEST_STEP = 60.0
"""Seconds: what takes longer was a process that was paused, or a machine that slept, and does not count as training."""
FIRST_VALIDATION = 100
"""The step of the first validation of a run that has just begun, so that something can be shown."""


class Trainer(ABC, Generic[Settings]):
    """One run over images in memory.

    Args:
        model: all that is trained.
        data: what it is trained on.
        settings: of the run.

    Attributes:
        codec_id: that the checkpoints are for.
        rates: of parts of the model, by patterns of parameters' names: how many times the others' learning rate.
        splits_batches: whether threads may each take a part of a batch; not where batch norm looks at all of it.
        keeps_best: whether the weights of the best validation are released, or the last ones.
        validate_seconds: between two validations; None is every `VALIDATED_STEPS` steps, which another run can repeat.
    """

    codec_id: ClassVar[str]
    rates: ClassVar[dict[str, float]] = {}
    splits_batches: ClassVar[bool] = True
    keeps_best: ClassVar[bool] = False
    validate_seconds: ClassVar[float | None] = None

    def __init__(self, model: nn.Module, data: Crops, settings: Settings) -> None:
        self.settings, self.data = settings, data
        self.device = torch_device(settings.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                factor = next((f for part, f in self.rates.items() if fnmatchcase(name, part)), 1.0)
                groups.setdefault(factor, []).append(parameter)
        self.optimiser = torch.optim.Adam([{"params": p, "factor": f} for f, p in groups.items()], lr=settings.learning_rate)
        self._parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.step, self.seconds, self.recent_loss = 0, 0.0, math.nan
        self.started_at = 0
        """The step that this run began with, which may go on from an earlier one."""
        self.skipped = 0
        """Steps without a finite gradient since the last look."""
        self.log: list[dict[str, Any]] = []
        self.caution = 1.0  # factor of the learning rate, lowered whenever training ran away
        self.lowest_loss = math.inf  # of the running mean, at a look
        self.good: tuple[dict[str, Any], ...] | None = None
        self.best: dict[str, Tensor] = {}
        self.best_cost = math.inf  # of a validation
        self.since_best = 0  # validations

    # ---- what a codec brings

    @abstractmethod
    def loss(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """The mean loss of gray levels [N, C, crop, crop], float32, with what `draw` gave for them."""

    @abstractmethod
    def measure(self) -> dict[str, Any]:
        """A row of the log, from `average` and the held-out images; `loss` in it is what the best is chosen by."""

    @abstractmethod
    def release(self, **extra: Any) -> bytes:
        """The model file of `average`; `extra` goes into its document."""

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on beside the names and shapes of the weights, as JSON."""
        return {}

    def draw(self, n: int) -> tuple[Tensor, ...]:
        """Random tensors [n, ...] that go with a batch, such as qualities."""
        return ()

    def schedule(self) -> float:
        """Factor of the learning rate, from what is `done`: falls to zero over the second half."""
        return min(1.0, 2 * (1 - self.done))

    def before_step(self) -> None:
        """Called before each step, for what depends on how far the run is."""

    def numerics(self) -> contextlib.AbstractContextManager[None]:
        """The settings of torch that the loop runs under."""
        return contextlib.nullcontext()

    def badness(self, loss: float) -> float:
        """A loss on a scale where twice as much is lost; the loss itself, if it is never negative."""
        return loss

    # ---- steps

    @property
    def done(self) -> float:
        """Part of the run, from 0 to 1."""
        if self.settings.minutes is not None:
            return min(1.0, self.seconds / max(1e-9, 60 * self.settings.minutes))
        return min(1.0, self.step * self.settings.batch / (self.settings.epochs * len(self.data.train)))

    def batch(self) -> Tensor:
        """Random crops, gray levels, float32 [B, C, crop, crop]."""
        return self.gray_levels(self.data.batch(self.settings.batch))

    def gray_levels(self, stack: Pixels) -> Tensor:
        """uint8 [N, H, W, C] as float32 [N, C, H, W] on the device."""
        x = torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2).float()
        return x.contiguous(memory_format=torch.channels_last)

    def train_step(self) -> float:
        """One step; its loss."""
        torch.manual_seed((self.settings.seed << 31) + self.step)
        warm_up = (self.step - self.started_at + 1) / WARM_UP  # also for a run that goes on, after rates near zero
        rate = self.caution * self.settings.learning_rate * min(1.0, warm_up) * self.schedule() + 1e-6
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.before_step()
        x = self.batch()
        loss = self._gradients(x, *self.draw(len(x)))
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.step += 1
        if not torch.isfinite(norm):  # one bad batch must not spoil all weights
            self.skipped += 1
            return loss
        self.optimiser.step()
        decay = min(0.999, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(_floats(self.average), _floats(self.model), 1 - decay)
        return loss

    def _gradients(self, x: Tensor, *drawn: Tensor) -> float:
        """Set the gradients of the loss, which is returned.

        Each thread takes a part of the batch through the whole network. That scales; threads within a layer hardly do,
        since layers are small and wait for each other.
        """
        n_parts = min(self.settings.threads, len(x)) if self.device.type == "cpu" and self.splits_batches else 1

        def part(i: int) -> tuple[float, tuple[Tensor | None, ...]]:
            if self.splits_batches:
                torch.set_num_threads(1)
            rows = slice(len(x) * i // n_parts, len(x) * (i + 1) // n_parts)
            share = (rows.stop - rows.start) / len(x)
            loss = self.loss(x[rows], *(tensor[rows] for tensor in drawn)) * share
            return float(loss.detach()), torch.autograd.grad(loss, self._parameters, allow_unused=True)

        if n_parts > 1:
            with ThreadPoolExecutor(n_parts) as pool:
                parts = list(pool.map(part, range(n_parts)))
        else:
            parts = [part(0)]
        for parameter, *grads in zip(self._parameters, *(grads for _, grads in parts), strict=True):
            found = [grad for grad in grads if grad is not None]
            parameter.grad = sum(found[1:], found[0]) if found else None
        return sum(loss for loss, _ in parts)

    # ---- the run

    def validate(self) -> dict[str, Any]:
        """Measure, log, and remember the weights where they are the best so far."""
        with torch.no_grad():
            row = {"step": self.step, "seconds": round(self.seconds, 1), **self.measure()}
        self.log.append(row)
        self.since_best += 1
        if row["loss"] < self.best_cost:
            self.best_cost, self.since_best = row["loss"], 0
            if self.keeps_best:
                self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        return row

    def take_best(self) -> None:
        """Put the weights of the best validation into `average`, where they are kept."""
        if self.best:
            self.average.load_state_dict(self.best)

    def run(
        self,
        checkpoint: Path | None = None,
        progress: Callable[[TrainStatus], None] | None = None,
        *,
        validate_every: float | None = None,
        until: float = 1.0,
    ) -> None:
        """Train until this part of the run is done, or validations have not been better for `patience` times.

        An interrupt waits for the end of a step, and leaves a checkpoint behind.

        Args:
            checkpoint: where the state goes, every `CHECKPOINT_SECONDS`, after each validation and at the end.
            progress: called a few times a second.
            validate_every: seconds, in place of `validate_seconds`.
            until: part of the whole, 0 to 1.
        """
        validate_every = self.validate_seconds if validate_every is None else validate_every
        started, first_step = time.monotonic(), self.step
        before = last_checkpoint = last_validation = last_progress = started
        with self.numerics(), between_steps() as check_interrupt:
            try:
                while self.done < until and not self.out_of_patience:
                    value = self.train_step()
                    if math.isfinite(value):  # else the batch was skipped
                        mean = self.recent_loss
                        self.recent_loss = value if math.isnan(mean) else 0.98 * mean + 0.02 * value
                    if self.step % CHECKED_STEPS == 0:
                        self.recent_loss = self.go_back_if_lost(self.recent_loss)
                    now = time.monotonic()
                    self.seconds += min(now - before, LONGEST_STEP)
                    before = now
                    if validate_every is None:
                        due = self.step % VALIDATED_STEPS == 0 or self.step == FIRST_VALIDATION
                    else:
                        due = now - last_validation > validate_every
                    if due:
                        self.validate()
                        last_validation = time.monotonic()
                    if checkpoint and (due or now - last_checkpoint > CHECKPOINT_SECONDS):
                        self.save(checkpoint)
                        last_checkpoint = now
                    if progress and now - last_progress > 0.2:
                        speed = (self.step - first_step) * self.settings.batch / max(1e-9, now - started)
                        progress(TrainStatus(self.done, self.step, self.recent_loss, speed, self.log))
                        last_progress = now
                    check_interrupt()
            finally:
                if checkpoint:
                    self.save(checkpoint)
            if until >= 1 and not (self.log and self.log[-1]["step"] == self.step and "loss" in self.log[-1]):
                self.validate()

    @property
    def out_of_patience(self) -> bool:
        """Whether validations have not been better for too long."""
        return 0 < self.settings.patience <= self.since_best

    def go_back_if_lost(self, loss: float) -> float:
        """Remember the state where the loss is sound; else go back to the last that was, and more slowly."""
        parts: tuple[Any, ...] = (self.model, self.average, self.optimiser)
        stuck = self.skipped > CHECKED_STEPS // 2  # where no gradient is finite, weights stay and nothing leads away
        self.skipped = 0
        bad, lowest = self.badness(loss), self.badness(self.lowest_loss)
        if bad < 1.5 * lowest and not stuck:
            self.lowest_loss = min(self.lowest_loss, loss)
            self.good = tuple(copy.deepcopy(part.state_dict()) for part in parts)
        elif self.good and (stuck or not bad < 2 * lowest):
            for part, state in zip(parts, copy.deepcopy(self.good), strict=True):
                part.load_state_dict(state)
            self.caution *= 0.7
            self.started_at = self.step
            self.log.append({"step": self.step, "seconds": round(self.seconds), "went_back": "stuck" if stuck else loss})
            return self.lowest_loss
        return loss

    # ---- checkpoints

    def save(self, path: Path) -> None:
        """Write all state to a checkpoint."""
        checkpoints.save(self, path)

    def load(self, path: Path) -> None:
        """Go on where a run of the same kind stopped.

        Raises:
            ModelError: it is no checkpoint of such a run.
        """
        checkpoints.load(self, path)
        if self.settings.minutes is not None:  # by the clock: it warms up anew
            self.started_at = self.step


def _floats(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers that can be averaged."""
    return [tensor for tensor in chain(module.parameters(), module.buffers()) if tensor.is_floating_point()]


def thinned(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `LOGGED` rows of a log, evenly spread, the first and the last among them."""
    last = len(log) - 1
    return [log[i] for i in sorted({round(last * k / (LOGGED - 1)) for k in range(LOGGED)})] if log else []
