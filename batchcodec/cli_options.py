"""Options that several commands have, and what they are turned into."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from batchcodec.errors import OptionError
from batchcodec.preprocess import Preprocess, parse_size
from batchcodec.selection import Selection

INTERRUPTED = 130
_BYTES = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? *(?:([kMGT])(i)?)?B?", re.IGNORECASE)


class OnError(StrEnum):
    """What to do with items that fail."""

    fail = "fail"
    skip = "skip"


class Frames(StrEnum):
    """Frames of animated images."""

    first = "first"
    all = "all"


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
VerboseFlag = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]
ForceFlag = Annotated[bool, typer.Option("--force", "-f", help="Replace what exists.")]
ProgressFlag = Annotated[
    bool | None, typer.Option("--progress/--no-progress", help="Progress on stderr.", show_default="on a terminal")
]
FormatOption = Annotated[str | None, typer.Option("--format", help="Format of the source; see `batchcodec formats`.")]
KeyOption = Annotated[str | None, typer.Option(help="Array of an .npz that holds the images.")]
LabelKeyOption = Annotated[str | None, typer.Option(help="Array of an .npz that holds the labels.")]
NamesOption = Annotated[
    list[str] | None, typer.Option("--name", help="Names as shell patterns; * also stands for /. Repeat for more.")
]
LabelsOption = Annotated[list[str] | None, typer.Option("--label", help="A label. Repeat for more.")]
RangesOption = Annotated[
    list[str] | None, typer.Option("--range", help="Places in the dataset: 100:200, :200, -5:, 7. Repeat for more.")
]
SizeOption = Annotated[str, typer.Option(help="native, N (square) or WIDTHxHEIGHT.")]
ResampleOption = Annotated[str, typer.Option(help="nearest, box, bilinear, hamming, bicubic or lanczos.")]
AspectOption = Annotated[str, typer.Option(help="How another aspect ratio meets --size: stretch, crop or pad.")]
ModeOption = Annotated[str, typer.Option(help="keep, gray or rgb.")]
FramesOption = Annotated[Frames, typer.Option(help="Frames of animated and multi-page files.")]
WorkersOption = Annotated[
    int, typer.Option(help="Groups coded at once, and threads that read; 0 is one for each core, fewer where memory is short.")
]
DeviceOption = Annotated[Device, typer.Option(help="Where networks run; auto is a GPU if there is one that the codec can use.")]
ArchiveArgument = Annotated[Path, typer.Argument(help="A .cpack archive.", show_default=False)]
SourceArgument = Annotated[Path, typer.Argument(help="Folder, .npy, .npz, IDX, tar or another dataset.", show_default=False)]


def preprocessing(size: str, resample: str, aspect: str, mode: str) -> Preprocess:
    """The settings that the options of these names stand for."""
    return Preprocess(parse_size(size), resample, aspect, mode)  # type: ignore[arg-type]  # checked when it is made


def selecting(names: list[str] | None, labels: list[str] | None, ranges: list[str] | None) -> Selection:
    """The selection that the options of these names stand for."""
    return Selection(tuple(names or ()), tuple(labels or ()), tuple(ranges or ()))


def parse_percent(name: str, text: str) -> float:
    """`5%` as a part of 1.

    Raises:
        OptionError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%", text)
    if not match:
        raise OptionError(name, text, "a percentage such as 5%")
    return float(match[1]) / 100


def parse_bytes(name: str, value: str) -> int:
    """`500MB` (500,000,000), `2GiB` (2 * 2^30) or a plain number of bytes.

    Raises:
        OptionError: it is none of them.
    """
    match = _BYTES.fullmatch(value)
    if match is None:
        raise OptionError(name, value, "a number of bytes such as 500MB or 2GiB")
    whole, part, unit, binary = match.groups("")
    factor = (1024 if binary else 1000) ** ("kmgt".index(unit.lower()) + 1 if unit else 0)
    return int(Decimal(f"{whole}.{part or 0}") * factor)


def parse_numbers(name: str, text: str) -> list[int]:
    """`20,40,60` as numbers.

    Raises:
        OptionError: it is no such list.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,6}", part) for part in parts):
        raise OptionError(name, text, "whole numbers with commas between, such as 20,40,60")
    return [int(part) for part in parts]


def counting(bar: Any) -> Callable[[int, int], None]:
    """A callback for (done, total) that moves a progress bar."""

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show
