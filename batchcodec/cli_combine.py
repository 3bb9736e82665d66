"""The commands `merge`, `append`, `split` and `extract`: archives from the groups of others, which are not coded again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchcodec.archive.wire import BlockType
from batchcodec.cli_options import (
    ArchiveArgument,
    Device,
    DeviceOption,
    ForceFlag,
    FormatOption,
    JsonFlag,
    KeyOption,
    LabelKeyOption,
    LabelsOption,
    NamesOption,
    OnError,
    ProgressFlag,
    QuietFlag,
    RangesOption,
    WorkersOption,
    counting,
    parse_bytes,
    preprocessing,
    selecting,
)
from batchcodec.console import output
from batchcodec.errors import OptionError
from batchcodec.pack import PackOptions, PackStatus
from batchcodec.report import text
from batchcodec.selection import Selection

if TYPE_CHECKING:
    from batchcodec.copying.combine import MergeReport
    from batchcodec.copying.divide import ExtractReport, PartReport, SplitReport

MAX_SHOWN = 20
"""Sources and parts that a report names; `--json` has all."""

PrefixFlag = Annotated[
    bool,
    typer.Option(
        "--prefix", help="Put the archive's name before each name, as train/0001.png; of equal ones, with folders above it."
    ),
]
RecodeOption = Annotated[
    str | None,
    typer.Option(help="Lossless codec for the wanted images of groups that hold others too, such as zstd."),
]


def merge_command(
    sources: Annotated[list[Path], typer.Argument(help="Archives.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The archive to write.", show_default=False)],
    prefix: PrefixFlag = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Make one archive of several: the items of the first, then those of the second, ... Nothing is coded again."""
    from batchcodec.copying.combine import merge

    output.configure(json=as_json, quiet=quiet, progress=progress)
    with output.bar(None, "B") as bar:
        report = merge(sources, target, prefix=prefix, force=force, progress=counting(bar))
    output.result(report, merge_text(report))


def append_command(
    archive: ArchiveArgument,
    sources: Annotated[list[Path], typer.Argument(help="Archives, and datasets such as folders.", show_default=False)],
    prefix: PrefixFlag = False,
    codec: Annotated[
        str | None,
        typer.Option("--codec", "-c", help="How datasets are packed, as for `pack`.", show_default="as the archive says"),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Model of a learned codec: a file, or a name such as photo-rgb.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="native, N (square) or WIDTHxHEIGHT.", show_default="as the archive says")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="keep, gray or rgb.", show_default="as the archive says")] = None,
    format_id: FormatOption = None,
    key: KeyOption = None,
    label_key: LabelKeyOption = None,
    group: Annotated[
        int | None, typer.Option(help="Images of a group, the unit of random access.", show_default="about 1 megapixel")
    ] = None,
    on_error: Annotated[
        OnError, typer.Option(help="At images of datasets that cannot be packed: stop, or leave them out.")
    ] = OnError.fail,
    workers: WorkersOption = 0,
    device: DeviceOption = Device.auto,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Put archives and datasets behind the items of an archive. What is in it is not coded again.

    The archive is written anew, beside the old one, and takes its place in one step: that takes the time and the space of
    copying it, and a crash leaves the old one.
    """
    from batchcodec.copying.combine import append, recorded_pack_options

    output.configure(json=as_json, quiet=quiet, progress=progress)
    options = _pack_options(recorded_pack_options(archive), codec, model, size, mode)
    formats = options.format_options
    options = replace(
        options,
        format=format_id,
        format_options=replace(formats, key=key or formats.key, label_key=label_key or formats.label_key),
        group_items=group,
        on_error=on_error.value,
        workers=workers,
        device=device.value,
    )
    with output.bar(None, "") as bar:

        def packing(status: PackStatus) -> None:
            bar.set_postfix_str(f"packed {status.done:,} of {status.total:,} images", refresh=False)
            bar.update(0)

        report = append(archive, sources, prefix=prefix, options=options, progress=counting(bar), pack_progress=packing)
    output.result(report, merge_text(report))


def _pack_options(
    recorded: PackOptions, codec: str | None, model: Path | None, size: str | None, mode: str | None
) -> PackOptions:
    """What the archive says, where the command line says nothing else."""
    options = recorded
    if codec is not None:  # the model that is recorded is for the codec that is recorded
        options = replace(options, codec=codec, model=None, model_ref=False)
    if model is not None:
        options = replace(options, model=model, model_ref=False)
    if size is not None or mode is not None:
        old = recorded.preprocess
        sizes = preprocessing(size or "native", old.resample, old.fit, mode or old.mode)
        options = replace(options, preprocess=sizes if size is not None else replace(sizes, size=old.size))
    return options


def split_command(
    archive: ArchiveArgument,
    folder: Annotated[Path, typer.Argument(help="Folder for the parts.", show_default=False)],
    parts: Annotated[int | None, typer.Option(help="Into so many parts, of about equally many items.")] = None,
    items: Annotated[int | None, typer.Option(help="Into parts of at most so many items.")] = None,
    max_bytes: Annotated[str | None, typer.Option(help="Into parts of at most so many bytes: 500MB, 2GiB.")] = None,
    by_label: Annotated[bool, typer.Option("--by-label", help="Into a part for each label.")] = False,
    recode: RecodeOption = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Divide an archive into several, at the borders of groups. `merge` puts them together again."""
    from batchcodec.copying.divide import split

    output.configure(json=as_json, quiet=quiet, progress=progress)
    with output.bar(None, "B") as bar:
        report = split(
            archive,
            folder,
            parts=parts,
            items=items,
            max_bytes=None if max_bytes is None else parse_bytes("max-bytes", max_bytes),
            by_label=by_label,
            recode=recode,
            force=force,
            progress=counting(bar),
        )
    output.result(report, split_text(report))


