"""Decodes the groups of an open archive, whole or in part, and proves what can be proved of the pixels.

The stored bytes of a group are compared with their checksum before anything is done with them. The digest of the decoded pixels
is one for the whole group, so it proves a group that is decoded whole, and nothing of a part of it. What a wrong library, model
or machine does to pixels it does to all groups alike; so a part is decoded only by a codec that has decoded a whole group of
such images here before, and that group had its digest. `strict` always decodes whole groups.

A part is decoded where that saves work: of a codec that can (`Codec.partial`), at most half of the items, and of a group that
is neither read in order nor was asked for so often lately that the parts took as long as all of it. Else the group is decoded
whole, and kept.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from batchcodec.archive import digest, wire
from batchcodec.archive.blocks import BlockFile
from batchcodec.archive.cache import GroupCache
from batchcodec.archive.index import Index
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead
from batchcodec.codec import Codec
from batchcodec.errors import BatchcodecError, CodecError, CorruptArchiveError, CorruptGroupError, PayloadError
from batchcodec.types import ImageSpec, Pixels

Restore = Callable[[CodecRecord], Codec]
"""Gives the decoder for a codec record; the archive itself knows no codec."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A group as it is stored, its checksum found right, and its decoder."""

    head: GroupHead
    payload: bytes
    codec: Codec


