"""Codec `comcnn-1`: a classical codec between two networks (Jiang et al. 2017, arXiv 1708.00838).

ComCNN makes an image of half the size, any classical codec (the *base*) codes it, and RecCNN restores the full size. A model
without ComCNN leaves the size alone: RecCNN is then a filter against what the base does to an image. See `network`, and
`docs/codecs/comcnn-1.md`.

Payload: the strength of the residual, in 1/16 (1 byte, 0..32); then the payload of the base codec, whose group has as many
images, of ceil(H / 2) x ceil(W / 2) with ComCNN, of the same kind.

The strength is what serves the group's squared error best. It lets one model serve bases and qualities that it was not trained
for: at 0, what comes back is the base's picture, upsampled.

RecCNN runs in float32, so a sample may differ by 1 between machines, and the base may be inexact: `exact` is false.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from batchcodec.codec import Codec
from batchcodec.errors import ModelError, PayloadError
from batchcodec.learned.checked import other_channels
from batchcodec.learned.comcnn import base as bases
from batchcodec.learned.comcnn.model import CODEC_ID, LoadedModel
from batchcodec.learned.comcnn.strips import strips
from batchcodec.learned.inference import batches, inference
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

if TYPE_CHECKING:
    from torch import Tensor

STRENGTHS = 32
"""The largest strength."""
FULL = 16
"""The strength at which the residual is added as it is."""


class ComcnnCodec(Codec):
    """Codes 8-bit images with a model that `batchcodec train` made, and a classical codec.

    Args:
        model: the bytes of a model file; without ComCNN's weights it can only decode.
        base: id of the classical codec.
        base_options: its options.
    """

    codec_id = CODEC_ID
    summary = "a classical codec between two networks (Jiang et al. 2017); needs --model"
    options_help = {  # noqa: RUF012
        "base": "the classical codec (default jpeg); what follows are its options, such as base=avif,quality=40,mosaic=true",
        "quality": "of the base codec",
    }
    channels = (1, 2, 3, 4)
    needs_model = True

    def __init__(self, *, model: bytes, base: object = "jpeg", **base_options: Any) -> None:
        self._base = bases.made(base, base_options)
        self._model = LoadedModel(model)

    @property
    def exact(self) -> bool:
        """False: RecCNN runs in float32."""
        return False

    @property
    def partial(self) -> bool:
        """Never: in another batch, the float network may round otherwise."""
        return False

    def check(self, spec: ImageSpec) -> None:
        """Refuse images of other channels than the model was trained with, 16-bit images, and what the base cannot hold."""
        super().check(spec)
        if spec.channels != self._model.arch.channels:
            raise other_channels(self.codec_id, self._model.arch.channels, spec, "use --mode, or train another model")
        self._base.check(self._coded_spec(spec))

    def get_config(self) -> dict[str, JSON]:
        """The base codec."""
        return {"base": bases.to_config(self._base)}

    def get_model(self) -> bytes:
        """What decoding needs: RecCNN."""
        return self._model.without_encoder()

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder from what an archive stores."""
        if set(config) != {"base"}:
            raise ModelError(f"the codec's config has {sorted(config)}, expected its base")
        codec = cls.__new__(cls)
        codec._base = bases.from_config(config["base"])
        codec._model = LoadedModel(model)
        _ = codec._model.networks  # a bad model is found when it is restored, not inside of a group
        return codec

    def encode(self, images: Pixels) -> bytes:
        """uint8 [N, H, W, C] to a payload."""
        self.check(ImageSpec.of(images[0]))
        if not self._model.has_encoder:
            raise ModelError("this model came from an archive: it has no encoder and can only decode")
        coded = self._compact(images)
        payload = self._base.encode(coded)
        decoded = self._base.decode(payload, GroupSpec.of(coded))
        return bytes([self._strength(images, decoded)]) + payload

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """A payload to uint8 [N, H, W, C]; RecCNN runs for the asked items only."""
        self.check(spec.image)
        if not payload or payload[0] > STRENGTHS:
            raise PayloadError(f"{CODEC_ID} payload: strength {payload[0] if payload else 'missing'}, expected 0..{STRENGTHS}")
        coded = self._base.decode(payload[1:], GroupSpec(spec.n_items, self._coded_spec(spec.image)), items)
        out = np.empty((len(coded), *spec.image.shape), np.uint8)
        for part, rows, plain, residual in self._restored(coded, spec.image):
            out[part, rows] = _pixels(plain + payload[0] / FULL * residual)
        return out

    def _coded_spec(self, spec: ImageSpec) -> ImageSpec:
        """Of what the base codes."""
        scale = self._model.arch.scale
        return ImageSpec(-(-spec.height // scale), -(-spec.width // scale), spec.channels, spec.dtype)

    def _compact(self, images: Pixels) -> Pixels:
        """What the base codes, uint8 [N, h, w, C]."""
        arch, networks = self._model.arch, self._model.networks
        if not arch.compact:
            return np.ascontiguousarray(images)
        height, width = images.shape[1:3]
        pad = ((0, 0), (0, -height % arch.scale), (0, -width % arch.scale), (0, 0))
        parts = []
        with inference():
            for part in batches(len(images), height * width):
                x = np.pad(images[part], pad, mode="edge")
                rows = [_pixels(networks.compact(_gray_levels(x[:, s.read]))[:, :, s.kept]) for s in strips(x, 1 / arch.scale)]
                parts.append(np.concatenate(rows, 1))
        return np.concatenate(parts)

    def _restored(self, coded: Pixels, spec: ImageSpec) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Items, rows, and for them the upsampled image and the residual, [n, C, rows, W] each."""
        arch, networks = self._model.arch, self._model.networks
        # A network on a quarter of the pixels wants even sides.
        pad = ((0, 0), *(((0, 0), (0, 0)) if arch.compact else ((0, spec.height % 2), (0, spec.width % 2))), (0, 0))
        with inference():
            for part in batches(len(coded), spec.height * spec.width):
                x = np.pad(coded[part], pad, mode="edge")
                for strip in strips(x, arch.scale, networks.decoder.reach):
                    found = networks.decoder(_gray_levels(x[:, strip.read]))
                    rows = slice(strip.rows.start, min(strip.rows.stop, spec.height))
                    kept = slice(strip.kept.start, strip.kept.start + rows.stop - rows.start)
                    plain, residual = (tensor[:, :, kept, : spec.width] for tensor in found)
                    yield part, rows, plain, residual

    def _strength(self, images: Pixels, decoded: Pixels) -> int:
        """What the residual is multiplied by, in 1/16, for the least squared error of the group."""
        wanted, power = 0.0, 0.0
        for part, rows, plain, residual in self._restored(decoded, ImageSpec.of(images[0])):
            missing = _gray_levels(images[part, rows]) - plain
            wanted += float((missing * residual).sum())
            power += float(residual.square().sum())
        best = FULL * wanted / power if power > 0 else 0.0
        return round(min(max(best, 0.0), STRENGTHS)) if np.isfinite(best) else 0


def _gray_levels(pixels: Pixels) -> Tensor:
    """uint8 [N, H, W, C] as float32 [N, C, H, W]."""
    import torch

    x = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float()
    return x.contiguous(memory_format=torch.channels_last)


def _pixels(x: Tensor) -> Pixels:
    """float32 [N, C, H, W], whatever it holds, as uint8 [N, H, W, C]."""
    import torch

    found: Pixels = torch.nan_to_num(x).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found
