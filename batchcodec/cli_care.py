"""The commands `verify` and `repair`: is an archive what was written, and what of it can be had if not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchcodec.checking.findings import Severity
from batchcodec.cli_options import ArchiveArgument, ForceFlag, FormatOption, JsonFlag, ProgressFlag, QuietFlag, counting
from batchcodec.console import output

EXIT_CODES: dict[str, int] = {
    "whole": 0,
    Severity.DAMAGE: 4,
    Severity.DRIFT: 5,
    Severity.UNDECODABLE: 5,
    Severity.DIFFERENCE: 3,
}
"""Of `verify`, by its verdict; the numbers mean what they mean for errors."""


def verify_command(
    archive: ArchiveArgument,
    deep: Annotated[bool, typer.Option("--deep", help="Decode all images and compare them with their digests.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="The dataset that was packed, to compare each image with.", show_default=False)
    ] = None,
    format_id: FormatOption = None,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Check an archive: all checksums and tables, with --deep the pixels too.

    The exit code is 0 if it is whole, 4 if it is damaged, 5 if only decoding goes wrong here, 3 if only the source differs.
    """
    from batchcodec.checking.verify import verify
    from batchcodec.report.damage_text import verify_text

    output.configure(json=as_json, quiet=quiet, progress=progress)
    with output.bar(None, "B") as bar:
        bar.unit_scale = True
        report = verify(archive, deep=deep, against=against, format_id=format_id, progress=counting(bar))
    output.result(report, verify_text(report))
    if code := EXIT_CODES[report.verdict]:
        raise typer.Exit(code)


def repair_command(
    archive: ArchiveArgument,
    target: Annotated[Path, typer.Argument(help="The archive to write.", show_default=False)],
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Write what is whole of a damaged, cut or unfinished archive to a new one, and list what is lost."""
    from batchcodec.checking.repair import repair
    from batchcodec.report.damage_text import repair_text

    output.configure(json=as_json, quiet=quiet, progress=progress)
    with output.bar(None, "B") as bar:
        bar.unit_scale = True
        report = repair(archive, target, force=force, progress=counting(bar))
    output.result(report, repair_text(report))
