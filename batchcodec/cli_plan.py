"""The command `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchcodec.cli_options import (
    AspectOption,
    Device,
    DeviceOption,
    FormatOption,
    Frames,
    FramesOption,
    JsonFlag,
    KeyOption,
    LabelKeyOption,
    ModeOption,
    ProgressFlag,
    QuietFlag,
    ResampleOption,
    SizeOption,
    SourceArgument,
    WorkersOption,
    parse_bytes,
    preprocessing,
)
from batchcodec.console import output
from batchcodec.dataset import FormatOptions


def plan_command(
    source: SourceArgument,
    minutes: Annotated[float, typer.Option(help="About how long to look and to try.")] = 2.0,
    min_psnr: Annotated[
        float | None,
        typer.Option(
            help="Mean PSNR of the archive at least, dB; 100 is lossless.", show_default="that of pack without options"
        ),
    ] = None,
    target_size: Annotated[
        str | None, typer.Option(help="Bytes of the archive at most: 500MB, 10GB.", show_default="none")
    ] = None,
    codecs: Annotated[
        str | None,
        typer.Option(
            "--codecs",
            "-c",
            help="What is tried at several qualities: name:key=value,... each, with commas between.",
            show_default="learned and classical ones, with and without mosaics",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model of the learned codecs: a file, or a name such as photo-rgb.")
    ] = None,
    fit: Annotated[
        str,
        typer.Option(
            help="Train the learned codec on some of the images and try that: auto (where it may pay), none, or for a time "
            "of --minutes such as 40s or 5m."
        ),
    ] = "auto",
    save_model: Annotated[
        Path | None,
        typer.Option(
            help="The file that the fitted model is written to.", show_default="beside the archive, if it is recommended"
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="The archive in the recommended command.", show_default="named after the source")
    ] = None,
    size: SizeOption = "native",
    resample: ResampleOption = "bicubic",
    aspect: AspectOption = "stretch",
    mode: ModeOption = "keep",
    frames: FramesOption = Frames.first,
    format_id: FormatOption = None,
    key: KeyOption = None,
    label_key: LabelKeyOption = None,
    group: Annotated[
        int | None, typer.Option(help="Images of a group, the unit of random access.", show_default="about 1 megapixel")
    ] = None,
    workers: WorkersOption = 0,
    device: DeviceOption = Device.auto,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Say what is in a dataset, what an archive of it would take with several codecs, and which command makes the best one."""
    from batchcodec.comparing.series import split_codecs
    from batchcodec.fit import parse_time
    from batchcodec.planning.options import CODECS, PlanOptions
    from batchcodec.planning.plan import plan
    from batchcodec.report.plan_text import plan_text

    output.configure(json=as_json, quiet=quiet, progress=progress)
    options = PlanOptions(
        seconds=60 * minutes,
        min_psnr=min_psnr,
        target_bytes=None if target_size is None else parse_bytes("target-size", target_size),
        codecs=CODECS if codecs is None else tuple(split_codecs(codecs)),
        model=model,
        fits=fit != "none",
        fit_seconds=None if fit in ("auto", "none") else parse_time(fit),
        save_model=save_model,
        target=to,
        group_items=group,
        preprocess=preprocessing(size, resample, aspect, mode),
        format=format_id,
        format_options=FormatOptions(frames=frames.value, key=key, label_key=label_key),
        workers=workers,
        device=device.value,
        seed=seed,
    )
    with output.bar(100, "%") as bar:

        def show(what: str, part: float) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.n = round(100 * part)
            bar.refresh()

        report = plan(source, options, progress=show)
    output.result(report, plan_text(report))
