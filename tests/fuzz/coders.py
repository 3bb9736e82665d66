"""Targets: coded data. Entropy decoders beside their plain twins, the container of pictures, payloads of classical codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
from batchcodec_plugins.codecs import layout, register_codecs
from helpers import picture

from batchcodec.codec import Codec
from batchcodec.entropy import codes, huffman, rans, reference, values
from batchcodec.entropy.tables import cumulative, quantise_counts
from batchcodec.errors import ModelError, PayloadError
from batchcodec.types import GroupSpec, ImageSpec

from .oracle import Target

# ---- entropy coders: byte 0 chooses the tables, byte 1 the number of symbols, the rest is coded data


@cache
def _freqs(which: int) -> np.ndarray:
    """Tables [T, S] from flat to very skewed, and of few symbols."""
    rng = np.random.default_rng(which)
    n_tables, n_symbols = ((1, 2), (3, 5), (4, 256), (2, 600))[which % 4]
    counts = rng.geometric(0.5, (n_tables, n_symbols)) ** (1 + which % 3) if which % 2 else np.arange(n_tables * n_symbols) ** 3
    return quantise_counts(np.asarray(counts, np.int64).reshape(n_tables, n_symbols))


@cache
def _lengths(which: int) -> np.ndarray:
    return huffman.code_lengths(_freqs(which))


def _index(n: int, n_tables: int) -> np.ndarray:
    return (np.arange(n) * 7 % 5 % n_tables).astype(np.uint16)


def _outcome(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except PayloadError:
        return None


def _agree(*decoders: Callable[[], Any]) -> None:
    """All give the same, or all refuse."""
    found = [_outcome(decode) for decode in decoders]
    assert all((x is None) == (found[0] is None) for x in found), "one refuses, another does not"
    assert found[0] is None or all(np.array_equal(x, found[0]) for x in found)


def _parts(data: bytes) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Tables, index and coded data."""
    which, n = (data + b"\0\0")[:2]
    freqs = _freqs(which % 8)
    return freqs, _index(n, len(freqs)), data[2:]


def read_rans(data: bytes) -> None:
    """The kernel beside plain Python; what decodes is what encoding gives."""
    freqs, index, coded = _parts(data)
    cdfs = cumulative(freqs)
    _agree(lambda: rans.decode(coded, index, cdfs), lambda: reference.decode_reference(coded, index, cdfs))
    symbols = _outcome(lambda: rans.decode(coded, index, cdfs))
    assert symbols is None or rans.encode(symbols, index, cdfs) == coded


def read_huffman(data: bytes) -> None:
    """The kernel beside plain Python; what decodes is what encoding gives."""
    _, index, coded = _parts(data)
    lengths = _lengths((data + b"\0")[0] % 8)
    _agree(lambda: huffman.decode(coded, index, lengths), lambda: reference.huffman_decode_reference(coded, index, lengths))
    symbols = _outcome(lambda: huffman.decode(coded, index, lengths))
    assert symbols is None or huffman.encode(symbols, index, lengths) == coded


def read_values(data: bytes) -> None:
    """Words and escapes: the stream in one piece, in pieces, and by plain Python."""
    freqs, index, coded = _parts(data)
    n_escapes = coded[0] if coded else 0
    escapes, words = coded[1 : 1 + n_escapes], coded[1 + n_escapes :]
    bank = values.Bank(list(freqs))

    def decoded(step: int) -> np.ndarray:
        stream = values.Decoder([(words, escapes)], bank)
        parts = [stream.take(index[at : at + step]) for at in range(0, len(index), step)]
        stream.finish()
        return np.concatenate([*parts, np.zeros(0, np.int32)])

    if len(index):
        whole = max(1, len(index))
        _agree(lambda: decoded(whole), lambda: reference.decode_values_reference(words, escapes, index, list(freqs)))
    _outcome(lambda: decoded(3))


def read_symbols(data: bytes) -> None:
    """The front of all coders: byte 0 chooses the coder, byte 1 the number of symbols; the tables have 256."""
    kind = codes.ENTROPY_CODERS[(data + b"\0")[0] % 4]
    freqs, index, coded = _freqs(2), _index((data + b"\0\0")[1], 4), data[2:]
    symbols = codes.unpack_symbols(kind, coded, index, freqs)
    assert symbols.shape == index.shape
    assert (
        codes.unpack_symbols(kind, codes.pack_symbols(kind, symbols, index, freqs), index, freqs).tobytes() == symbols.tobytes()
    )


def _streams(encode: Callable[[np.ndarray, np.ndarray, np.ndarray], bytes]) -> Callable[[], Iterable[bytes]]:
    def seeds() -> Iterable[bytes]:
        for which in range(8):
            freqs = _freqs(which)
            for n in (1, 40):
                rng = np.random.default_rng([which, n])
                index = _index(n, len(freqs))
                symbols = np.array([rng.choice(freqs.shape[1], p=freqs[t] / 65536) for t in index], np.uint16)
                yield bytes([which, n]) + encode(symbols, index, freqs)

    return seeds


def _value_stream(symbols: np.ndarray, index: np.ndarray, freqs: np.ndarray) -> bytes:
    numbers = symbols.astype(np.int64) - (symbols % 2) * 3 * symbols.astype(np.int64)
    numbers[:1] *= 1000
    words, escapes = values.encode(numbers, index, values.Bank(list(freqs)))
    return bytes([min(255, len(escapes))]) + escapes + words


