"""Archives into one: `merge` into a new archive, `append` to one that grows. Groups are copied as they are stored.

Sources are never touched, and the result appears whole or not at all: also `append` writes a new file, which takes the place of
the old one in one step. So it costs a copy of all bytes, and a crash leaves the archive as it was.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import xxhash

from batchcodec import disk
from batchcodec.archive import wire
from batchcodec.archive.directory import MAX_NAME_BYTES, Row
from batchcodec.copying.origins import Part, merged_meta, notes_of, single_codec
from batchcodec.copying.stored import Copier, Progress, StoredArchive, new_archive, refuse, staging
from batchcodec.errors import CorruptArchiveError, DuplicateNameError, ItemError, OptionError, OutputError
from batchcodec.names import check_name
from batchcodec.pack import PackOptions, PackStatus, pack
from batchcodec.registry import registry
from batchcodec.report.originals import recorded_options, recorded_preprocess


@dataclass(frozen=True)
class MergedSource:
    """One source of an archive.

    Attributes:
        path: of the archive, or of the dataset that was packed for it.
        prefix: what its names have got before them.
        n_items: images.
    """

    path: str
    prefix: str
    n_items: int


@dataclass(frozen=True)
class MergeReport:
    """What became one archive. Sizes in bytes.

    Attributes:
        sources: in the order of the items.
        model_bytes: of MODEL blocks, each model once.
        left_behind: what was not taken along, such as unknown blocks that may be passed over, with the number of each.
        advice: what the user may want to know of the codecs.
    """

    target: str
    n_items: int
    n_groups: int
    n_bytes: int
    model_bytes: int
    sources: list[MergedSource]
    left_behind: dict[str, int]
    advice: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """An archive to copy, what to call it, and what to put before its names."""

    path: Path
    shown: str
    prefix: str = ""

    def open(self) -> StoredArchive:
        return StoredArchive(self.path, registry().restore)


def merge(
    sources: Sequence[Path | str],
    target: Path | str,
    *,
    prefix: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> MergeReport:
    """Make one archive of the items of several: those of the first in their order, then those of the second, ...

    Payloads and digests stay as they are, and each codec and model is written once. In memory is the directory of one source
    at a time, and a hash of each name.

    Args:
        sources: archives.
        target: the new archive.
        prefix: put the name of its archive before each name, as `train/0001.png` for `train.cpack`; where two archives have
            one name, with as many of the folders above it as it takes to tell them apart.
        force: replace an existing target.
        progress: called with bytes copied and bytes of all.

    Raises:
        ArchiveError: a source cannot be read, or is damaged.
        DuplicateNameError: two items have one name.
        OptionError, OutputError: the target is a source, exists, or cannot be written.
    """
    paths, target = [Path(source) for source in sources], Path(target)
    if not paths:
        raise OptionError("sources", "", "at least one archive")
    refuse(target, paths, force=force)
    before = prefixes(paths) if prefix else [""] * len(paths)
    whole = [_Source(path, str(path), text) for path, text in zip(paths, before, strict=True)]
    with staging(target) as folder:
        report = _merge(whole, folder / target.name, target, progress)
        disk.replace(folder / target.name, target)
        disk.sync_directory(target.parent)
    return report


def append(
    target: Path | str,
    sources: Sequence[Path | str],
    *,
    prefix: bool = False,
    options: PackOptions | None = None,
    progress: Progress | None = None,
    pack_progress: Callable[[PackStatus], None] | None = None,
) -> MergeReport:
    """Put the items of archives and datasets behind those of an archive.

    Datasets are packed first. The file is replaced in one step by a new one, so it takes the space and the time of a copy.

    Args:
        target: the archive that grows.
        sources: archives, and datasets such as folders.
        prefix: as in `merge`, for the names of the sources alone.
        options: how datasets are packed; by default `recorded_pack_options` of the archive.
        progress: called with bytes copied and bytes of all.
        pack_progress: called while a dataset is packed.

    Raises:
        ArchiveError, InputError, CodecError, DuplicateNameError, OptionError, OutputError: see `merge` and `pack`.
    """
    shown, target = str(target), Path(target).resolve()  # what a link leads to grows; the link stays
    paths = [Path(source) for source in sources]
    if not paths:
        raise OptionError("sources", "", "at least one archive or dataset")
    if any(path.exists() and target.exists() and target.samefile(path) for path in paths):
        raise OptionError("sources", str(target), "other archives than the one that grows")
    with _Source(target, shown).open():  # before anything is packed
        before = target.stat()
    texts = prefixes(paths) if prefix else [""] * len(paths)
    advice: list[str] = []
    with staging(target) as folder:
        whole = [_Source(target, shown)]
        for number, (path, text) in enumerate(zip(paths, texts, strict=True)):
            if _is_archive(path):
                whole.append(_Source(path, str(path), text))
                continue
            packed = folder / f"{number}.cpack"
            _pack(path, packed, options or recorded_pack_options(target), pack_progress)
            whole.append(_Source(packed, str(path), text))
            advice += _other_models(target, packed, path)
        report = _merge(whole, folder / target.name, Path(shown), progress)
        shutil.copymode(target, folder / target.name)
        after = target.stat()
        if not os.path.samestat(before, after) or before.st_mtime_ns != after.st_mtime_ns:
            raise OutputError(target, "it was changed while it was copied; nothing was appended, try again")
        disk.replace(folder / target.name, target)
        disk.sync_directory(target.parent)
    return replace(report, advice=advice)


def recorded_pack_options(path: Path | str) -> PackOptions:
    """How to pack more images like those of an archive, as far as it says: codec, preprocessing, how its source was read.

    Raises:
        ArchiveError: it cannot be read.
    """
    from batchcodec.learned import shipped

    with _Source(Path(path), str(path)).open() as archive:
        codec = single_codec(archive.meta)
        named = [
            record.config["model"]
            for record in archive.codecs.values()
            if not record.model and isinstance(record.config.get("model"), dict)
        ]
        name = named[0].get("name") if len(named) == 1 and isinstance(named[0], dict) else None
        return PackOptions(
            codec=codec or "auto",
            model=shipped.path_of(name) if codec and isinstance(name, str) else None,
            model_ref=bool(named),
            preprocess=recorded_preprocess(archive),
            format_options=recorded_options(archive.meta),
        )


def prefixes(paths: Sequence[Path]) -> list[str]:
    """`train/` for `data/train.cpack`, and `a/train/`, `b/train/` for `a/train.cpack`, `b/train.cpack`.

    Raises:
        OptionError: one path is there twice.
        UnsafeNameError: a name could not become that of a file.
    """
    parts = [(*path.resolve().parent.parts[1:], path.resolve().stem or path.resolve().name) for path in paths]
    if len(set(parts)) < len(parts):
        twice = next(path for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1)
        raise OptionError("prefix", str(twice), "sources whose paths without suffix are different")
    found = []
    for path, own in zip(paths, parts, strict=True):
        depth = 1
        while sum(other[-depth:] == own[-depth:] for other in parts) > 1:
            depth += 1
        text = "/".join(own[-depth:]) + "/"
        check_name(path, text + "name")
        found.append(text)
    return found


def _merge(sources: Sequence[_Source], path: Path, target: Path, progress: Progress | None) -> MergeReport:
    """Write the archive of all sources to a path in a staging folder."""
    total = _check_sources(sources)
    left: Counter[str] = Counter()
    parts: list[Part] = []
    with new_archive(path, progress, total) as copier:
        for source in sources:
            with source.open() as archive:
                left += archive.left_behind()
                parts.append(_copy_all(archive, source, copier))
        copier.writer.add_meta(merged_meta(parts))
    count = copier.writer.bytes
    return MergeReport(
        target=str(target),
        n_items=copier.n_items,
        n_groups=copier.n_groups,
        n_bytes=count.total,
        model_bytes=count.model,
        sources=[MergedSource(s.shown, s.prefix, part.n_items) for s, part in zip(sources, parts, strict=True)],
        left_behind=dict(sorted(left.items())),
    )


def _copy_all(archive: StoredArchive, source: _Source, copier: Copier) -> Part:
    """Copy all groups; their items come after those that are there."""
    start, n_samples, notes = copier.n_items, 0, Counter[str]()
    for group in range(archive.n_groups):
        rows = [
            Row(start + row.order, source.prefix + row.name, row.label, row.attributes) for row in archive.group_rows(group)
        ]
        n_samples += int(np.prod(archive.group_head(group).spec.shape))
        notes.update(notes_of(rows))
        copier.copy(archive, group, rows)
    return Part(Path(source.shown).name, len(archive), n_samples, archive.meta, notes)


def _check_sources(sources: Sequence[_Source]) -> int:
    """Find what would fail late before anything is copied: damaged directories, and names. The bytes of all sources."""
    seen: set[int] = set()
    total = 0
    for number, source in enumerate(sources):
        with source.open() as archive:
            total += archive.n_bytes
            for row in archive.rows:
                name = source.prefix + row.name
                key = xxhash.xxh3_64_intdigest(name.encode())
                if key in seen:
                    raise _name_error(sources[: number + 1], name)
                seen.add(key)
                if source.prefix and len(name.encode()) > MAX_NAME_BYTES:
                    raise ItemError(source.shown, name, f"with its prefix, the name has more than {MAX_NAME_BYTES} bytes")
    return total


def _name_error(sources: Sequence[_Source], name: str) -> CorruptArchiveError | DuplicateNameError:
    """The error for a name of the last of these sources that was met before."""
    last = sources[-1]
    for source in sources[:-1]:
        with source.open() as archive:
            if any(source.prefix + row.name == name for row in archive.rows):
                error = DuplicateNameError(f"{source.shown} and {last.shown}", name)
                error.fields |= {"first": source.shown, "second": last.shown}
                error.add_note("--prefix puts the name of its archive before each name")
                return error
    return CorruptArchiveError(last.path, f"two items have one name: {name!r}")


def _is_archive(path: Path) -> bool:
    """By its first bytes, or by what its name promises."""
    try:
        with path.open("rb") as file:
            return file.read(len(wire.MAGIC)) == wire.MAGIC or path.suffix == ".cpack"
    except OSError:
        return path.suffix == ".cpack"


def _pack(source: Path, target: Path, options: PackOptions, progress: Callable[[PackStatus], None] | None) -> None:
    try:
        pack(source, target, options, progress=progress)
    except BaseException as exc:
        if hasattr(exc, "__notes__"):
            exc.__notes__.clear()  # the staging folder goes, and what the notes say how to take up with it
        raise


def _other_models(target: Path, packed: Path, source: Path) -> list[str]:
    """A word on models that came with a dataset beside those that the archive has."""
    with _Source(target, "").open() as old, _Source(packed, "").open() as new:
        if old.models and new.models.keys() - old.models.keys():
            return [
                f"{source} was coded with another model than {target} has: an archive keeps only what decoding needs of a "
                "model, so appending takes the model file (--model)"
            ]
    return []
