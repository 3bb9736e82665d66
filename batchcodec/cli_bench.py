"""The command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchcodec.cli_options import (
    AspectOption,
    FormatOption,
    JsonFlag,
    KeyOption,
    ModeOption,
    ProgressFlag,
    QuietFlag,
    ResampleOption,
    SizeOption,
    preprocessing,
)
from batchcodec.console import output
from batchcodec.dataset import FormatOptions


def bench_command(
    source: Annotated[
        Path | None, typer.Argument(help="Folder, .npy, .npz, IDX, tar or another dataset.", show_default="generated pictures")
    ] = None,
    codecs: Annotated[
        list[str] | None,
        typer.Option(
            "--codec",
            "-c",
            help="name:key=value,...; repeat for more.",
            show_default="hyperprior-1, avif:quality=60,mosaic=true, jpeg and zstd",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model of the learned codecs: a file, or a name such as photo-rgb.")
    ] = None,
    images: Annotated[int, typer.Option(help="Images to measure with, spread evenly over the dataset.")] = 2000,
    seconds: Annotated[float, typer.Option(help="About how long each kind of reading goes on.")] = 5.0,
    batch: Annotated[int, typer.Option(help="Images of a shuffled batch.")] = 256,
    group: Annotated[
        int | None, typer.Option(help="Images of a group, the unit of random access.", show_default="about 1 megapixel")
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads; 0 is one for each core.")] = 0,
    seed: Annotated[int, typer.Option(help="Of what is shuffled or generated.")] = 0,
    size: SizeOption = "native",
    resample: ResampleOption = "bicubic",
    aspect: AspectOption = "stretch",
    mode: ModeOption = "keep",
    format_id: FormatOption = None,
    key: KeyOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Measure codecs on a dataset: bytes, quality, and how fast they pack, unpack and read, each in a process of its own."""
    from batchcodec.bench.run import DEFAULT_CODECS, BenchOptions, bench
    from batchcodec.report.bench_text import bench_text

    output.configure(json=as_json, quiet=quiet, progress=progress)
    options = BenchOptions(
        codecs=codecs or DEFAULT_CODECS,
        model=model,
        images=images,
        group_items=group,
        workers=workers,
        batch=batch,
        seconds=seconds,
        seed=seed,
        preprocess=preprocessing(size, resample, aspect, mode),
        format=format_id,
        format_options=FormatOptions(key=key),
    )
    with output.bar(None, "measurement") as bar:

        def show(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(what, refresh=False)
            bar.update(done - bar.n)

        report = bench(source, options, progress=show)
    output.result(report, bench_text(report))
