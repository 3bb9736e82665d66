"""The bytes of a payload: fields, then the coded integers.

The integers of a small image are few, and what the entropy model says of them is worth computing for many images at once. So
a payload holds *streams* of some images each: whoever wants one image decodes the stream that it is in, a sixteenth of a group
of 256, and whoever wants them all decodes all streams side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.entropy import gaussian, leb128, values
from batchcodec.errors import PayloadError
from batchcodec.learned.hyperprior import coding, grain
from batchcodec.learned.hyperprior.architecture import HYPER_STRIDE
from batchcodec.learned.hyperprior.engine import Latents, Tables
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import HYPER_LIMIT

Qualities = npt.NDArray[np.uint8]

STREAM_POSITIONS = 1024
"""Positions of latents in a stream, at least: 16 images of 64x64, which take a millisecond or two."""
STREAM_BYTES = 2048
"""About what a stream takes, at least: what it costs, some 8 bytes, shall be little beside it."""
SEVERAL = 0
"""In place of a quality: a payload of several streams."""


def hyper_index(model: LoadedModel, n_positions: int) -> npt.NDArray[np.uint16]:
    """The table of each hyper-latent in the order image, position, channel: its channel's."""
    return np.tile(np.arange(model.arch.hyper, dtype=np.uint16), n_positions)


