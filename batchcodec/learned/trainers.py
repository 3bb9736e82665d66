"""A trainer of each codec, from options as the command line gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchcodec.errors import OptionError
from batchcodec.learned import shipped
from batchcodec.learned.loop import Trainer
from batchcodec.types import Pixels


def trainer_of(codec_id: str, images: list[Pixels], shared: dict[str, Any], own: dict[str, Any]) -> Trainer[Any]:
    """The trainer of a codec.

    Args:
        codec_id: of the codec.
        images: uint8 [H, W, C] each, all of one number of channels.
        shared: fields of `RunSettings`.
        own: options that not all codecs have, by their names on the command line; lists of numbers are still text.

    Raises:
        OptionError: a bad value.
    """
    return _TRAINERS[codec_id](images, dict(shared), dict(own))


def _autoencoder(images: list[Pixels], shared: dict[str, Any], given: dict[str, Any]) -> Trainer[Any]:
    from batchcodec.learned.train import AutoencoderTrainer, TrainOptions

    depth = given.pop("depth", 3)
    if "width" in given or depth != 3:
        width = given.pop("width", None)
        given["widths"] = tuple(32 * 2**i for i in range(depth)) if width is None else _numbers("width", width, depth, int)
    return AutoencoderTrainer(images, TrainOptions(**shared, **{name.replace("-", "_"): v for name, v in given.items()}))


def _balle2017(images: list[Pixels], shared: dict[str, Any], given: dict[str, Any]) -> Trainer[Any]:
    from batchcodec.learned.balle.architecture import Architecture
    from batchcodec.learned.balle.training import BalleSettings, BalleTrainer

    if "width" in given:
        (given["width"],) = _numbers("width", given["width"], 1, int)
    if "lambda" in given:
        shared["lambdas"] = _numbers("lambda", given.pop("lambda"), 2, float)
    if "epochs" in given:
        shared["epochs"] = given.pop("epochs")
    return BalleTrainer(images, BalleSettings(**shared), Architecture.chosen(channels=images[0].shape[2], **given))


def _comcnn(images: list[Pixels], shared: dict[str, Any], given: dict[str, Any]) -> Trainer[Any]:
    from batchcodec.learned.comcnn.architecture import Architecture
    from batchcodec.learned.comcnn.model import LoadedModel
    from batchcodec.learned.comcnn.training import ComcnnSettings, ComcnnTrainer

    if "width" in given:
        (given["width"],) = _numbers("width", given["width"], 1, int)
    if "qualities" in given:
        shared["qualities"] = _numbers("qualities", given.pop("qualities"), 2, int)
    for name in ("base", "rate-weight", "epochs"):
        if name in given:
            shared[name.replace("-", "_")] = given.pop(name)
    start = given.pop("from", None)
    if start is None:
        return ComcnnTrainer(images, ComcnnSettings(**shared), Architecture.chosen(channels=images[0].shape[2], **given))
    for name, value in given.items():
        raise OptionError(name, value, "none beside --from: the networks keep their shape")
    return ComcnnTrainer(images, ComcnnSettings(**shared), start=LoadedModel(shipped.read(start)))


def _hyperprior(images: list[Pixels], shared: dict[str, Any], given: dict[str, Any]) -> Trainer[Any]:
    from batchcodec.learned.hyperprior.trainer import Settings
    from batchcodec.learned.hyperprior.training_run import begun

    if "ms-ssim" in given:
        shared["ms_ssim"] = given.pop("ms-ssim")
    return begun(images, Settings(**shared), profile_name=given.get("profile"), start=given.get("from"))


_TRAINERS = {
    "autoencoder-1": _autoencoder,
    "balle2017-1": _balle2017,
    "comcnn-1": _comcnn,
    "hyperprior-1": _hyperprior,
}


def _numbers(name: str, value: str, n: int, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """So many numbers between commas."""
    try:
        found = tuple(kind(part) for part in value.split(","))
    except ValueError:
        found = ()
    if len(found) != n:
        example = {"width": "32,64,128", "lambda": "0.0016,0.04", "qualities": "10,80"}[name] if n > 1 else "96"
        raise OptionError(name, value, f"{n} number{'s' * (n > 1)} such as {example}")
    return found
