"""A training run of `hyperprior-1`: what it starts from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from batchcodec.errors import OptionError
from batchcodec.learned import shipped
from batchcodec.learned.hyperprior.architecture import profile
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.learned.run import run_to_file
from batchcodec.learned.settings import TrainReport, TrainStatus
from batchcodec.types import Pixels

DEFAULT_PROFILE = "balanced"


def train(
    images: Sequence[Pixels],
    out: Path,
    settings: Settings,
    *,
    profile_name: str | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[TrainStatus], None] | None = None,
) -> TrainReport:
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
    if start is not None and profile_name is not None:
        raise OptionError("profile", profile_name, "none beside --from: the networks keep their size")
    if start is not None:
        trainer = Trainer(images, settings, start=LoadedModel(shipped.read(start)))
    else:
        arch, encoder = profile(profile_name or DEFAULT_PROFILE, images[0].shape[2])
        trainer = Trainer(images, settings, arch=arch, encoder=encoder)
    # The stem is the name under which `shipped` finds the file, and what an archive says that only names its model.
    name = out.name.removesuffix(shipped.SUFFIX)
    return run_to_file(trainer, out, resume=resume, progress=progress, name=name)
