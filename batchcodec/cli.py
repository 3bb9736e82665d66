"""The command line: each command parses, calls one function, and prints its report.

Reports go to stdout, progress and warnings to stderr. With `--json` stdout is one JSON object, also for errors. Every
`BatchcodecError` becomes one line and its exit code in one place, `console.Group.invoke`.
"""

from __future__ import annotations

import io
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from batchcodec.cli_bench import bench_command
from batchcodec.cli_care import repair_command, verify_command
from batchcodec.cli_combine import append_command, extract_command, merge_command, split_command
from batchcodec.cli_compare import compare_command
from batchcodec.cli_options import (
    ArchiveArgument,
    AspectOption,
    Device,
    DeviceOption,
    ForceFlag,
    FormatOption,
    Frames,
    FramesOption,
    JsonFlag,
    KeyOption,
    LabelKeyOption,
    LabelsOption,
    ModeOption,
    NamesOption,
    OnError,
    ProgressFlag,
    QuietFlag,
    RangesOption,
    ResampleOption,
    SizeOption,
    SourceArgument,
    VerboseFlag,
    WorkersOption,
    counting,
    parse_percent,
    preprocessing,
    selecting,
)
from batchcodec.cli_plan import plan_command
from batchcodec.cli_report import report_command
from batchcodec.cli_train import train_command
from batchcodec.cli_view import show_command, view_command
from batchcodec.console import Group, examples, output
from batchcodec.dataset import FormatOptions
from batchcodec.errors import BatchcodecError
from batchcodec.fit import parse_time
from batchcodec.pack import PackOptions, PackStatus, pack
from batchcodec.registry import literal, registry
from batchcodec.report import text
from batchcodec.unpack import UnpackOptions, unpack
from batchcodec.version import __version__

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Image datasets in one file: learned and classical codecs, random access, checked at every read.",
    epilog="Exit codes: 1 other, 2 usage, 3 input, 4 archive, 5 codec, 6 plugin, 130 interrupted.",
)


