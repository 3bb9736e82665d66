"""The conformance kit for plugin authors: one call in a test of yours holds the laws of a contract of ours.

    import numpy as np
    from batchcodec.testing import check_codec
    from my_plugin import MyCodec

    def test_my_codec():
        images = np.random.default_rng(0).integers(0, 256, (5, 17, 30, 3), dtype=np.uint8)
        check_codec(MyCodec(quality=40), images)

`check_codec` holds the laws of `batchcodec.codec`. Give it images of every kind that your codec takes, odd sizes among them,
and every set of options that changes the bytes. A law that is broken raises `AssertionError` saying which one.

`check_format` holds those of `batchcodec.dataset`: `check_format(MyFormat, tmp_path)`, with items of every kind that it takes.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from batchcodec.codec import Codec
from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import BatchcodecError, InputError, UnsupportedImageError
from batchcodec.types import GroupSpec, ImageSpec, Item, Pixels, Stack

CODEC_ID_PATTERN = r"[a-z0-9][a-z0-9.+-]*"
FORMAT_ID_PATTERN = CODEC_ID_PATTERN
THREADS = 4
THREAD_ROUNDS = 5
"""How often each of the threads reads everything where a format says `parallel_reads`."""


def check_codec(codec: Codec, images: Pixels, *, n_damaged: int = 64) -> None:
    """Hold the laws of the `Codec` contract for one codec and one group of images.

    Args:
        codec: ready to encode: constructed with its options and, if it needs that, fitted.
        images: uint8 or uint16 [N, H, W, C] that the codec takes; N of 3 or more shows more than N of 1.
        n_damaged: how many truncated payloads and as many with a flipped byte are decoded; 0 leaves that out.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    name = codec.codec_id
    assert re.fullmatch(CODEC_ID_PATTERN, name), f"codec_id {name!r} does not match {CODEC_ID_PATTERN}"
    _check_refusals(codec)
    codec.check(ImageSpec.of(images[0]))

    decoder = _restored(codec)
    payload = _check_encode(codec, images)
    _check_decode(decoder, payload, images)
    single = codec.encode(images[:1])
    _check_decode(decoder, single, images[:1])
    assert codec.encode(images) == payload, f"{name}: the bytes of a group depend on what was encoded before it"
    _check_damage(decoder, single if len(images) == 1 else payload, GroupSpec.of(images), n_damaged)


def _check_refusals(codec: Codec) -> None:
    """`check` refuses what the class does not declare."""
    for dtype, channels in [("uint8", 5), *((dtype, channels) for dtype in ("uint8", "uint16") for channels in (1, 2, 3, 4))]:
        if dtype in codec.dtypes and channels in codec.channels:
            continue
        try:
            codec.check(ImageSpec(8, 8, channels, dtype))
        except UnsupportedImageError:
            continue
        raise AssertionError(
            f"{codec.codec_id}: check() lets {dtype} images of {channels} channels pass, which dtypes and channels do not name"
        )


def _restored(codec: Codec) -> Codec:
    """A decoder that has only what an archive stores."""
    name, config, model = codec.codec_id, codec.get_config(), codec.get_model()
    assert isinstance(model, bytes), f"{name}: get_model() gives {type(model).__name__}, expected bytes"
    stored = json.loads(json.dumps(config, allow_nan=False))
    assert stored == config, f"{name}: get_config() does not survive JSON: {config!r} became {stored!r}"
    decoder = type(codec).restore(stored, model)
    assert (decoder.lossless, decoder.exact) == (codec.lossless, codec.exact), f"{name}: restore() changes lossless or exact"
    return decoder


def _check_encode(codec: Codec, images: Pixels) -> bytes:
    """`encode` is deterministic, leaves its argument alone and takes any memory layout."""
    name, before = codec.codec_id, images.copy()
    payload = codec.encode(images)
    assert isinstance(payload, bytes), f"{name}: encode() gives {type(payload).__name__}, expected bytes"
    assert np.array_equal(images, before), f"{name}: encode() modifies its argument"
    readonly = before.copy()
    readonly.setflags(write=False)
    assert codec.encode(readonly) == payload, f"{name}: encode() is not deterministic"
    scattered = np.asfortranarray(before)
    assert codec.encode(scattered) == payload, f"{name}: encode() of a non-contiguous array gives other bytes"
    strided = np.repeat(before, 2, axis=2)[:, :, ::2]
    assert codec.encode(strided) == payload, f"{name}: encode() of a strided array gives other bytes"
    return payload


