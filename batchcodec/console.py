"""How commands speak: reports to stdout as text or JSON, progress and warnings to stderr, errors as a line and an exit code."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from batchcodec.errors import BatchcodecError
from batchcodec.report import text


class Output:
    """What the running command may print."""

    json = False
    quiet = False
    verbose = False
    progress: bool | None = None

    def configure(
        self, *, json: bool = False, quiet: bool = False, verbose: bool = False, progress: bool | None = None
    ) -> None:
        """Take the flags of the command that is about to run."""
        self.json, self.quiet, self.verbose, self.progress = json, quiet, verbose, progress

    def result(self, value: object, rendered: str) -> None:
        """A report, as JSON or as text."""
        if self.json:
            print(_dumped(value))
        elif not self.quiet:
            print(rendered)

    def detail(self, message: str) -> None:
        """A line for `--verbose`."""
        if self.verbose:
            print(message, file=sys.stderr)

    def fail(self, error: BatchcodecError) -> NoReturn:
        """Say what went wrong and leave with the exit code of its class."""
        print(f"error: {text.printable(str(error))}", file=sys.stderr)
        self.notes(error)
        if self.json:
            body = {"type": type(error).__name__.lstrip("_"), "message": str(error), **_jsonable(error.fields)}
            print(_dumped({"error": body}))
        raise typer.Exit(error.exit_code)

    def notes(self, error: BaseException) -> None:
        """What else there is to say of a failure."""
        for note in getattr(error, "__notes__", []):
            print(f"note: {text.printable(note)}", file=sys.stderr)

    def bar(self, total: int | None, unit: str) -> Any:
        """A progress bar on stderr: on a terminal, or when asked for."""
        from tqdm import tqdm

        wanted = sys.stderr.isatty() if self.progress is None else self.progress
        hidden = not wanted or self.quiet
        return tqdm(total=total, unit=unit, disable=hidden, file=sys.stderr, dynamic_ncols=True, mininterval=0.2)


output = Output()
"""Of the command that runs in this process."""


def _jsonable(value: Any) -> Any:
    """Dataclasses to objects, paths to strings, and numbers that JSON lacks to null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _jsonable(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _dumped(value: object) -> str:
    """JSON text in ASCII: names with control characters or without a Unicode meaning reach any terminal and any encoding."""
    return json.dumps(_jsonable(value), indent=1)


class Group(TyperGroup):
    """Turns errors into messages and exit codes, for built-in commands and those of plugins alike."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except BatchcodecError as exc:
            output.fail(exc)
        except (KeyboardInterrupt, SystemExit) as exc:
            output.notes(exc)
            raise


def examples(*commands: str) -> str:
    """Command lines for the end of a help text, one below the other."""
    return "\n\n".join(["Examples:", *(f"batchcodec {command}" for command in commands)])
