"""One measurement of one codec: what is handed to the process that makes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from batchcodec.dataset import FormatOptions
from batchcodec.preprocess import Preprocess

KINDS = ("pack", "unpack", "open", "read", "single", "batch", "epoch")
"""What is measured, in this order: `pack` makes the archive that the others read."""


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        kind: one of `KINDS`.
        source: the dataset.
        archive: where it is packed to.
        codec: `name:key=value,...`.
        model: model file or name.
        images: of the dataset, at most.
        group_items: images of a group; None is the library's choice.
        workers: threads; 0 is one for each core.
        batch: images of a shuffled batch.
        seconds: about how long reading goes on.
        seed: of what is shuffled.
        preprocess: size and mode.
        format: of the dataset; by default recognised.
        format_options: how the dataset is read.
    """

    kind: str
    source: Path
    archive: Path
    codec: str
    model: Path | None = None
    images: int = 2000
    group_items: int | None = None
    workers: int = 0
    batch: int = 256
    seconds: float = 5.0
    seed: int = 0
    preprocess: Preprocess = field(default_factory=Preprocess)
    format: str | None = None
    format_options: FormatOptions = field(default_factory=FormatOptions)

    def to_json(self) -> dict[str, Any]:
        """For the process that does it."""
        return asdict(self) | {name: str(path) for name in _PATHS if (path := getattr(self, name)) is not None}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """What `to_json` gave, through JSON."""
        paths = {name: Path(document[name]) for name in _PATHS if document[name] is not None}
        settings = dict(document["preprocess"])
        size = settings.pop("size")
        preprocess = Preprocess(size=None if size is None else (size[0], size[1]), **settings)
        options = FormatOptions(**document["format_options"])
        return cls(**document | paths | {"preprocess": preprocess, "format_options": options})


_PATHS = ("source", "archive", "model")
