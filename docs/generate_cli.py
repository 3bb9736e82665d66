"""Writes `cli.md`, the help of every command, from the commands themselves.

    python docs/generate_cli.py            # write docs/cli.md
    python docs/generate_cli.py --check    # write nothing; exit 1 if docs/cli.md is stale

Only the built-in commands are in it, not those that plugins add.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from batchcodec.cli import app

TARGET = Path(__file__).with_name("cli.md")
WIDTH = 100
"""Columns of the help texts."""

INTRODUCTION = """\
# The command line

This page is the output of `--help`; `python docs/generate_cli.py` writes it. What holds for all commands:

- Reports go to stdout. Progress, warnings and errors go to stderr. Progress is shown on a terminal, or with `--progress`.
- `--json` prints one JSON object on stdout, also for errors: `{"error": {"type": ..., "message": ...}}`.
- Nothing is overwritten without `--force`. A file that `batchcodec` writes appears whole or not at all.
- The exit code is 0, or says what kind of thing went wrong:

| code | meaning |
|---|---|
| 0 | done; with `--on-error skip` also when items were left out (the report lists them) |
| 1 | anything else, such as a full disk |
| 2 | usage: a bad option, or a target that exists |
| 3 | input: the dataset, or one of its images |
| 4 | archive: damaged, cut, of a later version, or no archive at all |
| 5 | codec: not installed, or cannot hold these images; decoding gave other pixels |
| 6 | plugin: two plugins claim one id |
| 130 | interrupted (Ctrl-C) |

`BATCHCODEC_PLUGINS=a,b` in the environment loads, of the plugins from other packages, only those named; empty means none.

`BATCHCODEC_MODELS=folder:folder` lists folders in which models are looked for by name, after those of the package.

See also: [images](images.md), how pictures are read and written; [training](training.md); [plugins](plugins.md).
"""


def help_texts() -> dict[str, str]:
    """Help of the program and of each of its commands, by what one types, in the order of the program's own help."""
    program: Any = get_command(app)
    program.rich_markup_mode = None  # plain text: the same on every terminal
    top = typer.Context(program, info_name="batchcodec", terminal_width=WIDTH, **program.context_settings)
    texts = {"batchcodec": program.get_help(top)}
    for name, command in program.commands.items():
        command.rich_markup_mode = None
        context = typer.Context(command, info_name=name, parent=top, **command.context_settings)
        texts[f"batchcodec {name}"] = command.get_help(context)
    return texts


def cli_text() -> str:
    """The whole page."""
    sections = [f"## {title}\n\n```\n{_trimmed(text)}\n```\n" for title, text in help_texts().items()]
    return "\n".join([INTRODUCTION, *sections])


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def main() -> None:
    """Write or check the page."""
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    text = cli_text()
    if not sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET} is stale: run python docs/generate_cli.py")


if __name__ == "__main__":
    main()