def _check_decode(decoder: Codec, payload: bytes, images: Pixels) -> None:
    """`decode` gives the right arrays, whichever items are asked for."""
    name, spec, tolerance = decoder.codec_id, GroupSpec.of(images), 0 if decoder.exact else 1
    whole = decoder.decode(payload, spec)
    _check_array(name, whole, spec.shape, spec.image.dtype)
    again = decoder.decode(payload, spec)
    assert _difference(again, whole) <= tolerance, f"{name}: decoding twice gives other pixels"
    if decoder.lossless:
        assert decoder.exact, f"{name}: lossless but not exact"
        assert np.array_equal(whole, images), f"{name}: says lossless, but other pixels come back (N={len(images)})"
    last = len(images) - 1
    for items in ([], [0], [last], [last, 0], [0, 0, last // 2, 0], list(range(last, -1, -1)), tuple(range(len(images)))):
        part = decoder.decode(payload, spec, items)
        _check_array(name, part, (len(items), *spec.image.shape), spec.image.dtype)
        expected = whole[np.asarray(items, dtype=np.intp)]
        assert _difference(part, expected) <= tolerance, f"{name}: items {items!r} are not the same rows of the whole group"


def _check_damage(decoder: Codec, payload: bytes, spec: GroupSpec, n_damaged: int) -> None:
    """A damaged payload raises one of our errors or gives an array of the right shape."""
    for what, damaged in _damaged(payload, n_damaged):
        try:
            decoded = decoder.decode(damaged, spec)
        except BatchcodecError:
            continue
        except Exception as exc:
            raise AssertionError(
                f"{decoder.codec_id}: a payload {what} raises {type(exc).__name__} ({exc}), expected PayloadError"
            ) from exc
        _check_array(f"{decoder.codec_id}: payload {what}", decoded, spec.shape, spec.image.dtype)


def _damaged(payload: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Truncations, evenly spread from none left to one byte missing, and flips of one byte, in a fixed order."""
    for length in sorted({index * len(payload) // count for index in range(count)} | ({len(payload) - 1} if count else set())):
        yield f"cut to {length} of {len(payload)} bytes", payload[:length]
    rng = np.random.default_rng(0)
    for _ in range(count):
        position, flip = int(rng.integers(len(payload))), int(rng.integers(1, 256))
        damaged = bytearray(payload)
        damaged[position] ^= flip
        yield f"with byte {position} of {len(payload)} changed by xor {flip}", bytes(damaged)


def _check_array(name: str, pixels: object, shape: tuple[int, ...], dtype: str) -> None:
    assert isinstance(pixels, np.ndarray), f"{name}: decode() gives {type(pixels).__name__}, expected an array"
    assert pixels.shape == shape, f"{name}: decode() gives shape {pixels.shape}, expected {shape}"
    assert pixels.dtype == dtype, f"{name}: decode() gives {pixels.dtype}, expected {dtype}"


def _difference(first: Pixels, second: Pixels) -> int:
    """Largest difference of two samples; 0 for empty arrays."""
    return int(np.max(np.abs(first.astype(np.int64) - second.astype(np.int64)), initial=0))


def check_format(
    kind: type[Format], folder: Path, items: Sequence[Item] | None = None, options: FormatOptions | None = None
) -> None:
    """Hold the laws of the `Format` contract for one format and one dataset.

    Args:
        kind: the format.
        folder: an existing empty directory to write to, such as pytest's `tmp_path`.
        items: the dataset; by default six small uint8 gray images of one size in two classes. Names are unique.
        options: of the format.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    name = kind.format_id
    assert re.fullmatch(FORMAT_ID_PATTERN, name), f"format_id {name!r} does not match {FORMAT_ID_PATTERN}"
    for suffix in kind.suffixes:
        assert suffix, f"{name}: a suffix is empty; a format of directories has none"
        assert suffix == suffix.lower(), f"{name}: the suffix {suffix!r} is not in lower case"
    _check_strange_paths(kind, folder, options)
    if not kind.can_write:
        return
    expected = _sample_items() if items is None else items
    for number, suffix in enumerate(kind.suffixes or ("",)):
        path = folder / f"dataset{number}{suffix}"
        kind(options).write(path, iter(expected))  # an iterator: it can be gone through once
        _check_read(kind, path, expected, options)
        stacked = folder / f"stacked{number}{suffix}"
        kind(options).write(stacked, _Stacked(expected))
        _check_read(kind, stacked, expected, options)
        _check_cut(kind, path, options)
    _check_outside(kind, folder, expected[0], options)


class _Stacked(Iterable[Item]):
    """A dataset that can also be had in stacks of up to four items, once."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = iter(items)

    def __iter__(self) -> Iterator[Item]:
        return self._items

    def stacks(self) -> Iterator[Stack]:
        for _, alike in itertools.groupby(self._items, lambda item: (item.pixels.shape, item.pixels.dtype)):
            while some := list(itertools.islice(alike, 4)):
                yield Stack(some, np.stack([item.pixels for item in some]))


def _sample_items() -> list[Item]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 5, 7, 1), dtype=np.uint8)
    return [Item(f"{i % 2}/{i:06d}.png", image, str(i % 2)) for i, image in enumerate(images)]


def _check_strange_paths(kind: type[Format], folder: Path, options: FormatOptions | None) -> None:
    """`matches` never raises, and `read` raises nothing but `InputError`."""
    strange: list[Path] = []
    for number, suffix in enumerate(kind.suffixes or ("", ".png")):
        missing, empty, junk, directory = (folder / f"{what}{number}{suffix}" for what in ("missing", "empty", "junk", "dir"))
        empty.write_bytes(b"")
        junk.write_bytes(np.random.default_rng(0).bytes(300))
        directory.mkdir()
        strange += [missing, empty, junk, directory]
    for path in strange:
        what = f"{kind.format_id}: matches({path.name!r})"
        try:
            found = kind.matches(path)
        except Exception as exc:
            raise AssertionError(f"{what} raises {type(exc).__name__} ({exc}), expected False or True") from exc
        assert isinstance(found, bool), f"{what} gives {found!r}, expected False or True"
        assert path.exists() or not found, f"{what} is true for a path that does not exist"
        try:
            items = kind(options).read(path)
        except InputError:
            continue
        except Exception as exc:
            raise AssertionError(f"{kind.format_id}: read({path.name!r}) raises {type(exc).__name__}, not InputError") from exc
        assert path.is_dir(), f"{kind.format_id}: read({path.name!r}) takes what is no dataset"
        assert len(items) == 0, f"{kind.format_id}: read({path.name!r}) finds items in an empty directory"


def _check_read(kind: type[Format], path: Path, written: Sequence[Item], options: FormatOptions | None) -> None:
    """What was written comes back, in order and at random."""
    name = f"{kind.format_id}: {path.name}"
    assert kind.matches(path) is True, f"{name}: matches() does not recognise what write() wrote"
    found = kind(options).read(path)
    assert len(found) == len(written), f"{name}: {len(found)} items come back, expected {len(written)}"
    items = [found[i] for i in range(len(found))]
    if kind.keeps_names and [item.name for item in items] != [item.name for item in written]:
        written = sorted(written, key=lambda item: item.name)
    for index, (got, expected) in enumerate(zip(items, written, strict=True)):
        where = f"{name}: item {index}"
        assert not kind.keeps_names or got.name == expected.name, f"{where} is named {got.name!r}, expected {expected.name!r}"
        assert not kind.keeps_labels or got.label == expected.label, (
            f"{where} has the label {got.label!r}, expected {expected.label!r}"
        )
        _check_pixels(where, got.pixels, expected.pixels)
    names = [item.name for item in items]
    assert len(set(names)) == len(names), f"{name}: two items have one name"
    for index in (len(items) - 1, 0, len(items) // 2, 0):
        again = found[index]
        assert again.name == names[index], f"{name}: item {index} has another name when it is read at random"
        _check_pixels(f"{name}: item {index}, read at random,", again.pixels, items[index].pixels)
    try:
        found[len(found)]
    except IndexError:
        pass
    else:
        raise AssertionError(f"{name}: there is an item beyond the last; expected IndexError")
    parallel = getattr(found, "parallel_reads", False)
    assert isinstance(parallel, bool), f"{name}: parallel_reads is {parallel!r}, expected False or True"
    if parallel:
        _check_threads(name, kind(options).read(path), items)
    reread = kind(options).read(path)
    assert [reread[i].name for i in range(len(reread))] == names, f"{name}: reading twice gives other names"


def _check_threads(name: str, found: Sequence[Item], expected: Sequence[Item]) -> None:
    """Several threads that read all items at once, each in an order of its own, get what one thread gets."""

    def read(seed: int) -> list[str]:
        wrong = []
        for _ in range(THREAD_ROUNDS):
            for index in np.random.default_rng(seed).permutation(len(expected)).tolist():
                item, one = found[index], expected[index]
                same = (item.name, item.label, dict(item.attributes)) == (one.name, one.label, dict(one.attributes))
                if not same or not np.array_equal(item.pixels, one.pixels):
                    wrong.append(f"item {index}")
        return wrong

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as can be
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            wrong = [what for found_by_one in pool.map(read, range(THREADS)) for what in found_by_one]
    except Exception as exc:
        raise AssertionError(
            f"{name}: says parallel_reads, but raises {type(exc).__name__} ({exc}) when several threads read it"
        ) from exc
    finally:
        sys.setswitchinterval(interval)
    assert not wrong, f"{name}: says parallel_reads, but {wrong[0]} is another when several threads read it"


def _check_pixels(where: str, got: object, expected: Pixels) -> None:
    assert isinstance(got, np.ndarray), f"{where}: pixels are {type(got).__name__}, expected an array"
    assert got.shape == expected.shape, f"{where}: got shape {got.shape}, expected {expected.shape}"
    assert got.dtype == expected.dtype, f"{where}: got {got.dtype}, expected {expected.dtype}"
    assert np.array_equal(got, expected), f"{where}: got other pixels"


def _check_cut(kind: type[Format], path: Path, options: FormatOptions | None) -> None:
    """A file without its end raises `InputError` or gives arrays; nothing else."""
    if not path.is_file():
        return
    whole = path.read_bytes()
    for part in range(8):
        length = part * len(whole) // 8
        path.write_bytes(whole[:length])
        try:
            found = kind(options).read(path)
            for index in range(len(found)):
                found[index].pixels.sum()
        except InputError:
            continue
        except Exception as exc:
            where = f"{kind.format_id}: {path.name} cut to {length} of {len(whole)} bytes"
            raise AssertionError(f"{where} raises {type(exc).__name__} ({exc}), expected InputError") from exc
    path.write_bytes(whole)


def _check_outside(kind: type[Format], folder: Path, item: Item, options: FormatOptions | None) -> None:
    """A name with `..` writes nothing outside of the target."""
    inner = folder / "inner"
    inner.mkdir()
    before = sorted(folder.iterdir())
    for index, bad in enumerate(("../outside.png", str(folder / "absolute.png"), "a/../../outside.png")):
        target = inner / f"target{index}{kind.suffixes[0] if kind.suffixes else ''}"
        try:
            kind(options).write(target, iter([Item(bad, item.pixels, item.label)]))
        except BatchcodecError:
            pass
        except Exception as exc:
            raise AssertionError(f"{kind.format_id}: an item named {bad!r} raises {type(exc).__name__} ({exc})") from exc
        assert sorted(folder.iterdir()) == before, f"{kind.format_id}: an item named {bad!r} is written outside of the target"