def write(
    model: LoadedModel,
    qualities: Qualities,
    z: npt.NDArray[np.int64],
    passes: Sequence[tuple[npt.NDArray[Any], Tables]],
    each: int | None = None,
) -> bytes:
    """The payload of one group.

    Args:
        model: its tables code the integers.
        qualities: uint8 [N], 1..100.
        z: hyper-latents [N, h', w', Z].
        passes: of each pass the integers and their tables, [N, n, C] each.
        each: images of a stream; by default such that streams are short, and long enough for what they cost.
    """
    n = len(z)
    base = round(float(np.median(qualities)))
    differences = qualities.astype(np.int64) - base
    spread = 0
    if differences.any():
        deviation = max(0.3, float(np.sqrt((differences**2).mean())))
        spread = round(8 * np.log2(deviation)) - 8 * gaussian.FIRST_LOG2

    def stream(first: int, last: int) -> tuple[bytes, bytes]:
        """Words and escapes of some images."""
        parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        if spread:
            parts.append((differences[first:last], np.full(last - first, model.arch.hyper + spread)))
        parts.append((z[first:last], hyper_index(model, (last - first) * z.shape[1] * z.shape[2])))
        parts += [(k[first:last], index[first:last]) for k, index in passes]
        numbers = np.concatenate([k.reshape(-1).astype(np.int32, copy=False) for k, _ in parts])
        tables = np.concatenate([index.reshape(-1).astype(np.uint16, copy=False) for _, index in parts])
        return values.encode(numbers, tables, model.bank)

    streams: list[tuple[bytes, bytes]] = []
    if each is None:
        each = -(-STREAM_POSITIONS * model.arch.latent // sum(k[0].size for k, _ in passes))
        if each < n:  # the first stream tells how long they get
            streams = [stream(0, each)]
            longer = -(-each * STREAM_BYTES // sum(map(len, streams[0])))
            if longer > each:
                each, streams = longer, []
    streams += [stream(first, min(n, first + each)) for first in range(len(streams) * each, n, each)]
    if len(streams) == 1:
        words, escapes = streams[0]
        return leb128.pack(len(escapes)) + bytes([base, spread]) + escapes + words
    lengths = [leb128.pack(len(escapes)) + leb128.pack(len(words)) for words, escapes in streams]
    bodies = [part for words, escapes in streams for part in (escapes, words)]
    return b"".join([leb128.pack(each), bytes([SEVERAL, base, spread]), *lengths, *bodies])


@dataclass(frozen=True)
class _Fields:
    """What a payload says before its integers.

    Attributes:
        base: the quality, 1..100, that differences are of.
        spread: the table of the differences; 0 if there are none.
        each: images of a stream.
        streams: words and escapes of each stream.
    """

    base: int
    spread: int
    each: int
    streams: list[tuple[memoryview, memoryview]]

    @classmethod
    def of(cls, payload: bytes, n: int) -> _Fields:
        """Of the payload of N images.

        Raises:
            PayloadError: it ends early, or a number is out of range.
        """
        number, at = leb128.unpack(payload)
        several = payload[at : at + 1] == bytes([SEVERAL])
        at += several
        if len(payload) < at + 2:
            raise PayloadError(f"hyperprior-1 payload: {len(payload)} bytes, too few for its fields")
        base, spread = payload[at : at + 2]
        at += 2
        if not 1 <= base <= 100 or spread >= gaussian.N_SCALES:
            raise PayloadError(f"hyperprior-1 payload: quality {base} with spread {spread}")
        if not several:
            sizes = [(number, len(payload) - at - number)]
        else:
            if not 0 < number < n:
                raise PayloadError(f"hyperprior-1 payload: streams of {number} images each, and {n} in all")
            sizes = []
            for _ in range(0, n, number):
                n_escapes, at = leb128.unpack(payload, at)
                n_words, at = leb128.unpack(payload, at)
                sizes.append((n_escapes, n_words))
            if at + sum(map(sum, sizes)) != len(payload):
                raise PayloadError(f"hyperprior-1 payload: streams of {sum(map(sum, sizes))} bytes in {len(payload) - at}")
        streams = []
        for n_escapes, n_words in sizes:
            if n_words < 8:  # two states: there are at least two integers
                raise PayloadError("hyperprior-1 payload: too few words")
            middle, end = at + n_escapes, at + n_escapes + n_words
            streams.append((memoryview(payload)[middle:end], memoryview(payload)[at:middle]))
            at = end
        return cls(base, spread, number if several else n, streams)


def read_latents(
    model: LoadedModel,
    payload: bytes,
    n: int,
    height: int,
    width: int,
    rows: Sequence[int] | None = None,
    percent: int = 0,
) -> tuple[coding.Conditions, Latents]:
    """Conditions of images and their latents, int16 [N, height, width, M], from a payload.

    Args:
        model: that it was written with.
        payload: of a group.
        n: images of the group.
        height: of the latents.
        width: of them.
        rows: the images that are wanted, in any order; all by default. Streams without any of them are not looked at.
        percent: of grain that the latents get, see `grain`.

    Raises:
        PayloadError: the payload is damaged or not of this shape.
    """
    fields = _Fields.of(payload, n)
    each, streams, places, numbers = fields.each, fields.streams, rows, np.arange(n)
    if rows is not None and len(streams) > 1:
        wanted = sorted({row // each for row in rows})
        before = {stream: place * each for place, stream in enumerate(wanted)}
        places = [before[row // each] + row % each for row in rows]
        numbers = np.concatenate([numbers[stream * each : (stream + 1) * each] for stream in wanted])
        streams = [streams[stream] for stream in wanted]
    conditions, latents = _read(model, fields, streams, numbers, height, width, percent)
    return (conditions, latents) if places is None else (conditions[list(places)], latents[list(places)])


def _read(
    model: LoadedModel,
    fields: _Fields,
    streams: list[tuple[memoryview, memoryview]],
    numbers: npt.NDArray[np.int64],
    height: int,
    width: int,
    percent: int,
) -> tuple[coding.Conditions, Latents]:
    """The images of these numbers, int64 [N], of some streams, of which all but the last have the same number of them."""
    n, decoder = len(numbers), values.Decoder(streams, model.bank)

    def take(index: Tables) -> npt.NDArray[np.int32]:
        return decoder.take(index, each=fields.each * (len(index) // n))

    qualities = np.full(n, fields.base, np.int64)
    if fields.spread:
        qualities += take(np.full(n, model.arch.hyper + fields.spread, np.uint16))
        if qualities.min() < 1 or qualities.max() > 100:
            raise PayloadError("hyperprior-1 payload: a quality outside 1..100")
    shape = (n, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE), model.arch.hyper)
    flat = take(hyper_index(model, shape[0] * shape[1] * shape[2]))
    if flat.max(initial=0) > HYPER_LIMIT or flat.min(initial=0) < -HYPER_LIMIT:
        raise PayloadError("hyperprior-1 payload: a hyper-latent out of range")
    conditions = model.conditions(qualities.astype(np.uint8))
    arch, (steps, _, _) = model.arch, conditions.arrays
    noise = np.empty((n, height * width, arch.latent if percent else 0), np.int16)
    seeds = np.empty(n, np.uint32)
    if percent:
        grain.seeds_of(flat.reshape(n, -1), numbers, seeds)

    def code(i: int, at: npt.NDArray[np.int64], mean: Latents, index: Tables) -> npt.NDArray[np.int32]:
        k = take(index.reshape(-1)).reshape(index.shape)
        if percent:
            grain.sprinkle(k, index, steps, at, arch.channels_of(i).start, arch.hyper, percent, seeds, noise)
        return k

    latents = model.engine.walk(flat.reshape(shape), conditions, height, width, code)
    decoder.finish()
    if percent:  # only now: what was coded later looked at the latents without it
        grain.add(noise.reshape(latents.shape), latents)
    return conditions, latents
