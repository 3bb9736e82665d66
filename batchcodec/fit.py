"""Fit the learned codec to a dataset before it is packed, and keep what was fitted only where it makes the archive smaller."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batchcodec.choice import DEFAULT_CODEC, FALLBACK_CODEC, FEW_PIXELS, FITTED_CODEC, estimated_pixels
from batchcodec.errors import OptionError
from batchcodec.registry import Registry, parse_codec
from batchcodec.types import Item, Pixels

if TYPE_CHECKING:
    from batchcodec.dataset import FormatOptions
    from batchcodec.learned.hyperprior.fitting import Candidate
    from batchcodec.preprocess import Preprocess

N_RIVAL = 64
"""Images that a classical codec is tried on."""
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Fitted:
    """What a fit gave.

    Attributes:
        codec: what to pack with.
        models: model files by the channels of the images that they are for.
        reason: what was chosen and why, in a sentence.
        candidates: what was compared.
    """

    codec: str
    models: dict[int, bytes]
    reason: str
    candidates: list[Candidate]


def parse_time(text: str, option: str = "fit") -> float:
    """`90s`, `5m` or `2h` (or a number of seconds) in seconds; `option` is whose value it is, for the message.

    Raises:
        OptionError: it is none of them, or less than 1 second.
    """
    match = re.fullmatch(r"([0-9]{1,7}(?:\.[0-9]{1,3})?)([smh]?)", text)
    seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if seconds < 1:
        raise OptionError(option, text, "a time of at least 1 second, such as 90s, 5m or 2h")
    return seconds


def fit_dataset(
    source: Path,
    dataset: Sequence[Item],
    seconds: float,
    *,
    codec: str,
    model: Path | None,
    preprocess: Preprocess,
    format_id: str | None,
    format_options: FormatOptions,
    plugins: Registry,
    progress: Callable[[str, float], None] | None = None,
) -> Fitted:
    """Fit `hyperprior-1` to a dataset, or say that another codec serves it better.

    Args:
        source: the dataset's path.
        dataset: the same, read.
        seconds: to train for; reading and comparing come on top.
        codec: as `pack` was given it: "auto" or a text of hyperprior-1.
        model: what to start from; the shipped model for such images by default.
        preprocess: as the images will be packed.
        format_id: of the dataset.
        format_options: how it is read.
        plugins: where codecs are found.
        progress: called with a short text and the part that is done.

    Raises:
        OptionError: a codec that cannot be fitted.
        InputError: no images to fit to.
    """
    text = DEFAULT_CODEC if codec == "auto" else codec
    codec_id, chosen = parse_codec(text)
    if codec_id != FITTED_CODEC:
        raise OptionError("fit", codec, f"--codec auto or {FITTED_CODEC}: other codecs are not fitted")
    # These import torch: they come after what can be refused without it.
    from batchcodec.learned import shipped
    from batchcodec.learned.data import load_images
    from batchcodec.learned.hyperprior import fitting
    from batchcodec.learned.hyperprior.codec import DEFAULT_QUALITY, HyperpriorCodec

    images = load_images(source, preprocess, format_id=format_id, format_options=format_options, plugins=plugins)
    channels = images[0].shape[2]
    n_pixels = estimated_pixels(dataset, preprocess) or sum(image.shape[0] * image.shape[1] for image in images)
    start = shipped.read(model) if model else HyperpriorCodec.default_model(_spec(images[0]))
    options = fitting.FitOptions(seconds, quality=int(chosen.get("quality", DEFAULT_QUALITY)))
    rivals = [_rival(images, n_pixels, plugins)] if codec == "auto" and n_pixels < FEW_PIXELS else []
    report = fitting.fit(images, options, n_pixels=n_pixels, start=start, rivals=rivals, progress=progress)
    if report.model is None:
        return Fitted(FALLBACK_CODEC, {}, report.reason, report.candidates)
    return Fitted(text, {channels: report.model}, report.reason, report.candidates)


def _spec(image: Pixels) -> Any:
    from batchcodec.types import ImageSpec

    return ImageSpec.of(image)


def _rival(images: Sequence[Pixels], n_pixels: int, plugins: Registry) -> Candidate:
    """What the classical codec for few pixels comes to, from some of the images."""
    from batchcodec.learned.hyperprior.fitting import Candidate
    from batchcodec.types import GroupSpec

    codec = plugins.make_codec(FALLBACK_CODEC)
    picks = np.random.default_rng(0).permutation(len(images))[:N_RIVAL]
    by_shape: dict[tuple[int, ...], list[Pixels]] = {}
    for i in picks:
        by_shape.setdefault(images[i].shape, []).append(images[i])
    n_bytes, n_seen, squared, psnrs = 0, 0, 0.0, []
    for group in by_shape.values():
        stack = np.stack(group)
        payload = codec.encode(stack)
        error = (codec.decode(payload, GroupSpec.of(stack)).astype(np.float64) - stack) ** 2
        n_bytes += len(payload)
        n_seen += stack.shape[0] * stack.shape[1] * stack.shape[2]
        squared += float(error.sum())
        psnrs += (10 * np.log10(255**2 / np.maximum(error.mean((1, 2, 3)), 0.01))).tolist()
    return Candidate(
        name=FALLBACK_CODEC,
        weight_bytes=0,
        payload_bytes=round(n_bytes / n_seen * n_pixels),
        psnr=float(np.mean(psnrs)),
        squared_error=squared / n_seen * n_pixels,
    )
