"""What a training run of `hyperprior-1` starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchcodec.errors import OptionError
from batchcodec.learned import shipped
from batchcodec.learned.hyperprior.architecture import profile
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.types import Pixels

DEFAULT_PROFILE = "balanced"


def begun(
    images: Sequence[Pixels], settings: Settings, *, profile_name: str | None = None, start: str | Path | None = None
) -> Trainer:
    """A run that is to begin, for `run.run_to_file`.

    Args:
        images: uint8 [H, W, C] each, all of one number of channels.
        settings: of the run.
        profile_name: size of the networks, when nothing is given to start from.
        start: name or file of a model to go on from.

    Raises:
        InputError: images that it cannot train on.
        ModelError: a start that does not fit.
        OptionError: settings that contradict each other.
    """
    if start is None:
        arch, encoder = profile(profile_name or DEFAULT_PROFILE, images[0].shape[2])
        return Trainer(images, settings, arch=arch, encoder=encoder)
    if profile_name is not None:
        raise OptionError("profile", profile_name, "none beside --from: the networks keep their size")
    return Trainer(images, settings, start=LoadedModel(shipped.read(start)))
