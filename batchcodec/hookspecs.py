"""The hooks by which plugins add to batchcodec, and the two markers.

A plugin is any module or object named by an entry point of the group `batchcodec`. Hooks return values, so the registry
knows which plugin gave what.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from batchcodec.codec import Codec
from batchcodec.dataset import Format

if TYPE_CHECKING:
    import typer

hookspec = pluggy.HookspecMarker("batchcodec")
hookimpl = pluggy.HookimplMarker("batchcodec")


@hookspec
def register_codecs() -> Iterable[type[Codec]]:
    """Codecs that this plugin adds; each `codec_id` is permanent once released."""
    return ()


@hookspec
def register_formats() -> Iterable[type[Format]]:
    """Formats that this plugin can read, write or both."""
    return ()


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add subcommands to the command line."""
