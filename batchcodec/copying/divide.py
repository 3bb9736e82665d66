"""Parts of an archive as archives: `extract` makes one of the items that are asked for, `split` divides all of them.

Groups whose items are all wanted are copied as they are stored. A group cannot be cut without decoding it, so one of which some
items are wanted is refused, unless it is said what to do: take it whole, or code the wanted items anew, which is done by a
lossless codec only. So no image is ever coded with a loss a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from batchcodec import disk
from batchcodec.archive import digest
from batchcodec.archive.directory import Row
from batchcodec.archive.wire import CodecRecord, GroupHead
from batchcodec.codec import Codec
from batchcodec.copying.origins import Part, notes_of, selected_meta, single_codec
from batchcodec.copying.parts import Share, byte_runs, count_cut, even_runs, item_runs, label_stem, shares_by_label, shares_of
from batchcodec.copying.stored import Progress, StoredArchive, new_archive, refuse, staging
from batchcodec.errors import BatchcodecError, CodecError, OptionError, OutputError, TargetExistsError
from batchcodec.registry import Registry, registry
from batchcodec.selection import Selection
from batchcodec.types import GroupSpec, Pixels

MAX_FILE_NAME = 255
"""Bytes that the usual file systems allow."""


@dataclass(frozen=True)
class PartReport:
    """An archive that was made of some items of another. Sizes in bytes.

    Attributes:
        n_copied: groups that were copied as they are stored.
        n_recoded: groups that were decoded and coded anew, without loss.
        n_rounded: of these, groups of an inexact codec that did not decode to the very pixels that were packed, but within
            rounding.
    """

    path: str
    n_items: int
    n_copied: int
    n_recoded: int
    n_rounded: int
    n_bytes: int


@dataclass(frozen=True)
class ExtractReport:
    """What was extracted.

    Attributes:
        part: the new archive.
        n_selected: items that were asked for.
        n_total: items of the source.
        without: conditions that no item meets, in words.
        left_behind: what was not taken along, such as unknown blocks that may be passed over, with the number of each.
    """

    source: str
    part: PartReport
    n_selected: int
    n_total: int
    without: list[str]
    left_behind: dict[str, int]


@dataclass(frozen=True)
class SplitReport:
    """The parts of an archive.

    Attributes:
        n_over: parts with more items than were asked for, since a group is not cut.
        in_order: whether merging the parts gives the order of the source again: groups of mixed shapes are out of order.
        left_behind: what was not taken along, such as unknown blocks that may be passed over, with the number of each.
    """

    source: str
    folder: str
    parts: list[PartReport]
    n_over: int
    in_order: bool
    left_behind: dict[str, int]


@dataclass(frozen=True)
class _Recoding:
    """The lossless codec for what is left of groups that are cut."""

    text: str
    codec: Codec
    record: CodecRecord

    @classmethod
    def of(cls, text: str, plugins: Registry) -> Self:
        codec = plugins.make_codec(text)
        if not codec.lossless:
            raise OptionError("recode", text, "a codec that loses nothing, such as zstd or jxl:lossless=true")
        return cls(text, codec, plugins.record(codec))

    def __call__(self, images: Pixels) -> tuple[GroupHead, bytes]:
        """Code images [N, H, W, C], and see that they come back."""
        spec = GroupSpec.of(images)
        self.codec.check(spec.image)
        try:
            payload = self.codec.encode(images)
            decoded = self.codec.decode(payload, spec)
        except (BatchcodecError, MemoryError):
            raise
        except Exception as exc:  # a plugin's codec may let anything escape
            raise CodecError(f"codec {self.text} failed on {spec.image}: {type(exc).__name__}: {exc}") from exc
        if not np.array_equal(decoded, images):
            raise CodecError(f"codec {self.text} says that it is lossless and gave other pixels back: {spec.image}")
        sketch = () if self.codec.exact else digest.sketch(images)
        return GroupHead(0, spec, digest.digest(images), sketch), payload


def extract(
    source: Path | str,
    target: Path | str,
    selection: Selection,
    *,
    recode: str | None = None,
    whole_groups: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    plugins: Registry | None = None,
) -> ExtractReport:
    """Make an archive of some items of another, in their order.

    Args:
        source: an archive.
        target: the new archive.
        selection: which items.
        recode: a lossless codec, such as `zstd`, for the wanted items of groups that also hold others.
        whole_groups: take these groups whole in place of that.
        force: replace an existing target.
        progress: called with stored bytes that are done and those of all.
        plugins: where codecs are found.

    Raises:
        ItemNotFoundError: no item is selected.
        OptionError: groups would have to be cut, and it was not said how; a codec that is not lossless; a bad target.
        ArchiveError, CodecError, OutputError: the source cannot be read or decoded, the target not be written.
    """
    source, target, plugins = Path(source), Path(target), plugins or registry()
    refuse(target, [source], force=force)
    if recode is not None and whole_groups:
        raise OptionError("whole-groups", True, "no --recode beside it")
    recoding = _Recoding.of(recode, plugins) if recode is not None else None
    with StoredArchive(source, plugins.restore) as archive:
        selected = selection.of(archive)
        shares = shares_of(archive, selected.mask[archive.indices])
        n_cut, n_taken = count_cut(shares)
        if whole_groups:
            shares = [Share(share.group) for share in shares]
        elif n_cut and recoding is None:
            raise OptionError(
                "recode",
                None,
                f"a lossless codec such as zstd: {n_cut:,} of {archive.n_groups:,} groups hold {n_taken:,} of the wanted items "
                "beside others, and a group cannot be cut without coding these anew. Or --whole-groups takes them whole",
            )
        with staging(target) as folder:
            part = _write(archive, shares, folder / target.name, recoding, _summed([shares], archive, progress))
            disk.replace(folder / target.name, target)
            disk.sync_directory(target.parent)
        left = dict(sorted(archive.left_behind().items()))
        return ExtractReport(str(source), _at(part, target), selected.n_items, len(archive), selected.without, left)


def split(
    source: Path | str,
    folder: Path | str,
    *,
    parts: int | None = None,
    items: int | None = None,
    max_bytes: int | None = None,
    by_label: bool = False,
    recode: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
    plugins: Registry | None = None,
) -> SplitReport:
    """Divide an archive into parts, in a new folder: whole groups, in the order in which they are stored.

    Args:
        source: an archive.
        folder: appears whole; an existing one is added to, with `force`.
        parts: so many, of about equally many items: `NAME-00000-of-00003.cpack`, ...
        items: of at most so many items each, or one group where that has more.
        max_bytes: of at most so many bytes each.
        by_label: one for each label: `LABEL.cpack`. Groups with several labels have to be cut.
        recode: a lossless codec, such as `zstd`, for groups that have to be cut.
        force: replace parts that exist in the folder.
        progress: called with stored bytes that are done and those of all.
        plugins: where codecs are found.

    Raises:
        OptionError: not one way to divide was given, or one that does not work for this archive; groups would have to be cut.
        ArchiveError, CodecError, OutputError: the source cannot be read or decoded, the parts not be written.
    """
    source, folder, plugins = Path(source), Path(folder), plugins or registry()
    if folder.name in ("", ".."):  # `.` and `..` have no name to stage beside
        folder = folder.resolve()
    _check_way({"parts": parts, "items": items, "max-bytes": max_bytes, "by-label": by_label or None})
    if recode is not None and not by_label:
        raise OptionError("recode", recode, "none: only --by-label cuts groups")
    if folder.exists() and not folder.is_dir():
        raise OptionError("folder", str(folder), "a folder, not a file")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise TargetExistsError(folder)
    recoding = _Recoding.of(recode, plugins) if recode is not None else None
    with StoredArchive(source, plugins.restore) as archive:
        if by_label:
            planned = _by_label(archive, folder, recoding)
        elif parts is not None:
            planned = _numbered(source, even_runs(archive, parts))
        elif items is not None:
            planned = _numbered(source, item_runs(archive, items))
        else:
            planned = _numbered(source, byte_runs(archive, max_bytes or 0))
        if any((folder / name).exists() and source.samefile(folder / name) for name in planned):
            raise OptionError("folder", str(folder), "another folder: a part would take the place of the archive")
        found = _write_parts(archive, planned, folder, max_bytes, recoding, progress)
        return SplitReport(
            source=str(source),
            folder=str(folder),
            parts=found,
            n_over=sum(items is not None and part.n_items > items for part in found),
            in_order=archive.in_order,
            left_behind=dict(sorted(archive.left_behind().items())),
        )


def _check_way(ways: dict[str, int | None]) -> None:
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise OptionError("split", " and ".join(given) or "nothing", "one of --parts, --items, --max-bytes, --by-label")
    value = ways[given[0]]
    if value is not None and value < 1:
        raise OptionError(given[0], value, "a number from 1 on")


def _numbered(source: Path, runs: Sequence[range]) -> dict[str, list[Share]]:
    """Parts by file name, which sorts like the parts."""
    stem = source.stem
    return {f"{stem}-{i:05}-of-{len(runs):05}.cpack": [Share(group) for group in run] for i, run in enumerate(runs)}


def _by_label(archive: StoredArchive, folder: Path, recoding: _Recoding | None) -> dict[str, list[Share]]:
    """Parts by file name."""
    planned = {f"{label_stem(label)}.cpack": shares for label, shares in shares_by_label(archive).items()}
    longest = max(planned, key=lambda name: len(name.encode()))
    if len(longest.encode()) > MAX_FILE_NAME:
        raise OutputError(folder, f"the label of {longest!r} is too long for a file name")
    n_cut, n_taken = count_cut([share for shares in planned.values() for share in shares])
    if n_cut and recoding is None:
        raise OptionError(
            "recode",
            None,
            f"a lossless codec such as zstd: {n_cut:,} of {archive.n_groups:,} groups hold {n_taken:,} items of several "
            "labels, and a group cannot be cut without coding these anew",
        )
    return planned


def _write_parts(
    archive: StoredArchive,
    planned: dict[str, list[Share]],
    folder: Path,
    max_bytes: int | None,
    recoding: _Recoding | None,
    progress: Progress | None,
) -> list[PartReport]:
    """Write all parts in a staging folder, then put them into place."""
    shown = _summed(list(planned.values()), archive, progress)
    reports = []
    with staging(folder) as stage:
        made = stage / folder.name
        made.mkdir()
        for name, shares in planned.items():
            if (made / name).exists():
                raise OutputError(folder, f"two parts would have the name {name!r} on this file system")
            report = _write(archive, shares, made / name, recoding, shown)
            if max_bytes is not None and report.n_bytes > max_bytes:
                raise OutputError(folder / name, f"it would have {report.n_bytes} bytes, {max_bytes} were asked for")
            reports.append(_at(report, folder / name))
        if folder.exists():  # it stays the folder that it is
            for name in planned:
                disk.replace(made / name, folder / name)
            disk.sync_directory(folder)
        else:
            disk.replace(made, folder)
            disk.sync_directory(folder.parent)
    return reports


def _write(
    archive: StoredArchive,
    shares: Sequence[Share],
    path: Path,
    recoding: _Recoding | None,
    progress: Callable[[int], None],
) -> PartReport:
    """Write one part; its items keep their order."""
    orders = np.sort(np.concatenate([_places(archive, share) for share in shares]))
    notes, codecs = Counter[str](), Counter[str]()
    before = single_codec(archive.meta)
    n_samples = n_recoded = n_rounded = 0
    with new_archive(path) as copier:
        for share in shares:
            rows = archive.group_rows(share.group)
            if share.places is not None:
                rows = [rows[place] for place in share.places]
            ranks = np.searchsorted(orders, [row.order for row in rows]).tolist()
            rows = [Row(rank, row.name, row.label, row.attributes) for rank, row in zip(ranks, rows, strict=True)]
            notes.update(notes_of(rows))
            n_samples += len(rows) * int(np.prod(archive.group_head(share.group).spec.image.shape))
            if share.places is None or recoding is None:
                copier.copy(archive, share.group, rows)
                codecs[before or ""] += len(rows)
            else:
                head, payload = recoding(archive.decode_group(share.group)[list(share.places)])
                copier.add(archive, recoding.record, head, payload, rows)
                codecs[recoding.text] += len(rows)
                n_recoded += 1
                n_rounded += share.group in archive.rounded_groups
            progress(archive.group_bytes(share.group))
        part = Part(archive.path.name, len(orders), n_samples, archive.meta, notes)
        copier.writer.add_meta(selected_meta(part, len(archive), None if "" in codecs else codecs))
    return PartReport(str(path), len(orders), copier.n_groups - n_recoded, n_recoded, n_rounded, copier.writer.bytes.total)


def _places(archive: StoredArchive, share: Share) -> list[int]:
    """Places in the dataset of what is taken of a group."""
    places: list[int] = archive.group_indices(share.group).tolist()
    return places if share.places is None else [places[place] for place in share.places]


def _at(report: PartReport, path: Path) -> PartReport:
    return replace(report, path=str(path))


def _summed(planned: Sequence[Sequence[Share]], archive: StoredArchive, progress: Progress | None) -> Callable[[int], None]:
    """A callback for the stored bytes of each group, which are summed up over all parts."""
    total = sum(archive.group_bytes(share.group) for shares in planned for share in shares)
    done = 0

    def show(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if progress:
            progress(done, total)

    return show