def _show_version(value: bool) -> None:
    if value:
        print(f"batchcodec {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    plugins = registry()
    for plugin in plugins.plugins:
        if plugin.error:
            print(f"warning: plugin {plugin.name} of {plugin.distribution} failed: {plugin.error}", file=sys.stderr)
    for conflict in plugins.conflicts():
        print(f"warning: {conflict}", file=sys.stderr)


@app.command(
    "pack",
    epilog=examples(
        "pack ./images out.cpack",
        "pack photos/ p.cpack --codec hyperprior-1:quality=70,effort=5",
        "pack tiles.tar f.cpack --fit 15m",
        "pack tiles.tar e.cpack --codec avif:quality=40,mosaic=true",
        "pack t10k-images-idx3-ubyte.gz f.cpack --size 64 --codec autoencoder-1 --model m12.safetensors",
    ),
)
def _pack(
    source: SourceArgument,
    target: Annotated[Path, typer.Argument(help="The archive to write.", show_default=False)],
    codec: Annotated[
        str, typer.Option("--codec", "-c", help="name:key=value,...; see `batchcodec codecs`. auto chooses by the images.")
    ] = "auto",
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model of a learned codec: a file, or a name such as photo-rgb.")
    ] = None,
    model_ref: Annotated[
        bool, typer.Option("--model-ref", help="Name the model in the archive and leave it out; reading then needs it.")
    ] = False,
    fit: Annotated[
        str | None,
        typer.Option(
            help="Fit the learned codec to this dataset first, for 90s, 5m or 2h; kept if the archive gets smaller by it."
        ),
    ] = None,
    entropy: Annotated[str | None, typer.Option(help="Entropy coder of a learned codec: none, zstd, huffman or rans.")] = None,
    bits: Annotated[
        str | None,
        typer.Option(help="Bits of each latent of a learned codec, 1 to 8, or auto:X for X on average, more where they serve."),
    ] = None,
    bits_map: Annotated[
        Path | None, typer.Option(help="The same by channel: a JSON file with a list of numbers from 0 to 8.")
    ] = None,
    size: SizeOption = "native",
    resample: ResampleOption = "bicubic",
    aspect: AspectOption = "stretch",
    mode: ModeOption = "keep",
    frames: FramesOption = Frames.first,
    metadata: Annotated[bool, typer.Option("--metadata", help="Keep EXIF and ICC profiles as attributes.")] = False,
    format_id: FormatOption = None,
    key: KeyOption = None,
    label_key: LabelKeyOption = None,
    group: Annotated[
        int | None, typer.Option(help="Images of a group, the unit of random access.", show_default="about 1 megapixel")
    ] = None,
    parity: Annotated[
        str | None,
        typer.Option(
            help="Part of the blocks that may be lost and restored by `repair`, up to 25%. 1% makes the archive about 7% "
            "larger, 5% about 17%.",
            show_default="none",
        ),
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="At items that cannot be packed: stop, or leave them out and list them.")
    ] = (OnError.fail),
    workers: WorkersOption = 0,
    batch: Annotated[
        int, typer.Option(help="Images that a thread reads and prepares at a time; 0 goes by how long they take.")
    ] = 0,
    device: DeviceOption = Device.auto,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an interrupted run left, if it left anything.")
    ] = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    verbose: VerboseFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Pack a dataset into one archive."""
    output.configure(json=as_json, quiet=quiet, verbose=verbose, progress=progress)
    options = PackOptions(
        codec=codec,
        model=model,
        entropy=entropy,
        bits=None if bits is None else literal(bits),
        bits_map=bits_map,
        model_ref=model_ref,
        fit_seconds=None if fit is None else parse_time(fit),
        preprocess=preprocessing(size, resample, aspect, mode),
        group_items=group,
        parity=0.0 if parity is None else parse_percent("parity", parity),
        on_error=on_error.value,
        force=force,
        resume=resume,
        format=format_id,
        format_options=FormatOptions(frames=frames.value, metadata=metadata, key=key, label_key=label_key),
        workers=workers,
        batch=batch,
        device=device.value,
    )
    started = time.monotonic()
    with output.bar(None, "image") as bar:

        def show(status: PackStatus) -> None:
            bar.total = status.total
            if not bar.disable:
                bar.set_postfix_str(text.pack_progress(status, bar.format_dict["elapsed"]), refresh=False)
            bar.update(status.done - bar.n)

        def show_fit(what: str, done: float) -> None:
            bar.set_postfix_str(f"{what}, {done:.0%}", refresh=True)

        report = pack(source, target, options, progress=show, fit_progress=show_fit)
    seconds = time.monotonic() - started
    output.detail(f"{seconds:.1f} s, {report.n_items / seconds:,.0f} images/s; {text.counts(report.shapes)}")
    output.detail(text.pack_seconds(report))
    output.result(report, text.pack_text(report))


@app.command(
    "unpack",
    epilog=examples(
        "unpack out.cpack images/", "unpack out.cpack out.npz", "unpack out.cpack cats/ --label cat --name '*.png'"
    ),
)
def _unpack(
    archive: ArchiveArgument,
    target: Annotated[
        Path | None, typer.Argument(help="Folder or file to write.", show_default="the archive's name with the format's suffix")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Format to write.", show_default="by the target's suffix, else folder")] = None,
    image_format: Annotated[
        str, typer.Option(help="How image files are written: png (lossless), keep (as the names say), webp, ...")
    ] = "png",
    names: NamesOption = None,
    labels: LabelsOption = None,
    ranges: RangesOption = None,
    on_error: Annotated[OnError, typer.Option(help="At damaged groups: stop, or leave them out and list them.")] = OnError.fail,
    reference: Annotated[
        bool, typer.Option("--reference", help="Decode hyperprior-1 with the small reference decoder: without torch, slowly.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Threads that decode, and that make image files; 0 is one for each core.")] = 0,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Write the images of an archive to a folder, an array file or a tar."""
    output.configure(json=as_json, quiet=quiet, progress=progress)
    if target is None:
        suffixes = registry().format_class(to).suffixes if to else ()
        target = archive.with_suffix(suffixes[0] if suffixes else "")
    elif to and (suffixes := registry().format_class(to).suffixes) and not target.suffix:
        target = target.with_name(target.name + suffixes[0])
    options = UnpackOptions(
        to=to,
        force=force,
        on_error=on_error.value,
        selection=selecting(names, labels, ranges),
        reference=reference,
        workers=workers,
        format_options=FormatOptions(image_format=image_format),
    )
    with output.bar(None, "image") as bar:
        report = unpack(archive, target, options, progress=counting(bar))
    output.result(report, text.unpack_text(report))


