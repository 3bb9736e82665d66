"""The settings of `plan`, checked when they are made, and the `pack` command that follows from them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from batchcodec.choice import FITTED_CODEC
from batchcodec.dataset import FormatOptions
from batchcodec.errors import OptionError
from batchcodec.pack import PackOptions
from batchcodec.packing.options import as_paths
from batchcodec.preprocess import Preprocess
from batchcodec.registry import parse_codec

CODECS = (
    "hyperprior-1",
    "avif:mosaic=true",
    "jxl:mosaic=true",
    "webp:mosaic=true",
    "jpeg",
    "avif",
    "jxl",
)
"""What is tried at several qualities, as `comparing.series` reads it; in this order, should the time not be enough for all."""
LOSSLESS = ("jxl:lossless=true", "webp:lossless=true,mosaic=true", "png", "zstd")
"""What is tried beside that: nothing may be lost, or it shows what that would cost."""
DEFAULT_SECONDS = 120.0
MOST_FIT = 0.5
"""Part of the time that a fit may take at most."""


@dataclass(frozen=True)
class PlanOptions:
    """Settings of `plan`.

    Attributes:
        seconds: to look and to try, about.
        min_psnr: the archive's mean PSNR, dB, at least; by default that of `pack` without options.
        target_bytes: the archive's size, at most.
        codecs: what is tried at several qualities.
        lossless: what is tried once.
        model: for the codecs that take one; what a fit starts from.
        fits: whether a model may be fitted to a part of the dataset, and tried.
        fit_seconds: to train it; by default a part of `seconds`, and only where it may pay.
        save_model: the file that a fitted model is written to; by default one beside the archive, and only if it is the best.
        target: the archive in the command; by default named after the source.
        group_items, preprocess, format, format_options, workers, device: as of `PackOptions`.
        seed: of what is drawn.
    """

    seconds: float = DEFAULT_SECONDS
    min_psnr: float | None = None
    target_bytes: float | None = None
    codecs: Sequence[str] = CODECS
    lossless: Sequence[str] = LOSSLESS
    model: Path | None = None
    fits: bool = True
    fit_seconds: float | None = None
    save_model: Path | None = None
    target: Path | None = None
    group_items: int | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    format: str | None = None
    format_options: FormatOptions = field(default_factory=FormatOptions)
    workers: int = 0
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        as_paths(self, "model", "save_model", "target")
        if not 1 <= self.seconds <= 86_400:
            raise OptionError("minutes", self.seconds / 60, "a number from 0.02 to 1440")
        if self.min_psnr is not None and self.target_bytes is not None:
            raise OptionError("target-size", self.target_bytes, "no --min-psnr beside it: one of the two decides")
        if self.min_psnr is not None and not 1 <= self.min_psnr <= 100:
            raise OptionError("min-psnr", self.min_psnr, "a number of dB from 1 to 100")
        if self.target_bytes is not None and self.target_bytes < 1:
            raise OptionError("target-size", self.target_bytes, "a size such as 500MB or 10GB")
        if self.seed < 0:
            raise OptionError("seed", self.seed, "0 or more")
        if self.fit_seconds is not None:
            most = MOST_FIT * self.seconds
            if not 1 <= self.fit_seconds <= most:
                raise OptionError("fit", f"{self.fit_seconds:g}s", f"1s to {most:g}s: no more than half of --minutes")
            if not any(parse_codec(text)[0] == FITTED_CODEC for text in self.codecs):
                raise OptionError("fit", f"{self.fit_seconds:g}s", f"{FITTED_CODEC} among --codecs: others are not fitted")
        if self.save_model is not None and self.save_model.exists():
            raise OptionError("save-model", str(self.save_model), "a file that does not exist yet")
        PackOptions(group_items=self.group_items, workers=self.workers, device=self.device)

    def model_target(self, source: Path) -> Path:
        """Where a fitted model is written."""
        if self.save_model is not None:
            return self.save_model
        archive = self.target or _free(source)
        return _unused(archive.with_name(archive.name.partition(".")[0] or "out"), ".safetensors")

    def command(self, source: Path, codec: str, *, skip: bool, model: Path | None) -> str:
        """The `pack` command line, quoted for a shell.

        Args:
            source: the dataset.
            codec: its text.
            skip: whether items that cannot be read are to be left out.
            model: that the codec takes.
        """
        words = ["batchcodec", "pack", _path(source), _path(self.target or _free(source)), "--codec", codec]
        plain = Preprocess()
        if self.preprocess.size is not None:
            words += ["--size", "{}x{}".format(*self.preprocess.size)]
        for name, value, default in (
            ("resample", self.preprocess.resample, plain.resample),
            ("aspect", self.preprocess.fit, plain.fit),
            ("mode", self.preprocess.mode, plain.mode),
            ("format", self.format, None),
            ("key", self.format_options.key, None),
            ("label-key", self.format_options.label_key, None),
            ("frames", self.format_options.frames, "first"),
            ("group", self.group_items, None),
            ("workers", self.workers, 0),
            ("device", self.device, "auto"),
            ("model", None if model is None else _path(model), None),
            ("on-error", "skip" if skip else "fail", "fail"),
        ):
            if value != default:
                words += [f"--{name}", str(value)]
        return shlex.join(words)


def _path(path: Path) -> str:
    """A path that no command takes for an option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _free(source: Path) -> Path:
    """A name after the source that no file has yet, in the working directory."""
    return _unused(Path(source.resolve().name.partition(".")[0] or "out"), ".cpack")


def _unused(stem: Path, suffix: str) -> Path:
    """The path with this suffix, or with a number before it if there is such a file."""
    candidates = [stem.with_name(f"{stem.name}{suffix}"), *(stem.with_name(f"{stem.name}-{n}{suffix}") for n in range(2, 1000))]
    return next((path for path in candidates if not path.exists()), candidates[0])
