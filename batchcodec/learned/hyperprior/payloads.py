"""The bytes of a payload: fields, then the coded integers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from batchcodec.entropy import gaussian, values
from batchcodec.errors import PayloadError
from batchcodec.learned.hyperprior import coding
from batchcodec.learned.hyperprior.architecture import HYPER_STRIDE
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import HYPER_LIMIT

Qualities = npt.NDArray[np.uint8]


def hyper_index(model: LoadedModel, n_positions: int) -> npt.NDArray[np.int64]:
    """The table of each hyper-latent in the order image, position, channel: its channel's."""
    return np.tile(np.arange(model.arch.hyper, dtype=np.int64), n_positions)


def write(model: LoadedModel, qualities: Qualities, z: Tensor, passes: list[tuple[Tensor, Tensor]]) -> bytes:
    """The payload of one group.

    Args:
        model: its tables code the integers.
        qualities: uint8 [N], 1..100.
        z: hyper-latents, integers, [N, Z, h', w'].
        passes: of each pass the integers and their Gaussian tables, [N, C, 1, n] each.
    """
    writer = coding.Writer(model.bank)
    base = round(float(np.median(qualities)))
    differences = qualities.astype(np.int64) - base
    spread = 0
    if differences.any():
        deviation = max(0.3, float(np.sqrt((differences**2).mean())))
        spread = round(8 * np.log2(deviation)) - 8 * gaussian.FIRST_LOG2
        writer.add(differences, np.full(len(qualities), model.arch.hyper + spread))
    flat = z.permute(0, 2, 3, 1).reshape(-1).long().numpy()
    writer.add(flat, hyper_index(model, z.shape[0] * z.shape[2] * z.shape[3]))
    for k, index in passes:
        writer.add(coding.rows_of(k), coding.rows_of(index) + model.arch.hyper)
    words, escapes = writer.finish()
    return _leb128(len(escapes)) + bytes([base, spread]) + escapes + words


def read_latents(model: LoadedModel, payload: bytes, n: int, height: int, width: int) -> tuple[Qualities, Tensor]:
    """Qualities uint8 [N] and latents [N, M, height, width] of a payload; call within `inference`.

    Raises:
        PayloadError: the payload is damaged or not of this shape.
    """
    n_escapes, at = _read_leb128(payload)
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
    z = torch.from_numpy(flat.reshape(shape).astype(np.float32)).permute(0, 3, 1, 2)

    def code(_: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor) -> Tensor:
        numbers = stream.take(coding.rows_of(index) + model.arch.hyper)
        # beyond this a latent is clamped whatever it is, and float32 would no longer be exact
        numbers = np.clip(numbers, -(1 << 13), 1 << 13)
        rows = torch.from_numpy(numbers.astype(np.float32)).reshape(n, len(at), -1)
        return rows.permute(0, 2, 1).unsqueeze(2)

    checked = qualities.astype(np.uint8)
    latents = coding.walk(model.decoder, z, coding.Conditions.of(model.decoder, checked), height, width, code)
    stream.finish()
    return checked, latents


def _leb128(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _read_leb128(payload: bytes) -> tuple[int, int]:
    """A number and where it ends."""
    n = 0
    for at, byte in enumerate(payload[:5]):
        n |= (byte & 127) << 7 * at
        if byte < 128:
            return n, at + 1
    raise PayloadError("hyperprior-1 payload: it does not start with a length")
