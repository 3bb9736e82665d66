"""A whole training run of `hyperprior-1`, from images to a model file; an interrupt ends it early and loses nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchcodec.atomic import write_atomically
from batchcodec.errors import OptionError
from batchcodec.learned import model_file, shipped
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior.architecture import profile
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Status, Trainer
from batchcodec.types import Pixels

DEFAULT_PROFILE = "balanced"


@dataclass(frozen=True)
class RunReport:
    """What a run gave. `log` has one row for each validation, as `Trainer.validate` makes them."""

    path: Path
    settings: Settings
    steps: int
    seconds: float
    n_train: int
    n_validation: int
    interrupted: bool
    model_bytes: int
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def points(self) -> list[dict[str, float]]:
        """Bits per pixel and PSNR at some qualities, of the last validation."""
        return latest_points(self.log)


def latest_points(log: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """What the last validation of a log measured; none before the first."""
    return next((row["points"] for row in reversed(log) if "points" in row), [])


def train(
    images: Sequence[Pixels],
    out: Path,
    settings: Settings,
    *,
    profile_name: str | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[Status], None] | None = None,
) -> RunReport:
    """Train a model and write it to `out`; Ctrl-C ends the run early and keeps what there is.

    Args:
        images: uint8 [H, W, C] each, all of one number of channels.
        out: the model file to write. Its checkpoint is `out` + ".checkpoint" and is removed at the end.
        settings: of the run.
        profile_name: size of the networks, when nothing is given to start from.
        start: name or file of a model to go on from.
        resume: go on from the checkpoint if there is one.
        progress: called a few times a second.

    Raises:
        InputError: images that it cannot train on.
        ModelError: a checkpoint or a start that does not fit.
        OptionError: settings that contradict each other.
    """
    if settings.minutes <= 0:
        raise OptionError("minutes", settings.minutes, "a positive number")
    if start is not None and profile_name is not None:
        raise OptionError("profile", profile_name, "none beside --from: the networks keep their size")
    if start is not None:
        trainer = Trainer(images, settings, start=LoadedModel(shipped.read(start)))
    else:
        arch, encoder = profile(profile_name or DEFAULT_PROFILE, images[0].shape[2])
        trainer = Trainer(images, settings, arch=arch, encoder=encoder)
    checkpoint = model_file.checkpoint_path(out)
    if resume and checkpoint.exists():
        trainer.load(checkpoint)
    interrupted = True
    with contextlib.suppress(KeyboardInterrupt):  # it has left a checkpoint
        trainer.run(checkpoint, progress)
        interrupted = False
    if interrupted:
        with numerics(settings.threads):
            trainer.validate()
    # The stem is the name under which `shipped` finds the file, and what an archive says that only names its model.
    blob = trainer.release(name=out.name.removesuffix(shipped.SUFFIX))
    write_atomically(out, blob)
    if not interrupted:
        checkpoint.unlink(missing_ok=True)
    return RunReport(
        path=out,
        settings=settings,
        steps=trainer.step,
        seconds=trainer.seconds,
        n_train=len(trainer.images),
        n_validation=len(trainer.validation),
        interrupted=interrupted,
        model_bytes=len(blob),
        log=trainer.log,
    )