class Groups:
    """The groups of an archive.

    Args:
        blocks: the archive's.
        restore: gives the decoder for a codec record.
        cache_bytes: of decoded pixels to keep.
        strict: never decode a part of a group.

    Attributes:
        entries: their blocks.
        rounded: groups that decoded to other pixels than were packed, within the rounding that their codec is allowed.
    """

    def __init__(self, blocks: BlockFile, restore: Restore, *, cache_bytes: int, strict: bool) -> None:
        self._blocks, self._restore, self._strict = blocks, restore, strict
        self.entries: Index = blocks.entries.of(BlockType.GROUP)
        self.rounded: set[int] = set()
        self.cache = GroupCache(cache_bytes)
        self._decoders: dict[int, Codec] = {}
        self._proven: dict[tuple[int, ImageSpec], float] = {}  # seconds for an image, by codec and kind of image
        self.after_fork()

    def after_fork(self) -> None:
        """Locks of the parent may be held for ever in the child."""
        self._lock = threading.RLock()
        self.cache.after_fork()

    # ---- codecs

    @cached_property
    def records(self) -> tuple[dict[int, CodecRecord], list[CorruptArchiveError]]:
        """Codec records by reference, as far as they are whole, and what is wrong with the others."""
        models: dict[bytes, bytes] = {}
        records: dict[int, CodecRecord] = {}
        damage: list[CorruptArchiveError] = []
        for entry in self._blocks.entries.of(BlockType.MODEL, BlockType.CODEC):
            try:
                body = self._blocks.body(entry)
                with self._blocks.parsing(BlockType(entry.type).name, entry.offset):
                    if entry.type == BlockType.MODEL:
                        sha256, model = wire.parse_model(body, wire.MAX_MODEL - sum(map(len, models.values())))
                        models[sha256] = model
                        continue
                    record, wanted = wire.parse_codec(body)
                    if wanted is not None and wanted not in models:
                        raise wire.Malformed(f"no model {wanted.hex()[:16]} stands before it")
                    records[wire.checksum(body)] = replace(record, model=models[wanted]) if wanted else record
            except CorruptArchiveError as exc:
                damage.append(exc)
        return records, damage

    def _decoder(self, reference: int) -> Codec:
        with self._lock:
            if reference not in self._decoders:
                records, damage = self.records
                if reference not in records:
                    because = f": {damage[0]}" if damage else ""
                    raise wire.Malformed(f"codec {reference:016x} is not in the archive{because}")
                self._decoders[reference] = self._restore(records[reference])
            return self._decoders[reference]

    # ---- groups

    def head(self, group: int) -> GroupHead:
        """Spec, codec and digest of a group, without reading its payload."""
        entry = self.entries[group]
        with self._blocks.parsing(f"group {group}", entry.offset):
            n_bytes = min(entry.n_bytes, wire.GROUP.size + 8 * wire.MAX_SKETCH)
            return wire.parse_group(self._blocks.read(entry.offset + wire.BLOCK.size, n_bytes), entry.n_items)

    def whole(self, group: int) -> Pixels:
        """The images of a group, proven: uint8 or uint16 [N, H, W, C], read-only, kept in the cache."""
        return self.cache.load(group, lambda: self.fresh(group))

    def fresh(self, group: int) -> Pixels:
        """The same, past the cache."""
        with self._placing(group):
            return self._decoded(group, self._stored(group), None)

    def some(self, group: int, places: Sequence[int]) -> Pixels:
        """The images at some different places of a group, a copy: uint8 or uint16 [len(places), H, W, C]."""
        kept = self.cache.get(group)
        if kept is None:
            with self._placing(group):
                stored = self._stored(group)
                if self._may_decode_part(stored, len(places)):
                    spec = stored.head.spec
                    seconds = spec.n_items * self._proven[stored.head.codec_ref, spec.image]
                    if not self.cache.worth_all(group, places, spec.n_bytes, seconds):
                        started = time.perf_counter()
                        pixels = self._decoded(group, stored, places)
                        self.cache.spent(group, time.perf_counter() - started)
                        return pixels
                kept = self.cache.load(group, lambda: self._decoded(group, stored, None))
        return kept[list(places)]

    @contextlib.contextmanager
    def _placing(self, group: int) -> Iterator[None]:
        """Whatever fails while a group is read says which one it is."""
        path = self._blocks.path
        try:
            yield
        except CorruptGroupError:
            raise
        except (CorruptArchiveError, PayloadError) as exc:
            # Both are damage of this group alone: the others stay readable.
            n_items = self.entries[group].n_items
            raise CorruptGroupError(path, f"group {group}: {exc}", group=group, items=n_items) from exc
        except BatchcodecError as exc:
            exc.place(path, f"group {group}", group=group)
            raise
        except Exception as exc:  # a codec may be anybody's
            raise CodecError(f"{path}: group {group}: its codec failed: {type(exc).__name__}: {exc}", group=group) from exc

    def _may_decode_part(self, stored: _Stored, n_items: int) -> bool:
        spec = stored.head.spec
        proven = (stored.head.codec_ref, spec.image) in self._proven
        return proven and not self._strict and stored.codec.partial and 2 * n_items <= spec.n_items

    def _stored(self, group: int) -> _Stored:
        entry = self.entries[group]
        body = self._blocks.body(entry)
        with self._blocks.parsing(f"group {group}", entry.offset):
            head = wire.parse_group(body, entry.n_items)
            return _Stored(head, body[head.n_bytes :], self._decoder(head.codec_ref))

    def _decoded(self, group: int, stored: _Stored, places: Sequence[int] | None) -> Pixels:
        head, path = stored.head, self._blocks.path
        started = time.perf_counter()
        if places is None:
            shape, pixels = head.spec.shape, stored.codec.decode(stored.payload, head.spec)
        else:
            shape = (len(places), *head.spec.image.shape)
            pixels = stored.codec.decode(stored.payload, head.spec, places)
        if pixels.shape != shape or pixels.dtype != head.spec.image.dtype:
            raise CorruptGroupError(
                path,
                f"group {group}: decoded to {pixels.shape} {pixels.dtype}, not {shape} {head.spec.image.dtype}",
                group=group,
            )
        if places is None:
            exact = self.records[0][head.codec_ref].exact
            if not digest.check(pixels, head.digest, head.sketch, exact=exact, where=f"{path}: group {group}"):
                self.rounded.add(group)
            kind, seconds = (head.codec_ref, head.spec.image), (time.perf_counter() - started) / head.spec.n_items
            self._proven[kind] = min(seconds, self._proven.get(kind, seconds))  # the first one may load or compile something
            pixels.flags.writeable = False
        return pixels
