"""A whole training run, from a trainer to a model file; an interrupt ends it early and loses nothing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchcodec.atomic import write_atomically
from batchcodec.learned import model_file
from batchcodec.learned.loop import Trainer
from batchcodec.learned.settings import TrainReport, TrainStatus, latest


def run_to_file(
    trainer: Trainer[Any],
    out: Path,
    *,
    resume: bool = False,
    progress: Callable[[TrainStatus], None] | None = None,
    **extra: Any,
) -> TrainReport:
    """Train and write the model to `out`; Ctrl-C ends the run early and keeps what there is.

    Args:
        trainer: a run that has not begun.
        out: the model file to write. Its checkpoint is `out` + ".checkpoint" and is removed at the end.
        resume: go on from the checkpoint if there is one.
        progress: called a few times a second.
        extra: goes into the document of the model file.

    Raises:
        ModelError: a checkpoint that does not fit.
    """
    checkpoint = model_file.checkpoint_path(out)
    if resume and checkpoint.exists():
        trainer.load(checkpoint)
    interrupted = True
    with contextlib.suppress(KeyboardInterrupt):  # it has left a checkpoint
        trainer.run(checkpoint, progress)
        interrupted = False
    if interrupted:
        with trainer.numerics():
            trainer.validate()
    blob = trainer.release(**extra)
    write_atomically(out, blob)
    if not interrupted:
        checkpoint.unlink(missing_ok=True)
    last = latest(trainer.log)
    return TrainReport(
        path=out,
        codec=trainer.codec_id,
        settings=trainer.settings,
        steps=trainer.step,
        seconds=trainer.seconds,
        n_train=len(trainer.data.train),
        n_validation=len(trainer.data.validation),
        interrupted=interrupted,
        model_bytes=len(blob),
        psnr=last.get("psnr", math.nan),
        bits_per_pixel=last.get("bits_per_pixel", math.nan),
        points=last.get("points", []),
        log=trainer.log,
    )
