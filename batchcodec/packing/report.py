"""What `pack` says of its work: while it goes on, and in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchcodec.archive.writer import ByteCount


@dataclass(frozen=True)
class Skipped:
    """An item that was left out, and why."""

    item: str
    reason: str


@dataclass
class Seconds:
    """Where the time went. Stages run at once, on several threads: their seconds are those of all threads together.

    Attributes:
        read: the dataset gave items.
        prepare: resizing, conversion, checks of names.
        encode: the codec coded.
        check: payloads were decoded again, compared and measured.
        write: groups went into the file and to the disk.
        wait_read: for which the thread that forms the groups waited for items: reading was behind.
        wait_code: for which it waited for groups to be coded and written: these were behind.
        total: from the first item to the last byte, by the clock.
    """

    read: float = 0.0
    prepare: float = 0.0
    encode: float = 0.0
    check: float = 0.0
    write: float = 0.0
    wait_read: float = 0.0
    wait_code: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class PackReport:
    """What was packed. Sizes in bytes, PSNR in dB (mean of images, and of the pooled error).

    Attributes:
        codecs: what coded the images, with the number of items of each.
        shapes: image spec to number of items.
        source_bytes: of the files that were packed; other and skipped files of a directory do not count.
        raw_bytes: of the coded pixels without compression.
        notes: what reading and preprocessing changed, with the number of items.
        ignored: files of the source that are no images.
        advice: what was decided by the dataset's size, and what would make the archive smaller, a sentence each.
        n_resumed: groups that an interrupted run had coded.
        workers: groups that were coded at once, and threads that read.
        seconds: where the time went.
    """

    source: str
    target: str
    format: str
    n_items: int
    n_groups: int
    codecs: dict[str, int]
    shapes: dict[str, int]
    source_bytes: int
    raw_bytes: int
    bytes: ByteCount
    n_bytes: int
    mean_psnr: float
    pooled_psnr: float
    lossless: bool
    notes: dict[str, int]
    skipped: list[Skipped]
    ignored: int
    advice: list[str] = field(default_factory=list)
    n_resumed: int = 0
    workers: int = 1
    seconds: Seconds = field(default_factory=Seconds)


@dataclass(frozen=True)
class PackStatus:
    """Progress.

    Attributes:
        done: items that are written or left out.
        total: items of the dataset.
        n_bytes: of the archive so far.
        raw_bytes: pixels of the items that are written, without compression.
    """

    done: int
    total: int
    n_bytes: int
    raw_bytes: int = 0
