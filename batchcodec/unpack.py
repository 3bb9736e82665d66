"""Archive to dataset, in any format that can be written. The target appears whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchcodec.archive.reader import CACHE_BYTES, Archive
from batchcodec.archive.wire import CodecRecord
from batchcodec.codec import Codec
from batchcodec.dataset import FormatOptions, stacks_of
from batchcodec.errors import BatchcodecError, OptionError, OutputError, TargetExistsError
from batchcodec.parallel import cores, in_order
from batchcodec.registry import Registry, registry
from batchcodec.selection import Selection
from batchcodec.types import Item, Stack


@dataclass(frozen=True)
class UnpackOptions:
    """Settings of `unpack`.

    Attributes:
        to: format id; by default told by the target's suffix, a folder when it has none.
        force: replace existing files. An existing folder is added to, never emptied.
        on_error: "fail" at the first damaged group, or "skip" and list what is lost.
        selection: which items; all by default.
        reference: decode `hyperprior-1` with the reference decoder, which needs no torch; slow.
        workers: threads that decode groups, and as many that make image files; 0 is one for each core. 1 does all on the
            caller's thread. What is written does not depend on it.
        format_options: how files are written.
    """

    to: str | None = None
    force: bool = False
    on_error: str = "fail"
    selection: Selection = Selection()  # noqa: RUF009  # frozen
    reference: bool = False
    workers: int = 0
    format_options: FormatOptions = field(default_factory=FormatOptions)

    def __post_init__(self) -> None:
        if self.on_error not in ("fail", "skip"):
            raise OptionError("on-error", self.on_error, "fail or skip")
        if not 0 <= self.workers <= 256:
            raise OptionError("workers", self.workers, "0 (all cores) to 256")


@dataclass(frozen=True)
class UnpackReport:
    """What was unpacked.

    Attributes:
        n_items: written.
        n_lost: left out.
        lost: message of each damaged group that was left out.
        n_rounded: groups of an inexact codec that did not decode to the very pixels that were packed, but within rounding.
        without: conditions of the selection that no item meets.
        n_renamed: items whose names have another suffix than the files have, which are written as PNG without loss.
    """

    source: str
    target: str
    format: str
    n_items: int
    n_lost: int
    lost: list[str]
    n_rounded: int
    n_renamed: int
    without: list[str] = field(default_factory=list)


def unpack(
    source: Path | str,
    target: Path | str,
    options: UnpackOptions | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    plugins: Registry | None = None,
) -> UnpackReport:
    """Write the items of an archive to a dataset.

    Raises:
        ArchiveError, CodecError, OutputError: see `batchcodec.errors`.
    """
    source, target, options, plugins = Path(source), Path(target), options or UnpackOptions(), plugins or registry()
    if target.name in ("", ".."):  # `.` and `..` have no name to stage beside
        target = target.resolve()
    if target.exists() and source.exists() and target.samefile(source):
        raise OptionError("target", str(target), "another path than the archive's own")
    workers = options.workers or cores()
    restore = _reference(plugins) if options.reference else plugins.restore
    with Archive(source, restore, strict=True, workers=workers) as archive:
        writer = plugins.format_for_target(target, options.format_options, options.to)
        occupied = target.exists() and not (target.is_dir() and not any(target.iterdir()))
        if occupied and not options.force:
            raise TargetExistsError(target)
        selected = options.selection.of(archive)
        wanted = np.flatnonzero(selected.mask)
        items_of = Counter(archive.groups_of(wanted).tolist())
        lost: list[str] = []
        n_lost = n_done = n_renamed = 0
        writer.workers = workers
        as_png = writer.image_files and options.format_options.image_format == "png"

        def on_damage(group: int, error: BatchcodecError) -> None:
            nonlocal n_lost
            lost.append(str(error))
            n_lost += items_of[group]

        def stacks() -> Generator[Stack, None, None]:
            threads = workers if workers > 1 else 0
            skipping = options.on_error == "skip"
            # Group by group decodes each group once; the order of the dataset may go to and fro between groups.
            if not writer.ordered or skipping or archive.in_order:
                groups = archive.group_stacks(on_damage if skipping else None, sorted(items_of), workers=threads)
                for indices, stack in groups:
                    chosen = selected.mask[indices]
                    if chosen.all():
                        yield stack
                    else:
                        yield from stacks_of(itertools.compress(stack.items, chosen))
            else:
                for items in in_order(archive.take, _parts(archive, wanted), workers=min(1, threads)):
                    yield from stacks_of(items)

        def taken(items: Sequence[Item]) -> None:
            nonlocal n_done, n_renamed
            n_done += len(items)
            n_renamed += as_png and sum(not item.name.lower().endswith(".png") for item in items)
            if progress:
                progress(n_done, len(wanted))

        with _staged(target, options.force) as stage, contextlib.closing(stacks()) as found:
            try:
                writer.write(
                    stage, _Found(found, taken) if options.on_error == "skip" else _Promised(found, taken, len(wanted))
                )
            except BatchcodecError as exc:  # the user knows nothing of the stage
                exc.rename(str(stage), str(target))
                raise
        n_rounded = len(archive.rounded_groups)
    return UnpackReport(
        str(source), str(target), writer.format_id, n_done, n_lost, lost, n_rounded, n_renamed, selected.without
    )


class _Found(Iterable[Item]):
    """Items to write, one by one or in stacks, whichever the format asks for; once.

    Args:
        found: the items.
        taken: told of items when the next one is asked for.
    """

    def __init__(self, found: Iterator[Stack], taken: Callable[[Sequence[Item]], None]) -> None:
        self._found, self._taken = found, taken

    def stacks(self) -> Iterator[Stack]:
        for stack in self._found:
            yield stack
            self._taken(stack.items)

    def __iter__(self) -> Iterator[Item]:
        for stack in self._found:
            for item in stack.items:
                yield item
                self._taken((item,))


class _Promised(_Found):
    """Items of which so many come, or an error: formats that begin with the number can write it at once."""

    def __init__(self, found: Iterator[Stack], taken: Callable[[Sequence[Item]], None], n_items: int) -> None:
        super().__init__(found, taken)
        self._n_items = n_items

    def __len__(self) -> int:
        return self._n_items


def _parts(archive: Archive, indices: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """The indices in runs whose groups have at most so many bytes of pixels, where one group allows."""
    sizes: dict[int, int] = {}
    part: list[int] = []
    for index, group in zip(indices.tolist(), archive.groups_of(indices).tolist(), strict=True):
        if group not in sizes:
            n_bytes = archive.group_head(group).spec.n_bytes
            if part and sum(sizes.values()) + n_bytes > CACHE_BYTES // 2:
                yield part
                part, sizes = [], {}
            sizes[group] = n_bytes
        part.append(index)
    if part:
        yield part


def _reference(plugins: Registry) -> Callable[[CodecRecord], Codec]:
    """Restores codecs like the registry, but `hyperprior-1` as its reference decoder."""

    def restore(record: CodecRecord) -> Codec:
        from batchcodec.learned import shipped
        from batchcodec.learned.hyperprior.codec import HyperpriorCodec, model_reference
        from batchcodec.reference import ReferenceHyperprior

        if record.codec_id != HyperpriorCodec.codec_id:
            return plugins.restore(record)
        named = model_reference(record.config)
        if named is None or record.model:
            return ReferenceHyperprior.restore(record.config, record.model)
        rest = {key: value for key, value in record.config.items() if key != "model"}
        return ReferenceHyperprior.restore(rest, shipped.find_stored(*named))

    return restore


@contextlib.contextmanager
def _staged(target: Path, force: bool) -> Iterator[Path]:
    """A path beside the target to write to, moved into place when the block ends well and removed when it does not."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", suffix=".partial", dir=target.parent))
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    stage = folder / target.name
    try:
        yield stage
        # A format may write a second file beside the first, such as labels.
        made = sorted(folder.iterdir())
        for beside in (target.parent / path.name for path in made):
            if beside != target and beside.exists() and not force:
                raise TargetExistsError(beside)
        for path in made:
            _move(path, target.parent / path.name)
    except OSError as exc:
        raise OutputError(target, exc.strerror or str(exc)) from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(path: Path, target: Path) -> None:
    """Rename a file over the target, or a folder into it. The target may be a link, but nothing in it is followed."""
    if path.is_dir() and target.is_dir():
        for child in sorted(path.iterdir()):
            inside = target / child.name
            if child.is_dir() and inside.is_symlink():
                raise OutputError(inside, "a link is in the place of a folder")
            _move(child, inside)
        return
    if target.is_dir():
        raise OutputError(target, "a folder is in the place of a file")
    if path.is_dir() and target.exists():
        raise OutputError(target, "a file is in the place of a folder")
    path.replace(target)