app.command(
    "report",
    epilog=examples(
        "report out.cpack --against ./images",
        "report out.cpack --against ./images --html report.html",
        "report q40.cpack q60.cpack q80.cpack --against ./images --html report.html",
    ),
)(report_command)


@app.command("info")
def _info(archive: ArchiveArgument, as_json: JsonFlag = False, quiet: QuietFlag = False) -> None:
    """Say what is in an archive, without decoding it."""
    from batchcodec.report.info import info

    output.configure(json=as_json, quiet=quiet)
    found = info(archive)
    output.result(found, text.info_text(found))


@app.command("ls")
def _ls(
    archive: ArchiveArgument,
    long: Annotated[bool, typer.Option("--long", "-l", help="With label and size.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the names of the items."""
    from batchcodec.opening import open_archive

    output.configure(json=as_json)
    with open_archive(archive) as opened:
        rows = []
        for index, (name, label) in enumerate(zip(opened.names, opened.labels, strict=True)):
            row = {"name": name, "label": label}
            if long or as_json:
                row["image"] = str(opened.group_head(opened.locate(index)[0]).spec.image)
            rows.append(row)
        lines = [
            "\t".join(text.printable(str(row[key] if row[key] is not None else "-")) for key in ("image", "label", "name"))
            if long
            else text.printable(str(row["name"]))
            for row in rows
        ]
        output.result(rows, "\n".join(lines))


app.command(
    "show",
    epilog=examples("show out.cpack cats/0001.png", "show out.cpack '#123' -o picture.png", "show out.cpack '#-1' --json"),
)(show_command)

app.command("view", epilog=examples("view out.cpack", "view out.cpack --against ./images --port 8000"))(view_command)

app.command(
    "train",
    epilog=examples(
        "train photos/ -o mine.safetensors --codec hyperprior-1 --from photo-rgb --minutes 30",
        "train train-images-idx3-ubyte.gz -o m12.safetensors --latent 12 --size 64 --minutes 5",
    ),
)(train_command)

app.command(
    "bench",
    epilog=examples(
        "bench", "bench ./images", "bench tiles.tar --codec hyperprior-1:quality=40 --codec avif:quality=50,mosaic=true --json"
    ),
)(bench_command)

app.command(
    "compare",
    epilog=examples(
        "compare ./images",
        "compare tiles.tar --codecs hyperprior-1,avif:mosaic=true,jpeg --qualities 20,40,60,80 --html compared.html",
        "compare photos/ --codecs 'avif,jpeg2000:psnr=30|35|40' --anchor avif --journal compared.journal",
    ),
)(compare_command)

app.command(
    "plan",
    epilog=examples(
        "plan ./images",
        "plan tiles.tar --minutes 5 --min-psnr 35",
        "plan frames/ --minutes 20 --fit 8m",
        "plan photos/ --target-size 10GB --json",
    ),
)(plan_command)

app.command(
    "verify",
    epilog=examples("verify out.cpack", "verify out.cpack --deep", "verify out.cpack --against ./images"),
)(verify_command)

app.command("repair", epilog=examples("repair damaged.cpack repaired.cpack"))(repair_command)


app.command("merge", epilog=examples("merge a.cpack b.cpack all.cpack", "merge parts/*.cpack all.cpack"))(merge_command)

app.command("append", epilog=examples("append all.cpack new.cpack", "append all.cpack ./more_images"))(append_command)

app.command(
    "split", epilog=examples("split all.cpack parts/ --max-bytes 2GB", "split all.cpack classes/ --by-label --recode zstd")
)(split_command)

app.command(
    "extract",
    epilog=examples(
        "extract all.cpack cats.cpack --label cat --whole-groups", "extract all.cpack some.cpack --range 100:200 --recode zstd"
    ),
)(extract_command)


@app.command("plugins")
def _plugins(as_json: JsonFlag = False) -> None:
    """List the plugins, what each provides, and those that failed."""
    output.configure(json=as_json)
    plugins = registry()
    blocks = []
    for plugin in plugins.plugins:
        gives = [f"{kind} {', '.join(ids)}" for kind, ids in (("codecs", plugin.codecs), ("formats", plugin.formats)) if ids]
        state = f"FAILED: {plugin.error}" if plugin.error else "; ".join(gives) or "commands only"
        blocks.append(f"{plugin.name} ({plugin.distribution} {plugin.version})\n  {text.printable(state)}")
    conflicts = [str(conflict) for conflict in plugins.conflicts()]
    blocks += [f"CONFLICT: {conflict}" for conflict in conflicts]
    output.result({"plugins": plugins.plugins, "conflicts": conflicts}, "\n".join(blocks))


@app.command("codecs")
def _codecs(as_json: JsonFlag = False) -> None:
    """List the codecs and their options."""
    output.configure(json=as_json)
    plugins, rows, lines = registry(), [], []
    for codec_id in plugins.codec_ids():
        try:
            codec = plugins.codec_class(codec_id)
        except BatchcodecError as exc:
            lines.append(f"{codec_id}\n  {exc}")
            continue
        rows.append(
            {
                "id": codec_id,
                "summary": codec.summary,
                "options": codec.options_help,
                "dtypes": codec.dtypes,
                "channels": codec.channels,
                "needs_model": codec.needs_model,
            }
        )
        lines.append(f"{codec_id}\n  {codec.summary} ({', '.join(codec.dtypes)})")
        lines += [f"    {name:<12} {meaning}" for name, meaning in codec.options_help.items()]
    output.result(rows, "\n".join(lines))


@app.command("formats")
def _formats(as_json: JsonFlag = False) -> None:
    """List the dataset formats."""
    output.configure(json=as_json)
    plugins, rows, lines = registry(), [], []
    for format_id in plugins.format_ids():
        try:
            kind = plugins.format_class(format_id)
        except BatchcodecError as exc:
            lines.append(f"{format_id}\n  {exc}")
            continue
        suffixes = ", ".join(kind.suffixes) or "directories"
        rows.append({"id": format_id, "summary": kind.summary, "suffixes": kind.suffixes, "can_write": kind.can_write})
        lines.append(f"{format_id}\n  {kind.summary} ({suffixes}{'' if kind.can_write else '; read only'})")
    output.result(rows, "\n".join(lines))


def _add_plugin_commands() -> None:
    """Let plugins add commands; one that fails is reported like one that cannot be imported."""
    plugins = registry()
    for impl in plugins.manager.hook.register_commands.get_hookimpls():
        try:
            impl.function(app)
        except Exception as exc:  # a foreign plugin must not break the others
            name = str(impl.plugin_name)
            print(f"warning: plugin {name} could not add its commands: {type(exc).__name__}: {exc}", file=sys.stderr)


def _terminated(number: int, frame: object) -> NoReturn:
    """End as after Ctrl-C: temporary files are removed on the way out."""
    sys.exit(128 + number)


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks must not be a crash
    signal.signal(signal.SIGTERM, _terminated)
    _add_plugin_commands()
    app(prog_name="batchcodec")


if __name__ == "__main__":
    main()