def _symbol_streams() -> Iterable[bytes]:
    freqs, rng = _freqs(2), np.random.default_rng(0)
    for i, kind in enumerate(codes.ENTROPY_CODERS):
        for n in (0, 1, 50):
            symbols = rng.integers(0, 256, n, dtype=np.uint8)
            yield bytes([i, n]) + codes.pack_symbols(kind, symbols, _index(n, 4), freqs)


_CODER_ERRORS = (PayloadError, ModelError)
RANS = Target("rans", read_rans, _streams(lambda s, i, f: rans.encode(s, i, cumulative(f))), _CODER_ERRORS, max_length=512)
HUFFMAN = Target(
    "huffman",
    read_huffman,
    _streams(lambda s, i, f: huffman.encode(s, i, huffman.code_lengths(f))),
    _CODER_ERRORS,
    max_length=512,
)
VALUES = Target("values", read_values, _streams(_value_stream), _CODER_ERRORS, max_length=512)
SYMBOLS = Target("symbols", read_symbols, _symbol_streams, _CODER_ERRORS, max_length=512)


# ---- pictures: five numbers choose the group and the rule, the rest is the payload


def read_pictures(data: bytes) -> None:
    """The container of pictures under any group and any rule that a config may hold: it is cut without a gap."""
    head = np.frombuffer(data[:12].ljust(12, b"\0"), "<u2").tolist()
    spec = GroupSpec(1 + head[0], ImageSpec(1 + head[1], 1 + head[2], 1 + head[3] % 4))
    rule = None
    if head[3] & 4:
        config = {"max_side": head[4] << (head[3] >> 4 & 15), "max_pixels": 1 + head[5] * 97, "colour_multiple": head[3] >> 8}
        rule = layout.MosaicRule.from_config(config)  # type: ignore[arg-type]
    grid = layout.Grid.of(spec, rule)
    tiles = [item for picture_ in range(min(grid.n_pictures, 300)) for item in grid.tiles(picture_)]
    assert tiles == list(range(len(tiles)))
    assert all(min(grid.picture_size(i)) >= 1 for i in range(min(grid.n_pictures, 300)))
    pictures = layout.split_pictures(data[12:], grid.n_pictures)
    assert len(pictures) == grid.n_pictures
    assert data.endswith(b"".join(pictures))


def _containers() -> Iterable[bytes]:
    for head, pictures in (
        ((0, 7, 8, 0, 0, 0), [b"one"]),
        ((2, 7, 8, 2, 0, 0), [b"one", b"", b"x" * 200]),
        ((9, 7, 8, 2 | 4 | 8 << 8, 100, 20), [b"mosaic", b"again"]),
        ((9, 7, 8, 4 | 1 << 8, 30, 9), [b"mosaic"]),
    ):
        yield np.array(head, "<u2").tobytes() + layout.join_pictures(pictures)


PICTURES = Target("pictures", read_pictures, _containers, (PayloadError,), max_length=1024)


# ---- classical codecs: byte 0 chooses the codec, byte 1 the spec; the rest is one payload

_CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("store", {}),
    ("zstd", {"filter": "left"}),
    ("zstd", {"filter": "none"}),
    ("png", {"level": 1}),
    ("png", {"level": 1, "mosaic": True}),
    ("bmp", {}),
    ("jpeg", {"quality": 40}),
    ("jpeg", {"quality": 40, "mosaic": True}),
    ("jpeg2000", {"psnr": 30.0}),
    ("jpeg2000", {"lossless": True}),
    ("webp", {"method": 0}),
    ("webp", {"method": 0, "lossless": True}),
    ("avif", {"speed": 10, "quality": 30}),
    ("jxl", {"effort": 1, "lossless": True}),
    ("jxl", {"effort": 1, "quality": 50.0}),
)
_SPECS = tuple(
    GroupSpec(n, ImageSpec(height, width, channels, dtype))
    for n, height, width in ((1, 8, 9), (3, 5, 16))
    for channels in (1, 3, 4)
    for dtype in ("uint8", "uint16")
)


@cache
def _codec(which: int) -> Codec:
    name, options = _CASES[which]
    return {codec.codec_id: codec for codec in register_codecs()}[name](**options)


def read_payload(data: bytes) -> None:
    """The images of a payload; those that are asked for alone are the same."""
    codec, spec = _codec((data + b"\0")[0] % len(_CASES)), _SPECS[(data + b"\0\0")[1] % len(_SPECS)]
    images = codec.decode(data[2:], spec)
    assert images.shape == spec.shape
    assert str(images.dtype) == spec.image.dtype
    last = spec.n_items - 1
    assert np.array_equal(codec.decode(data[2:], spec, [last])[0], images[last])


def _payloads() -> Iterable[bytes]:
    for which in range(len(_CASES)):
        codec = _codec(which)
        for number in (0, 3, 6 + 2):
            spec = _SPECS[number]
            if spec.image.dtype in codec.dtypes and spec.image.channels in codec.channels:
                images = np.stack([picture(spec.image.shape, i, spec.image.dtype) for i in range(spec.n_items)])
                if _outcome_of_check(codec, spec.image):
                    yield bytes([which, number]) + codec.encode(images)


def _outcome_of_check(codec: Codec, spec: ImageSpec) -> bool:
    from batchcodec.errors import UnsupportedImageError

    try:
        codec.check(spec)
    except UnsupportedImageError:
        return False
    return True


PAYLOAD = Target("payload", read_payload, _payloads, (PayloadError,), max_length=4096)
