"""The command `train`: one command for all learned codecs, with the options of each.

Options that only one codec has are refused with another: their defaults are None here, and the codec's own settings say what
None means.
"""

from __future__ import annotations

import math
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from batchcodec.cli_options import (
    INTERRUPTED,
    AspectOption,
    ForceFlag,
    FormatOption,
    JsonFlag,
    KeyOption,
    ModeOption,
    ProgressFlag,
    QuietFlag,
    ResampleOption,
    SizeOption,
    SourceArgument,
    VerboseFlag,
    counting,
    preprocessing,
)
from batchcodec.console import output
from batchcodec.dataset import FormatOptions
from batchcodec.errors import BatchcodecError, OptionError, OutputError
from batchcodec.preprocess import Preprocess
from batchcodec.report import text
from batchcodec.types import Pixels


class TrainedCodec(StrEnum):
    """Codecs whose models can be trained."""

    autoencoder = "autoencoder-1"
    hyperprior = "hyperprior-1"


def train_command(
    source: SourceArgument,
    target: Annotated[Path, typer.Option("--output", "-o", help="The model file to write.", show_default=False)],
    codec: Annotated[TrainedCodec, typer.Option("--codec", "-c", help="What the model is for.")] = TrainedCodec.autoencoder,
    minutes: Annotated[
        float | None,
        typer.Option(help="How long to train; hyperprior-1 needs it.", show_default="autoencoder-1: --epochs decides"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images of one step.")] = 16,
    crop: Annotated[int, typer.Option(help="Side of the random crops that larger images are trained on.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 2e-3,
    start: Annotated[
        str | None, typer.Option("--from", help="hyperprior-1: name or file of the model to go on from.", show_default="none")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="hyperprior-1: fast, balanced or small, by what decoding costs.", show_default="balanced"),
    ] = None,
    latent: Annotated[
        int | None,
        typer.Option(help="autoencoder-1: channels of the latents; 12, 24 and 32 in the paper.", show_default="12"),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(help="autoencoder-1: channels after each of the three stride-2 stages.", show_default="32,64,128"),
    ] = None,
    rate_weight: Annotated[
        float | None,
        typer.Option(
            help="autoencoder-1: weight of bits per pixel in the loss: higher is smaller and coarser; 0 leaves the rate out, "
            "like the paper.",
            show_default="2.5",
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="autoencoder-1: passes over the images.", show_default="20")] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="autoencoder-1: part of the images that is held out, 1,000 at most.", show_default="0.05"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    size: SizeOption = "native",
    resample: ResampleOption = "bicubic",
    aspect: AspectOption = "stretch",
    mode: ModeOption = "keep",
    format_id: FormatOption = None,
    key: KeyOption = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, split, crops and noise.")] = 0,
    threads: Annotated[
        int,
        typer.Option(
            min=0, max=1024, help="CPU threads; 0 takes all, or with autoencoder-1 one or all, whichever is faster now."
        ),
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUTPUT.checkpoint if it is there.")] = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    verbose: VerboseFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Train a model for a learned codec on a dataset. Ctrl-C stops early and keeps the best so far."""
    output.configure(json=as_json, quiet=quiet, verbose=verbose, progress=progress)
    shared: dict[str, Any] = {"batch": batch, "crop": crop, "learning_rate": learning_rate, "seed": seed, "device": device}
    of_autoencoder = {
        "latent": latent,
        "width": width,
        "rate_weight": rate_weight,
        "epochs": epochs,
        "validation": validation,
    }
    of_hyperprior = {"from": start, "profile": profile}
    if codec == TrainedCodec.hyperprior:
        _refuse(of_autoencoder, codec)
        if minutes is None:
            raise OptionError("minutes", None, f"a number: how long to train for {codec.value}")
    else:
        _refuse(of_hyperprior, codec)
    _check_target(target, force, resume)
    images = _images(source, preprocessing(size, resample, aspect, mode), format_id, FormatOptions(key=key), seed)
    if codec == TrainedCodec.hyperprior:
        shared |= {"minutes": minutes, "threads": threads or os.cpu_count() or 1}
        interrupted = _train_hyperprior(images, target, shared, start, profile, resume)
    else:
        given: dict[str, Any] = {name: value for name, value in of_autoencoder.items() if value is not None}
        if width is not None:
            given["widths"] = _three_numbers(str(given.pop("width")))
        interrupted = _train_autoencoder(images, target, shared | given | {"minutes": minutes, "threads": threads}, resume)
    if interrupted:
        print("interrupted: the best so far is kept; --resume goes on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)


def _refuse(options: dict[str, Any], codec: TrainedCodec) -> None:
    for name, value in options.items():
        if value is not None:
            raise OptionError(name.replace("_", "-"), value, f"none: training for {codec.value} has no such option")


def _check_target(target: Path, force: bool, resume: bool) -> None:
    from batchcodec.learned.model_file import checkpoint_path

    if target.exists() and not (force or (resume and checkpoint_path(target).exists())):
        finished = "nothing is left to resume; " if resume else ""
        raise OptionError(
            "output", str(target), f"a file that does not exist yet, or --force to replace it ({finished}it exists)"
        )
    if not target.parent.is_dir():
        raise OutputError(target, "its directory does not exist")


def _images(
    source: Path, preprocess: Preprocess, format_id: str | None, format_options: FormatOptions, seed: int
) -> list[Pixels]:
    """The images to train on; of those that cannot be read a warning says how many."""
    from batchcodec.learned.data import load_images

    with output.bar(None, "image") as bar:
        bar.set_description("reading")
        unreadable: list[BatchcodecError] = []
        images = load_images(
            source,
            preprocess,
            format_id=format_id,
            format_options=format_options,
            seed=seed,
            progress=counting(bar),
            on_unreadable=unreadable.append,
        )
    if unreadable:
        print(f"warning: {len(unreadable):,} images left out that cannot be read, such as {unreadable[0]}", file=sys.stderr)
    return images


def _train_autoencoder(images: list[Pixels], target: Path, settings: dict[str, Any], resume: bool) -> bool:
    """Train, print the report; whether it was interrupted."""
    # These import torch, so they come after the source is known to be good.
    from batchcodec.learned.settings import TrainOptions, TrainStatus
    from batchcodec.learned.train import train

    options = TrainOptions(**settings)
    with output.bar(1000, "") as bar:
        bar.bar_format = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"

        def show(status: TrainStatus) -> None:
            bar.set_postfix_str(
                f"step {status.step}, loss {status.loss:.3f}, validation {_at_rate(status)}, "
                f"{status.images_per_second:,.0f} images/s",
                refresh=False,
            )
            bar.update(round(1000 * status.done) - bar.n)

        found = train(images, target, options, resume=resume, progress=show)
    _report(found, target, f"validation ({found.n_validation:,}) {_at_rate(found)}")
    return found.interrupted


def _train_hyperprior(
    images: list[Pixels], target: Path, settings: dict[str, Any], start: str | None, profile: str | None, resume: bool
) -> bool:
    """Train, print the report; whether it was interrupted."""
    from batchcodec.learned.hyperprior.trainer import Settings, Status
    from batchcodec.learned.hyperprior.training_run import latest_points, train

    options = Settings(**settings)
    with output.bar(1000, "") as bar:
        bar.bar_format = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"

        def show(status: Status) -> None:
            bar.set_postfix_str(
                f"step {status.step}, loss {status.loss:.3f}, validation {_points(latest_points(status.log))}", refresh=False
            )
            bar.update(round(1000 * status.done) - bar.n)

        found = train(images, target, options, profile_name=profile, start=start, resume=resume, progress=show)
    _report(found, target, f"validation ({found.n_validation:,}) {_points(found.points)}")
    return found.interrupted


def _report(found: Any, target: Path, validated: str) -> None:
    for row in found.log:
        output.detail(str(row))
    output.result(
        found,
        f"{text.printable(str(target))}: {text.size(found.model_bytes)}, {found.steps:,} steps in {found.seconds:,.0f} s on "
        f"{found.n_train:,} images; {validated}",
    )


def _at_rate(status: Any) -> str:
    """Quality, and the estimated rate where there is one."""
    rate = "" if math.isnan(status.bits_per_pixel) else f" at about {status.bits_per_pixel:.3f} bits per pixel"
    return f"{status.psnr:.2f} dB{rate}"


def _points(points: list[dict[str, float]]) -> str:
    """What a validation measured at the qualities in the middle, and the estimated rate."""
    middle = points[1:3] or points
    shown = (f"{p['psnr']:.2f} dB at about {p['bits_per_pixel']:.3f} bits per pixel (quality {p['quality']})" for p in middle)
    return ", ".join(shown) or "not yet"


def _three_numbers(value: str) -> tuple[int, int, int]:
    try:
        a, b, c = (int(part) for part in value.split(","))
    except ValueError as exc:
        raise OptionError("width", value, "three numbers such as 32,64,128") from exc
    if not all(1 <= n <= 4096 for n in (a, b, c)):
        raise OptionError("width", value, "numbers from 1 to 4096")
    return a, b, c