def extract_command(
    archive: ArchiveArgument,
    target: Annotated[Path, typer.Argument(help="The archive to write.", show_default=False)],
    names: NamesOption = None,
    labels: LabelsOption = None,
    ranges: RangesOption = None,
    recode: RecodeOption = None,
    whole_groups: Annotated[
        bool, typer.Option("--whole-groups", help="Take groups whole that hold wanted images beside others.")
    ] = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Make an archive of some items of another: of those that meet one condition of each kind that is given.

    Groups whose images are all wanted are copied as they are. Others cannot be cut without decoding them: choose --recode,
    which codes the wanted images anew without loss, or --whole-groups.
    """
    from batchcodec.copying.divide import extract

    output.configure(json=as_json, quiet=quiet, progress=progress)
    if target.suffix != ".cpack":
        raise OptionError("target", str(target), "a file that ends in .cpack; `unpack` writes folders, array files and tars")
    selection = selecting(names, labels, ranges)
    if selection == Selection():
        raise OptionError("name", None, "at least one of --name, --label, --range")
    with output.bar(None, "B") as bar:
        report = extract(
            archive, target, selection, recode=recode, whole_groups=whole_groups, force=force, progress=counting(bar)
        )
    output.result(report, extract_text(report))


def merge_text(report: MergeReport) -> str:
    """What `merge` and `append` did."""
    lines = [
        f"{text.printable(report.target)}: {report.n_items:,} images in {report.n_groups:,} groups, "
        f"{text.size(report.n_bytes)}, of these weights {text.size(report.model_bytes)}"
    ]
    for source in report.sources[:MAX_SHOWN]:
        named = f" as {text.printable(source.prefix)}" if source.prefix else ""
        lines.append(f"  {text.printable(source.path)}: {source.n_items:,} images{named}")
    lines += _and_more(len(report.sources)) + report.advice + _left(report.left_behind)
    return "\n".join(lines)


def split_text(report: SplitReport) -> str:
    """What `split` did."""
    lines = [f"{text.printable(report.folder)}: {len(report.parts):,} parts of {text.printable(report.source)}"]
    lines += [f"  {_part(part)}" for part in report.parts[:MAX_SHOWN]] + _and_more(len(report.parts))
    if report.n_over:
        lines.append(f"{report.n_over:,} parts have more items than asked for: a group is not cut")
    if not report.in_order:
        lines.append("groups of mixed shapes are not in the order of the items: merging the parts gives another order")
    return "\n".join(lines + _rounded(report.parts) + _left(report.left_behind))


def extract_text(report: ExtractReport) -> str:
    """What `extract` did."""
    lines = [_part(report.part), f"{report.n_selected:,} of {report.n_total:,} images were asked for"]
    if report.part.n_items > report.n_selected:
        lines[1] += f"; whole groups brought {report.part.n_items - report.n_selected:,} more"
    lines += [f"nothing has {text.printable(condition)}" for condition in report.without]
    return "\n".join(lines + _rounded([report.part]) + _left(report.left_behind))


def _part(part: PartReport) -> str:
    recoded = f", {part.n_recoded:,} coded anew without loss" if part.n_recoded else ""
    return (
        f"{text.printable(part.path)}: {part.n_items:,} images, {text.size(part.n_bytes)}; "
        f"{part.n_copied:,} groups copied{recoded}"
    )


def _and_more(n: int) -> list[str]:
    return [f"  and {n - MAX_SHOWN:,} more; --json lists them"] if n > MAX_SHOWN else []


def _rounded(parts: list[PartReport]) -> list[str]:
    n_rounded = sum(part.n_rounded for part in parts)
    told = f"{n_rounded:,} of the groups coded anew decoded to pixels that differ by rounding from those packed (exact: false)"
    return [told] if n_rounded else []


def _left(left_behind: Mapping[str, int]) -> list[str]:
    lines = [f"left behind: {text.counts(left_behind)}"] if left_behind else []
    if BlockType.PARITY.name in left_behind:
        lines.append("there is no parity in what was written: parity blocks protect the very bytes of their own archive")
    return lines
