"""The command `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchcodec.cli_options import (
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
    parse_numbers,
    preprocessing,
)
from batchcodec.console import output
from batchcodec.dataset import FormatOptions
from batchcodec.errors import TargetExistsError


def compare_command(
    source: SourceArgument,
    codecs: Annotated[
        str | None,
        typer.Option(
            "--codecs",
            "-c",
            help="name:key=value,... each, with commas between. An option with alternatives, psnr=30|35|40, makes the curve; "
            "else it is the quality.",
            show_default="hyperprior-1,avif:mosaic=true,avif,webp:mosaic=true,jpeg",
        ),
    ] = None,
    qualities: Annotated[str, typer.Option("--qualities", "-q", help="Of codecs that have a quality.")] = "20,40,60,80",
    anchor: Annotated[
        str | None,
        typer.Option(
            help="The codec that BD-rates are against, as --codecs has it.", show_default="jpeg if it is there, else the first"
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model of the learned codecs: a file, or a name such as photo-rgb.")
    ] = None,
    images: Annotated[int, typer.Option(help="Images of the sample, drawn at random.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    ssim: Annotated[bool, typer.Option("--ssim/--no-ssim", help="Measure SSIM and MS-SSIM.")] = True,
    group: Annotated[
        int | None, typer.Option(help="Images of a group, the unit of random access.", show_default="about 1 megapixel")
    ] = None,
    workers: Annotated[int, typer.Option(help="Groups coded at once; 0 is one for each core.")] = 0,
    size: SizeOption = "native",
    resample: ResampleOption = "bicubic",
    aspect: AspectOption = "stretch",
    mode: ModeOption = "keep",
    format_id: FormatOption = None,
    key: KeyOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Keep each archive's figures in this file as they come: the same command goes on after it was killed, and "
            "more codecs or qualities can be added."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with curves and tables.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Write a picture of the curves: .png, .svg or .pdf.")] = None,
    csv_path: Annotated[Path | None, typer.Option("--csv", help="Write a row for each archive.")] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Compare codecs at several qualities on a sample of a dataset, by real archives: bytes, PSNR, SSIM, time, BD-rates."""
    from batchcodec.atomic import write_atomically
    from batchcodec.comparing.run import DEFAULT_CODECS, CompareOptions, compare
    from batchcodec.comparing.series import split_codecs
    from batchcodec.comparing.subject import SampleOptions
    from batchcodec.report.compare_page import check_picture, compare_page, draw_curves
    from batchcodec.report.compare_text import compare_csv, compare_text

    output.configure(json=as_json, quiet=quiet, progress=progress)
    for target in (html, figure, csv_path):
        if target is not None and target.exists() and not force:
            raise TargetExistsError(target)
    if figure is not None:
        check_picture(figure)
    options = CompareOptions(
        codecs=DEFAULT_CODECS if codecs is None else tuple(split_codecs(codecs)),
        qualities=tuple(parse_numbers("qualities", qualities)),
        anchor=anchor,
        model=model,
        sample=SampleOptions(
            images=images,
            seed=seed,
            group_items=group,
            preprocess=preprocessing(size, resample, aspect, mode),
            format=format_id,
            format_options=FormatOptions(key=key),
        ),
        structural=ssim,
        workers=workers,
        journal=journal,
        anew=force,
    )
    with output.bar(None, "archive") as bar:

        def show(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)

        report = compare(source, options, progress=show)
    if html is not None:
        write_atomically(html, compare_page(report).encode())
    if figure is not None:
        draw_curves(report, figure)
    if csv_path is not None:
        write_atomically(csv_path, compare_csv(report).encode())
    output.result(report, compare_text(report))
