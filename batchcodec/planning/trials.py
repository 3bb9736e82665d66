"""Codecs tried on whole groups of a dataset, on several threads, each until the time is up: what is estimated from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchcodec.archive import digest
from batchcodec.archive.wire import GroupHead
from batchcodec.archive.writer import ArchiveWriter, ByteCount
from batchcodec.choice import CodecChoice
from batchcodec.codec import Codec
from batchcodec.errors import BatchcodecError, UnsupportedImageError
from batchcodec.packing.coding import code, rows_of
from batchcodec.packing.grouping import Group
from batchcodec.planning.frame import Cluster, Stratum
from batchcodec.preprocess import Preprocess
from batchcodec.registry import Registry
from batchcodec.types import JSON, GroupSpec, ImageSpec, Item

HELD_BYTES = 256 << 20
"""Pixels of the groups that are held to be tried on."""
MAX_GROUPS = 48
FITTED = "fitted "
"""Before the text of a codec that takes the model which was fitted in this plan: no codec has a space in its name."""


def plain(text: str) -> str:
    """The text of a codec as `pack` takes it."""
    return text.removeprefix(FITTED)


def codec_id(text: str) -> str:
    """The codec of a text."""
    return plain(text).partition(":")[0]


@dataclass(frozen=True)
class Held:
    """A group that was read.

    Attributes:
        stratum: its number.
        number: of the group in its stratum.
        items: in the order of the dataset.
    """

    stratum: int
    number: int
    cluster: Cluster
    items: list[Item]


@dataclass(frozen=True)
class Trial:
    """A group, coded as `pack` codes it. Errors as in `packing.coding.Coded`."""

    n_bytes: int
    n_items: int
    n_samples: int
    squared_error: float
    psnr_sum: float
    encode_seconds: float
    check_seconds: float


def read_groups(
    dataset: Sequence[Item],
    preprocess: Preprocess,
    found: Sequence[Stratum],
    wanted: Iterable[tuple[int, int]],
    deadline: float,
) -> list[Held]:
    """The first of the wanted groups, as many as may be held. A dataset that is a stream is read once, forwards."""
    chosen: list[tuple[int, int]] = []
    n_bytes = 0
    for stratum, number in wanted:
        cluster = found[stratum].clusters[number]
        n_bytes += cluster.spec.n_bytes * len(cluster.places)
        if chosen and (n_bytes > HELD_BYTES or len(chosen) == MAX_GROUPS):
            break
        chosen.append((stratum, number))
    forward = not getattr(dataset, "parallel_reads", False)
    held: dict[tuple[int, int], Held] = {}
    rising = sorted(chosen, key=lambda key: found[key[0]].clusters[key[1]].places[0]) if forward else chosen
    for key in rising:
        if held and not forward and time.monotonic() > deadline:
            break
        cluster = found[key[0]].clusters[key[1]]
        items = []
        for place in cluster.places:
            try:
                item = preprocess(dataset[place])
            except BatchcodecError:
                continue  # the survey saw its header alone; it counts as unreadable when it is packed
            if ImageSpec.of(item.pixels) == cluster.spec:
                items.append(item)
        if items:
            held[key] = Held(*key, cluster, items)
    return [held[key] for key in chosen if key in held]


class Trials:
    """What codecs made of groups; each codec and group is tried once.

    Args:
        held: the groups.
        plugins: where codecs are found.
        workers: groups coded at once.
        n_pixels: of the dataset, by which `auto` decides.
        device: where networks run.
        model: for the codecs that take one.

    Attributes:
        held: the groups.
        made: trials by text and number of the group.
        failed: codecs that cannot code some of the images, and why.
        start_seconds: that a codec takes once, by its id.
        fitted_on: numbers of the groups that a model was fitted to.
    """

    def __init__(
        self, held: Sequence[Held], plugins: Registry, *, workers: int, n_pixels: int, device: str, model: Path | None
    ) -> None:
        self.held = held
        self._plugins, self._workers, self._n_pixels, self._device, self._model = plugins, workers, n_pixels, device, model
        self._choices: dict[str, CodecChoice] = {}
        self.made: dict[tuple[str, int], Trial] = {}
        self.failed: dict[str, str] = {}
        self.start_seconds: dict[str, float] = {}
        self.fitted_on: frozenset[int] = frozenset()
        self._fitted: dict[int, bytes] = {}
        self._rate: dict[str, float] = {}  # seconds for a pixel, the last that was seen, by codec id and layout

    def choice(self, text: str) -> CodecChoice:
        """The codecs of a text."""
        if text not in self._choices:
            fitted = None if text == plain(text) else self._fitted
            has = text != "auto" and fitted is None and self._plugins.codec_class(codec_id(text)).needs_model
            model = self._model if has else None
            n_pixels = self._n_pixels if text == "auto" else None
            self._choices[text] = CodecChoice(
                plain(text), model, None, self._plugins, n_pixels=n_pixels, fitted=fitted, device=self._device
            )
        return self._choices[text]

    def take_model(self, model: bytes, on: Iterable[int]) -> None:
        """A model that was fitted to these of the held groups, for the texts that begin with `FITTED`."""
        self.fitted_on = frozenset(on)
        self._fitted = {self.held[number].cluster.spec.channels: model for number in self.fitted_on}

    def automatic(self, specs: Iterable[ImageSpec]) -> str:
        """What `pack` takes without --codec: the text of a codec if it is one for all of these images, else "auto"."""
        choice = self.choice("auto")
        for spec in specs:
            choice.for_spec(spec)
        texts = set(choice.texts().values())
        return texts.pop() if len(texts) == 1 else "auto"

    def refusal(self, text: str, specs: Iterable[ImageSpec]) -> str | None:
        """Why a codec cannot hold images of these kinds; None if it can."""
        try:
            for spec in specs:
                self.choice(text).for_spec(spec)
        except BatchcodecError as exc:
            return exc.message if isinstance(exc, UnsupportedImageError) else str(exc)
        return None

    def warm_up(self, text: str) -> None:
        """Import, compile and load what a first use does; what that takes is in every run of `pack`."""
        if codec_id(text) in self.start_seconds or text in self.failed:
            return
        started = time.perf_counter()
        kinds = {held.cluster.spec.channels: held for held in self.held}
        for held in kinds.values():
            item = held.items[0]
            small = Item("x", np.ascontiguousarray(item.pixels[:64, :64]))
            try:
                code(self._group(text, ImageSpec.of(small.pixels), [small]))
            except BatchcodecError as exc:
                self.failed[text] = str(exc)
                return
        self.start_seconds[codec_id(text)] = time.perf_counter() - started

    def run(self, tasks: Sequence[tuple[str, int]], deadline: float, progress: Callable[[int, int], None]) -> bool:
        """Try (codec text, held group) pairs in this order; whether all were done before the deadline."""
        waiting = [task for task in tasks if task not in self.made]

        def one(task: tuple[str, int]) -> tuple[tuple[str, int], Trial | None]:
            text, number = task
            n_pixels = self.held[number].cluster.n_pixels
            expected = self._rate.get(_family(text), 0.0) * n_pixels
            if text in self.failed or time.monotonic() + expected > deadline:
                return task, None
            try:
                trial = self._tried(text, number)
            except BatchcodecError as exc:  # a codec may hold images of this kind, and fail on some
                self.failed[text] = str(exc)
                return task, None
            self._rate[_family(text)] = (trial.encode_seconds + trial.check_seconds) / n_pixels
            return task, trial

        done = True
        with ThreadPoolExecutor(self._workers, "batchcodec-plan") as pool:
            for count, (task, trial) in enumerate(pool.map(one, waiting)):
                if trial is None:
                    done = False
                else:
                    self.made[task] = trial
                progress(count + 1, len(waiting))
        return done

    def _group(self, text: str, spec: ImageSpec, items: list[Item], orders: Sequence[int] = ()) -> Group:
        return Group(spec, self.choice(text).for_spec(spec), 0, list(orders or range(len(items))), list(items))

    def _tried(self, text: str, number: int) -> Trial:
        held = self.held[number]
        n_items = len(held.items)
        coded = code(self._group(text, held.cluster.spec, held.items))
        return Trial(
            n_bytes=len(coded.payload),
            n_items=n_items,
            n_samples=n_items * int(np.prod(held.cluster.spec.shape)),
            squared_error=coded.squared_error,
            psnr_sum=coded.psnr_sum,
            encode_seconds=coded.encode_seconds,
            check_seconds=coded.check_seconds,
        )

    def codecs_of(self, text: str) -> list[Codec]:
        """The codecs that a text uses for the held groups, each once."""
        found = {id(codec): codec for h in self.held for codec in [self.choice(text).for_spec(h.cluster.spec)]}
        return list(found.values())

    def fixed(self, text: str, meta: dict[str, JSON]) -> ByteCount:
        """Bytes of an archive of these codecs without any group: weights, and the framing that is there once."""
        writer = ArchiveWriter(_Nowhere())
        writer.add_meta(meta)
        for codec in self.codecs_of(text):
            writer.add_codec(self._plugins.record(codec))
        return writer.finish()

    def described(self, text: str) -> ByteCount:
        """Bytes of an archive of the held groups whose payloads are empty: what names, labels and framing take."""
        writer = ArchiveWriter(_Nowhere())
        for held in sorted(self.held, key=lambda held: held.cluster.places[0]):
            spec, codec = held.cluster.spec, self.choice(text).for_spec(held.cluster.spec)
            group = Group(spec, codec, 0, list(held.cluster.places[: len(held.items)]), held.items)
            sketch = () if codec.exact else (0,) * digest.SKETCH_LENGTH
            writer.add_group(GroupHead(0, GroupSpec(len(held.items), spec), 0, sketch), b"", rows_of(group))
        return writer.finish()


def _family(text: str) -> str:
    return text.partition(":")[0] + (":mosaic" if "mosaic=true" in text else "") + (":lossless" if "lossless" in text else "")


class _Nowhere:
    """Takes bytes and keeps none."""

    def write(self, data: bytes, /) -> int:
        return len(data)
