"""The commands `show` and `view`: looking at what is in an archive."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from batchcodec.cli_options import INTERRUPTED, ArchiveArgument, ForceFlag, FormatOption, JsonFlag, QuietFlag
from batchcodec.console import output


def show_command(
    archive: ArchiveArgument,
    item: Annotated[str, typer.Argument(help="Name of the item, or its number from 0 as '#123'.", show_default=False)],
    target: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Image file to write: .png (lossless), .webp, .jpg, ...", show_default="none"),
    ] = None,
    picture: Annotated[
        bool | None,
        typer.Option("--picture/--no-picture", help="Draw the image with characters.", show_default="on a colour terminal"),
    ] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Show one item: what is known of it, and the image, in the terminal or as a file."""
    from batchcodec.opening import open_archive
    from batchcodec.report.item import find_item, item_info, write_item
    from batchcodec.report.item_text import half_blocks, item_text

    output.configure(json=as_json, quiet=quiet)
    with open_archive(archive, strict=True) as opened:
        index = find_item(opened, item)
        info = item_info(opened, index)
        if target is not None:
            write_item(opened[index], target, force=force)
        written = None if target is None else str(target)
        output.result({"item": info, "written": written}, item_text(info) + (f"\nwritten to {target}" if target else ""))
        wanted = (target is None and _colours()) if picture is None else picture
        if wanted and not as_json and not quiet:
            columns, lines = shutil.get_terminal_size()
            sys.stdout.flush()
            truecolor = os.environ.get("COLORTERM", "") in ("truecolor", "24bit")
            print(half_blocks(opened[index].pixels, columns, max(8, lines - 4), truecolor=truecolor))


def _colours() -> bool:
    """Whether stdout is a terminal that shows colours; see no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def view_command(
    archive: ArchiveArgument,
    against: Annotated[
        Path | None, typer.Option(help="The dataset that was packed, to see each image beside its original.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 is any that is free.")] = 0,
    open_page: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page in a browser.", show_default="on a terminal")
    ] = None,
    idle: Annotated[
        str | None, typer.Option(help="Stop when nothing was asked for so long: 90s, 30m or 2h.", show_default="never")
    ] = None,
    format_id: FormatOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Browse an archive in a local page: search, filter, zoom, compare. Ctrl-C stops it.

    The address holds a secret, and only this machine can open it.
    """
    from batchcodec.fit import parse_time
    from batchcodec.view.server import view

    output.configure(json=as_json)
    seconds = None if idle is None else parse_time(idle, "idle")

    def ready(url: str, n_items: int) -> None:
        output.result({"url": url, "archive": str(archive), "items": n_items}, url)
        sys.stdout.flush()
        if (sys.stdout.isatty() and not as_json and _has_browser()) if open_page is None else open_page:
            import webbrowser

            webbrowser.open(url)

    try:
        view(archive, against, port=port, idle_seconds=seconds, format_id=format_id, ready=ready)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _has_browser() -> bool:
    """Whether a browser would get a window of its own: a text browser would take the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
