"""The command `train`: one command for all learned codecs, with the options of each.

Options that only one codec has are refused with another: their defaults are None here, and the codec's own settings say what
None means.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from batchcodec.learned.loop import Trainer
    from batchcodec.learned.settings import TrainReport, TrainStatus


class TrainedCodec(StrEnum):
    """Codecs whose models can be trained."""

    autoencoder = "autoencoder-1"
    balle2017 = "balle2017-1"
    comcnn = "comcnn-1"
    hyperprior = "hyperprior-1"


SHAPE = ("latent", "width", "depth", "activation", "upsample")
OWN_OPTIONS = {
    TrainedCodec.autoencoder: (*SHAPE, "norm", "rate-weight", "epochs", "validation"),
    TrainedCodec.balle2017: (*SHAPE, "lambda", "epochs"),
    TrainedCodec.comcnn: ("from", *SHAPE[1:], "compact", "base", "qualities", "rate-weight", "epochs"),
    TrainedCodec.hyperprior: ("from", "profile", "ms-ssim"),
}
"""Options that not all codecs have."""


def train_command(
    source: SourceArgument,
    target: Annotated[Path, typer.Option("--output", "-o", help="The model file to write.", show_default=False)],
    codec: Annotated[TrainedCodec, typer.Option("--codec", "-c", help="What the model is for.")] = TrainedCodec.autoencoder,
    minutes: Annotated[
        float | None,
        typer.Option(help="How long to train; hyperprior-1 needs it.", show_default="the others: --epochs decides"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images of one step.")] = 16,
    crop: Annotated[int, typer.Option(help="Side of the random crops that larger images are trained on.")] = 64,
    learning_rate: Annotated[
        float | None, typer.Option(help="At its highest.", show_default="0.002; balle2017-1 0.0004")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the batches.")] = False,
    patience: Annotated[int, typer.Option(min=0, help="End after so many validations that were not better; 0 never does.")] = 0,
    start: Annotated[
        str | None,
        typer.Option("--from", help="comcnn-1, hyperprior-1: name or file of the model to go on from.", show_default="none"),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="hyperprior-1: fast, balanced or small, by what decoding costs.", show_default="balanced"),
    ] = None,
    ms_ssim: Annotated[
        float | None,
        typer.Option(
            help="hyperprior-1: part of the loss, 0 to 1, that is 1 - MS-SSIM; the rest is squared error.", show_default="0"
        ),
    ] = None,
    latent: Annotated[
        int | None,
        typer.Option(
            help="autoencoder-1, balle2017-1: channels of the latents; 12, 24 and 32 in the paper, 128 or 192 in Balle's.",
            show_default="12; balle2017-1 128",
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            help="autoencoder-1: channels after each of the stride-2 stages, one number for each; balle2017-1, comcnn-1: one "
            "number, for all layers.",
            show_default="32,64,128; balle2017-1 96; comcnn-1 48",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            help="autoencoder-1, balle2017-1: how many stages; the last ones of balle2017-1 have stride 2, its first 4; "
            "comcnn-1: convolutions of RecCNN, 20 in its paper.",
            show_default="3; comcnn-1 10",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="All but hyperprior-1: gdn, leaky-relu, relu, gelu or none.",
            show_default="leaky-relu; balle2017-1 gdn; comcnn-1 relu",
        ),
    ] = None,
    norm: Annotated[str | None, typer.Option(help="autoencoder-1: batch or none.", show_default="batch")] = None,
    upsample: Annotated[
        str | None,
        typer.Option(
            help="All but hyperprior-1: transpose, pixelshuffle or resize.", show_default="transpose; comcnn-1 pixelshuffle"
        ),
    ] = None,
    rate_weight: Annotated[
        float | None,
        typer.Option(
            help="autoencoder-1: weight of bits per pixel in the loss: higher is smaller and coarser; comcnn-1: of the "
            "logarithm of the bits; 0 leaves the rate out, like the papers.",
            show_default="2.5; comcnn-1 1",
        ),
    ] = None,
    lambdas: Annotated[
        str | None,
        typer.Option(
            "--lambda",
            help="balle2017-1: bits per pixel that one unit of MSE (gray levels, squared) is worth at quality 1 and at 100.",
            show_default="0.0016,0.04",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="comcnn-1: classical codecs to train with, between commas.", show_default="jpeg"),
    ] = None,
    qualities: Annotated[
        str | None,
        typer.Option(help="comcnn-1: the lowest and the highest quality of theirs.", show_default="10,80"),
    ] = None,
    compact: Annotated[
        bool | None,
        typer.Option(
            "--compact/--no-compact",
            help="comcnn-1: halve the size of what is coded; without, the model is a filter after a codec.",
            show_default="compact",
        ),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="All but hyperprior-1: passes over the images.", show_default="20")
    ] = None,
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
    own = {
        "from": start,
        "profile": profile,
        "ms-ssim": ms_ssim,
        "latent": latent,
        "width": width,
        "depth": depth,
        "activation": activation,
        "norm": norm,
        "upsample": upsample,
        "rate-weight": rate_weight,
        "lambda": lambdas,
        "base": base,
        "qualities": qualities,
        "compact": compact,
        "epochs": epochs,
        "validation": validation,
    }
    given = {name: value for name, value in own.items() if value is not None}
    for name, value in given.items():
        if name not in OWN_OPTIONS[codec]:
            raise OptionError(name, value, f"none: training for {codec.value} has no such option")
    if codec == TrainedCodec.hyperprior and minutes is None:
        raise OptionError("minutes", None, f"a number: how long to train for {codec.value}")
    shared = {
        "minutes": minutes,
        "batch": batch,
        "crop": crop,
        "flip": flip,
        "patience": patience,
        "seed": seed,
        "device": device,
        "threads": threads,
        **({} if learning_rate is None else {"learning_rate": learning_rate}),
    }
    if codec != TrainedCodec.autoencoder:
        shared["threads"] = threads or os.cpu_count() or 1
    _check_target(target, force, resume)
    images = _images(source, preprocessing(size, resample, aspect, mode), format_id, FormatOptions(key=key), seed)
    from batchcodec.learned.trainers import trainer_of  # imports torch, so after the source is known to be good

    trainer = trainer_of(codec.value, images, shared, given)
    found = _trained(trainer, target, resume)
    for row in found.log:
        output.detail(str(row))
    output.result(
        found,
        f"{text.printable(str(target))}: {text.size(found.model_bytes)}, {found.steps:,} steps in {found.seconds:,.0f} s on "
        f"{found.n_train:,} images; validation ({found.n_validation:,}) {_validated(found.log)}",
    )
    if found.interrupted:
        print("interrupted: the best so far is kept; --resume goes on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)


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


def _trained(trainer: Trainer[Any], target: Path, resume: bool) -> TrainReport:
    """Train with a bar on stderr."""
    from batchcodec.learned.run import run_to_file
    from batchcodec.learned.shipped import SUFFIX

    with output.bar(1000, "") as bar:
        bar.bar_format = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"

        def show(status: TrainStatus) -> None:
            bar.set_postfix_str(
                f"step {status.step}, loss {status.loss:.3f}, validation {_validated(status.log)}, "
                f"{status.images_per_second:,.0f} images/s",
                refresh=False,
            )
            bar.update(round(1000 * status.done) - bar.n)

        # The stem is the name under which `shipped` finds the file, and what an archive says that only names its model.
        return run_to_file(trainer, target, resume=resume, progress=show, name=target.name.removesuffix(SUFFIX))


def _validated(log: list[dict[str, Any]]) -> str:
    """Quality, and the estimated rate where there is one, of the last validation; at the qualities in the middle of several."""
    last: dict[str, Any] = next((row for row in reversed(log) if "loss" in row), {})
    points = last["points"][1:3] if "points" in last else [last] if last else []
    shown = []
    for point in points:
        rate = f" at about {point['bits_per_pixel']:.3f} bits per pixel" if "bits_per_pixel" in point else ""
        quality = f" (quality {point['quality']})" if "quality" in point else ""
        shown.append(f"{point['psnr']:.2f} dB{rate}{quality}")
    return ", ".join(shown) or "not yet"
