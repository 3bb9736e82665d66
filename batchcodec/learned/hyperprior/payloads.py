"""The bytes of a payload: fields, then the coded integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.entropy import gaussian, leb128, values
from batchcodec.errors import PayloadError
from batchcodec.learned.hyperprior import coding
from batchcodec.learned.hyperprior.architecture import HYPER_STRIDE
from batchcodec.learned.hyperprior.engine import Latents, Tables
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import HYPER_LIMIT

Qualities = npt.NDArray[np.uint8]


def hyper_index(model: LoadedModel, n_positions: int) -> npt.NDArray[np.uint16]:
    """The table of each hyper-latent in the order image, position, channel: its channel's."""
    return np.tile(np.arange(model.arch.hyper, dtype=np.uint16), n_positions)


def write(
    model: LoadedModel, qualities: Qualities, z: npt.NDArray[np.int64], passes: Sequence[tuple[npt.NDArray[Any], Tables]]
) -> bytes:
    """The payload of one group.

    Args:
        model: its tables code the integers.
        qualities: uint8 [N], 1..100.
        z: hyper-latents [N, h', w', Z].
        passes: of each pass the integers and their tables, [N, n, C] each.
    """
    parts: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    base = round(float(np.median(qualities)))
    differences = qualities.astype(np.int64) - base
    spread = 0
    if differences.any():
        deviation = max(0.3, float(np.sqrt((differences**2).mean())))
        spread = round(8 * np.log2(deviation)) - 8 * gaussian.FIRST_LOG2
        parts.append((differences, np.full(len(qualities), model.arch.hyper + spread)))
    parts.append((z, hyper_index(model, z.shape[0] * z.shape[1] * z.shape[2])))
    parts += passes
    numbers = np.concatenate([k.reshape(-1).astype(np.int32, copy=False) for k, _ in parts])
    tables = np.concatenate([index.reshape(-1).astype(np.uint16, copy=False) for _, index in parts])
    words, escapes = values.encode(numbers, tables, model.bank)
    return leb128.pack(len(escapes)) + bytes([base, spread]) + escapes + words


def read_latents(model: LoadedModel, payload: bytes, n: int, height: int, width: int) -> tuple[coding.Conditions, Latents]:
    """Conditions of N images and their latents, int16 [N, height, width, M], from a payload.

    Raises:
        PayloadError: the payload is damaged or not of this shape.
    """
    n_escapes, at = leb128.unpack(payload)
    if len(payload) < at + 2 + n_escapes:
        raise PayloadError(f"hyperprior-1 payload: {len(payload)} bytes, too few for its fields")
    base, spread = payload[at], payload[at + 1]
    if not 1 <= base <= 100 or spread >= gaussian.N_SCALES:
        raise PayloadError(f"hyperprior-1 payload: quality {base} with spread {spread}")
    body = memoryview(payload)[at + 2 :]
    if len(body) - n_escapes < 8:  # two states: there are at least two integers
        raise PayloadError("hyperprior-1 payload: too few words")
    stream = values.Decoder(body[n_escapes:], body[:n_escapes], model.bank)
    qualities = np.full(n, base, np.int64)
    if spread:
        qualities += stream.take(np.full(n, model.arch.hyper + spread))
        if qualities.min() < 1 or qualities.max() > 100:
            raise PayloadError("hyperprior-1 payload: a quality outside 1..100")
    shape = (n, -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE), model.arch.hyper)
    flat = stream.take(hyper_index(model, shape[0] * shape[1] * shape[2]))
    if flat.max(initial=0) > HYPER_LIMIT or flat.min(initial=0) < -HYPER_LIMIT:
        raise PayloadError("hyperprior-1 payload: a hyper-latent out of range")
    conditions = model.conditions(qualities.astype(np.uint8))

    def code(_: int, at: npt.NDArray[np.int64], mean: Latents, index: Tables) -> npt.NDArray[np.int32]:
        return stream.take(index.reshape(-1)).reshape(index.shape)

    latents = model.engine.walk(flat.reshape(shape), conditions, height, width, code)
    stream.finish()
    return conditions, latents
