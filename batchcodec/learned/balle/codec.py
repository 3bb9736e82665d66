"""Codec `balle2017-1`: end-to-end optimised image compression (Balle, Laparra & Simoncelli 2017, arXiv 1611.01704).

Images are continued at their right and bottom edges to multiples of the stride, go through the analysis transform, are
multiplied by the gains of their quality and rounded. Each latent channel is coded with a static integer table of its own, which
follows from the model's density and the quality (`density`). See `network` for the transforms, `docs/codecs/balle2017-1.md` for
the bytes.

Payload: quality (1 byte, 1..100); LEB128 number of escape bytes; the escape bytes; the rANS words. They code the latents in the
order [M, N, h, w] (see `batchcodec.entropy.values`).

The bitstream decodes to the same integers on every machine. The synthesis transform then runs in float32, so a sample may
differ by 1 between machines: `exact` is false.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from batchcodec.codec import Codec
from batchcodec.entropy import leb128, values
from batchcodec.entropy.values import Bank
from batchcodec.errors import ModelError, OptionError, PayloadError
from batchcodec.learned.balle.architecture import N_QUALITIES
from batchcodec.learned.balle.model import CODEC_ID, LoadedModel
from batchcodec.learned.checked import other_channels
from batchcodec.learned.inference import batches, inference
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

DEFAULT_QUALITY = 50


class Balle2017Codec(Codec):
    """Codes 8-bit images with a model that `batchcodec train` made.

    Args:
        model: the bytes of a model file; without the encoder's weights it can only decode.
        quality: 1 to 100, over the range of lambdas that the model was trained for.
    """

    codec_id = CODEC_ID
    summary = "learned transform with GDN, static tables (Balle et al. 2017); needs --model"
    options_help = {"quality": f"1 to 100 (default {DEFAULT_QUALITY})"}  # noqa: RUF012
    channels = (1, 2, 3, 4)
    needs_model = True

    def __init__(self, *, model: bytes, quality: int = DEFAULT_QUALITY) -> None:
        if type(quality) is not int or not 1 <= quality <= N_QUALITIES:
            raise OptionError("quality", quality, f"a whole number from 1 to {N_QUALITIES}")
        self._quality = quality
        self._model = LoadedModel(model)

    @property
    def exact(self) -> bool:
        """False: the synthesis transform runs in float32."""
        return False

    @property
    def partial(self) -> bool:
        """Never: in another batch, the float network may round otherwise."""
        return False

    def check(self, spec: ImageSpec) -> None:
        """Refuse images of other channels than the model was trained with, and 16-bit images."""
        super().check(spec)
        if spec.channels != self._model.arch.channels:
            raise other_channels(self.codec_id, self._model.arch.channels, spec, "use --mode, or train another model")

    def get_config(self) -> dict[str, JSON]:
        """Nothing: all is in the model and in the payloads."""
        return {}

    def get_model(self) -> bytes:
        """What decoding needs: the synthesis transform, steps and density."""
        return self._model.without_encoder()

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder from what an archive stores."""
        if config:
            raise ModelError(f"the codec's config has {sorted(config)}, expected nothing")
        codec = cls(model=model)
        _ = codec._model.transforms  # a bad model is found when it is restored, not inside of a group
        return codec

    def encode(self, images: Pixels) -> bytes:
        """uint8 [N, H, W, C] to a payload."""
        self.check(ImageSpec.of(images[0]))
        if not self._model.has_encoder:
            raise ModelError("this model came from an archive: it has no encoder and can only decode")
        integers = np.ascontiguousarray(self._quantised(images).transpose(1, 0, 2, 3)).reshape(-1)  # [M * N * h * w]
        bank = self._model.bank(self._quality)
        words, escapes = values.encode(integers, _index(bank, integers.size), bank)
        return bytes([self._quality]) + leb128.pack(len(escapes)) + escapes + words

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """A payload to uint8 [N, H, W, C]; the synthesis runs for the asked items only."""
        self.check(spec.image)
        if not payload or not 1 <= payload[0] <= N_QUALITIES:
            raise PayloadError(f"{CODEC_ID} payload: quality {payload[0] if payload else 'missing'}, expected 1..{N_QUALITIES}")
        quality = payload[0]
        n_escapes, at = leb128.unpack(payload, 1)
        if len(payload) - at < n_escapes:
            raise PayloadError(f"{CODEC_ID} payload: {len(payload)} bytes, too few for {n_escapes} bytes of escapes")
        body, bank = memoryview(payload)[at:], self._model.bank(quality)
        arch = self._model.arch
        height, width = -(-spec.image.height // arch.stride), -(-spec.image.width // arch.stride)
        shape = (arch.latent, spec.n_items, height, width)
        _check_room(bank, len(body) - n_escapes, spec.n_items * height * width, spec)
        stream = values.Decoder([(body[n_escapes:], body[:n_escapes])], bank)
        integers = stream.take(_index(bank, int(np.prod(shape)))).reshape(shape).transpose(1, 0, 2, 3)  # [N, M, h, w]
        stream.finish()
        if items is not None:
            integers = integers[list(items)]
        decoded: Pixels = self._synthesised(integers, quality)[:, : spec.image.height, : spec.image.width]
        return np.ascontiguousarray(decoded)

    def _quantised(self, images: Pixels) -> npt.NDArray[np.int32]:
        """Integers [N, M, h, w] of uint8 [N, H, W, C]."""
        import torch

        transforms, stride = self._model.transforms, self._model.arch.stride
        height, width = images.shape[1:3]
        pad = ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0))
        parts = []
        with inference():
            gain = transforms.gain(torch.tensor([self._quality - 1.0]))
            for part in batches(len(images), height * width):
                x = torch.from_numpy(np.pad(images[part], pad, mode="edge")).permute(0, 3, 1, 2).float()
                y = transforms.analysed(x.contiguous(memory_format=torch.channels_last)) * gain
                y = torch.nan_to_num_(y).round_().clamp_(-LIMIT, LIMIT)
                parts.append(y.to(torch.int32).contiguous().numpy())
        return np.concatenate(parts)

    def _synthesised(self, integers: npt.NDArray[np.int32], quality: int) -> Pixels:
        """uint8 [N, h * stride, w * stride, C] of integers [N, M, h, w]."""
        import torch

        transforms, arch = self._model.transforms, self._model.arch
        height, width = integers.shape[2] * arch.stride, integers.shape[3] * arch.stride
        out = np.empty((len(integers), height, width, arch.channels), np.uint8)
        with inference():
            step = transforms.step(torch.tensor([quality - 1.0]))
            for part in batches(len(integers), height * width):
                y = torch.from_numpy(np.ascontiguousarray(integers[part])).float() * step
                x = transforms.synthesised(y.contiguous(memory_format=torch.channels_last))
                pixels = torch.nan_to_num_(x).round_().clamp_(0, 255).to(torch.uint8)
                out[part] = pixels.permute(0, 2, 3, 1).numpy()
        return out


LIMIT = 1 << 24
"""Largest latent, in steps: float32 holds it, and nothing sensible is near it."""


def _index(bank: Bank, n_integers: int) -> npt.NDArray[np.uint16]:
    """The table of each integer: its channel's."""
    return np.repeat(np.arange(len(bank.rows), dtype=np.uint16), n_integers // len(bank.rows))


def _check_room(bank: Bank, n_bytes: int, n_positions: int, spec: GroupSpec) -> None:
    """Refuse what cannot be in so many bytes before anything is allocated for it.

    The most probable symbol lets a state x grow by floor(x / f) * (2^16 - f): at least half of its ideal cost.
    """
    bits = sum(16 - float(np.log2(int(row.max()))) for row in bank.rows)  # of one position, at least
    if n_positions * bits / 2 > 8 * n_bytes + 64:
        raise PayloadError(f"{CODEC_ID}: {n_bytes} bytes cannot hold the {n_positions} positions of {spec.shape}")
