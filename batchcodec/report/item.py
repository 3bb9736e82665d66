"""One item of an archive: finding it, what is known of it without decoding a pixel, and writing it to an image file."""

from __future__ import annotations

import bisect
import difflib
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from batchcodec.archive.reader import NOTES, Archive
from batchcodec.dataset import FormatOptions
from batchcodec.errors import BatchcodecError, ItemNotFoundError, OutputError, TargetExistsError, UnsupportedImageError
from batchcodec.registry import Registry, registry
from batchcodec.types import JSON, ImageSpec, Item

_NUMBER = re.compile(r"#(-?[0-9]{1,18})")
_ALL_COMPARED = 20_000
"""Of so many names each is compared with one that is not there; of more, only those that look alike at a glance."""
_CLOSE = 3


@dataclass(frozen=True)
class ItemInfo:
    """What an archive says of one item.

    Attributes:
        index: its place in the dataset, from 0.
        name: as it was packed; a stranger's text.
        label: its class, if any.
        image: size, channels and bits in words.
        group: the number of its group, which is decoded together.
        group_items: images of that group.
        group_bytes: stored bytes of that group.
        n_bytes: its share of these.
        raw_bytes: of its pixels without compression.
        codec: names the byte format of its group.
        codec_options: as stored.
        exact: whether every machine decodes the same pixels.
        attributes: as they were packed.
        notes: what reading the source changed.
    """

    index: int
    name: str
    label: str | None
    image: str
    width: int
    height: int
    channels: int
    dtype: str
    group: int
    group_items: int
    group_bytes: int
    n_bytes: float
    raw_bytes: int
    codec: str
    codec_options: dict[str, JSON]
    exact: bool
    attributes: Mapping[str, JSON]
    notes: tuple[str, ...]

    @property
    def codec_text(self) -> str:
        """The codec with its options; tables and lists among these are left out."""
        plain = [(key, value) for key, value in self.codec_options.items() if not isinstance(value, dict | list)]
        texts = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in plain]
        return f"{self.codec}:{','.join(texts)}" if texts else self.codec


def item_info(archive: Archive, index: int) -> ItemInfo:
    """What is known of an item by its place in the dataset, from 0.

    Raises:
        ArchiveError: the directory, the head of its group or the record of its codec is damaged.
    """
    row = archive.row(index)
    attributes = dict(row.attributes)
    notes = attributes.pop(NOTES, [])
    group, _ = archive.locate(index)
    head, group_bytes = archive.group_head(group), archive.group_bytes(group)
    codec, image = archive.codecs[head.codec_ref], head.spec.image
    return ItemInfo(
        index=index,
        name=row.name,
        label=row.label,
        image=str(image),
        width=image.width,
        height=image.height,
        channels=image.channels,
        dtype=image.dtype,
        group=group,
        group_items=head.spec.n_items,
        group_bytes=group_bytes,
        n_bytes=group_bytes / head.spec.n_items,
        raw_bytes=image.n_bytes,
        codec=codec.codec_id,
        codec_options=codec.config,
        exact=codec.exact,
        attributes=attributes,
        notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
    )


def find_item(archive: Archive, which: str) -> int:
    """The place in the dataset, from 0, of an item by its name, or by its number as `#123`; `#-1` is the last.

    Raises:
        ItemNotFoundError: there is none; the message has names that are close to it.
    """
    found = archive.find(which)  # a name may begin with #
    if found is not None:
        return found
    if match := _NUMBER.fullmatch(which):
        number, count = int(match[1]), len(archive)
        if not -count <= number < count:
            raise ItemNotFoundError(archive.path, f"there is no item {which}, it has {count:,} (from #0)", item=which)
        return number % count
    close = close_names(archive.names, which)
    meant = f"; close to it: {', '.join(map(repr, close))}" if close else "; `batchcodec ls` lists the names"
    raise ItemNotFoundError(archive.path, f"no item is named {which!r}{meant}", item=which, close=close)


def close_names(names: list[str], wanted: str) -> list[str]:
    """At most three names that are like one that is not among them, the likest first."""
    if len(names) > _ALL_COMPARED:
        rising = sorted(names)
        at = bisect.bisect_left(rising, wanted)
        stem = wanted.rpartition("/")[2].partition(".")[0] or wanted
        containing = [name for name in names if stem in name][: _ALL_COMPARED // 4]
        names = list(dict.fromkeys(rising[max(0, at - 500) : at + 500] + containing))
    close = difflib.get_close_matches(wanted, names, _CLOSE)
    last = wanted.rpartition("/")[2]  # the right name without its folder is not close to it, letter by letter
    return list(dict.fromkeys([*close, *(name for name in names if name.rpartition("/")[2] == last)]))[:_CLOSE]


def write_item(item: Item, target: Path, *, force: bool = False, plugins: Registry | None = None) -> None:
    """Write an item to an image file, whole or not at all; the suffix says which kind, as for `unpack`.

    Raises:
        TargetExistsError: the file exists, without `force`.
        UnsupportedImageError: no such kind of file is written, or it cannot hold the image.
        OutputError: it cannot be written.
        MissingDependencyError: 16-bit colour needs an optional package.
    """
    if target.is_dir():
        raise OutputError(target, "a folder is in the place of the file")
    if target.exists() and not force:
        raise TargetExistsError(target)
    # The folder format knows how to make each kind of file: it writes a folder with this one image.
    writer = (plugins or registry()).format_class("folder")(FormatOptions(image_format="keep"))
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".partial", dir=target.parent))
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    stage = folder / "item"
    try:
        writer.write(stage, [replace(item, name=f"item{target.suffix}", label=None)])
        (made,) = stage.iterdir()
        if made.suffix.lower() != target.suffix.lower():
            raise UnsupportedImageError(
                f"cannot write {target}: a file with the suffix {target.suffix!r} cannot hold {ImageSpec.of(item.pixels)} "
                "(or is not known); .png holds every image"
            )
        made.replace(target)
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    except BatchcodecError as exc:  # the user knows nothing of the stage
        exc.rename(str(stage), str(target))
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
